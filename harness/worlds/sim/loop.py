"""An asyncio event loop on virtual time: nothing ever waits, the clock jumps.

Whenever no callback is ready, the clock moves on to the next timer. So hours pass at
once, and the course of events depends on nothing but what was scheduled: callbacks run
in the order of their times and, at the same time, in the order of their scheduling.

The clock counts whole nanoseconds, as histories do. There is no IO: code that asks this
loop for sockets, threads or processes has no place in a simulation, and fails.

Choices: a loop of our own rather than asyncio's with a selector that never waits, as
that one spends more time on its selector than a simulation does on everything else.
Simulated things go straight to the heap (`at_ns`) without asyncio's handles.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, cast

from harness.errors import HarnessError
from harness.override import override

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from contextvars import Context

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

CALLBACKS_AT_ONE_TIME_MAX = 1_000_000
"""If more callbacks run at one time, some go round in circles without waiting."""


class VirtualTimeLoop(asyncio.AbstractEventLoop):
    """The event loop of a simulation.

    Attributes:
        now_ns: The virtual time, from 0 on. Read it freely.
    """

    def __init__(self) -> None:
        self.now_ns = 0
        self._ready: deque[asyncio.Handle] = deque()
        self._heap: list[tuple[int, int, Callable[[Any], None], Any]] = []
        self._next_number = itertools.count().__next__
        self._stopping = False
        self._running = False
        self._closed = False
        self._failure: BaseException | None = None

    # Simulated things

    def at_ns(self, when_ns: int, action: Callable[[Any], None], argument: Any) -> None:
        """Call `action(argument)` at `when_ns`, which must not have passed.

        If the action raises, the simulation ends: it is the simulator's own fault.
        """
        heappush(self._heap, (when_ns, self._next_number(), action, argument))

    # Running

    def run_forever(self) -> None:
        """Run callbacks and timers until `stop`.

        Raises:
            HarnessError: Nothing is scheduled any more, or time stands still.
        """
        self._running = True
        asyncio.events._set_running_loop(self)  # noqa: SLF001  # the way for loops
        try:
            while not self._stopping:
                self._run_ready()
                if not self._stopping:
                    self._advance()
        finally:
            self._stopping = self._running = False
            asyncio.events._set_running_loop(None)  # noqa: SLF001  # the way for loops

    def _run_ready(self) -> None:
        ready = self._ready
        count = 0
        while ready and not self._stopping:
            handle = ready.popleft()
            if not handle._cancelled:  # noqa: SLF001  # a method call a callback less
                handle._run()  # noqa: SLF001  # the way for loops
            count += 1
            if count > CALLBACKS_AT_ONE_TIME_MAX:
                raise HarnessError(
                    f"the simulation runs in circles at {self.now_ns} ns: {handle!r}"
                )
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _advance(self) -> None:
        """Move the clock on and carry out timers until a callback is ready."""
        heap, ready = self._heap, self._ready
        while not ready:
            if not heap:
                raise HarnessError("the simulation waits for something that can't come")
            self.now_ns, _, action, argument = heappop(heap)
            action(argument)

    def run_until_complete(
        self, future: Generator[Any, None, _T] | Awaitable[_T]
    ) -> _T:
        """The result of `future`, or of a task made from it."""
        task: asyncio.Future[_T] = asyncio.ensure_future(
            cast("Awaitable[_T]", future), loop=self
        )
        task.add_done_callback(self._stop_after)
        try:
            self.run_forever()
        finally:
            task.remove_done_callback(self._stop_after)
        return task.result()

    def _stop_after(self, _: asyncio.Future[Any]) -> None:
        self.stop()

    def stop(self) -> None:
        """Return from `run_forever` before the next callback."""
        self._stopping = True

    @override
    def is_running(self) -> bool:
        return self._running

    @override
    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Forget everything that was scheduled."""
        self._ready.clear()
        self._heap.clear()
        self._closed = True

    async def shutdown_asyncgens(self) -> None:
        """Do nothing: asynchronous generators are closed where they are used."""

    async def shutdown_default_executor(
        self,
        timeout: float | None = None,  # noqa: ASYNC109  # asyncio's signature
    ) -> None:
        """Do nothing: there are no threads."""

    # Scheduling

    @override
    def call_soon(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Schedule a callback from a signal handler; the loop never sleeps."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Schedule a callback after `delay` seconds, exact to the nanosecond."""
        when_ns = self.now_ns + max(0, round(delay * 1e9))
        return self._schedule(when_ns, callback, args, context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Schedule a callback at time `when`, exact to the nanosecond."""
        when_ns = max(self.now_ns, round(when * 1e9))
        return self._schedule(when_ns, callback, args, context)

    def _schedule(
        self,
        when_ns: int,
        callback: Callable[[*_Ts], object],
        args: tuple[*_Ts],
        context: Context | None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when_ns / 1e9, callback, args, self, context)
        self.at_ns(when_ns, self._ring, handle)
        return handle

    def _ring(self, handle: asyncio.TimerHandle) -> None:
        if not handle.cancelled():
            self._ready.append(handle)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: a cancelled timer is passed over when its time comes."""

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self.now_ns / 1e9

    # Futures and tasks

    @override
    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    @override
    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[_T]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    # Errors

    def get_debug(self) -> bool:
        """False: debugging would measure real time."""
        return False

    def set_debug(self, enabled: bool) -> None:
        """Do nothing: there is no debugging."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Fail the simulation: nobody waits for the task or callback that failed."""
        failure = context.get("exception")
        if isinstance(failure, BaseException):
            self._failure = self._failure or failure
        else:
            self._failure = HarnessError(str(context.get("message")))
