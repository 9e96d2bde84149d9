"""One experiment, carried out and recorded.

    spec.py         TestSpec: what a run is asked to do
    asking.py       what the words of --nemesis ask for
    completing.py   what a command line or a suite left open, filled in
    assembling.py   the plug-ins that a spec names, and whether the run is possible
    doctor.py       what this machine can do
    execution.py    set up, carry out, write down
    controller.py   one run from its first node to its last file, in either world
    interpreter.py  puts generators to work: workers, clients, history
    store.py        RunFolder: everything that a run leaves behind
    records.py      types of the files of a run folder
    lifecycle.py    the lives of a run's faults, from the lines of faults.jsonl
    gauges.py       what nodes use while a run lasts, and how long their logs are

A run is described by data alone (`spec`, and a plan), so that it can be done again.
"""
