"""Exploration: many short runs, each chosen by what the runs before it have shown.

    signatures.py       what a run did: features, and how close it came to trouble
    bandit.py           which of several choices gains most a second
    space.py            what experiments there are to choose from
    variation.py        one plan made of another, or of two
    corpus.py           experiments that came to something, to be varied
    search.py           chooses experiments, and learns from their outcomes
    counterfactuals.py  the same seed with a fault left out

Searching is pure: it asks for experiments and is told outcomes, in either world, and
the same outcomes lead to the same questions.
"""
