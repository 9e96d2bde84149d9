"""Nodes give out ids, and never one twice, whatever happens to them.

Promise: no two ok operations got the same id (`unique-ids`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import registry
from harness.errors import NodeReply
from harness.override import override
from harness.registry import Plugin, settings
from harness.workload import WireCodec, Workload
from harness.workload.generator import Generator, Invocation, from_function

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WorkloadFactory


class UniqueIdsCodec(WireCodec):
    """`generate` (WIRE.md)."""

    @override
    def request(self, op: Op) -> dict[str, Any]:
        return {"type": "generate"}

    @override
    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        """The completion with the node's id, which may be anything but null."""
        if body.get("type") != "generate_ok" or body.get("id") is None:
            raise NodeReply(
                definite=False, text=f"answered generate with {body.get('type')!r}"
            )
        return op.ok(body["id"])

    @override
    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        return None


class UniqueIds(Workload):
    """The workload that this module describes."""

    name = "unique_ids"
    requires = frozenset({"ids"})
    codec: WireCodec = UniqueIdsCodec()
    # An id whose answer was lost is harmless: no client knows it, and none will see it
    # given out a second time.
    idempotent: frozenset[str] = frozenset({"generate"})

    def __init__(self, options: Mapping[str, str]) -> None:
        settings(self.name, (), options)

    @override
    def generator(self, concurrency: int) -> Generator:
        return from_function(lambda _: Invocation("generate"))

    @override
    def final_generator(self, concurrency: int) -> Generator | None:
        return None

    @override
    def checkers(self) -> dict[str, Checker]:
        """`unique-ids`: no id twice."""
        factory = registry.find("checker", "unique-ids").factory
        return {"unique-ids": factory({})}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "unique_ids", "ids that nodes give out, none of them twice", UniqueIds
)
