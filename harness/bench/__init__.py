"""Speed and memory, measured against the budgets: `splitbrain bench`.

    histories.py     seeded histories with a known verdict
    transactions.py  seeded histories of transactions with a known verdict
    figures.py       a figure: samples, budget, peer; and whether it keeps the budget
    children.py      runs one task in a process of its own
    tasks.py         the tasks that are measured there
    cluster.py       times of a cluster: up from nothing, and again after a kill
    loopback.py      operations a second of nodes without a network of ours
    reports.py       the rows of reports, and of a browser that opens them
    results.py       the row of a folder of many runs
    runfolder.py     a run folder of any size, for reports
    peer.py          Porcupine, built from porcupine/main.go, on the same histories
    awdit.py         AWDIT, the peer for weak isolation
    rows.py          the rows of the benchmark, by group
    isolation.py     the rows of checkers of transactions
    bench.py         chooses rows, measures them, stores the figures
    table.py         the table for people
    trials.py        trials of seeded bugs, held side by side, and their record
    mutants.py       how many seeded bugs the harness finds
    search.py        how soon an exploration finds them, beside random runs
    foreign.py       nodes of examples/ with a bug planted, for that
    shrink.py        how small failures become; smallest.yaml has the smallest known

Every sample comes from a fresh process, so that memory is that of one task and no
sample profits from the one before. A peer takes turns with us in one run on one
machine: absolute seconds say little on a busy machine, ratios do.
"""
