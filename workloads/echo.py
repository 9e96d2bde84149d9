"""Nodes say what they are told: Maelstrom's first exercise, and a test of the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import registry
from harness.errors import NodeReply
from harness.registry import Plugin, settings
from harness.workload.generator import Generator, Invocation, from_function

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WireCodec, WorkloadFactory


class EchoCodec:
    """`echo` (WIRE.md)."""

    def request(self, op: Op) -> dict[str, Any]:
        """See `WireCodec.request`."""
        return {"type": "echo", "echo": op.value}

    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        """See `WireCodec.completion`. What comes back is for the checker to judge."""
        if body.get("type") != "echo_ok":
            raise NodeReply(
                definite=False, text=f"answered echo with {body.get('type')!r}"
            )
        return op.ok(body.get("echo"))

    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        """See `WireCodec.on_error`."""
        return None


class Echo:
    """The workload; see the module."""

    name = "echo"
    requires = frozenset({"echo"})
    codec: WireCodec = EchoCodec()
    idempotent: frozenset[str] = frozenset({"echo"})

    def __init__(self, options: Mapping[str, str]) -> None:
        settings(self.name, (), options)

    def generator(self, concurrency: int) -> Generator:
        """See `Workload.generator`."""

        def draw(random: Random) -> Invocation:
            return Invocation("echo", f"please echo {random.randrange(1 << 30)}")

        return from_function(draw)

    def final_generator(self, concurrency: int) -> Generator | None:
        """See `Workload.final_generator`: there is nothing left to ask."""
        return None

    def checkers(self) -> dict[str, Checker]:
        """Every answer is what was asked."""
        return {"echo": registry.find("checker", "echo").factory({})}


PLUGIN: Plugin[WorkloadFactory] = Plugin("echo", "nodes say what they are told", Echo)
