"""Reads, writes and compare-and-sets of few values on short-lived keys.

The sibling of `register`: values repeat, so that equal values hide and reveal other
bugs, and a checker has to search. Keys are given up early, as searching costs.

Promise: each key is linearizable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import registry
from harness.generator import Generator, Invocation, from_function
from harness.options import Whole
from harness.registry import Option, Plugin, settings
from workloads.register import RegisterCodec
from workloads.transactional import COUNT, once_per_thread

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from harness.verdict import Checker
    from harness.workload import WireCodec, WorkloadFactory

OPTIONS = (
    Option("keys", "4", "keys in use at a time", Whole(1, 1000)),
    Option("ops_per_key", "120", "operations on a key before a new one follows", COUNT),
    Option("values", "5", "how many different values there are", COUNT),
)


class Kv:
    """The workload; see the module."""

    name = "kv"
    codec: WireCodec = RegisterCodec()
    idempotent: frozenset[str] = frozenset({"read"})

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.name, OPTIONS, options)
        self.keys: int = given["keys"]
        self.ops_per_key: int = given["ops_per_key"]
        self.values: int = given["values"]
        self._in_use: dict[int, int] = {}

    def generator(self, concurrency: int) -> Generator:
        """See `Workload.generator`."""
        self._in_use = dict.fromkeys(range(self.keys), 0)

        def draw(random: Random) -> Invocation:
            key = random.choice(list(self._in_use))
            self._in_use[key] += 1
            if self._in_use[key] >= self.ops_per_key:
                del self._in_use[key]
                self._in_use[max([key, *self._in_use]) + 1] = 0
            chance = random.random()
            if chance < 0.5:
                return Invocation("read", key=key)
            if chance < 0.75:
                return Invocation("write", random.randrange(self.values), key)
            change = [random.randrange(self.values), random.randrange(self.values)]
            return Invocation("cas", change, key)

        return from_function(draw)

    def final_generator(self, concurrency: int) -> Generator:
        """See `Workload.final_generator`: keys in use are read everywhere."""
        return once_per_thread(
            lambda: [Invocation("read", key=key) for key in self._in_use], concurrency
        )

    def checkers(self) -> dict[str, Checker]:
        """Linearizability of each key."""
        factory = registry.find("checker", "linearizable").factory
        options = {"model": "cas-register", "vacuous": "unknown"}
        return {"linearizable": factory(options)}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "kv", "reads, writes and cas of few values; judged by linearizability", Kv, OPTIONS
)
