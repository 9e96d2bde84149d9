"""Chooses an engine, by what `--executor` says."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from harness.campaign import cluster
from harness.campaign.engine import HERE
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness.campaign.engine import Engine

LOCAL = "local"
CLUSTER = "dask://"


@contextlib.contextmanager
def engine_of(
    executor: str, results: Path, store: str, tell: Callable[[str], None]
) -> Iterator[Engine]:
    """The engine that `--executor` names, for the time of the block.

    Args:
        executor: "local", or "dask://HOST:PORT".
        results: The folder for results on this machine.
        store: Where workers of a cluster write run folders, as a URL; empty if they
            send them.
        tell: Called with sentences that the user should read.

    Raises:
        UsageError: There is no such engine, or it is not as it has to be; says why.
    """
    if executor == LOCAL:
        if store and not store.startswith("file:"):
            raise UsageError(
                f"--results {store}: only workers of a cluster write to a store; name "
                "a folder, or --executor dask://HOST:PORT"
            )
        yield HERE
    elif executor.startswith(CLUSTER):
        cluster.need_dask()
        from harness.campaign.cluster.cluster import connected

        with connected(executor, results, store, tell) as engine:
            yield engine
    else:
        raise UsageError(
            f"there is no executor {executor!r}: write local, or dask://HOST:PORT for "
            "the scheduler of a cluster"
        )
