"""The machine that we run on: its processes, signals, limits and files.

apart.py      judges in a child process, which may crash
collector.py  pauses the search for cyclic garbage
documents.py  reads JSON and YAML that somebody wrote; writes or says what refused
interrupts.py SIGINT and SIGTERM: noted, raised or ignored
nodefiles.py  files that nodes could have tampered with
program.py    how this program was called, for lines that repeat a run
scarcity.py   too little memory, too few descriptors or processes
scratch.py    folders that go when their keeper goes
syscalls.py   Linux calls that Python has no function for
"""
