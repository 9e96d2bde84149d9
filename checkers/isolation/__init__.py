"""Isolation of transactions: dependency graphs, the cycles that no model allows."""
