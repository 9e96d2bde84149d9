"""What a worker of Dask is asked to do; all of it is handed on to runners.

A worker's threads call `carry_out` and `judge_share`, its event loop the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
from distributed import Reschedule, Status, get_worker

from harness.campaign.cluster import parcels, runner
from harness.campaign.experiment import Experiment
from harness.campaign.outcome import Outcome
from harness.errors import HarnessError
from harness.host import release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from harness.campaign.cluster.parcels import Parcel
    from harness.campaign.cluster.runner import Bench
    from harness.campaign.engine import CarryOut
    from harness.run.doctor import Finding

LOOK_S = 0.5
"""Time between two looks whether a piece of work is still wanted."""

TRIES = 2
"""Runners that may die of an experiment. Each has tried it twice, in processes."""

Done = TypeVar("Done")


@dataclass(frozen=True)
class Request:
    """An experiment that is to be carried out.

    Attributes:
        campaign: Who asks; no two are alike.
        number: The experiment's number in it.
        carry_out: Carries it out.
        experiment: As JSON.
        limit_s: As that of `Engine.executor`.
        shared: A folder for run folders that all machines see; empty for none.
        store: Where run folders are written, as a URL; empty if they are sent.
    """

    campaign: str
    number: int
    carry_out: CarryOut
    experiment: bytes
    limit_s: float | None
    shared: str = ""
    store: str = ""


class Answer(msgspec.Struct, frozen=True):
    """The outcome of an experiment, as JSON, and its run folder if that is sent.

    The outcome is empty if the experiment was ended before there was one.
    """

    outcome: bytes
    parcel: Parcel | None = None


class Gone(Exception):  # noqa: N818  # says what happened
    """A runner ended before it had answered."""


class Runner:
    """A runner of this worker.

    Attributes:
        doing: Its present work: campaign and number, if it is an experiment.
        knows: The name of the subject that it has worked on last, if there was one.
    """

    def __init__(self) -> None:
        self.doing: tuple[str, int] | None = None
        self.knows = ""
        self._pipe: Connection[bytes, bytes]
        self._pipe, theirs = multiprocessing.Pipe()
        # The same modules as this process has, whatever folder it was started in.
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            f"from harness.campaign.cluster.runner import main; "
            f"main({theirs.fileno()}, {os.getpid()})"
        )
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", code],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def do(
        self,
        work: Callable[[Bench], Done],
        wanted: Callable[[], bool] = lambda: True,
    ) -> Done:
        """Have it call `work` with its bench.

        Raises:
            Gone: It ended before, or the work is not wanted any more.
            SplitbrainError: What `work` raised.
        """
        try:
            self._pipe.send_bytes(pickle.dumps(work))
            while not self._pipe.poll(LOOK_S):
                if not wanted():
                    raise Gone
            is_done, what = pickle.loads(self._pipe.recv_bytes())  # noqa: S301  # ours
        except (EOFError, OSError) as problem:
            raise Gone from problem
        if not is_done:
            raise what
        done: Done = what
        return done

    def ask(self) -> None:
        """Ask it to end the present work early."""
        self._process.send_signal(signal.SIGTERM)

    def end(self) -> int:
        """End it, and all that it started; returns its exit status."""
        self._process.kill()
        self._pipe.close()
        return self._process.wait()


class Runners:
    """The runners of this worker, as many as it has ever needed at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Runner] = []
        self._busy: list[Runner] = []
        self._ended: dict[str, int] = {}  # campaign -> experiments below are ended
        self._closed = False
        # The kernel ends a runner with the thread that started it, so it has to be one
        # that lives as long as this process.
        self._starter = ThreadPoolExecutor(1, "splitbrain-runners")

    @contextlib.contextmanager
    def one(self, doing: tuple[str, int] | None = None) -> Iterator[Runner]:
        """A runner for a piece of work; one that failed is not used again."""
        with self._lock:
            idle = self._idle.pop() if self._idle else None
        taken = idle or self._starter.submit(Runner).result()
        with self._lock:
            taken.doing = doing
            self._busy.append(taken)
        is_good = False
        try:
            yield taken
            is_good = True
        except HarnessError:
            is_good = True
            raise
        finally:
            with self._lock:
                taken.doing = None
                self._busy.remove(taken)
                if is_good and not self._closed:
                    self._idle.append(taken)
                else:
                    taken.end()

    def ask(self, campaign: str, below: int) -> None:
        """Have the experiments of a campaign end that have a smaller number."""
        with self._lock:
            self._ended[campaign] = max(below, self._ended.get(campaign, 0))
            for one in self._busy:
                if one.doing is not None and self.is_ended(*one.doing):
                    one.ask()

    def is_ended(self, campaign: str, number: int) -> bool:
        """Whether somebody asked for the end of an experiment."""
        return number < self._ended.get(campaign, 0)

    def close(self) -> None:
        """End all runners, and what they do."""
        with self._lock:
            self._closed = True
            for one in (*self._idle, *self._busy):
                one.end()
            self._idle.clear()


