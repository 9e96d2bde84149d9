"""The engine of a cluster: experiments are carried out by workers of Dask."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from distributed import Client

from harness.campaign.cluster import parcels
from harness.campaign.cluster.executor import ClusterExecutor, Homes
from harness.campaign.cluster.helping import ClusterHelpers
from harness.campaign.cluster.workers import (
    AHEAD,
    CONNECT_S,
    Workers,
    dask_address,
    quiet,
    reach,
)
from harness.campaign.engine import HERE, Engine, nothing
from harness.override import override

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.campaign.engine import CarryOut
    from harness.campaign.experiment import Experiment
    from harness.campaign.outcome import Outcome


CLOSE_S = 2.0
"""Time for taking leave of a scheduler."""


class Cluster(Engine):
    """Carries experiments out on the workers of a scheduler.

    Args:
        workers: The workers.
        results: The folder for results on this machine.
        store: As that of `engine_of`.
    """

    def __init__(self, workers: Workers, results: Path, store: str) -> None:
        self._workers = workers
        self._results = results
        is_shared = store.startswith("file:")
        self._shared = unquote(urlsplit(store).path) if is_shared else ""
        self._store = "" if is_shared else store.rstrip("/")
        self.jobs = AHEAD * workers.threads

    @override
    def executor(
        self,
        carry_out: CarryOut,
        place: Path,
        jobs: int,
        *,
        limit_s: float | None = None,
        tick: Callable[[], None] = nothing,
    ) -> ClusterExecutor:
        here = place.absolute()
        is_shared = bool(self._shared) and here.is_relative_to(self._shared)
        homes = Homes(here, str(here) if is_shared else "", self._store)
        return ClusterExecutor(self._workers, carry_out, homes, jobs, limit_s, tick)

    @override
    def helpers(self) -> ClusterHelpers:
        return ClusterHelpers(self._workers)

    @override
    def refuse(self, experiment: Experiment) -> None:
        if experiment.spec.world == "sim":
            HERE.refuse(experiment)
        else:
            self._workers.refuse(experiment)

    @override
    def folder(self, outcome: Outcome) -> Path:
        below = outcome.folder.removeprefix(f"{self._store}/")
        if not self._store or below == outcome.folder:
            return Path(outcome.folder)
        folder = self._results.absolute() / below
        if not folder.exists():
            parcels.fetch(outcome.folder, folder)
        return folder

    @override
    def publish(self, folder: Path, name: str) -> None:
        if self._store:
            parcels.store(folder, f"{self._store}/{name}")


@contextlib.contextmanager
def connected(
    address: str, results: Path, store: str, tell: Callable[[str], None]
) -> Iterator[Cluster]:
    """The cluster at an address, for the time of the block.

    Args:
        address: dask://HOST:PORT.
        results: The folder for results on this machine.
        store: As that of `engine_of`.
        tell: Called with sentences that the user should read.

    Raises:
        UsageError: Nobody listens there, or the store can't be written to; or as
            `Workers`.
    """
    quiet()
    if store:
        parcels.refuse_store(store)
    reach(address)
    client = Client(dask_address(address), timeout=CONNECT_S)
    try:
        yield Cluster(Workers(client, address, tell), results, store)
    finally:
        with contextlib.suppress(Exception):  # the scheduler may be gone
            client.close(timeout=CLOSE_S)
