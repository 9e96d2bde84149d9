"""Raft, the reference system: `reference_impls.raft` under the shared runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.registry import Plugin
from harness.systems.reference import KEY_VALUE, ReferenceSystem, core_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.systems.system import SystemFactory

OPTIONS = core_options("raft")

SERVICES = KEY_VALUE | {"leader", "membership"}


def raft(_: str, given: Mapping[str, str]) -> ReferenceSystem:
    """The system with these options; raises UsageError if one is wrong."""
    return ReferenceSystem("raft", OPTIONS, given, SERVICES, ("raft_invariants",))


PLUGIN: Plugin[SystemFactory] = Plugin(
    "raft",
    "Raft with a key-value service, our reference implementation",
    raft,
    OPTIONS,
)
