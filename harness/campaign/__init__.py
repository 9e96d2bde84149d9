"""Whatever runs more than one run: seeds, suites, mutants.

    Experiment   spec and plan: enough to run it anywhere, again   (experiment)
    Outcome      what came of one, and the fingerprints of its failures   (outcome)
    keep         carry one out; its folder stays   (carrying)
    discard      carry one out and keep nothing but the outcome   (carrying)
    Executor     takes experiments, answers with outcomes   (executor)
    pursue       pursuits, which ask for one experiment after another, side by side
    Processes    the executor of this machine   (processes)

`suite` and `seeds` are clients, and so is `harness.bench.mutants`.
"""
