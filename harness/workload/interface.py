"""What makes a workload: operations, how they look on the wire, and who judges them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

if TYPE_CHECKING:
    from harness.errors import NodeReply
    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload.generator import Generator

OP_TIMEOUT_S: Final = 2.0
"""How long a client waits for an answer where nobody asks for anything else."""


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
    """Services that it asks for (`harness.systems.services`)."""
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


@runtime_checkable
class Patient(Protocol):
    """A workload whose operations take long even where all is well.

    Attributes:
        op_timeout_s: How long its clients wait for an answer unless told otherwise; it
            never makes them wait for less than OP_TIMEOUT_S.
    """

    op_timeout_s: float


def op_timeout_s(workload: Workload, asked: float | None) -> float:
    """How long clients wait for an answer: as was asked, else as the workload needs."""
    if asked is not None:
        return asked
    needed = workload.op_timeout_s if isinstance(workload, Patient) else OP_TIMEOUT_S
    return max(OP_TIMEOUT_S, needed)


WorkloadFactory = Callable[[Mapping[str, str]], Workload]
"""Builds a workload from its options; raises UsageError for those it does not know."""
