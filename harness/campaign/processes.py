"""The executor of this machine: worker processes, which die with us however we end.

A real run has a worker of its own, so that no crash, leak or event loop of one run
reaches another, and because the kernel ends a run with the thread that started it. A
simulated run is over before a process would have started, so a worker carries out many.

Workers are forked if that is safe, which it is if this process has one thread and runs
no event loop. It is warm, so that a forked worker begins at once. Otherwise workers are
spawned. Each has a session of its own: a Ctrl-C in the terminal reaches us alone, and
`cancel` ends each of them once. Their output goes to a file, for the last words of a
worker that dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import msgspec

from harness.campaign.executor import Executor
from harness.campaign.experiment import Experiment
from harness.campaign.outcome import Outcome
from harness.errors import SplitbrainError, UsageError
from harness.host import apart, interrupts, release, scarcity, syscalls
from harness.override import override
from harness.run.assembling import assemble

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection

CarryOut = Callable[[Experiment], Outcome]
"""Carries out an experiment in a worker; picklable (`harness.campaign.carrying`)."""

LOOK_S = 1.0
"""Time between two looks whether a worker died silently, or takes too long."""

WARM = {
    "os": ("harness.worlds.os.world", "harness.report.page"),
    "sim": ("harness.worlds.sim.world", "harness.report.page"),
}
"""World -> modules that every run in it needs sooner or later."""

NOTHING = b""
"""A worker's answer if it was interrupted before there was an outcome."""

ASKING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@dataclass(frozen=True)
class Task:
    """An experiment that was submitted.

    Attributes:
        died: How the worker of its first try died; empty for a first try.
    """

    number: int
    experiment: Experiment
    died: str = ""


