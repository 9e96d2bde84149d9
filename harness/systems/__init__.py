"""Systems under test: what the harness needs to know of one, and those that come along.

For every system:

    system.py     System: how a node starts, when it serves, who talks to it
    abilities.py  what a system may be able to do beside
    services.py   what clients can ask of a system, and what workloads need to ask
    client.py     Client: carries one operation to one node
    wire.py       the wire protocol (WIRE.md), as a client speaks it
    mutants.py    the broken variants of reference protocols, by name

To build one on:

    wire_system.py  a system whose nodes speak WIRE.md; launch.py is one
    translated.py   a client that answers WIRE.md's requests; cells.py has their meaning
    http_json.py    requests over HTTP
    blocking.py     clients whose drivers block
    reference.py    reference protocols: raft.py, zab.py, paxos.py and so on

`etcd.py` and `pysyncobj.py` are systems that we did not write.
"""
