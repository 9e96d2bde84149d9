"""Linearizability (Herlihy and Wing 1990): models, zones, search, oracle, explanation.

The way of a check, module by module:

1. `calls` splits a history into calls, key by key.
2. `judge` has each key decided, and says what came of it; `together` finds orders of
   many short keys at once.
3. `deciders` names the algorithm for a key: `zones` on the columns of `accesses`, or
   `chains`, `sets`, `fifo`, `priority` or `stack`; else `search`, which `handover` may
   have `fast` and `kernel` do, compiled. Queues and bags have `queues`, histories with
   crashed calls have `learning`, `lookahead`, `membership` and `windows`.
4. `broken` is a key that was found broken, `evidence` the rule and operations that show
   it.
5. `explain` makes an anomaly of it: `arguments` are plain to see, `attempts` failed or
   came too late, `telling` has the sentences, and `words` the phrases and the graph.

`processes` shares keys among processes. What an object may do is in `specification`,
`models`, `containers` and `user_model`.
"""
