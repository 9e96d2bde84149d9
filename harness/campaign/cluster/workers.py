"""A connection to a scheduler of Dask, and what its workers can do.

Workers say their version and what their machine can do when they are first seen. One of
another version would run other code under the same names, so it is refused: the whole
command if it was there from the start, itself if it comes later. Whether an experiment
is possible is decided by trying: one of each sort of machine is asked to prepare it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import dask
import msgspec
from distributed import Security
from distributed.comm.core import connect

from harness.campaign.cluster import work
from harness.errors import HarnessError, NotInstalledError, UsageError
from harness.host import release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from distributed import Client

    from harness.campaign.cluster.work import About
    from harness.campaign.experiment import Experiment

CONNECT_S = 5.0
"""Time to reach a scheduler in."""
WORKERS_S = 10.0
"""Time in which a first worker has to come."""
ANSWER_S = 60.0
"""Time for an answer about something else than a run."""
ABSENCE_S = 60.0
"""How long work waits for a worker that can do it, if the last such one is gone."""
LOOK_S = 1.0
"""Time between two looks at who is there."""
AHEAD = 2
"""Simulated runs that wait at a worker for each that it carries out: they are so short
that the way there and back would leave it idle."""

SAME_OR_IDLE = {"machine", "user", "python"}
"""Findings of the doctor that decide about no experiment, or are compared elsewhere."""
TOLD_OTHERWISE = {"namespaces", "network", "fast heals", "clocks", "disk faults"}
"""Findings whose state says enough. Those about programs tell versions."""

Sort = tuple[tuple[str, str], ...]
"""What a machine can do, as names and states; equal where that is the same."""


@dataclass(frozen=True)
class Member:
    """A worker that may be used.

    Attributes:
        address: Dask's address of it.
        threads: How many runs it carries out at a time.
        sort: What its machine can do.
    """

    address: str
    threads: int
    sort: Sort


class Workers:
    """The workers of a scheduler.

    Args:
        client: Is connected to the scheduler.
        address: The scheduler, as the user wrote it.
        tell: Called with sentences that the user should read.

    Attributes:
        members: Those that may be used, by address.

    Raises:
        UsageError: A worker is of another version; or there is none.
    """

    def __init__(
        self, client: Client, address: str, tell: Callable[[str], None]
    ) -> None:
        self.client = client
        self.address = address
        self.members: dict[str, Member] = {}
        self._tell = tell
        self._refused: set[str] = set()
        self._able: dict[str, dict[Sort, tuple[str, bool]]] = {}
        self._looked_s = -LOOK_S
        self._refuse_scheduler()
        until_s = time.monotonic() + WORKERS_S
        while not self._threads() and time.monotonic() < until_s:
            time.sleep(0.1)
        self.look(is_first=True)
        if not self.members:
            raise UsageError(
                f"there are no workers at {address}: start one on each machine with "
                f"splitbrain worker {address}"
            )

    @property
    def threads(self) -> int:
        """How many runs all of them carry out at a time."""
        return sum(member.threads for member in self.members.values())

    def refuse(self, experiment: Experiment) -> None:
        """See that there is a worker that can carry out an experiment.

        Raises:
            UsageError: There is none; says why.
            NotInstalledError: There would be one if something were installed.
        """
        if self.able(experiment):
            return
        answers = self._answers(experiment)
        if not self.members:
            raise HarnessError(f"no worker of {self.address} is left")
        where = {member.sort: member.address for member in self.members.values()}
        told = {answers[sort]: address for sort, address in where.items()}
        whys = [f"{why} (worker {address})" for (why, _), address in told.items()]
        kind = NotInstalledError if all(lacks for _, lacks in told) else UsageError
        raise kind(f"no worker can run it: {'; '.join(whys)}")

    def able(self, experiment: Experiment) -> list[Member]:
        """The workers that can carry an experiment out.

        Any of the right version can simulate. Of others one of each sort is asked, once
        for all experiments that need the same.
        """
        if experiment.spec.world == "sim":
            return list(self.members.values())
        answers = self._answers(experiment)
        return [m for m in self.members.values() if not answers[m.sort][0]]

    def _answers(self, experiment: Experiment) -> dict[Sort, tuple[str, bool]]:
        """Sort of machine -> why it can't carry it out, and if it lacks a program."""
        known = self._able.setdefault(needs(experiment), {})
        for member in list(self.members.values()):
            if member.sort not in known:
                asked = [member.address]
                with self.scheduler_lost():
                    answers: dict[str, tuple[str, bool]] = self.client.run(
                        work.why_not,
                        experiment.encode(),
                        workers=asked,
                        on_error="ignore",
                        callback_timeout=ANSWER_S,
                    )
                if member.address in answers:
                    known[member.sort] = answers[member.address]
                else:  # it died of it, or just then
                    self.members.pop(member.address, None)
        return known

    def look(self, *, is_first: bool = False, is_due: bool = False) -> bool:
        """See who is there; look no more than once a second unless it is due.

        Returns:
            Whether there was a look.

        Raises:
            UsageError: At the first look, a worker is of another version.
            HarnessError: The scheduler is gone.
        """
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_S and not (is_first or is_due):
            return False
        self._looked_s = now_s
        threads = self._threads()
        for address in set(self.members) - set(threads):
            del self.members[address]
        new = sorted(set(threads) - set(self.members) - self._refused)
        if not new:
            return True
        with self.scheduler_lost():
            abouts: dict[str, About | Exception] = self.client.run(
                work.about,
                workers=new,
                on_error="return",
                callback_timeout=ANSWER_S,
            )
        for address, about in abouts.items():
            versions = about if isinstance(about, Exception) else about.versions
            why = why_unfit(f"worker {address}", versions)
            if why and is_first:
                raise UsageError(why)
            if why:
                self._refused.add(address)
                self._tell(f"{why}; it is not used")
            elif not isinstance(about, Exception):
                sort = sort_of(about)
                self.members[address] = Member(address, threads[address], sort)
        return True

    def _refuse_scheduler(self) -> None:
        """See that the scheduler is of our version: Dask unpickles work there, too.

        Raises:
            UsageError: It is not.
        """
        versions: dict[str, str] | Exception
        try:
            with self.scheduler_lost():
                versions = self.client.run_on_scheduler(release.versions)
        except (ImportError, AttributeError) as lack:
            versions = lack
        if why := why_unfit(f"the scheduler at {self.address}", versions):
            raise UsageError(why)

    def _threads(self) -> dict[str, int]:
        """Address -> how many runs it carries out at a time, of all workers.

        Raises:
            HarnessError: The scheduler is gone.
        """
        with self.scheduler_lost():
            threads: dict[str, int] = self.client.nthreads(callback_timeout=ANSWER_S)
            return threads

    @contextlib.contextmanager
    def scheduler_lost(self) -> Iterator[None]:
        """Tell in a line that the scheduler is gone, if it is.

        Raises:
            HarnessError: It is, or nobody answers.
        """
        kept = "what was done is kept"
        if self.client.status != "running":
            raise HarnessError(f"the scheduler at {self.address} is gone; {kept}")
        try:
            yield
        except TimeoutError as problem:
            raise HarnessError(
                f"the scheduler at {self.address}, or a worker of it, gave no answer "
                f"in {ANSWER_S:.0f} s; {kept}"
            ) from problem
        except OSError as problem:
            raise HarnessError(
                f"the scheduler at {self.address} is gone ({problem}); {kept}"
            ) from problem


