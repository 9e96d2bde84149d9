"""Elements are added to one set; what was added must be there, and nothing else.

The set is a list under one key: an add appends, a read reads it all. Each element is
added once. Sets are given up for new ones (`adds_per_set`), so that reads stay short.

Promise: an element whose add was acknowledged is in every later read (`set-full`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import registry
from harness.generator import Generator, Invocation, from_function
from harness.options import Flag
from harness.registry import Option, Plugin, settings
from workloads.transactional import COUNT, TxnCodec, once_per_thread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WireCodec, WorkloadFactory
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


class Set:
    """The workload; see the module."""

    name = "set"
    codec: WireCodec = TxnCodec(_Translation())
    idempotent: frozenset[str] = frozenset({"read"})

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.name, OPTIONS, options)
        self.adds_per_set: int = given["adds_per_set"]
        self.linearizable: bool = given["linearizable"]
        self._added = 0

    def generator(self, concurrency: int) -> Generator:
        """See `Workload.generator`."""
        self._added = 0

        def draw(random: Random) -> Invocation:
            key = self._added // self.adds_per_set
            if random.random() < 0.5:
                return Invocation("read", key=key)
            self._added += 1
            return Invocation(
                "add", self._added, (self._added - 1) // self.adds_per_set
            )

        return from_function(draw)

    def final_generator(self, concurrency: int) -> Generator:
        """See `Workload.final_generator`: every set is read everywhere."""

        def reads() -> list[Invocation]:
            sets = range(self._added // self.adds_per_set + 1)
            return [Invocation("read", key=key) for key in sets]

        return once_per_thread(reads, concurrency)

    def checkers(self) -> dict[str, Checker]:
        """No element lost, none that nobody added, none stale."""
        factory = registry.find("checker", "set-full").factory
        return {"set-full": factory({"linearizable": str(self.linearizable).lower()})}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "set",
    "elements added to sets and read back; judged by set-full",
    Set,
    OPTIONS,
)
