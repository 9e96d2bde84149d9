"""What makes a workload: operations, how they look on the wire, and who judges them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from harness.errors import NodeReply
    from harness.generator import Generator
    from harness.history import Op
    from harness.verdict import Checker


class WireCodec(Protocol):
    """Turns operations into request bodies of the wire protocol, and back (WIRE.md)."""

    def request(self, op: Op) -> dict[str, Any]:
        """The request body for `op`, without `msg_id`."""
        ...

    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        """The completion that a non-error reply means.

        Raises:
            NodeReply: Indefinite, when the reply makes no sense for this request.
        """
        ...

    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        """The completion that an error reply means, where the error is an answer.

        A read of a missing key (code 20) is an ok read of null, for instance. None
        leaves it to the error's own definiteness.
        """
        ...


class Workload(Protocol):
    """A kind of test: what clients do, and which promises that puts to the proof."""

    name: str
    requires: frozenset[str]
    """Services that it asks for (`harness.services`)."""
    codec: WireCodec
    idempotent: frozenset[str]
    """Operations whose indefinite failure is harmless, so `fail` (reads)."""

    def generator(self, concurrency: int) -> Generator:
        """Client operations, without end; the run bounds them by time or count."""
        ...

    def final_generator(self, concurrency: int) -> Generator | None:
        """What clients do after all faults were healed, or None."""
        ...

    def checkers(self) -> Mapping[str, Checker]:
        """The judges by name; the worst of their verdicts is the run's."""
        ...


WorkloadFactory = Callable[[Mapping[str, str]], Workload]
"""Builds a workload from its options; raises UsageError for those it does not know."""
