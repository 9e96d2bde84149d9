"""Linearizability (Herlihy and Wing 1990): models, zones, search, oracle, explanation.

How the parts fit: `calls` turns a history into calls with intervals, one list per
independent key; `zones` decides unique-value registers of all keys in one pass;
`deciders` chooses among the polynomial algorithms for other kinds of object, one module
each: `chains` (registers with cas), `sets`, `fifo`, `priority` (and bags), `stack`;
`search` decides everything else, with a model of few states also compiled (`handover`
says when, `fast` prepares, `kernel` does it), `queues` containers whose values repeat,
and `learning` whatever has crashed calls (with `lookahead`, `membership` and
`windows`); `processes` share long keys; `explain` says why, in words and as a graph.
The checker that uses them is `checkers.linearizable`. What a model is stands in
`specification`, the models in `models`, `containers` and `user_model`.
"""
