"""Speed and memory, measured against the budgets: `splitbrain bench`.

    histories.py  seeded histories with a known verdict
    figures.py    a figure: samples, budget, peer; and whether it keeps the budget
    children.py   runs one task in a process of its own
    tasks.py      the tasks that are measured there
    peer.py       Porcupine, built from porcupine/main.go, on the same histories
    rows.py       what is measured, by group
    bench.py      chooses rows, runs them, keeps what was found
    table.py      the table for people

Every sample comes from a fresh process, so that memory is that of one task and no
sample profits from the one before. Where a peer takes part, it takes turns with us in
one run on one machine: absolute seconds say little on a busy machine, ratios do.
"""
