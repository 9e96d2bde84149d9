"""Nodes are asked, again and again, who leads: at most one may lead in a term.

Promise: election safety (Ongaro and Ousterhout 2014, 5.2), by what nodes say of
themselves; judged by `one_leader`. With `terms_max`, also that leaders stay: at most
that many terms may have a leader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checkers.one_leader import TERMS_MAX
from harness import registry
from harness.errors import NodeReply
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.workload import WireCodec, Workload
from harness.workload.generator import Generator, Invocation, delay, from_function
from workloads.transactional import once_per_thread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WorkloadFactory

BETWEEN_S = 0.005
"""Time between two questions. More questions would only keep the nodes busy."""


OPTIONS = (
    Option(
        "terms_max",
        "",
        "the most terms that may have a leader; any if empty",
        TERMS_MAX,
    ),
)


class LeaderCodec(WireCodec):
    """The status request (WIRE.md)."""

    @override
    def request(self, op: Op) -> dict[str, Any]:
        return {"type": "status"}

    @override
    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        if body.get("type") != "status_ok":
            raise NodeReply(
                definite=False, text=f"answered status with {body.get('type')!r}"
            )
        return op.ok({name: body.get(name) for name in ("role", "term", "leader")})

    @override
    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        return None


class Leader(Workload):
    """The workload that this module describes."""

    name = "leader"
    requires = frozenset({"leader"})
    codec: WireCodec = LeaderCodec()
    idempotent: frozenset[str] = frozenset({"status"})

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.name, OPTIONS, options)
        self.terms_max: int | None = given["terms_max"]

    @override
    def generator(self, concurrency: int) -> Generator:
        return delay(BETWEEN_S, from_function(lambda _: Invocation("status")))

    @override
    def final_generator(self, concurrency: int) -> Generator:
        return once_per_thread(lambda: [Invocation("status")], concurrency)

    @override
    def checkers(self) -> dict[str, Checker]:
        """`one_leader`: at most one leader in a term."""
        factory = registry.find("checker", "one_leader").factory
        terms_max = "" if self.terms_max is None else str(self.terms_max)
        return {"one_leader": factory({"terms-max": terms_max})}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "leader", "who leads, asked of every node; at most one in a term", Leader, OPTIONS
)
