"""Suites: many runs from one YAML file, each with the outcome it is expected to have.

    name: nightly
    budget: 2h
    defaults: {time_limit_s: 60, nemesis: [partition, kill]}
    rows:
      - {name: raft, system: raft, expect: valid}
      - name: raft local reads
        system: raft
        set: {reads: local}
        expect: invalid
        anomaly: stale-read     # optional: the anomaly that must be among those found
        seeds: 3                # optional: up to so many runs, until one is invalid
      - name: zab local reads are stale, yet sequential
        system: zab
        set: {reads: local, register.consistency: sequential}
        anomaly: stale-read     # of a checker whose promise the run does not ask for
        also: [availability]    # optional: more checkers whose verdicts don't count
        shows: {longest_outage_s: ">= 0.5"}     # optional: figures among the checkers'

Rows can come from other files (`include`), stand for many (`matrix`), and share faults
(`profiles`).

    rows.py        Row: what one row asks for
    reading.py     the file, with every error at its place, before anything runs
    naming.py      whether a checker has the anomaly or figure that a row asks for
    schema.py      the JSON schema of such files, for editors
    results.py     RowResult: what came of a row, and what that means
    planning.py    which row comes first, which seed is next, who gets the time
    journal.py     what has been done so far, on the disk, so that a night can go on
    nights.py      what earlier nights of the same suite showed
    tonight.py     one night: planned, carried out or gone on with, and judged
    running.py     Runner: carries rows out
    exploring.py   rows that search, in the time that is left
    baseline.py    tonight beside another night: new, gone, more often, slower
    keeping.py     what is kept of runs, and what goes
    known.py       failures that are known, with a reason and a date
"""
