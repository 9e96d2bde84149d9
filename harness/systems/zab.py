"""Zab, the reference system: `reference_impls.zab` under the shared runtime.

Its reads are synced, unless reads=local asks for ZooKeeper's, which promise a
sequential order only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.registry import Plugin
from harness.systems.reference import KEY_VALUE, ReferenceSystem, core_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.systems.system import SystemFactory

OPTIONS = core_options("zab")

SERVICES = KEY_VALUE | {"leader", "broadcast"}


def zab(_: str, given: Mapping[str, str]) -> ReferenceSystem:
    """The system with these options; raises UsageError if one is wrong."""
    return ReferenceSystem("zab", OPTIONS, given, SERVICES, ("total_order",))


PLUGIN: Plugin[SystemFactory] = Plugin(
    "zab",
    "Zab, primary-order broadcast, with a key-value service, our reference",
    zab,
    OPTIONS,
)
