"""Systems under test: their interfaces, kits to build on, and the shipped systems.

For every system:

    system.py     System: how a node starts, when it serves, how to talk to it
    abilities.py  things that only some systems can do
    services.py   what clients can ask of a system, and what workloads need to ask
    client.py     Client: carries one operation to one node
    wire.py       the wire protocol (WIRE.md), as a client speaks it
    mutants.py    the broken variants of reference protocols, by name
    logs.py       the log of nodes that run on cores, by name
    software.py   programs of others: recipes to install them, and where they are;
                  installing.py carries the recipes out

To build a system on:

    wire_system.py  a system whose nodes speak WIRE.md; launch.py is one
    translated.py   a client that answers WIRE.md's requests; cells.py has their meaning
    http_json.py    requests over HTTP
    blocking.py     clients whose drivers block
    reference.py    reference protocols: raft.py, zab.py, paxos.py, multi_paxos.py,
                    two_phase_commit.py, three_phase_commit.py

Other files are systems that we did not write, as `etcd.py` and `ratis.py`; programs/
has the nodes of libraries, embedded.py what `sqlite.py` and `lmdb.py` share, and
java.py what those in Java do.
"""