RUNNERS = Runners()


# In a thread of the worker.


def carry_out(request: Request) -> Answer:
    """Carry out an experiment, and see to it that its folder is kept."""
    worker, wanted = get_worker(), is_wanted()
    doing = request.campaign, request.number
    if RUNNERS.is_ended(*doing):
        return Answer(b"")
    work = functools.partial(
        runner.carry_out,
        how=request.carry_out,
        experiment=request.experiment,
        place=Path(request.shared) if request.shared else None,
        limit_s=request.limit_s,
    )
    why = ""
    for _ in range(TRIES):
        try:
            with RUNNERS.one(doing) as one:
                told = one.do(work, wanted)
                return brought(told, request)
        except Gone:
            if RUNNERS.is_ended(*doing):
                return Answer(b"")
            if not wanted():  # if the worker closes, another is to do it
                raise Reschedule from None
            why = f"worker {worker.address}: {TRIES} runners died while they did it"
        except HarnessError as failure:
            why = f"worker {worker.address}: {failure}"
            break
    experiment = Experiment.decode(request.experiment)
    return Answer(Outcome.failed(experiment, why).encode())


def judge_share(name: str, subject: bytes, task: bytes) -> object:
    """Work on a share of a check (`harness.verdict.Helpers`).

    Args:
        name: The name of what it is about, which no other subject has.
        subject: What it is about, pickled.
        task: (work, share), pickled.
    """
    wanted = is_wanted()
    for _ in range(TRIES):
        try:
            with RUNNERS.one() as one:
                sent = None if one.knows == name else subject
                work = functools.partial(
                    runner.work_on, name=name, subject=sent, task=task
                )
                done = one.do(work, wanted)
                one.knows = name
                return done
        except Gone:
            if not wanted():
                raise Reschedule from None
    raise HarnessError(f"{TRIES} runners of worker {get_worker().address} died of it")


def is_wanted() -> Callable[[], bool]:
    """Whether the task of this thread is still wanted, to be asked from time to time.

    Dask forgets a task if its client cancels it, or is gone; and a worker closes if its
    scheduler is gone, which waits for its threads.
    """
    worker, key = get_worker(), get_worker().get_current_task()

    def wanted() -> bool:
        if worker.status not in {Status.running, Status.paused}:
            return False
        task = worker.state.tasks.get(key)
        return task is not None and task.state not in {"cancelled", "released"}

    return wanted


def brought(told: bytes, request: Request) -> Answer:
    """The answer for a run, whose folder is sent along, or is in the store."""
    outcome = Outcome.decode(told) if told else None
    if outcome is None or not outcome.folder or request.shared:
        return Answer(told)
    folder = Path(outcome.folder)
    scratch = next(p for p in folder.parents if p.name.startswith(runner.PREFIX))
    try:
        if not request.store:
            return Answer(told, parcels.pack(folder, scratch))
        home, written = request.store.rstrip("/"), parcels.spellings(scratch)
        place = f"{home}/{folder.relative_to(scratch)}"
        parcels.readdress(folder, written, home)
        parcels.store(folder, place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Answer(parcels.told_at_home(outcome, written, home, place).encode())


# In the event loop of the worker.


class About(msgspec.Struct, frozen=True):
    """What a worker says about itself.

    Attributes:
        versions: Of splitbrain, its commit and Python.
        findings: What its machine can do.
    """

    versions: dict[str, str]
    findings: list[Finding]


async def about() -> About:
    """What this worker is, and what its machine can do."""
    return About(release.versions(), await _apart(runner.findings))


async def why_not(experiment: bytes) -> tuple[str, bool]:
    """Why an experiment is impossible here; as that of the runner."""
    return await _apart(functools.partial(runner.why_not, experiment=experiment))


async def ask(campaign: str, below: int) -> None:
    """Have experiments end; as that of the runners."""
    RUNNERS.ask(campaign, below)


async def _apart(work: Callable[[Bench], Done]) -> Done:
    """Have a runner do work, without holding up the event loop."""

    def do() -> Done:
        with RUNNERS.one() as one:
            return one.do(work)

    return await asyncio.to_thread(do)
