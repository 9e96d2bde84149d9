"""Isolation of transactions: dependency graphs, the cycles that no model allows.

The modules, in the order of a check:

    asked     `question`, `models`: what a history is asked; `transactions`: the history
    columns   `columns`, `accesses`, `levels`, `clocks`, `proof`: what is decided by
              numbers alone
    inferred  `inference`, from values; the packages `appends` and `registers` do it, by
              way of `weak` (what each level forces) and `guarantees` (of sessions)
    searched  `graph`, `components`, `cycles`, `walks`, `singles`, `unfolded`
    settled   `elimination`, `execution`, `polygraph`: orders of writes that nothing
              tells; `candidates`, `replay`, `assignments`: registers whose values
              repeat; `writers`, `conflicts`, `serial`: elements appended repeatedly
    found     `evidence`, `reasons`: what deciders found, as data
    told      `telling`, `phrases`: the same in words
    judged    `judge`
"""
