"""Kinds of fault, one module each, which `harness.faults` plans and carries out."""
