"""Transactions of appends to lists and reads of them: the sharpest test of isolation.

Every element is appended once to its list, so a read tells the order of all appends
that it saw, and the dependencies of transactions can be inferred (Kingsbury and Alvaro
2020, Elle). Lists are given up for new ones (`appends_per_key`).

Promise: strict serializability, or what `consistency` asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checkers.isolation.question import MODELS
from harness import registry
from harness.generator import Generator, Invocation, from_function
from harness.options import Whole
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
    Option("keys", "6", "lists in use at a time", Whole(1, 1000)),
    Option(
        "appends_per_key", "60", "appends to a list before a new one follows", COUNT
    ),
    Option(
        "micro_ops_max",
        "4",
        "micro-operations in a transaction, at most",
        Whole(1, 1000),
    ),
    Option("consistency", "strict-serializable", "the model asked for", MODELS),
)


class _Translation:
    def to_txn(self, op: Op) -> list[MicroOp]:
        return [[f, key, None if f == "r" else value] for f, key, value in op.value]

    def to_value(self, op: Op, done: Sequence[MicroOp]) -> Any:
        return [list(micro) for micro in done]


class ListAppend:
    """The workload; see the module."""

    name = "list_append"
    codec: WireCodec = TxnCodec(_Translation())
    idempotent: frozenset[str] = frozenset()

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.name, OPTIONS, options)
        self.keys: int = given["keys"]
        self.appends_per_key: int = given["appends_per_key"]
        self.micro_ops_max: int = given["micro_ops_max"]
        self.consistency: tuple[str, ...] = given["consistency"]
        self._appends: dict[int, int] = {}

    def generator(self, concurrency: int) -> Generator:
        """See `Workload.generator`."""
        self._appends = dict.fromkeys(range(self.keys), 0)

        def draw(random: Random) -> Invocation:
            count = random.randint(1, self.micro_ops_max)
            return Invocation("txn", [self._micro_op(random) for _ in range(count)])

        return from_function(draw)

    def _micro_op(self, random: Random) -> MicroOp:
        key = random.choice(list(self._appends))
        if random.random() < 0.5:
            return ["r", key, None]
        self._appends[key] += 1
        element = self._appends[key]
        if element >= self.appends_per_key:
            del self._appends[key]
            self._appends[max([key, *self._appends]) + 1] = 0
        return ["append", key, element]

    def final_generator(self, concurrency: int) -> Generator:
        """See `Workload.final_generator`: the lists in use are read everywhere."""

        def reads() -> list[Invocation]:
            return [Invocation("txn", [["r", key, None]]) for key in self._appends]

        return once_per_thread(reads, concurrency)

    def checkers(self) -> dict[str, Checker]:
        """No anomaly that the consistency model forbids."""
        factory = registry.find("checker", "list-append").factory
        return {"list-append": factory({"consistency": ",".join(self.consistency)})}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "list_append",
    "transactions that append to lists and read them; judged by their dependencies",
    ListAppend,
    OPTIONS,
)
