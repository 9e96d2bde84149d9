"""Faults as data, plans made of them, and what carries them out."""
