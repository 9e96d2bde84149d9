"""Nodes give out ids, and never one twice, whatever happens to them.

Promise: no two ok operations got the same id (`unique-ids`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import registry
from harness.errors import NodeReply
from harness.registry import Plugin, settings
from harness.workload.generator import Generator, Invocation, from_function

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WireCodec, WorkloadFactory


class UniqueIdsCodec:
    """`generate` (WIRE.md)."""

    def request(self, op: Op) -> dict[str, Any]:
        """See `WireCodec.request`."""
        return {"type": "generate"}

    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        """See `WireCodec.completion`. An id may be anything but null."""
        if body.get("type") != "generate_ok" or body.get("id") is None:
            raise NodeReply(
                definite=False, text=f"answered generate with {body.get('type')!r}"
            )
        return op.ok(body["id"])

    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        """See `WireCodec.on_error`."""
        return None


class UniqueIds:
    """The workload; see the module."""

    name = "unique_ids"
    requires = frozenset({"ids"})
    codec: WireCodec = UniqueIdsCodec()
    # An id that nobody received is an id that nobody else may get; that nobody sees.
    idempotent: frozenset[str] = frozenset({"generate"})

    def __init__(self, options: Mapping[str, str]) -> None:
        settings(self.name, (), options)

    def generator(self, concurrency: int) -> Generator:
        """See `Workload.generator`."""
        return from_function(lambda _: Invocation("generate"))

    def final_generator(self, concurrency: int) -> Generator | None:
        """See `Workload.final_generator`: there is nothing left to ask."""
        return None

    def checkers(self) -> dict[str, Checker]:
        """No id twice."""
        factory = registry.find("checker", "unique-ids").factory
        return {"unique-ids": factory({})}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "unique_ids", "ids that nodes give out, none of them twice", UniqueIds
)
