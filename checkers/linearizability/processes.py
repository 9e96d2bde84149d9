"""Work on several keys in several processes, where there is enough of it.

Keys are independent, so each process takes its share of them and sends back what it
found. Processes are forked, which shares the history without copying it, and cost some
20 ms. Each asks the kernel to be killed when its parent ends, however that ends; that
is Linux's, and elsewhere one process does everything.

One process also does everything if memory is limited: what processes share can't be
told from what each of them adds.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

import psutil

from harness.errors import HarnessError
from harness.host.syscalls import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.verdict import Limits

WORTH_CALLS: Final = 30_000
"""Calls that one process searches in the time that it takes to start another."""

Found = TypeVar("Found")


def how_many(sizes: Sequence[int], limits: Limits) -> int:
    """Processes for keys with so many calls each."""
    if sys.platform != "linux" or limits.memory_mb is not None or len(sizes) < 2:
        return 1
    cores = len(psutil.Process().cpu_affinity() or [])
    return max(1, min(cores, len(sizes), sum(sizes) // WORTH_CALLS))


def in_processes(work: Callable[[int], Found], count: int) -> list[Found]:
    """The results of `work(0)`, `work(1)` ..., each from a process of its own.

    Whatever way this ends, no process is left.

    Raises:
        HarnessError: A process was killed before it had sent its result.
        Exception: What `work` raised.
    """
    children: list[tuple[int, int]] = []
    try:
        children.extend(start(work, n) for n in range(count))
        outcomes = [receive(*child) for child in children]
    finally:
        for pid, pipe in children:
            with contextlib.suppress(OSError):
                os.close(pipe)
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    found = []
    for problem, result in outcomes:
        if problem is not None:
            raise problem
        found.append(result)
    return found  # type: ignore[return-value]  # there is a result where no problem is


def start(work: Callable[[int], Found], n: int) -> tuple[int, int]:
    """A process that does `work(n)`, and the pipe that its result comes by."""
    ours, theirs = os.pipe()
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        live(work, n, theirs, parent)
    os.close(theirs)
    return pid, ours


def live(work: Callable[[int], Found], n: int, pipe: int, parent: int) -> NoReturn:
    """All that a forked process does: work, send the result, end."""
    try:
        die_with_parent(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        problem, result = None, None
        try:
            result = work(n)
        except Exception as error:  # the parent raises it
            problem = error
        with open(pipe, "wb") as file:
            pickle.dump((problem, result), file, pickle.HIGHEST_PROTOCOL)
        os._exit(0)
    finally:
        os._exit(1)  # Ctrl-C reaches us too, and is the parent's to tell


def receive(pid: int, pipe: int) -> tuple[Exception | None, object]:
    """The exception or the result that a process sends.

    Raises:
        HarnessError: It ended without sending anything.
    """
    with open(pipe, "rb", closefd=False) as file:
        data = file.read()
    if not data:
        raise HarnessError(f"process {pid}, which checked some of the keys, was killed")
    said: tuple[Exception | None, object] = pickle.loads(data)  # noqa: S301 - our own
    return said
