"""The sim world: virtual time, one thread, every choice from one seed.

The interpreter, the clients, the nemeses and the checkers are those of the os world.
Simulated is what lies below them: time (`loop`), links (`network`), disks (`disk`),
clocks (`clock`), the nodes that run the protocols' cores (`node`), their starts and
kills (`processes`) and the connections of clients (`client`). `conditions` says how
fast machines and links are, `observed` keeps what nodes tell, `offer` says what can be
done to them, and `world` sets all of it up.

Nothing here reads a real clock, and no decision depends on the order of a set or on an
address in memory, so that the same seed and commit give the same history to the byte.
"""
