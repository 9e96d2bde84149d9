"""The process beside a worker of Dask that carries experiments out.

It has one thread and no event loop, so that it can fork, and does one piece of work at
a time. The worker sends functions and their arguments over a pipe; the kernel ends this
process with the thread of the worker that started it.
"""

from __future__ import annotations

import pickle
import shutil
import signal
import traceback
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from harness.campaign.engine import HERE
from harness.campaign.experiment import Experiment
from harness.errors import HarnessError, NotInstalledError, SplitbrainError, UsageError
from harness.host import interrupts, syscalls
from harness.host.scratch import scratch_folder
from harness.run import assembling, doctor

if TYPE_CHECKING:
    from pathlib import Path

    from harness.campaign.engine import CarryOut
    from harness.campaign.executor import Executor
    from harness.campaign.processes import Processes
    from harness.run.doctor import Finding

PREFIX = "splitbrain-worker-"
"""With a random text behind it, the name of a runner's scratch folder."""


def main(pipe: int, parent: int) -> None:
    """Do what comes over a pipe, until its other end is closed.

    Args:
        pipe: A descriptor of a connection.
        parent: The process id of the worker.
    """
    syscalls.die_with(parent)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it is sent for work, and came too late
    connection: Connection[object, object] = Connection(pipe)
    with scratch_folder(PREFIX) as scratch:
        bench = Bench(scratch)
        try:
            while True:
                connection.send_bytes(bench.answer(connection.recv_bytes()))
        except (EOFError, OSError):
            pass  # the worker is gone
        finally:
            bench.clear()


class Bench:
    """What a runner keeps from one piece of work to the next.

    Args:
        scratch: Its folder.

    Attributes:
        subject: What the last share of a check was about, by its name.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.subject: tuple[str, object] | None = None
        self._processes: Processes | None = None
        self._for: tuple[CarryOut, Path, float | None] | None = None

    def answer(self, message: bytes) -> bytes:
        """Do a piece of work, a function of this bench; tells (is_done, what)."""
        work = pickle.loads(message)  # noqa: S301  # the worker sent it
        try:
            return pickle.dumps((True, work(self)))
        except SplitbrainError as failure:
            return pickle.dumps((False, failure))
        except Exception as failure:  # of Dask's, or a bug of ours
            traceback.print_exc()
            told = HarnessError(f"{type(failure).__name__}: {failure}")
            return pickle.dumps((False, told))

    def executor(
        self, carry_out: CarryOut, place: Path, limit_s: float | None
    ) -> Executor:
        """An executor of one experiment at a time; the last one, if it does."""
        wanted = carry_out, place, limit_s
        if self._processes is None or self._for != wanted:
            self.clear()
            self._for = wanted
            self._processes = HERE.executor(carry_out, place, 1, limit_s=limit_s)
        return self._processes

    def clear(self) -> None:
        """End the processes that wait for more of the same work."""
        if self._processes is not None:
            self._processes.__exit__()
            self._processes = None


# What a runner is asked to do.


def carry_out(
    bench: Bench,
    how: CarryOut,
    experiment: bytes,
    place: Path | None,
    limit_s: float | None,
) -> bytes:
    """Carry out an experiment; SIGTERM ends it early, and a second one at once.

    Args:
        bench: This runner's.
        how: Carries it out.
        experiment: As JSON.
        place: The folder for run folders; None for the runner's scratch folder, from
            which whoever asked takes them away.
        limit_s: As that of `Engine.executor`.

    Returns:
        The outcome as JSON; nothing if it was ended before there was one.
    """
    for torn in bench.scratch.iterdir():
        if torn.is_symlink():
            torn.unlink()
        else:
            shutil.rmtree(torn, ignore_errors=True)
    executor = bench.executor(how, place or bench.scratch, limit_s)
    with interrupts.noted() as stop:
        stop.listen(executor.cancel, executor.kill)
        executor.submit(Experiment.decode(experiment))
        [(_, outcome)] = executor.as_completed()
    return b"" if outcome is None else outcome.encode()


def work_on(bench: Bench, name: str, subject: bytes | None, task: bytes) -> object:
    """Work on a share of a check.

    Args:
        bench: This runner's.
        name: The name of what it is about.
        subject: That, pickled; None if it is the same as the last time.
        task: (work, share), pickled.
    """
    if subject is not None:
        bench.subject = name, pickle.loads(subject)  # noqa: S301  # the worker sent it
    assert bench.subject is not None
    assert bench.subject[0] == name
    work, share = pickle.loads(task)  # noqa: S301  # as above
    done: object = work(bench.subject[1], share)
    return done


def why_not(_: Bench, experiment: bytes) -> tuple[str, bool]:
    """Why an experiment is impossible here, and whether something is to be installed.

    The reason is empty if it is possible.
    """
    asked = Experiment.decode(experiment)
    try:
        HERE.refuse(asked)
        assembling.prepare(asked.spec, asked.plan)
    except NotInstalledError as lack:
        return str(lack), True
    except UsageError as refusal:
        return str(refusal), False
    return "", False


def findings(_: Bench) -> list[Finding]:
    """What this machine can do."""
    return doctor.examine()
