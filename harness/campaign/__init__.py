"""Campaigns of many runs: seeds, suites, explorations, mutants.

    experiment.py  Experiment: spec and plan, all that is needed to run it anywhere
    outcome.py     Outcome: verdict, anomalies, faults and cost of an experiment
    carrying.py    keep, discard: carry out an experiment with or without its folder
    executor.py    Executor, pursue: many experiments, and series of them, side by side
    coverage.py    Coverage: how often each fault of all the runs bit
    processes.py   Processes: the executor of this machine
    engine.py      Engine: where experiments are carried out, and which are possible
    choosing.py    the engine that `--executor` names
    cluster/       the engine of many machines, by way of Dask
    seeds.py       sweeps of seeds in the simulator
    suite.py       suites of expected outcomes, from YAML
    torture.py     what tests of others ask for, in keywords, and what they are told
    failures.py    their database of failures, which are replayed first
    strategies.py  Hypothesis' strategies for plans, workloads and whole runs
    replay.py      a recorded run again, and how often it fails again
    moments.py     what came just before each strike of a recorded run
    traffic.py     the messages of a simulated run, which has to be made once more
    why.py         from which moment on a failure was likely; simulated runs only
    shrinking/     the smallest experiment that still fails
    exhaustive/    all that a protocol's cores can do, up to a depth; no runs
    explore.py     many short runs that a search chooses (`exploration/`)

`harness.bench.mutants` is a client of this room, too.
"""
