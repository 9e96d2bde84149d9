"""The options of a Raft server."""

from __future__ import annotations

from dataclasses import dataclass

from reference_impls.actor import (
    COUNT,
    MS,
    Flag,
    Number,
    OneOf,
    Option,
    ServerNames,
    Whole,
)

CHUNK = Whole(1, 10_000_000)

OPTIONS = (
    Option(
        "reads",
        "log",
        "how a read is made linearizable: log (an entry like a write), read_index (a "
        "round of heartbeats), lease (the leader's clock, good while clocks keep "
        "within clock_drift_bound), local (not at all: any node answers from "
        "its own state)",
        OneOf("log", "read_index", "lease", "local"),
    ),
    Option(
        "election_timeout_ms_min", "150", "least wait for a leader before electing", MS
    ),
    Option(
        "election_timeout_ms_max", "300", "most wait for a leader before electing", MS
    ),
    Option("heartbeat_ms", "50", "how often a leader shows that it is there", MS),
    Option("pre_vote", "true", "ask for votes before raising the term", Flag()),
    Option(
        "clock_drift_bound",
        "0.1",
        "with reads=lease: no clock runs more than this share too fast or too slow",
        Number(0.0, 0.999),
    ),
    Option(
        "initial_members",
        "",
        "who votes in a new cluster, as n1,n2,n3; the others get the log, and wait to "
        "be added. Empty: all",
        ServerNames(),
    ),
    Option(
        "incarnation",
        "0",
        "how often this server's disk was emptied: one that joins with an empty disk "
        "is another server, which has to be added",
        Whole(0, 1_000_000),
    ),
    Option(
        "snapshot_entries",
        "10000",
        "how many entries are applied before a snapshot replaces them; 0: never",
        Whole(0, 1_000_000_000),
    ),
    Option(
        "snapshot_chunk_chars",
        "65536",
        "how much of a snapshot one message holds",
        CHUNK,
    ),
    Option("entries_per_append_max", "128", "most entries in one message", COUNT),
    Option("request_timeout_ms", "1000", "when an unanswered request is given up", MS),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """A value for each of OPTIONS, under its name."""

    reads: str
    election_timeout_ms_min: float
    election_timeout_ms_max: float
    heartbeat_ms: float
    pre_vote: bool
    clock_drift_bound: float
    initial_members: tuple[str, ...]
    incarnation: int
    snapshot_entries: int
    snapshot_chunk_chars: int
    entries_per_append_max: int
    request_timeout_ms: float
