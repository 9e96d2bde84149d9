"""Does work in a child process, so that a crash of the work kills only that.

A decoder written in C that runs out of memory may crash without an error, a library may
end the process with a status of its own (OpenBLAS: 1), and the kernel may kill the
largest process. None of these can be handled in the process where it happens.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Generic, NoReturn, TypeVar

from harness.errors import HarnessError, SplitbrainError
from harness.host import interrupts, syscalls
from harness.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

Item = TypeVar("Item")
Done = TypeVar("Done")


@dataclass(frozen=True)
class Died(Generic[Item]):
    """The child ended before `item` was done; `status` is -signal if one killed it."""

    item: Item
    status: int

    def __str__(self) -> str:
        if self.status >= 0:
            return f"ended with status {self.status}"
        try:
            return f"was ended by {signal.Signals(-self.status).name}"
        except ValueError:
            return f"was ended by signal {-self.status}"


def each_apart(
    items: Sequence[Item], work: Callable[[Item], Done]
) -> Iterator[Done | Died[Item]]:
    """The results of `work` on each item in turn, in a child; they must be picklable.

    If the child dies, the item that it worked on is lost, and another child does the
    rest. Errors of `work` are raised here. The child ends with this iterator, and with
    this process, however that ends. Cost: a fork (10 ms), and pickling.

    Raises:
        HarnessError: No child can be started.
    """
    next_one = 0
    while next_one < len(items):
        pid, pipe = _start(items[next_one:], work)
        try:
            with os.fdopen(pipe, "rb") as file:
                for done in _received(file):
                    next_one += 1
                    yield done
        except BaseException:  # also GeneratorExit, when the caller wants no more
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if next_one < len(items):
            yield Died(items[next_one], status)
            next_one += 1


def _start(items: Sequence[Item], work: Callable[[Item], Done]) -> tuple[int, int]:
    """Start a child; its pid, and the pipe that brings its results."""
    ours, theirs = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as problem:
        os.close(ours)
        os.close(theirs)
        raise HarnessError(
            f"no process can be started to judge in: {problem.strerror}"
        ) from problem
    if pid == 0:
        os.close(ours)
        _live(items, work, theirs, parent)
    os.close(theirs)
    return pid, ours


def _live(
    items: Sequence[Item], work: Callable[[Item], Done], pipe: int, parent: int
) -> NoReturn:
    """Do the child's work, and end the process."""
    try:
        interrupts.forget()  # Ctrl-C ends the child, too; the parent reports it
        syscalls.die_with(parent)
        with os.fdopen(pipe, "wb") as file:
            for item in items:
                message = _message(work, item)
                sys.stdout.flush()
                sys.stderr.flush()
                file.write(message)
                file.flush()
        os._exit(0)
    finally:
        os._exit(255)


def _message(work: Callable[[Item], Done], item: Item) -> bytes:
    """The message about an item: (True, result) or (False, error)."""
    try:
        return pickle.dumps((True, work(item)), pickle.HIGHEST_PROTOCOL)
    except (SplitbrainError, MemoryError) as error:
        return pickle.dumps((False, error))
    except BaseException as error:  # its traceback is printed here, as it is not sent
        sys.stderr.write(visible(traceback.format_exc()))
        told = HarnessError(f"{type(error).__name__}: {error}")
        return pickle.dumps((False, told))


def _received(file: BinaryIO) -> Iterator[Any]:
    """The results as they come; raises the errors of the work."""
    while True:
        try:
            is_done, what = pickle.load(file)  # noqa: S301  # our own child wrote it
        except (EOFError, pickle.UnpicklingError):
            return  # the child died, perhaps in the middle of a message
        if not is_done:
            raise what
        yield what
