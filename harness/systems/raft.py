"""Raft, the reference system: `reference_impls.raft` under the shared runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.registry import Plugin
from harness.systems.reference import ReferenceSystem, core_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.system import SystemFactory

OPTIONS = core_options("raft")

WORKLOADS = frozenset(
    {
        "bank",
        "counter",
        "kv",
        "leader",
        "list_append",
        "lock",
        "long_fork",
        "queue",
        "register",
        "set",
    }
)


def raft(_: str, given: Mapping[str, str]) -> ReferenceSystem:
    """The system, configured. Raises UsageError; see `SystemFactory`."""
    system = ReferenceSystem("raft", OPTIONS, given, WORKLOADS, ("raft_invariants",))
    system.faults |= {"membership"}
    return system


PLUGIN: Plugin[SystemFactory] = Plugin(
    "raft",
    "Raft with a key-value service, our reference implementation",
    raft,
    OPTIONS,
)
