"""Shrinking: the smallest experiment that still fails as a run did.

size.py        Size: what is smaller than what
changes.py     ways to make an experiment smaller; leaps.py: small ones at random
lab.py         Lab: makes runs, and tells which show the failure
simulated.py   the search in the simulator, where one run decides
sampling.py    when a candidate counts as failing, if it fails now and then
sampled.py     the search over real processes, by that rule
search.py      shrink: one after the other; recorded.py: with all that a record says
scenes.py      small experiments of what was in force while a run went wrong
shelf.py       RUN/shrunk, where a search keeps what it finds, and goes on from
proving.py     runs the result again; conclusion.py tells what became of it
regression.py  a test of the result for a user's own suite
"""
