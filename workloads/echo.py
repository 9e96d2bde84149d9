"""Nodes say what they are told: Maelstrom's first exercise, and a test of the wire."""

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
    from random import Random

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WorkloadFactory


class EchoCodec(WireCodec):
    """`echo` (WIRE.md)."""

    @override
    def request(self, op: Op) -> dict[str, Any]:
        return {"type": "echo", "echo": op.value}

    @override
    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        """The completion with whatever came back, which the checker judges."""
        if body.get("type") != "echo_ok":
            raise NodeReply(
                definite=False, text=f"answered echo with {body.get('type')!r}"
            )
        return op.ok(body.get("echo"))

    @override
    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        return None


class Echo(Workload):
    """The workload that this module describes."""

    name = "echo"
    requires = frozenset({"echo"})
    codec: WireCodec = EchoCodec()
    idempotent: frozenset[str] = frozenset({"echo"})

    def __init__(self, options: Mapping[str, str]) -> None:
        settings(self.name, (), options)

    @override
    def generator(self, concurrency: int) -> Generator:

        def draw(random: Random) -> Invocation:
            return Invocation("echo", f"please echo {random.randrange(1 << 30)}")

        return from_function(draw)

    @override
    def final_generator(self, concurrency: int) -> Generator | None:
        return None

    @override
    def checkers(self) -> dict[str, Checker]:
        """`echo`: every answer repeats its question."""
        return {"echo": registry.find("checker", "echo").factory({})}


PLUGIN: Plugin[WorkloadFactory] = Plugin("echo", "nodes say what they are told", Echo)
