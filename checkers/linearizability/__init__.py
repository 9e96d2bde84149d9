"""Linearizability (Herlihy and Wing 1990): models, zones, search, oracle, explanation.

How the parts fit: `calls` turns a history into calls with intervals, one list per
independent key; `zones` decides unique-value registers of all keys in one pass;
`search` decides everything else; `explain` says why, in words and as a graph. The
checker that uses them is `checkers.linearizable`.
"""
