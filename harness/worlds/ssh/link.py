"""Calls to an agent that serves a run, and what it sends unasked.

Lines for the keeper on the host go through a socket pair, so that `worlds.os.warden`
talks to a keeper far away as it does to one here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from typing import TYPE_CHECKING, Any

from harness.worlds.ssh.connecting import ANSWER_S, HostError, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.worlds.ssh.connecting import Session
    from harness.worlds.ssh.hosts import Host

PING_S = 3.0
"""The agent takes a much longer silence for our end."""
PINGS = 5
"""Of as many readings of a host's clocks the quickest counts."""


class Link:
    """The agent of a host, which serves a run.

    Attributes:
        host: The host.
        wardens_end: The socket that stands for the keeper's.
        on_piece: Told of each piece of a file that the agent sends.
        mono_ahead_ns: How far the host's monotonic clock is ahead of ours.
        wall_ahead_ns: The same of its wall clock.
    """

    def __init__(self, session: Session) -> None:
        self.host = session.host
        self.wardens_end, self._keepers_end = socket.socketpair()
        self._keepers_end.setblocking(False)
        self.on_piece: Callable[[Mapping[str, Any]], None] = lambda _: None
        self.mono_ahead_ns = 0
        self.wall_ahead_ns = 0
        self._session = session
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._next_id = 0
        self._why_gone = ""
        self.gone = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(work()) for work in (self._hear, self._hand_on, self._ping)
        ]

    @classmethod
    async def open(cls, host: Host, order: Mapping[str, Any]) -> Link:
        """Log in to a host, and have its agent serve a run.

        Raises:
            UsageError, HostError: As `connect`.
        """
        session = await connect(host)
        session.write({"ask": "run", **order})
        return cls(session)

    @property
    def why_gone(self) -> str:
        """Why the agent can't be asked any more, in a sentence."""
        return self._why_gone

    async def call(self, call: str, limit_s: float = ANSWER_S, **arguments: Any) -> Any:
        """Have the agent do something; its result.

        Raises:
            HostError: It could not, it is gone, or it gives no answer in time.
        """
        if self.gone.is_set():
            raise HostError(self._why_gone)
        self._next_id += 1
        number = self._next_id
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending[number] = reply
        try:
            self._session.write({"id": number, "call": call, **arguments})
            async with asyncio.timeout(limit_s):
                return await reply
        except TimeoutError:
            why = f"{self.host.name}: no answer to {call} in {limit_s:g} s"
            raise HostError(why) from None
        except OSError as problem:
            raise HostError(f"{self.host.name}: {problem}") from problem
        finally:
            self._pending.pop(number, None)

    async def compare_clocks(self) -> None:
        """Find out how far the host's clocks are ahead of ours."""
        quickest_ns = 0
        for _ in range(PINGS):
            mono_ns, wall_ns = time.monotonic_ns(), time.time_ns()
            there = await self.call("clocks")
            took_ns = time.monotonic_ns() - mono_ns
            if not quickest_ns or took_ns < quickest_ns:
                quickest_ns = took_ns
                self.mono_ahead_ns = there["mono_ns"] - mono_ns - took_ns // 2
                self.wall_ahead_ns = there["wall_ns"] - wall_ns - took_ns // 2

    async def close(self) -> None:
        """Hang up, and wait until the host is healed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()
        self._lose("the connection was closed")

    async def _hear(self) -> None:
        import asyncssh

        why = ""
        try:
            while line := await self._session.reader.readuntil(b"\n"):
                await self._take(line)
        except asyncio.IncompleteReadError:
            pass
        except (ValueError, KeyError, TypeError) as problem:
            why = f"it says what no agent says: {type(problem).__name__}: {problem}"
        except (OSError, asyncssh.Error) as problem:
            why = str(problem)
        why = why or self._session.last_words or "the agent ended"
        self._lose(f"the connection to host {self.host.name} is lost: {why}")

    async def _take(self, line: bytes) -> None:
        if line.startswith(b"K"):
            with contextlib.suppress(OSError):
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(self._keepers_end, line[1:])
            return
        message = json.loads(line)
        if "problem" in message:
            raise ValueError(message["problem"])
        if "piece" in message:
            self.on_piece(message["piece"])
            return
        reply = self._pending.get(message["id"])
        if reply is None or reply.done():
            return
        if "error" in message:
            why = f"host {self.host.name}: {message['error']}"
            reply.set_exception(HostError(why))
        else:
            reply.set_result(message["result"])

    async def _hand_on(self) -> None:
        """Hand lines of the warden's on to the keeper."""
        loop, inbox = asyncio.get_running_loop(), b""
        while data := await loop.sock_recv(self._keepers_end, 1 << 16):
            *lines, inbox = (inbox + data).split(b"\n")
            for line in lines:
                with contextlib.suppress(OSError):
                    self._session.writer.write(b"K" + line + b"\n")

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(PING_S)
            with contextlib.suppress(HostError):
                await self.call("clocks")

    def _lose(self, why: str) -> None:
        if self.gone.is_set():
            return
        self._why_gone = why
        self.gone.set()
        for reply in self._pending.values():
            if not reply.done():
                reply.set_exception(HostError(why))
        self._keepers_end.close()