def needs(experiment: Experiment) -> str:
    """What a machine needs for an experiment; equal where the same will do."""
    spec = msgspec.structs.replace(
        experiment.spec,
        seed=0,
        name="",
        time_limit_s=1.0,
        ops=None,
        rate=None,
        expect=None,
    )
    faults = {
        f"{name} {value if isinstance(value, str) else ''}"
        for step in experiment.plan or ()
        for name, value in msgspec.convert(step["fault"], dict[str, object]).items()
    }
    told = replace(experiment, spec=spec, plan=None, plan_file="", fresh_dice=None)
    return f"{told.encode().decode()} {sorted(faults)}"


def sort_of(about: About) -> Sort:
    """What a worker's machine can do."""
    return tuple(
        (each.name, f"{each.state} {'' if each.name in TOLD_OTHERWISE else each.text}")
        for each in about.findings
        if each.name not in SAME_OR_IDLE
    )


def why_unfit(who: str, versions: dict[str, str] | Exception) -> str:
    """Why a process can't be used, as a sentence without its stop; empty if it can."""
    if isinstance(versions, ModuleNotFoundError):
        same = "install splitbrain there, the same version as here"
        return f"{who} has no {versions.name}: {same}"
    if isinstance(versions, Exception):
        return f"{who} can't say what it is: {versions}"
    ours, theirs = told_version(release.versions()), told_version(versions)
    if ours == theirs:
        return ""
    return f"{who} is {theirs}, and this is {ours}: install the same version on both"


def told_version(versions: dict[str, str]) -> str:
    """What has to be the same on all machines, in words."""
    commit = f" (commit {versions['commit']})" if versions["commit"] else ""
    python = ".".join(versions["python"].split(".")[:2])
    return f"splitbrain {versions['splitbrain']}{commit} on Python {python}"


def dask_address(address: str) -> str:
    """The address by which Dask knows the scheduler at `dask://HOST:PORT`.

    Connections are encrypted if Dask's configuration names certificates.

    Raises:
        UsageError: It is no such address.
    """
    host = r"\[[0-9A-Fa-f:.]+\]|[^\s/:@\[\]]+"
    match = re.fullmatch(rf"dask://({host}):(\d+)/?", address)
    if match is None or not 0 < int(match[2]) < 1 << 16:
        raise UsageError(
            f"{address!r} is no address of a scheduler: write dask://HOST:PORT, such "
            "as dask://127.0.0.1:8786"
        )
    is_secret = dask.config.get("distributed.comm.tls.ca-file", None) is not None
    return f"{'tls' if is_secret else 'tcp'}://{match[1]}:{match[2]}"


def reach(address: str) -> None:
    """See that a scheduler listens at an address.

    Raises:
        UsageError: None does, or they speak another language.
    """
    arguments = Security().get_connection_args("client")

    async def greet() -> None:
        # Dask's own limit does not hold once something has accepted a connection.
        connecting = connect(dask_address(address), timeout=CONNECT_S, **arguments)
        comm = await asyncio.wait_for(connecting, CONNECT_S + 1)
        await comm.close()

    try:
        asyncio.run(greet())
    except UsageError:
        raise
    except Exception as problem:  # of the network, of TLS, of versions that differ
        why = str(problem).strip().splitlines() or ["it does not speak Dask's language"]
        raise UsageError(
            f"no scheduler of Dask answers at {address} ({why[0]}): start one with "
            "dask scheduler"
        ) from None


def quiet() -> None:
    """Have Dask print nothing: what matters is told in our own words."""
    logging.disable(logging.CRITICAL)
