"""Workloads' interface: operations, their form on the wire, and their checkers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

if TYPE_CHECKING:
    from harness.errors import NodeReply
    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload.generator import Generator

OP_TIMEOUT_S: Final = 2.0
"""How long a client waits for an answer by default."""


class WireCodec(Protocol):
    """Turns operations into request bodies of the wire protocol, and back (WIRE.md)."""

    def request(self, op: Op) -> dict[str, Any]:
        """The request body for `op`, without `msg_id`."""
        ...

    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        """The completion that a reply other than an error means.

        Raises:
            NodeReply: The reply makes no sense for this request; an indefinite failure.
        """
        ...

    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        """The completion that an error reply means, if the error is an answer.

        For instance, a read of a missing key (code 20) is an ok read of null.

        Returns:
            The completion; None if it is `fail` or `info`, as the error is definite or
            not.
        """
        ...


class Workload(Protocol):
    """A kind of test: operations of clients, and checkers of the promises they test."""

    name: str
    requires: frozenset[str]
    """Services that it asks for (`harness.systems.services`)."""
    codec: WireCodec
    idempotent: frozenset[str]
    """Functions that change nothing, such as reads: their failures are never `info`."""

    def generator(self, concurrency: int) -> Generator:
        """Client operations, without end; the run bounds them by time or count."""
        ...

    def final_generator(self, concurrency: int) -> Generator | None:
        """The client operations after all faults were healed; None for none."""
        ...

    def checkers(self) -> Mapping[str, Checker]:
        """The judges by name; the worst of their verdicts is the run's."""
        ...


@runtime_checkable
class Opening(Protocol):
    """A workload that tells every node something before its first operation.

    Only nodes that are asked before they serve are told (`maelstrom:`).
    """

    def opening(self, nodes: Sequence[str]) -> dict[str, Any]:
        """The body of the request, without `msg_id`; nodes answer it with `..._ok`."""
        ...


@runtime_checkable
class Settling(Protocol):
    """A workload whose final operations come a while after the last fault.

    Attributes:
        settle_s: Seconds in which the nodes may come to agree.
    """

    settle_s: float


@runtime_checkable
class Patient(Protocol):
    """A workload whose operations take long even in a healthy cluster.

    Attributes:
        op_timeout_s: How long its clients wait for an answer by default, but never less
            than OP_TIMEOUT_S.
    """

    op_timeout_s: float


def op_timeout_s(workload: Workload, asked: float | None) -> float:
    """How long clients wait for an answer: `asked`, or else the workload's default."""
    if asked is not None:
        return asked
    needed = workload.op_timeout_s if isinstance(workload, Patient) else OP_TIMEOUT_S
    return max(OP_TIMEOUT_S, needed)


WorkloadFactory = Callable[[Mapping[str, str]], Workload]
"""Builds a workload from its options; raises UsageError for those it does not know."""