class Processes(Executor):
    """An executor that uses processes, and leaves none behind.

    Args:
        carry_out: Carries out each experiment.
        jobs: How many experiments are carried out at a time.
        limit_s: An experiment that takes longer is ended by force, which counts as a
            failure of the harness.
        until_s: When, by `time.monotonic`, all that is under way or waits is ended
            without an outcome.
        tick: Called about once a second while experiments are under way.
    """

    def __init__(
        self,
        carry_out: CarryOut,
        jobs: int,
        *,
        limit_s: float | None = None,
        until_s: float = math.inf,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._tick = tick
        self._carry_out = carry_out
        self._jobs = jobs
        self._limit_s = limit_s
        self._until_s = until_s
        self._submitted = 0
        self._cancelled = 0  # tasks with smaller numbers are cancelled
        self._waiting: deque[Task] = deque()
        self._answers: deque[tuple[int, Outcome | None]] = deque()
        self._workers: list[Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with asking_held():
            for worker in self._workers:
                worker.end()
            self._workers.clear()

    @override
    def submit(self, experiment: Experiment) -> int:
        number = self._submitted
        self._submitted += 1
        self._waiting.append(Task(number, experiment))
        return number

    @override
    def as_completed(self) -> Iterator[tuple[int, Outcome | None]]:
        while True:
            self._hand_out()
            if self._answers:
                yield self._answers.popleft()
                continue
            busy = [worker for worker in self._workers if worker.task is not None]
            if not busy:
                return
            self._listen(busy)

    @override
    def cancel(self) -> None:
        self._cancelled = self._submitted
        for worker in self._workers:
            worker.ask()

    @override
    def kill(self) -> None:
        self._cancelled = self._submitted
        for worker in self._workers:
            worker.kill()

    def _hand_out(self) -> None:
        """Give waiting tasks to idle workers; start workers if there may be more."""
        while self._waiting:
            # A signal that cancels must find each task either waiting or with a worker.
            with asking_held():
                task = self._waiting.popleft()
                if task.number < self._cancelled:
                    self._answers.append((task.number, None))
                    continue
                idle = [worker for worker in self._workers if worker.task is None]
                if not idle and len(self._workers) == self._jobs:
                    self._waiting.appendleft(task)
                    return
                if not idle:
                    idle = [Worker(self._carry_out, task.experiment)]
                    self._workers += idle
                idle[0].begin(task)

    def _listen(self, busy: Sequence[Worker]) -> None:
        """Wait a while for answers of the workers that have a task."""
        ready = multiprocessing.connection.wait([w.pipe for w in busy], LOOK_S)
        self._tick()
        if time.monotonic() >= self._until_s:
            self.kill()
        for worker in busy:
            overdue = self._limit_s is not None and worker.took_s > self._limit_s
            if overdue:
                worker.kill()
            if worker.pipe in ready or overdue or not worker.is_alive:
                with asking_held():
                    self._hear(worker, overdue=overdue)

    def _hear(self, worker: Worker, *, overdue: bool) -> None:
        """Take the worker's answer; if it died, queue its first try once more."""
        task = worker.task
        assert task is not None
        died = ""
        try:
            answer = worker.answer()
        except (EOFError, OSError):
            died = worker.end()
        else:
            self._answers.append((task.number, told(answer, task)))
            if worker.used_up:
                worker.end()
        if died or worker.used_up:
            self._workers.remove(worker)
        if not died:
            return
        if task.number < self._cancelled:
            self._answers.append((task.number, None))
        elif overdue:
            why = f"it gave no answer in {self._limit_s:g} s"
            self._answers.append((task.number, Outcome.failed(task.experiment, why)))
        elif not task.died:
            self._waiting.appendleft(replace(task, died=died))
        else:
            why = f"the process of the run {died}, as that of a first try"
            failed = Outcome.failed(task.experiment, why)
            failed = msgspec.structs.replace(failed, died=task.died)
            self._answers.append((task.number, failed))


def told(answer: bytes, task: Task) -> Outcome | None:
    """The outcome that a worker sent."""
    if answer == NOTHING:
        return None
    outcome = Outcome.decode(answer)
    return msgspec.structs.replace(outcome, died=task.died)


class Worker:
    """A process that carries out one experiment after another.

    Args:
        carry_out: Carries them out.
        first: The experiment that it will begin with. The modules for it are imported
            before the worker starts, so that later workers have them, too.

    Attributes:
        pipe: Sends it experiments, and brings their outcomes.
        task: Its present task; None while it is idle.
        used_up: Whether it must not get another task: it carries out a real run, or is
            ended, or was asked to end its task, which may reach it during the next.
    """

    def __init__(self, carry_out: CarryOut, first: Experiment) -> None:
        if is_alone():
            warm_up(first)
        context = (
            multiprocessing.get_context("fork")
            if is_alone()
            else multiprocessing.get_context("spawn")
        )
        self.task: Task | None = None
        self.used_up = False
        self._begun_s = 0.0
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `end`
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=live, args=(theirs, carry_out, self._said.fileno()), daemon=True
        )
        self._process.start()
        theirs.close()

    @property
    def took_s(self) -> float:
        """How long it has worked on its task."""
        return time.monotonic() - self._begun_s

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.is_alive()

    def begin(self, task: Task) -> None:
        """Give it a task."""
        self.task = task
        self.used_up = task.experiment.spec.world == "os"
        self._begun_s = time.monotonic()
        self._asked = False
        with contextlib.suppress(OSError):  # if it died, `answer` will raise
            self.pipe.send_bytes(task.experiment.encode())

    def answer(self) -> bytes:
        """The answer to its task.

        Raises:
            EOFError, OSError: The worker died.
        """
        if not self.pipe.poll():
            raise EOFError
        answer = self.pipe.recv_bytes()
        self.task = None
        return answer

    def ask(self) -> None:
        """Ask it to end its task early; a second call does nothing."""
        if self.task is not None and not self._asked:
            self._asked = self.used_up = True
            self._process.terminate()

    def kill(self) -> None:
        """End the process at once."""
        self.used_up = True
        self._process.kill()

    def end(self) -> str:
        """End the process if need be; returns how it ended, with its last words."""
        self._process.kill()
        self._process.join()
        code = self._process.exitcode
        assert code is not None
        self._said.seek(0)
        words = self._said.read().decode(errors="replace").strip().splitlines()
        self._said.close()
        self._process.close()
        self.pipe.close()
        return ": ".join([str(apart.Died(self.task, code)), *words[-1:]])


def cpu_jobs() -> int:
    """How many runs go side by side on this machine: one per two cores."""
    return max(1, (os.cpu_count() or 1) // 2)


def is_alone() -> bool:
    """Whether this process can be forked: it has one thread, and runs no event loop."""
    try:
        threads = len(os.listdir("/proc/self/task"))
    except OSError:  # not Linux
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return threads == 1
    return False


def warm_up(first: Experiment) -> None:
    """Import the modules that runs like this one need."""
    for name in WARM[first.spec.world]:
        importlib.import_module(name)
    release.commit()
    with contextlib.suppress(Exception):  # a worker will meet and report the error
        assemble(first.spec)


# Inside a worker.


def live(pipe: Connection[bytes, bytes], carry_out: CarryOut, said: int) -> None:
    """Carry out experiments from a pipe, and print to a file.

    Args:
        pipe: Brings experiments, and takes their outcomes.
        carry_out: Carries out each experiment.
        said: The file for output, as a descriptor of our parent.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)
    parent = multiprocessing.parent_process()
    assert parent is not None
    assert parent.pid is not None
    syscalls.die_with(parent.pid)
    os.setsid()
    with contextlib.suppress(OSError):
        words = os.open(f"/proc/{parent.pid}/fd/{said}", os.O_WRONLY | os.O_APPEND)
        os.dup2(words, 1)
        os.dup2(words, 2)
        os.close(words)
    interrupts.forget()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            experiment = Experiment.decode(pipe.recv_bytes())
            outcome = attempt(carry_out, experiment)
            pipe.send_bytes(NOTHING if outcome is None else outcome.encode())


def attempt(carry_out: CarryOut, experiment: Experiment) -> Outcome | None:
    """The outcome of an experiment; None if a stop signal came before there was one."""
    try:
        with interrupts.raised(), asking_let_in():
            return carry_out(experiment)
    except KeyboardInterrupt:
        return None
    except UsageError as refusal:
        return Outcome.failed(experiment, str(refusal), refused=True)
    except (Exception, SystemExit) as failure:
        # A bug of ours or of a plug-in, which fails this experiment and no other.
        if scarcity.is_scarcity(failure):
            why = scarcity.words(failure)
        elif isinstance(failure, SplitbrainError):
            why = str(failure)
        else:
            traceback.print_exc()
            why = f"{type(failure).__name__}: {failure}"
        return Outcome.failed(experiment, why)


@contextlib.contextmanager
def asking_held() -> Iterator[None]:
    """Hold back stop signals within the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def asking_let_in() -> Iterator[None]:
    """Let stop signals through within the block, held ones at once."""
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
