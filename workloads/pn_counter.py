"""A counter that goes up and down on all nodes at once, and must come out right.

Maelstrom's `pn-counter`, and its `g-counter` with `decrements=false`. Nodes may answer
from what they know. At the end, when they had time to tell each other (`settle_s`),
each is read. Promise: every acknowledged addition is in the final sum (`pn-counter`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import registry
from harness.errors import NodeReply
from harness.options import Flag
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.workload import WireCodec, Workload
from harness.workload.generator import Generator, Invocation, from_function
from workloads.eventual import SETTLE
from workloads.transactional import once_per_thread

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WorkloadFactory

OPTIONS = (
    Option("decrements", "true", "whether it goes down too", Flag()),
    SETTLE,
)

DELTA_MAX = 5


class PNCounterCodec(WireCodec):
    """`add` and `read` (WIRE.md)."""

    @override
    def request(self, op: Op) -> dict[str, Any]:
        return {"type": "add", "delta": op.value} if op.f == "add" else {"type": "read"}

    @override
    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        wanted = "add_ok" if op.f == "add" else "read_ok"
        if body.get("type") != wanted:
            raise NodeReply(
                definite=False, text=f"answered {op.f} with {body.get('type')!r}"
            )
        return op.ok(op.value if op.f == "add" else body.get("value"))

    @override
    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        return None


class PNCounter(Workload):
    """The workload that this module describes."""

    name = "pn_counter"
    requires = frozenset({"pn-counter"})
    codec: WireCodec = PNCounterCodec()
    idempotent: frozenset[str] = frozenset({"read", "final-read"})

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.name, OPTIONS, options)
        self.delta_min = -DELTA_MAX if given["decrements"] else 0
        self.settle_s: float = given["settle_s"]

    @override
    def generator(self, concurrency: int) -> Generator:

        def draw(random: Random) -> Invocation:
            if random.random() < 0.5:
                return Invocation("read")
            return Invocation("add", random.randint(self.delta_min, DELTA_MAX))

        return from_function(draw)

    @override
    def final_generator(self, concurrency: int) -> Generator:
        """Every thread reads its node's counter."""
        return once_per_thread(lambda: [Invocation("final-read")], concurrency)

    @override
    def checkers(self) -> dict[str, Checker]:
        """`pn-counter`: every final read is a possible sum."""
        return {"pn-counter": registry.find("checker", "pn-counter").factory({})}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "pn_counter",
    "a counter up and down on all nodes, which must come out right in the end",
    PNCounter,
    OPTIONS,
)
