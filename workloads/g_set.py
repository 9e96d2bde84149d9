"""Elements are added to one set on all nodes at once, and never leave it.

Maelstrom's `g-set`. Nodes may answer from what they know, so a read may be stale. At
the end, when nodes had time to tell each other (`settle_s`), each is read. Promise: no
element is lost, nor missing anywhere in the end (`set-full`).

Each answer is the whole set, so reads become rarer as the set grows: otherwise answers
would soon take all of the run's time. A full set gets no more elements and is read once
a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import registry
from harness.errors import NodeReply
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.workload import WireCodec, Workload
from harness.workload.generator import (
    Generator,
    Invocation,
    delay,
    from_function,
    repeat,
    then,
)
from workloads.eventual import SETTLE
from workloads.transactional import once_per_thread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WorkloadFactory

OPTIONS = (SETTLE,)

READ_SHARE = 0.1
"""Part of the operations that read, while the set is small."""

READ_RARER = 200
"""Elements from which on reads become rarer, in proportion to the set's size."""

ADDS_MAX = 100_000
"""Elements of a full set. An answer must fit into a line (harness/systems/wire.py)."""

FULL_READS_S = 1.0
"""Seconds between two reads of a full set."""


class GSetCodec(WireCodec):
    """`add` and `read` (WIRE.md)."""

    @override
    def request(self, op: Op) -> dict[str, Any]:
        if op.f == "add":
            return {"type": "add", "element": op.value}
        return {"type": "read"}

    @override
    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        if body.get("type") != ("add_ok" if op.f == "add" else "read_ok"):
            raise NodeReply(
                definite=False, text=f"answered {op.f} with {body.get('type')!r}"
            )
        if op.f == "add":
            return op.ok(op.value)
        elements = body.get("value")
        if not isinstance(elements, list):
            raise NodeReply(definite=False, text="answered read without a list")
        return op.ok(elements)

    @override
    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        return None


class GSet(Workload):
    """The workload that this module describes."""

    name = "g_set"
    requires = frozenset({"grow-set"})
    codec: WireCodec = GSetCodec()
    idempotent: frozenset[str] = frozenset({"read", "final-read"})
    options: Sequence[Option] = OPTIONS
    adds = "add"
    """The function that adds an element."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self.given = settings(self.name, self.options, options)
        self.settle_s: float = self.given["settle_s"]
        self._added = 0

    @override
    def generator(self, concurrency: int) -> Generator:
        self._added = 0

        def draw(random: Random) -> Invocation | None:
            if self._added == ADDS_MAX:
                return None
            rarer = max(1.0, self._added / READ_RARER)
            if random.random() < READ_SHARE / rarer:
                return Invocation("read")
            self._added += 1
            return Invocation(self.adds, self._added)

        full = delay(FULL_READS_S, repeat(Invocation("read")))
        return then(from_function(draw), full)

    @override
    def final_generator(self, concurrency: int) -> Generator:
        """Every thread reads its node's set."""
        return once_per_thread(lambda: [Invocation("final-read")], concurrency)

    @override
    def checkers(self) -> dict[str, Checker]:
        """`set-full`, which counts stale reads and convicts lost elements."""
        return {"set-full": registry.find("checker", "set-full").factory({})}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "g_set",
    "elements added to a set on all nodes, none of them ever lost",
    GSet,
    OPTIONS,
)
