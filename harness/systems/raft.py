"""Raft, the reference system: `reference_impls.raft` under the shared runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.registry import Option, Plugin
from harness.systems.reference import ReferenceSystem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.system import SystemFactory

OPTIONS = (
    Option(
        "reads",
        "log",
        "how a read is served: through the log; by read index; on the leader's lease, "
        "which trusts clocks; or from local state, which is known to be stale",
        ("log", "read_index", "lease", "local"),
    ),
    Option("election_timeout_ms_min", "150", "shortest election timeout"),
    Option("election_timeout_ms_max", "300", "longest election timeout"),
    Option("heartbeat_ms", "50", "time between a leader's heartbeats"),
    Option(
        "clock_drift_bound",
        "0.1",
        "reads=lease: how much faster or slower, as a fraction, clocks may run",
    ),
    Option("fsync", "on", "off leaves writes to the page cache", ("on", "off")),
)


def raft(_: str, given: Mapping[str, str]) -> ReferenceSystem:
    """The system, configured. Raises UsageError; see `SystemFactory`."""
    return ReferenceSystem("raft", OPTIONS, given, frozenset({"register"}))


PLUGIN: Plugin[SystemFactory] = Plugin(
    "raft",
    "Raft with a key-value service, our reference implementation",
    raft,
    OPTIONS,
)
