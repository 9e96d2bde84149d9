"""Single writes, and reads of small groups of keys: do all see them in one order?

Each key is written once. The thread that wrote a key reads the key's group next. Other
threads read groups that are being written to, so as to see a write before it has
reached every node.

Promise: no long fork (`long-fork`), which parallel snapshot isolation allows and
snapshot isolation forbids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import registry
from harness.options import Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.workload import Workload
from harness.workload.generator import Flow, Generator, Invocation, place
from workloads.transactional import TxnCodec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WireCodec, WorkloadFactory
    from harness.workload.generator import Context, Offer, Seeds, Step, Thread
    from workloads.transactional import MicroOp

GROUP_SIZE = Whole(2, 100)

OPTIONS = (Option("group_size", "2", "keys that one transaction reads", GROUP_SIZE),)


class _Translation:
    def to_txn(self, op: Op) -> list[MicroOp]:
        return [list(micro) for micro in op.value]

    def to_value(self, op: Op, done: Sequence[MicroOp]) -> Any:
        return [list(micro) for micro in done]


class _Forks(Flow):
    """Jepsen's generator: write a fresh key, read its group, look at others' groups."""

    __slots__ = ("_fresh", "_looks", "_random", "_size", "_written")

    def __init__(self, size: int, random: Random) -> None:
        self._size = size
        self._random = random
        self._fresh = 0
        # The key that a thread wrote last, until it has read the group.
        self._written: dict[Thread, int] = {}
        self._looks = random.random() < 0.5

    @override
    def next(self, ctx: Context) -> Step:
        step = place(Invocation("txn"), ctx)
        if not isinstance(step, Invocation) or step.thread is None:
            return step
        key = self._written.get(step.thread)
        if key is None and self._looks and self._written:
            key = list(self._written.values())[-1]
        value = [["w", self._fresh, 1]] if key is None else self._group(key)
        return Invocation("txn", value, None, step.thread, step.time_ns)

    def _group(self, key: int) -> list[MicroOp]:
        first = key - key % self._size
        # The order differs from write to write. It stays the same however often `next`
        # is called before the offer is taken.
        turn = self._fresh % self._size
        keys = [first + (turn + i) % self._size for i in range(self._size)]
        return [["r", key, None] for key in keys]

    @override
    def take(self, offer: Offer) -> None:
        assert isinstance(offer, Invocation)
        assert offer.thread is not None
        self._looks = self._random.random() < 0.5
        if offer.value[0][0] == "w":
            self._written[offer.thread] = self._fresh
            self._fresh += 1
        else:
            self._written.pop(offer.thread, None)


class LongFork(Workload):
    """The workload that this module describes."""

    name = "long_fork"
    requires = frozenset({"txn-register"})
    codec: WireCodec = TxnCodec(_Translation())
    idempotent: frozenset[str] = frozenset()

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.name, OPTIONS, options)
        self.group_size: int = given["group_size"]

    @override
    def generator(self, concurrency: int) -> Generator:

        def start(seeds: Seeds) -> Flow:
            return _Forks(self.group_size, seeds.rng())

        return Generator("long forks", start)

    @override
    def final_generator(self, concurrency: int) -> Generator | None:
        """None: a read after all writes sees all of them, so no fork."""
        return None

    @override
    def checkers(self) -> dict[str, Checker]:
        """`long-fork`, for groups of this size."""
        factory = registry.find("checker", "long-fork").factory
        return {"long-fork": factory({"group-size": str(self.group_size)})}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "long_fork",
    "single writes and reads of groups of keys; judged by whether all see one order",
    LongFork,
    OPTIONS,
)
