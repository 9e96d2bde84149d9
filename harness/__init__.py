"""The kernel: the parts of a run that are the same for all systems and workloads.

Its rooms, from top to bottom; each sees those below it (ARCHITECTURE.md):

    cli, bench, campaign, judge, report, run, faults, systems, workload, worlds,
    history, host

Beside them stand the modules that all rooms may use: `verdict`, `registry`, `options`,
`errors`, `visible`, `data`, `override`. `api` has the public names, for plug-ins, and
`__main__` is the command.
"""
