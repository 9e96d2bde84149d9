"""Elements are added to sets; later reads must see them, and nothing else.

A set is a list under one key: an add appends, a read reads the whole list. Each element
is added once. Two sets are in use at a time, and both must stay short, as each read
gets all of it: one set gets elements less and less often, the other is given up for a
new one after `adds_per_set` adds (`workloads.objects`).

Promise: an element whose add was acknowledged is in every later read (`set-full`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import registry
from harness.options import Flag
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.workload import Workload
from harness.workload.generator import Invocation
from workloads.looked_at import LookedAt
from workloads.objects import Objects, drawn, last_looks
from workloads.transactional import COUNT, TxnCodec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WireCodec, WorkloadFactory
    from harness.workload.generator import Generator
    from workloads.transactional import MicroOp

OPTIONS = (
    Option("adds_per_set", "200", "adds to a set before a new one follows", COUNT),
    Option("linearizable", "true", "reads must not be stale either", Flag()),
)


class _Translation:
    def to_txn(self, op: Op) -> list[MicroOp]:
        key = f"set-{op.key}"
        if op.f == "add":
            return [["append", key, op.value]]
        return [["r", key, None]]

    def to_value(self, op: Op, done: Sequence[MicroOp]) -> Any:
        return op.value if op.f == "add" else done[0][2] or []


class Set(Workload):
    """The workload that this module describes."""

    name = "set"
    requires = frozenset({"set"})
    codec: WireCodec = TxnCodec(_Translation())
    idempotent: frozenset[str] = frozenset({"read"})

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.name, OPTIONS, options)
        adds = given["adds_per_set"]
        self._objects = Objects(2, adds, ops_most=adds)
        self.linearizable: bool = given["linearizable"]
        self._added = 0

    @override
    def generator(self, concurrency: int) -> Generator:
        self._added = 0

        def draw(random: Random) -> Invocation:
            if random.random() < 0.5:
                return Invocation("read", key=self._objects.choose_to_look_at(random))
            key = self._objects.choose(random)
            self._objects.used(key)
            self._added += 1
            return Invocation("add", self._added, key)

        return drawn(self._objects, draw)

    @override
    def final_generator(self, concurrency: int) -> Generator:
        """Every thread reads the sets, as far as `last_looks` goes."""
        return last_looks(
            self._objects, lambda key: Invocation("read", key=key), concurrency
        )

    @override
    def checkers(self) -> dict[str, Checker]:
        """`set-full`: no element lost or that nobody added; by default none stale."""
        factory = registry.find("checker", "set-full").factory
        judge = factory({"linearizable": str(self.linearizable).lower()})
        return {"set-full": LookedAt(judge, changes={"add"}, looks={"read"})}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "set",
    "elements added to sets and read back; judged by set-full",
    Set,
    OPTIONS,
)
