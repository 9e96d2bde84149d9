"""Multi-Paxos, the reference system: `reference_impls.multi_paxos` in the runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.registry import Plugin
from harness.systems.reference import KEY_VALUE, ReferenceSystem, core_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.systems.system import SystemFactory

OPTIONS = core_options("multi_paxos")

SERVICES = KEY_VALUE | {"leader"}


def multi_paxos(_: str, given: Mapping[str, str]) -> ReferenceSystem:
    """The system with these options; raises UsageError if one is wrong."""
    return ReferenceSystem(
        "multi_paxos",
        OPTIONS,
        given,
        SERVICES,
        invariants=("raft_invariants", "consensus"),
    )


PLUGIN: Plugin[SystemFactory] = Plugin(
    "multi_paxos",
    "Multi-Paxos with a key-value service, our reference implementation",
    multi_paxos,
    OPTIONS,
)
