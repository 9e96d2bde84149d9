"""Three-phase commit: `reference_impls.three_phase_commit` under the shared runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.registry import Plugin
from harness.systems.reference import SHARDED, ReferenceSystem, core_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.systems.system import SystemFactory

OPTIONS = core_options("three_phase_commit")

SERVICES = SHARDED


def three_phase_commit(_: str, given: Mapping[str, str]) -> ReferenceSystem:
    """The system with these options; raises UsageError if one is wrong."""
    return ReferenceSystem(
        "three_phase_commit", OPTIONS, given, SERVICES, ("atomic_commit",)
    )


PLUGIN: Plugin[SystemFactory] = Plugin(
    "three_phase_commit",
    "three-phase commit over a sharded key-value store, our reference implementation",
    three_phase_commit,
    OPTIONS,
    aliases=("3pc",),
)
