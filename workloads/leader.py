"""Nodes are asked, again and again, who leads: at most one may lead in a term.

Promise: election safety (Ongaro and Ousterhout 2014, 5.2), by what nodes say of
themselves; judged by `one_leader`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import registry
from harness.errors import NodeReply
from harness.generator import Generator, Invocation, delay, from_function
from harness.registry import Plugin, settings
from workloads.transactional import once_per_thread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WireCodec, WorkloadFactory

BETWEEN_S = 0.005
"""Time between two questions; more of them would only be in the nodes' way."""


class LeaderCodec:
    """The status request (WIRE.md)."""

    def request(self, op: Op) -> dict[str, Any]:
        """See `WireCodec.request`."""
        return {"type": "status"}

    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        """See `WireCodec.completion`."""
        if body.get("type") != "status_ok":
            raise NodeReply(
                definite=False, text=f"answered status with {body.get('type')!r}"
            )
        return op.ok({name: body.get(name) for name in ("role", "term", "leader")})

    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        """See `WireCodec.on_error`."""
        return None


class Leader:
    """The workload; see the module."""

    name = "leader"
    codec: WireCodec = LeaderCodec()
    idempotent: frozenset[str] = frozenset({"status"})

    def __init__(self, options: Mapping[str, str]) -> None:
        settings(self.name, (), options)

    def generator(self, concurrency: int) -> Generator:
        """See `Workload.generator`."""
        return delay(BETWEEN_S, from_function(lambda _: Invocation("status")))

    def final_generator(self, concurrency: int) -> Generator:
        """See `Workload.final_generator`."""
        return once_per_thread(lambda: [Invocation("status")], concurrency)

    def checkers(self) -> dict[str, Checker]:
        """At most one leader in a term."""
        return {"one_leader": registry.find("checker", "one_leader").factory({})}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "leader", "who leads, asked of every node; at most one in a term", Leader
)
