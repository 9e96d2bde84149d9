"""A cluster of machines that carry experiments out, by way of Dask.

    cluster.py     Cluster: the engine that `--executor dask://HOST:PORT` names
    executor.py    ClusterExecutor: experiments sent to workers, outcomes as they come
    workers.py     Workers: who is there, of which version, and who can do what
    helping.py     ClusterHelpers: shares of a check, for workers
    work.py        what a worker of Dask is asked to do
    runner.py      the process beside a worker that carries experiments out
    parcels.py     run folders, sent home or to a store
    serving.py     `splitbrain worker`

Whatever the client sends, workers execute, as is Dask's way: see docs/cluster.md.

A worker runs Dask's event loop and threads, and a real run can't be forked from there.
So each thread of a worker has a runner, a process of one thread, which is as long-lived
as the worker and has `Processes` of its own. Whatever ends a worker, the kernel then
ends its runner and all that is below it.
"""

from __future__ import annotations

from harness.errors import UsageError


def need_dask() -> None:
    """See that the libraries are there that the modules of this room import.

    Raises:
        UsageError: They are not.
    """
    try:
        import dask
        import distributed
        import fsspec
    except ImportError as lack:
        raise UsageError(
            "a cluster needs dask, distributed and fsspec, which aren't all installed "
            f"here: pip install 'splitbrain[cluster]' ({lack})"
        ) from None
    del dask, distributed, fsspec
