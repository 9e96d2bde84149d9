"""Bounded exhaustive exploration: all that a protocol's cores can do, up to a depth.

    freezing.py  the canonical form of a core, by which equal states are recognised
    lives.py     what a node is at, and what each event makes of it; each computed once
    scripts.py   the few operations that clients ask for
    space.py     states of the whole cluster, and the moves that lead from one to others
    judging.py   the checkers, asked about what nodes observed and clients were told
    search.py    breadth-first search for the shortest way to a broken promise
    telling.py   that way, in words and as data

Nothing here knows a protocol: cores are driven by the vocabulary of
`reference_impls.actor`, and judged by the checkers that also judge runs.
"""
