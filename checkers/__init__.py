"""Checkers: history in, verdict out. Pure; they never touch a cluster."""
