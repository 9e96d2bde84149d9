"""The options of a Zab node."""

from __future__ import annotations

from dataclasses import dataclass

from reference_impls.actor import COUNT, MS, MS_OR_NONE, OneOf, Option, Whole

OPTIONS = (
    Option(
        "reads",
        "sync",
        "sync: a read waits for a sync through the leader's broadcast and is "
        "linearizable; local: any node answers from its own state, as ZooKeeper does "
        "unless asked to sync: sequentially consistent, maybe stale",
        OneOf("sync", "local"),
    ),
    Option(
        "tick_ms", "50", "how often a leader and its followers show signs of life", MS
    ),
    Option(
        "silence_ms_min", "150", "least silence after which a leader is given up", MS
    ),
    Option("silence_ms_max", "300", "most silence; a leader gives up at that, too", MS),
    Option(
        "init_ms", "600", "how long an election may take to come to a broadcast", MS
    ),
    Option(
        "finalize_ms",
        "20",
        "how long a quorum of votes waits for a better one",
        MS_OR_NONE,
    ),
    Option(
        "snapshot_txns",
        "5000",
        "every so many transactions their outcome replaces them on disk; 0: never",
        Whole(0, 1_000_000_000),
    ),
    Option("txns_per_message_max", "128", "most transactions in one message", COUNT),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """A value for each of OPTIONS, under its name."""

    reads: str
    tick_ms: float
    silence_ms_min: float
    silence_ms_max: float
    init_ms: float
    finalize_ms: float
    snapshot_txns: int
    txns_per_message_max: int
