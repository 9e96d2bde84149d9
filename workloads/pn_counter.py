"""A counter that goes up and down on all nodes at once, and must come out right.

Maelstrom's `pn-counter`, and its `g-counter` with `decrements=false`. Nodes may answer
from what they know; in the end, when they had time to tell each other (`settle_s`),
every one is read. Promise: all that was acknowledged is in the sum (`pn-counter`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import registry
from harness.errors import NodeReply
from harness.options import Flag
from harness.registry import Option, Plugin, settings
from harness.workload.generator import Generator, Invocation, from_function
from workloads.eventual import SETTLE, reads_when_settled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WireCodec, WorkloadFactory

OPTIONS = (
    Option("decrements", "true", "whether it goes down too", Flag()),
    SETTLE,
)

DELTA_MAX = 5


class PNCounterCodec:
    """`add` and `read` (WIRE.md)."""

    def request(self, op: Op) -> dict[str, Any]:
        """See `WireCodec.request`."""
        return {"type": "add", "delta": op.value} if op.f == "add" else {"type": "read"}

    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        """See `WireCodec.completion`."""
        wanted = "add_ok" if op.f == "add" else "read_ok"
        if body.get("type") != wanted:
            raise NodeReply(
                definite=False, text=f"answered {op.f} with {body.get('type')!r}"
            )
        return op.ok(op.value if op.f == "add" else body.get("value"))

    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        """See `WireCodec.on_error`."""
        return None


class PNCounter:
    """The workload; see the module."""

    name = "pn_counter"
    requires = frozenset({"pn-counter"})
    codec: WireCodec = PNCounterCodec()
    idempotent: frozenset[str] = frozenset({"read", "final-read"})

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.name, OPTIONS, options)
        self.delta_min = -DELTA_MAX if given["decrements"] else 0
        self.settle_s: int = given["settle_s"]

    def generator(self, concurrency: int) -> Generator:
        """See `Workload.generator`."""

        def draw(random: Random) -> Invocation:
            if random.random() < 0.5:
                return Invocation("read")
            return Invocation("add", random.randint(self.delta_min, DELTA_MAX))

        return from_function(draw)

    def final_generator(self, concurrency: int) -> Generator:
        """See `Workload.final_generator`: every node is read when all is settled."""
        return reads_when_settled(Invocation("final-read"), self.settle_s, concurrency)

    def checkers(self) -> dict[str, Checker]:
        """Final reads are possible sums."""
        return {"pn-counter": registry.find("checker", "pn-counter").factory({})}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "pn_counter",
    "a counter up and down on all nodes, which must come out right in the end",
    PNCounter,
    OPTIONS,
)
