"""A counter goes up, and reads must lie between the least and the most it can be.

Promise: every read is at least the sum of the acknowledged additions before it began,
and at most the sum of all that were attempted before it ended (`counter`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import registry
from harness.override import override
from harness.registry import Plugin, settings
from harness.workload import Workload
from harness.workload.generator import Generator, Invocation, from_function
from workloads.transactional import TxnCodec, once_per_thread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WireCodec, WorkloadFactory
    from workloads.transactional import MicroOp

KEY = "counter"


class _Translation:
    def to_txn(self, op: Op) -> list[MicroOp]:
        return [["add", KEY, op.value]] if op.f == "add" else [["r", KEY, None]]

    def to_value(self, op: Op, done: Sequence[MicroOp]) -> Any:
        return op.value if op.f == "add" else done[0][2] or 0


class Counter(Workload):
    """The workload that this module describes."""

    name = "counter"
    requires = frozenset({"counter"})
    codec: WireCodec = TxnCodec(_Translation())
    idempotent: frozenset[str] = frozenset({"read"})

    def __init__(self, options: Mapping[str, str]) -> None:
        settings(self.name, (), options)

    @override
    def generator(self, concurrency: int) -> Generator:

        def draw(random: Random) -> Invocation:
            if random.random() < 0.5:
                return Invocation("read")
            return Invocation("add", random.randint(1, 5))

        return from_function(draw)

    @override
    def final_generator(self, concurrency: int) -> Generator:
        """Every thread reads the counter."""
        return once_per_thread(lambda: [Invocation("read")], concurrency)

    @override
    def checkers(self) -> dict[str, Checker]:
        """`counter`, which bounds every read."""
        factory = registry.find("checker", "counter").factory
        return {"counter": factory({})}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "counter", "additions to a counter, and reads of it; judged by bounds", Counter
)
