"""The sim world: virtual time, one thread, every choice from one seed.

The interpreter, the clients, the nemeses and the checkers are those of the os world;
what is simulated is what lies below them: time (`loop`), links (`network`), file
systems (`disk`) and what befalls them (`disks`), clocks (`clock`) and the processes
that run the protocols' cores (`node`).
`offer` says what can be done to them.
Nothing here reads a real clock, and no decision depends on the order of a set or on an
address in memory, so that the same seed and commit give the same history to the byte.
"""
