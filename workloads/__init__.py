"""Workloads, one file each: generator, client codec, final reads, and the checkers."""
