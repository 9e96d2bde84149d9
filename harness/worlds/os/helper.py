"""A helper process of a run, and the socket by which it is told what to do.

Networks and disks are carried by processes of their own, forked before the controller
starts its event loop, so that nobody waits for another's work. Orders and replies go
over a socket pair, as JSON behind a four-byte length; each order has one reply.

Either side notices when the other ends: the helper by end-of-file and, where the kernel
offers it, by a signal that can't be ignored; the controller by end-of-file at the next
order, which then raises HarnessError with the helper's own last words.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import struct
import sys
import traceback
from typing import TYPE_CHECKING, TypeVar

import msgspec

from harness.errors import EXIT_HARNESS, HarnessError
from harness.host import syscalls

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_LENGTH = struct.Struct("!I")
_CLOSE_S = 2.0
"""How long a helper may take to stop before it is killed."""
_START_S = 10.0
_ANSWER_S = 30.0
"""How long it may take to answer, beyond what an order says that it takes."""


class Reply(msgspec.Struct):
    """To an order; `problem` is a traceback, and the last words.

    `reason` is in its place if a sentence says it all.
    """

    result: msgspec.Raw = msgspec.Raw(b"null")
    problem: str = ""
    reason: str = ""

    @property
    def is_last(self) -> bool:
        """Whether these are the helper's last words."""
        return bool(self.problem or self.reason)


