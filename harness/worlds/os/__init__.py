"""The os world: real processes in namespaces, on a network that is ours to break.

    world.py        sets the world up, in the only order that works
    offer.py        says what this machine allows
    namespaces.py   isolates a run so that nothing of it can stay behind

One of two networks:

    switch.py       a namespace per node, and a process of ours that carries frames
    wiring.py       the cables between them; netlink.py asks the kernel for them
    lane.py         decides the fate of each frame; segments.py reads TCP and resets it
    capture.py      writes frames to a file
    sightings.py    counts messages that pass, in memory that is shared
    proxy.py        without namespaces: a TCP proxy per directed link
    relay.py        those proxies: streams of bytes under rules
    ports.py        free ports for that
    attached.py     nodes that somebody else runs, by their operator's commands
    sidecar.py      the process that carries the traffic of either
    helper.py       what is common to processes that carry networks and disks

Nodes:

    warden.py       starts, kills, pauses and skews them, through keeper.py
    keeper.py       the process that is the parent of all nodes
    channel.py      messages between these two
    guardian.py     the keeper's parent, where nodes share the controller's namespaces
    spawn.py        turns a fork into a node's process
    cage.py         keeps a node from harming anything but itself
    processtree.py  which processes descend from which
    footprint.py    whether a node's data exceeds its bound
    starving.py     lets a node run for a part of the time only
    prlimits.py     lowers limits of running processes, and puts them back
    vdso.py         skews clocks, with code that vdso_build.py compiles
    tracer.py       holds a process still meanwhile
    watch.py        counts the events that nodes observe
    disk/           disks for nodes that lose power, fail and decay
"""
