"""A client that puts a workload's requests into a database's own words.

Workloads say what they want in bodies of the wire protocol, whoever serves them. So a
client of a database is one function, `answer`: request in, answer out. Which requests
there are follows from the services that its system speaks; how operations become
requests, and answers completions, is the workload's codec's affair.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

from harness.errors import NodeReply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import Op
    from harness.workload import WireCodec
    from harness.worlds.places import NodePlace


class TranslatedClient(abc.ABC):
    """A `Client` but for `open`, `close` and what a request means."""

    def __init__(self, codec: WireCodec) -> None:
        self._codec = codec

    @abc.abstractmethod
    async def open(self, place: NodePlace) -> None:
        """Connect; see `harness.systems.client.Client`."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Drop the connection; see `harness.systems.client.Client`."""

    @abc.abstractmethod
    async def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body of the answer to a request of the workload's.

        Raises:
            NodeReply: There is none; says whether the request may have an effect, and
                by its code whether that is an answer too (20: there is no such key).
        """

    async def invoke(self, op: Op) -> Op:
        """Ask and translate the answer back; see `harness.systems.client.Client`."""
        try:
            body = await self.answer(self._codec.request(op))
        except NodeReply as error:
            completion = self._codec.on_error(op, error)
            if completion is None:
                raise
            return completion
        return self._codec.completion(op, body)
