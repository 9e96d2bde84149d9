"""A connection for one request at a time: made when needed, dropped when in doubt.

Clients of databases share it. It never sends anything again; whoever uses it drops it
when a request ends without its answer, as that may still come.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeAlias

from harness.errors import TEMPORARILY_UNAVAILABLE, NodeReply
from harness.systems.wire import why_not

if TYPE_CHECKING:
    from harness.worlds.places import Endpoint

CONNECT_TIMEOUT_S = 2.0

Pair: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Streams:
    """The two streams of a connection to one endpoint, if there is one."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
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
            endpoint = self._endpoint
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    self._pair = await asyncio.open_connection(
                        endpoint.host, endpoint.port
                    )
            except OSError as error:  # TimeoutError is an OSError
                raise NodeReply(
                    definite=True, text=why_not(error), code=TEMPORARILY_UNAVAILABLE
                ) from error
        return self._pair

    async def close(self) -> None:
        """Drop the connection without waiting for the other side."""
        pair, self._pair = self._pair, None
        if pair is not None:
            pair[1].transport.abort()
            with contextlib.suppress(OSError):
                await pair[1].wait_closed()
