"""A client that puts a workload's requests into a database's own words.

Workloads make their requests in bodies of the wire protocol, to any system. So a client
of a database is one function, `answer`: request in, answer out. The services that its
system speaks say which requests there are; the workload's codec makes requests of
operations, and completions of answers.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

from harness.errors import NodeReply
from harness.override import override
from harness.systems.client import Client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import Op
    from harness.workload import WireCodec
    from harness.worlds.places import NodePlace


class TranslatedClient(Client, abc.ABC):
    """A `Client` that lacks `open`, `close` and the meaning of a request."""

    def __init__(self, codec: WireCodec) -> None:
        self._codec = codec

    @override
    @abc.abstractmethod
    async def open(self, place: NodePlace) -> None: ...

    @override
    @abc.abstractmethod
    async def close(self) -> None: ...

    @abc.abstractmethod
    async def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body of the answer to a request of the workload.

        Raises:
            NodeReply: The request failed. Says whether it may have an effect; its code
                may be an answer too (20: there is no such key).
        """

    @override
    async def invoke(self, op: Op) -> Op:
        try:
            body = await self.answer(self._codec.request(op))
        except NodeReply as error:
            completion = self._codec.on_error(op, error)
            if completion is None:
                raise
            return completion
        return self._codec.completion(op, body)
