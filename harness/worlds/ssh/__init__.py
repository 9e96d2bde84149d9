"""Nodes on other machines, reached over SSH: `splitbrain run --hosts FILE`.

On this machine:

    hosts.py        the hosts file: which machines there are, and how to log in
    connecting.py   connections, and our code on the other side
    link.py         calls to an agent, and what it sends unasked
    offer.py        what these machines allow
    uploads.py      files that nodes need there, known by their content
    network.py      the rules of links, handed to the agents
    processes.py    node processes and their clocks, through each host's keeper
    mirror.py       what nodes wrote there, in the run folder here
    world.py        all of it put together for a run

On each host, with nothing but Python 3.11 and its standard library:

    boot.py         takes our code, once for each version of it
    agent.py        obeys the controller; its end is the end of all that it began
    lines.py        JSON lines over standard input and output
    firewall.py     links are cut by nftables; or by the relay of `worlds.os`
    ledger.py       what was begun, so that somebody can undo it
    shelf.py        the folder on the host: code, uploads, runs, ledgers
"""
