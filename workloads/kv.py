"""Reads, writes and compare-and-sets of few values on short-lived keys.

The sibling of `register`, with values that repeat. Equal values hide some bugs and
reveal others, and make the checker search. Keys are given up early, as the cost of that
search grows with the history of a key.

Promise: each key is linearizable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import registry
from harness.options import Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.workload import Workload
from harness.workload.generator import Invocation
from workloads.looked_at import LookedAt
from workloads.objects import Objects, drawn, last_looks
from workloads.register import RegisterCodec
from workloads.transactional import COUNT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from harness.verdict import Checker
    from harness.workload import WireCodec, WorkloadFactory
    from harness.workload.generator import Generator

OPTIONS = (
    Option("keys", "4", "keys in use at a time", Whole(1, 1000)),
    Option(
        "ops_per_key", "120", "operations on a key before a new one may follow", COUNT
    ),
    Option("values", "5", "how many different values there are", COUNT),
)


class Kv(Workload):
    """The workload that this module describes."""

    name = "kv"
    requires = frozenset({"register", "cas"})
    codec: WireCodec = RegisterCodec()
    idempotent: frozenset[str] = frozenset({"read"})

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.name, OPTIONS, options)
        self.values: int = given["values"]
        self._objects = Objects(given["keys"], given["ops_per_key"])

    @override
    def generator(self, concurrency: int) -> Generator:

        def draw(random: Random) -> Invocation:
            chance = random.random()
            reads = chance < 0.5
            choose = self._objects.choose_to_look_at if reads else self._objects.choose
            key = choose(random)
            self._objects.used(key)
            if reads:
                return Invocation("read", key=key)
            if chance < 0.75:
                return Invocation("write", random.randrange(self.values), key)
            change = [random.randrange(self.values), random.randrange(self.values)]
            return Invocation("cas", change, key)

        return drawn(self._objects, draw)

    @override
    def final_generator(self, concurrency: int) -> Generator:
        """Every thread reads the keys, as far as `last_looks` goes."""
        return last_looks(
            self._objects, lambda key: Invocation("read", key=key), concurrency
        )

    @override
    def checkers(self) -> dict[str, Checker]:
        """`linearizable`, for each key."""
        factory = registry.find("checker", "linearizable").factory
        options = {"model": "cas-register"}
        judge = LookedAt(
            factory(options), changes={"write", "cas"}, looks={"read", "cas"}
        )
        return {"linearizable": judge}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "kv", "reads, writes and cas of few values; judged by linearizability", Kv, OPTIONS
)
