"""The machine that we run on: its processes, signals, limits and files.

    interrupts.py  SIGINT and SIGTERM: noted, raised or ignored
    apart.py       work done in a child process, which may crash
    syscalls.py    Linux calls that Python has no function for
    scarcity.py    too little memory, too few descriptors or processes
    scratch.py     folders that go when their keeper goes
    documents.py   JSON and YAML that somebody wrote, read strictly
    nodefiles.py   files that nodes could have tampered with
    program.py     how this program was called, for lines that repeat a run
    collector.py   no search for cyclic garbage while much is made that has none

Nothing here knows what a run is.
"""
