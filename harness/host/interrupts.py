"""Stop signals: which ones ask a command to end early, and when they insist.

SIGINT (Ctrl-C) and SIGTERM are stop signals, and so is SIGHUP unless it is ignored from
the start: a command under `nohup` goes on without its terminal.

One signal is enough: runs under way end, and their records are judged. A second signal
within a second is an echo of the first (timeout(1) signals its child, then the whole
process group), and later ones insist.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ECHO_S = 1.0
"""A stop signal that comes again within this time is an echo of the first."""


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that ask this process to end."""
    asking = (signal.SIGINT, signal.SIGTERM)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        return asking
    return (*asking, signal.SIGHUP)


def give_up() -> NoReturn:
    """Raise KeyboardInterrupt."""
    raise KeyboardInterrupt


class Interrupts:
    """Hears stop signals, and passes them on to a listener.

    Attributes:
        heard: Whether a signal came.
    """

    def __init__(self) -> None:
        self.heard = False
        self._last_s = -math.inf
        self._listener: Callable[[], object] | None = None
        self._insisted: Callable[[], object] = give_up

    def listen(
        self,
        listener: Callable[[], object],
        insisted: Callable[[], object] = give_up,
    ) -> None:
        """Call `listener` when a signal comes or has come; `insisted` for later ones.

        A signal handler calls both, so they run between any two steps of the program.
        """
        self._listener, self._insisted = listener, insisted
        if self.heard:
            listener()

    def hear(self, *_: object) -> None:
        """Take note of a signal; the handler of stop signals."""
        now_s = time.monotonic()
        if now_s - self._last_s <= ECHO_S:
            return
        for one in _nested:
            one._last_s = now_s  # noqa: SLF001  # one of us
        if self.heard:
            self._insisted()
            return
        self.heard = True
        if self._listener is not None:
            self._listener()


_nested: list[Interrupts] = []
"""Those in force, outermost first. A signal that the innermost hears echoes for all."""

_raising: list[Interrupts] = []
"""Those in force that raise KeyboardInterrupt."""


@contextlib.contextmanager
def noted() -> Iterator[Interrupts]:
    """Have stop signals heard within the block; they end nothing by themselves.

    Only the main thread may handle signals, so in another one none is heard.
    """
    interrupts = Interrupts()
    with _in_force(interrupts):
        yield interrupts


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Have a stop signal raise KeyboardInterrupt within the block; echoes do nothing.

    A signal handler raises between any two steps of any code, and some code takes that
    for an error of its own: an import that may fail, a callback whose errors are only
    printed. So an error after a signal counts as the signal's effect, and code that
    begins something long calls `insist`.
    """
    interrupts = Interrupts()
    interrupts.listen(give_up)
    with _in_force(interrupts):
        _raising.append(interrupts)
        try:
            yield
        except Exception as error:  # it may be an effect of the signal
            if interrupts.heard:
                raise KeyboardInterrupt from error
            raise
        finally:
            _raising.remove(interrupts)


def insist() -> None:
    """Raise KeyboardInterrupt again if one was raised within `raised`, and lost."""
    if any(interrupts.heard for interrupts in _raising):
        raise KeyboardInterrupt


def forget() -> None:
    """Reset the handling of stop signals, in a process that was just forked.

    Signals that were ignored from the start, as a shell has it for jobs in the
    background, stay ignored.
    """
    _nested.clear()
    _raising.clear()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def _in_force(interrupts: Interrupts) -> Iterator[None]:
    """Have `interrupts` hear the stop signals within the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in stop_signals()}
    _nested.append(interrupts)
    try:
        for number in before:
            signal.signal(number, interrupts.hear)
        yield
    finally:
        _nested.remove(interrupts)
        for number, former in before.items():
            signal.signal(number, former)
