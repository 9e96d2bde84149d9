"""Paxos, the reference system: `reference_impls.paxos` under the shared runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.registry import Plugin
from harness.systems.reference import ReferenceSystem, core_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.systems.system import SystemFactory

OPTIONS = core_options("paxos")

SERVICES = frozenset({"propose"})


def paxos(_: str, given: Mapping[str, str]) -> ReferenceSystem:
    """The system with these options; raises UsageError if one is wrong."""
    return ReferenceSystem("paxos", OPTIONS, given, SERVICES, invariants=("consensus",))


PLUGIN: Plugin[SystemFactory] = Plugin(
    "paxos",
    "single-decree Paxos, an instance for every key, our reference implementation",
    paxos,
    OPTIONS,
)
