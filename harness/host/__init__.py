"""The machine that we run on: its processes, signals, limits and files.

    interrupts.py  stop signals: noted, raised, or reset after a fork
    apart.py       work in a child process, which may crash
    syscalls.py    Linux calls that Python has no function for
    scarcity.py    too little memory, too few descriptors or processes
    scratch.py     temporary folders that are removed when their maker ends
    documents.py   reads JSON and YAML that people wrote, within bounds
    nodefiles.py   files that nodes could have tampered with
    program.py     how this program was called, for commands that repeat a run
    collector.py   pauses the search for cyclic garbage

Nothing here knows what a run is.
"""