class Desk:
    """The helper's end of the socket pair; readable when there is an order."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def fileno(self) -> int:
        """For select and its kin."""
        return self._control.fileno()

    def take(self) -> bytes | None:
        """The next order, waiting for all of it; None when it is time to end."""
        header = self._control.recv(_LENGTH.size, socket.MSG_WAITALL)
        if len(header) < _LENGTH.size:
            return None
        size = _LENGTH.unpack(header)[0]
        body = self._control.recv(size, socket.MSG_WAITALL)
        return body if len(body) == size and body else None

    def answer(self, result: object = None) -> None:
        """Reply to the order that was taken."""
        self._send(Reply(msgspec.Raw(msgspec.json.encode(result))))

    def last_words(self, problem: str = "", reason: str = "") -> None:
        """Tell what ends us."""
        self._send(Reply(problem=problem, reason=reason))

    def _send(self, reply: Reply) -> None:
        self._control.sendall(_framed(msgspec.json.encode(reply)))


class Helper:
    """The controller's side: forks the process, gives orders, notices its death.

    Args:
        name: What it is called in errors: "switch", "disk of n1".
        title: What `ps` shows.
        serve: Runs in the new process until its control socket says stop.
    """

    def __init__(self, name: str, title: str, serve: Callable[[Desk], None]) -> None:
        self.name = name
        self._turn = asyncio.Lock()
        self._decode = msgspec.json.Decoder(Reply).decode
        self._closed = False
        self._obituary = ""
        self._socket, theirs = socket.socketpair()
        self.pid = _fork_serving(title, serve, theirs, self._socket)
        theirs.close()
        self._socket.setblocking(False)

    def wait_until_ready(self) -> None:
        """Wait, without an event loop, for a reply that it gives unasked.

        Raises:
            HarnessError: It died, or takes too long.
        """
        if not select.select([self._socket], [], [], _START_S)[0]:
            raise HarnessError(f"the {self.name} process did not get ready")
        self._socket.setblocking(True)
        body = Desk(self._socket).take()
        self._socket.setblocking(False)
        reply = None if body is None else self._decode(body)
        if reply is None or reply.is_last:
            self._bury(reply, self._wait())
            raise HarnessError(self._obituary)

    async def ask(
        self, order: msgspec.Struct, kind: type[T], *, takes_s: float = 0.0
    ) -> T:
        """Have an order carried out, which takes so long; its result.

        Raises:
            HarnessError: It has died, or hangs.
        """
        # Shielded: a caller who is cancelled between order and reply would leave the
        # reply to the next one who asks.
        reply = await asyncio.shield(self._exchange(order, takes_s))
        return msgspec.json.decode(reply.result, type=kind)

    async def tell(self, order: msgspec.Struct) -> None:
        """Have an order carried out that has no result."""
        await asyncio.shield(self._exchange(order, 0.0))

    async def hear(self, kind: type[T]) -> T:
        """Wait for a reply that it gives unasked; nothing may be asked meanwhile.

        Raises:
            HarnessError: It has died.
        """
        reply = await self._receive()
        if reply is None or reply.is_last:
            self._bury(reply, self._wait())
            raise HarnessError(self._obituary)
        return msgspec.json.decode(reply.result, type=kind)

    def kill(self) -> None:
        """End the process at once, as it holds nothing that has to be put in order."""
        if self._closed:
            return
        self._closed = True
        if not self._obituary:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._wait()
        self._socket.close()

    async def close(self) -> None:
        """Stop the process and wait until it is gone. A second call does nothing.

        Raises:
            HarnessError: It had died before, and nobody had noticed yet.
        """
        if self._closed:
            return
        self._closed = True
        noticed = bool(self._obituary)
        if not noticed:
            await self._stop()
        self._socket.close()
        if self._obituary and not noticed:
            raise HarnessError(self._obituary)

    async def _stop(self) -> None:
        try:
            async with asyncio.timeout(_CLOSE_S), self._turn:
                await self._send(b"")
                last_words = await self._receive()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            last_words = None
        status = self._wait()
        if last_words is not None or status != 0:
            self._bury(last_words, status)

    async def _exchange(self, order: msgspec.Struct, takes_s: float) -> Reply:
        async with self._turn:
            if self._closed:
                raise HarnessError(f"the {self.name} is closed")
            if self._obituary:
                raise HarnessError(self._obituary)
            try:
                async with asyncio.timeout(takes_s + _ANSWER_S):
                    await self._send(msgspec.json.encode(order))
                    reply = await self._receive()
            except TimeoutError:
                # Whoever waits for it in the kernel is let go of.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
                self._wait()
                words = f"the {self.name} process hangs: no answer in {_ANSWER_S:.0f} s"
                self._obituary = words
                raise HarnessError(words) from None
            if reply is None or reply.is_last:
                self._bury(reply, self._wait())
                raise HarnessError(self._obituary)
            return reply

    async def _send(self, body: bytes) -> None:
        # When it is dead, its last words may still be there to read.
        with contextlib.suppress(ConnectionError):
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(self._socket, _framed(body))

    async def _receive(self) -> Reply | None:
        """The next reply; None at end-of-file."""
        header = await self._read(_LENGTH.size)
        if header is None:
            return None
        body = await self._read(_LENGTH.unpack(header)[0])
        return None if body is None else self._decode(body)

    async def _read(self, size: int) -> bytes | None:
        loop = asyncio.get_running_loop()
        data = b""
        while len(data) < size:
            try:
                more = await loop.sock_recv(self._socket, size - len(data))
            except ConnectionError:
                return None
            if not more:
                return None
            data += more
        return data

    def _wait(self) -> int:
        """Its exit code or -signal. It has closed its socket, so this is short."""
        with contextlib.suppress(ChildProcessError):
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return 0

    def _bury(self, last_words: Reply | None, status: int) -> None:
        if last_words is not None and last_words.reason:
            self._obituary = last_words.reason
            return
        end = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        self._obituary = f"the {self.name} process died ({end})"
        if last_words is not None:
            self._obituary += f":\n{last_words.problem}"


def _fork_serving(
    title: str,
    serve: Callable[[Desk], None],
    control: socket.socket,
    controllers_end: socket.socket,
) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid != 0:
        return pid
    status = EXIT_HARNESS
    desk = Desk(control)
    # Nothing may unwind into the controller's frames: that would run its code twice.
    try:
        # Stop signals are for the controller. It still needs us while it cleans up.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        syscalls.die_with(parent)
        if sys.platform.startswith("linux"):
            syscalls.set_process_name(f"sb-{title}")
        controllers_end.close()
        serve(desk)
        status = 0
    except HarnessError as failure:
        with contextlib.suppress(OSError):
            desk.last_words(reason=str(failure))
    except BaseException:  # of a forked child: its last words go to the controller
        with contextlib.suppress(OSError):
            desk.last_words(traceback.format_exc())
    finally:
        os._exit(status)


def _framed(body: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + body
