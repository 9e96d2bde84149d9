"""Values are proposed, one is chosen, and every node learns it. Keys are instances.

Every proposed value is unique. Promise: agreement, validity, integrity, and that what
is learned was chosen (Lamport 2001), judged by `consensus`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import registry
from harness.errors import NodeReply
from harness.options import Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.workload import WireCodec, Workload
from harness.workload.generator import Generator, Invocation, from_function
from workloads.transactional import COUNT, once_per_thread

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WorkloadFactory

OPTIONS = (
    Option("keys", "4", "instances in use at a time", Whole(1, 1000)),
    Option(
        "proposals_per_key", "12", "proposals to an instance before a new one", COUNT
    ),
)

LEARN_SHARE = 0.4
LATE_SHARE = 0.1
"""Part of the proposals that go to any recent instance, also one no longer in use.

A value that was chosen before a crash is tested only by proposals to its instance after
the crash. Proposals that fail while nodes are down use up instances too, so by then the
instance may no longer be in use.
"""

INSTANCES_BACK = 8
"""How many instances, beside those in use, are recent."""


class ConsensusCodec(WireCodec):
    """Proposals and what was learned (WIRE.md)."""

    @override
    def request(self, op: Op) -> dict[str, Any]:
        if op.f == "learn":
            return {"type": "learn", "key": op.key}
        return {"type": "propose", "key": op.key, "value": op.value}

    @override
    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        if body.get("type") != f"{op.f}_ok" or "value" not in body:
            raise NodeReply(
                definite=False, text=f"answered {op.f} with {body.get('type')!r}"
            )
        return op.ok(body["value"])

    @override
    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        return None


class Consensus(Workload):
    """The workload that this module describes."""

    name = "consensus"
    requires = frozenset({"propose"})
    codec: WireCodec = ConsensusCodec()
    idempotent: frozenset[str] = frozenset({"learn"})

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.name, OPTIONS, options)
        self.keys: int = given["keys"]
        self.per_key: int = given["proposals_per_key"]
        self._proposed = 0
        self._in_use: dict[int, int] = {}  # instance -> proposals to it so far

    @override
    def generator(self, concurrency: int) -> Generator:
        """Proposals, and questions about what recent instances chose."""
        self._proposed = 0
        self._in_use = dict.fromkeys(range(self.keys), 0)

        def draw(random: Random) -> Invocation:
            newest = max(self._in_use)
            oldest = max(0, newest - self.keys - INSTANCES_BACK)
            if random.random() < LEARN_SHARE:
                return Invocation("learn", key=random.randint(oldest, newest))
            if random.random() < LATE_SHARE:
                self._proposed += 1
                late = random.randint(oldest, newest)
                return Invocation("propose", self._proposed, late)
            key = random.choice(list(self._in_use))
            self._in_use[key] += 1
            if self._in_use[key] >= self.per_key:
                del self._in_use[key]
                self._in_use[newest + 1] = 0
            self._proposed += 1
            return Invocation("propose", self._proposed, key)

        return from_function(draw)

    @override
    def final_generator(self, concurrency: int) -> Generator:
        """Every thread asks its node what the recent instances chose."""

        def questions() -> list[Invocation]:
            newest = max(self._in_use, default=0)
            late = range(max(0, newest - self.keys - INSTANCES_BACK), newest + 1)
            return [Invocation("learn", key=key) for key in late]

        return once_per_thread(questions, concurrency)

    @override
    def checkers(self) -> dict[str, Checker]:
        """`consensus`: agreement, validity, integrity."""
        return {"consensus": registry.find("checker", "consensus").factory({})}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "consensus",
    "proposals to instances of consensus, and what nodes learned",
    Consensus,
    OPTIONS,
)
