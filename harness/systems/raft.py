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
        "how a read is served: as an entry of the log, after a round of heartbeats, on "
        "the leader's lease (trusts clocks), or from any node's own state (stale)",
        ("log", "read_index", "lease", "local"),
    ),
    Option("election_timeout_ms_min", "150", "least wait for a leader"),
    Option("election_timeout_ms_max", "300", "most wait for a leader"),
    Option("heartbeat_ms", "50", "how often a leader shows that it is there"),
    Option("pre_vote", "true", "ask before raising the term", ("true", "false")),
    Option(
        "clock_drift_bound",
        "0.1",
        "reads=lease: no clock runs more than this share too fast or too slow",
    ),
    Option("request_timeout_ms", "1000", "when an unanswered request is given up"),
    Option("fsync", "true", "wait for the disk before answering", ("true", "false")),
)
"""The core's own (`--describe`), which a test compares with these."""


def raft(_: str, given: Mapping[str, str]) -> ReferenceSystem:
    """The system, configured. Raises UsageError; see `SystemFactory`."""
    return ReferenceSystem("raft", OPTIONS, given, frozenset({"register"}))


PLUGIN: Plugin[SystemFactory] = Plugin(
    "raft",
    "Raft with a key-value service, our reference implementation",
    raft,
    OPTIONS,
)
