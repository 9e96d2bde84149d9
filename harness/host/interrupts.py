"""What asks a command to end early, and how often it has to ask.

SIGINT (Ctrl-C) and SIGTERM ask, and SIGHUP where whoever started us does not ignore it:
what `nohup` started goes on without its terminal.

One signal is enough: what is under way ends, and what was recorded is judged. One more
within a second is its echo (timeout(1) signals its child, then the whole process
group), and later ones insist.
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
    """Hears stop signals, and passes them on to whoever listens.

    Attributes:
        heard: Whether one came.
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

        Both are called by a signal handler, so between any two steps of the program.
        """
        self._listener, self._insisted = listener, insisted
        if self.heard:
            listener()

    def hear(self, *_: object) -> None:
        """A signal came."""
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
"""Those in force, outermost first: what the innermost heard has an echo for all."""

_raising: list[Interrupts] = []
"""Those of them that raise KeyboardInterrupt."""


@contextlib.contextmanager
def noted() -> Iterator[Interrupts]:
    """Within, stop signals end nothing by themselves: a listener is told.

    Outside of the main thread, which alone may handle signals, none is heard.
    """
    interrupts = Interrupts()
    with _in_force(interrupts):
        yield interrupts


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Within, a stop signal raises KeyboardInterrupt, and an echo of it nothing.

    What a signal handler raises comes between any two steps of any code, and some code
    takes it for an error of its own: an import that may fail, a callback whose errors
    are only printed. So an error after a signal is taken for the signal's doing, and
    whoever is about to begin something long asks `insist`.
    """
    interrupts = Interrupts()
    interrupts.listen(give_up)
    with _in_force(interrupts):
        _raising.append(interrupts)
        try:
            yield
        except Exception as error:  # which may be the signal's doing
            if interrupts.heard:
                raise KeyboardInterrupt from error
            raise
        finally:
            _raising.remove(interrupts)


def insist() -> None:
    """Raise KeyboardInterrupt again where one was raised within `raised`, and lost."""
    if any(interrupts.heard for interrupts in _raising):
        raise KeyboardInterrupt


def forget() -> None:
    """In a process that was just forked: nothing listens any more, as it did before us.

    What the starter ignores, as a shell does for jobs in the background, stays ignored.
    """
    _nested.clear()
    _raising.clear()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def _in_force(interrupts: Interrupts) -> Iterator[None]:
    """Within, it hears the stop signals."""
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
