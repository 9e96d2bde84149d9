"""What nodes of embedded stores share: one thread that owns the store.

Requests are carried out in that thread, one after the other, so asyncio answers
`status` and `clock` while the disk is slow.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Protocol

from harness.systems.programs.serving import Body, clock, serve

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future, ThreadPoolExecutor

CRASH = 13
"""WIRE.md's code of a request that may have been carried out."""

CORRUPT_STATUS = 65
"""As which status a node ends whose files are corrupt."""


class Store(Protocol):
    """Values under names, in files; one thread uses it."""

    def carry_out(self, request: Body) -> Body:
        """The answer to a request, whose writes were committed before."""
        ...


class Node:
    """Answers requests with a store."""

    def __init__(self, name: str, thread: ThreadPoolExecutor, store: Store) -> None:
        self.name = name
        self._loop = asyncio.get_running_loop()
        self._thread = thread
        self._store = store

    def handle(self, body: Body, answer: Callable[[Body], None]) -> None:
        """Answer a request, now or once its transaction has ended."""
        match body:
            case {"type": "status"}:
                status = {"role": "leader", "term": 1, "leader": self.name}
                answer({"type": "status_ok", **status})
            case {"type": "clock"}:
                answer(clock())
            case _:

                def done(future: Future[Body]) -> None:
                    self._loop.call_soon_threadsafe(answer, future.result())

                self._thread.submit(self._store.carry_out, body).add_done_callback(done)


async def serve_store(thread: ThreadPoolExecutor, store: Store) -> None:
    """Serve clients as WIRE.md's environment says, until killed."""
    node = Node(os.environ["SPLITBRAIN_NODE"], thread, store)
    await serve(node, os.environ["SPLITBRAIN_LISTEN"])
