"""A connection for one request at a time: made when needed, dropped when in doubt.

Clients of databases share it. Some protocols have the two sides introduce themselves
first (`Greeting`). It never sends anything again; whoever uses it drops it when a
request ends without its answer, as that may still come.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from harness.errors import TEMPORARILY_UNAVAILABLE, NodeReply
from harness.systems.wire import why_not

if TYPE_CHECKING:
    from harness.worlds.places import Endpoint

CONNECT_TIMEOUT_S = 2.0

Pair: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]

Greeting: TypeAlias = Callable[
    [asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]
]
"""What is said on a new connection before any request.

It raises ValueError if the other side speaks another protocol or doesn't want us, and
EOFError if it hangs up."""


class Streams:
    """The two streams of a connection to one endpoint, if there is one.

    Args:
        endpoint: Where to.
        greet: What is said first, if the protocol wants that.
        server: What should be there, for the message if something else is.
    """

    def __init__(
        self, endpoint: Endpoint, greet: Greeting | None = None, server: str = "server"
    ) -> None:
        self._endpoint = endpoint
        self._greet = greet
        self._server = server
        self._pair: Pair | None = None

    async def connected(self) -> Pair:
        """The connection there is, or a new one.

        Raises:
            NodeReply: The endpoint can't be reached; a definite failure.
        """
        if self._pair is not None and (
            self._pair[0].at_eof() or self._pair[1].is_closing()
        ):
            await self.close()
        if self._pair is None:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    self._pair = await self._greeted()
            except (OSError, EOFError) as error:  # TimeoutError is an OSError
                text = why_not(error) if isinstance(error, OSError) else "hung up"
                raise NodeReply(
                    definite=True, text=text, code=TEMPORARILY_UNAVAILABLE
                ) from error
            except (ValueError, asyncio.LimitOverrunError) as error:
                text = f"no {self._server}: {error}"
                raise NodeReply(definite=True, text=text) from error
        return self._pair

    async def _greeted(self) -> Pair:
        host, port = self._endpoint.host, self._endpoint.port
        reader, writer = await asyncio.open_connection(host, port)
        if self._greet is not None:
            try:
                await self._greet(reader, writer)
            except BaseException:  # Cancelled, too: nobody else would close it.
                writer.transport.abort()
                raise
        return reader, writer

    async def close(self) -> None:
        """Drop the connection without waiting for the other side."""
        pair, self._pair = self._pair, None
        if pair is not None:
            pair[1].transport.abort()
            with contextlib.suppress(OSError):
                await pair[1].wait_closed()
