"""Kinds of fault, one module each: what `harness.faults` plans and carries out."""
