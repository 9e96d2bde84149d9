"""Searches for patterns of users in what nodes write: they end, whatever the two are.

Backtracking can take exponential time (`(a+)+$`), and nobody sees that from a pattern
alone. So a search that takes too much processor time is broken off.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SEARCH_S_MAX: Final = 0.1
"""Processor time that a search may take; a usual one takes a microsecond."""

WHY: Final = "repetitions within repetitions may take for ever"


def in_time(search: Callable[[], T]) -> T:
    """What `search` returns.

    The regular expression engine looks for signals now and then, so a timer's handler
    can end it. Python hands signals to its main thread only; in another thread, the
    search takes as long as it takes.

    Raises:
        TimeoutError: The search took SEARCH_S_MAX of processor time.
    """
    if threading.current_thread() is not threading.main_thread():
        return search()
    searching = True

    def ring(*_: object) -> None:
        if searching:
            raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, SEARCH_S_MAX)
        found = search()
        searching = False
        return found
    finally:
        searching = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
