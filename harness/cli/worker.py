"""`splitbrain worker`: this machine carries out runs for others."""

from __future__ import annotations

import click

from harness.cli.flags import JOBS, number
from harness.cli.terminal import say


@click.command()
@click.argument("scheduler", metavar="dask://HOST:PORT")
@number("--jobs", JOBS, help="Runs side by side; default: one per two cores.")
def worker(scheduler: str, *, jobs: int | None) -> int:
    """Carry out runs on this machine for a cluster, until Ctrl-C.

    dask://HOST:PORT is the scheduler of the cluster, which `dask scheduler` starts.
    Other machines give runs to it: suite, run --seeds, explore and bench mutants with
    --executor dask://HOST:PORT. Whoever reaches the scheduler can run any program on
    this machine: see docs/cluster.md.
    """
    from harness.campaign import cluster

    cluster.need_dask()
    from harness.campaign.cluster import serving
    from harness.campaign.processes import cpu_jobs

    count = jobs or cpu_jobs()

    def tell(address: str) -> None:
        say(f"worker {address} of {scheduler}: {count} at a time; Ctrl-C ends it")

    serving.serve(scheduler, count, tell)
    return 0
