"""The kernel: what a run needs, whatever it is a run of.

Its rooms, from top to bottom; each sees those below it (ARCHITECTURE.md):

    cli, bench, campaign, judge, report, run, faults, systems, workload, worlds,
    history, host

Beside them stand the words that everybody shares: `api` (the public names), `verdict`,
`registry`, `options`, `errors`, `visible`, `data`, `override`; and `__main__`.
"""
