"""Transactions of appends to lists and reads of them: the sharpest test of isolation.

Every element is appended once to its list. So a read shows the order of all appends
that it saw, and the dependencies of transactions can be inferred (Kingsbury and Alvaro
2020, Elle). A list is given up for a new one after `appends_per_key` appends. A few
lists stay for the whole run, and grow less and less often (`workloads.objects`).

Promise: strict serializability, or what `consistency` asks for.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from checkers.isolation.question import MODELS
from harness import registry
from harness.options import Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.workload import Workload
from harness.workload.generator import Generator, Invocation
from workloads.objects import Objects, drawn, last_looks
from workloads.transactional import COUNT, TxnCodec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WireCodec, WorkloadFactory
    from workloads.transactional import MicroOp

SHARED_OPTIONS = (
    Option(
        "micro_ops_max",
        "4",
        "micro-operations in a transaction, at most",
        Whole(1, 1000),
    ),
    Option("consistency", "strict-serializable", "the model asked for", MODELS),
)
OPTIONS = (
    Option("keys", "6", "lists in use at a time", Whole(1, 1000)),
    Option(
        "appends_per_key", "60", "appends to a list before a new one follows", COUNT
    ),
    *SHARED_OPTIONS,
)


class _Translation:
    def to_txn(self, op: Op) -> list[MicroOp]:
        return [[f, key, None if f == "r" else value] for f, key, value in op.value]

    def to_value(self, op: Op, done: Sequence[MicroOp]) -> Any:
        return [list(micro) for micro in done]


class ListAppend(Workload):
    """The workload that this module describes."""

    name = "list_append"
    requires = frozenset({"txn-append"})
    codec: WireCodec = TxnCodec(_Translation())
    idempotent: frozenset[str] = frozenset()
    options: Sequence[Option] = OPTIONS
    change = "append"
    """The micro-operation that changes an object."""
    changes_option = "appends_per_key"
    judge = "list-append"
    """The checker."""

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.name, self.options, options)
        self.micro_ops_max: int = given["micro_ops_max"]
        self.consistency: tuple[str, ...] = given["consistency"]
        changes = given[self.changes_option]
        self._objects = Objects(given["keys"], changes, ops_most=changes)
        self._changes: Counter[int] = Counter()

    @override
    def generator(self, concurrency: int) -> Generator:
        self._changes.clear()

        def draw(random: Random) -> Invocation:
            count = random.randint(1, self.micro_ops_max)
            return Invocation("txn", [self._micro_op(random) for _ in range(count)])

        return drawn(self._objects, draw)

    def _micro_op(self, random: Random) -> MicroOp:
        if random.random() < 0.5:
            return ["r", self._objects.choose_to_look_at(random), None]
        key = self._objects.choose(random)
        self._objects.used(key)
        self._changes[key] += 1
        return [self.change, key, self._changes[key]]

    @override
    def final_generator(self, concurrency: int) -> Generator:
        """Every thread reads the objects, as far as `last_looks` goes."""
        return last_looks(
            self._objects,
            lambda key: Invocation("txn", [["r", key, None]]),
            concurrency,
        )

    @override
    def checkers(self) -> dict[str, Checker]:
        """`list-append`: no anomaly that the consistency model forbids."""
        factory = registry.find("checker", self.judge).factory
        return {self.judge: factory(self.judged_by())}

    def judged_by(self) -> dict[str, str]:
        """The options of the checker."""
        return {"consistency": ",".join(self.consistency)}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "list_append",
    "transactions that append to lists and read them; judged by their dependencies",
    ListAppend,
    OPTIONS,
)
