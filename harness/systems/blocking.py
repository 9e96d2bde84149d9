"""Clients for drivers that block: each runs in a thread of its own.

Most database drivers block. `BlockingClient` runs one client's calls in one worker
thread, in order, so that a driver that is bound to its thread works too. A thread can't
be cancelled: a call that has met its time limit goes on in its thread. That is left
behind, and ends together with the driver's connection when the call returns.

It is for the os world only: in the simulator nothing may block.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from harness.override import override
from harness.systems.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.history import Op
    from harness.worlds.places import NodePlace

Answer = asyncio.Future[tuple[Any, Exception | None]]
"""The result of a call, or the exception that it raised."""


class BlockingClient(Client, ABC):
    """A `Client` from three methods that may block, called in one thread."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Answer] | None]
        self._calls = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._under_way = 0

    @abstractmethod
    def connect(self, place: NodePlace) -> None:
        """Connect, with time limits of the driver's own if it has any."""

    @abstractmethod
    def call(self, op: Op) -> Op:
        """Carry out `op`, with the results and exceptions of `Client.invoke`."""

    @abstractmethod
    def disconnect(self) -> None:
        """Let go of the connection; called even if `connect` failed."""

    @override
    async def open(self, place: NodePlace) -> None:
        # A daemon: else a driver that never returns would keep the process from ending.
        self._thread = threading.Thread(
            target=self._work, name=f"client of {place.name}", daemon=True
        )
        self._thread.start()
        await self._answer(self._put(lambda: self.connect(place)))

    @override
    async def invoke(self, op: Op) -> Op:
        done: Op = await self._answer(self._put(lambda: self.call(op)))
        return done

    async def close(self) -> None:
        """Let go of the connection; doesn't wait for a call that is still under way."""
        if self._thread is None:
            return
        self._thread = None
        left_behind = self._under_way > 0
        disconnected = self._put(self.disconnect)
        self._calls.put(None)
        if not left_behind:
            await self._answer(disconnected)

    def _put(self, function: Callable[[], Any]) -> Answer:
        answer: Answer = asyncio.get_running_loop().create_future()
        self._under_way += 1
        self._calls.put((function, answer))
        return answer

    async def _answer(self, answer: Answer) -> Any:
        result, failure = await answer
        if failure is not None:
            raise failure
        return result

    def _work(self) -> None:
        """Carry out calls in order until told to end, in the client's thread."""
        while (call := self._calls.get()) is not None:
            function, answer = call
            outcome: tuple[Any, Exception | None]
            try:
                outcome = (function(), None)
            except Exception as failure:  # raised again where the call is awaited
                outcome = (None, failure)
            # The loop may be closed when a call that was left behind returns.
            with suppress(RuntimeError):
                answer.get_loop().call_soon_threadsafe(self._resolve, answer, outcome)

    def _resolve(self, answer: Answer, outcome: tuple[Any, Exception | None]) -> None:
        self._under_way -= 1
        if not answer.done():  # it was not cancelled
            answer.set_result(outcome)
