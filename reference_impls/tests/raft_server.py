"""One Raft server under a test's control: messages to it, and its effects."""

from __future__ import annotations

from typing import Any

from reference_impls import raft
from reference_impls.actor import (
    Effect,
    Now,
    Observe,
    Received,
    Reply,
    Send,
    TimerFired,
    settings,
)
from reference_impls.raft import LEADER, NOOP, Raft

MS = 1_000_000
WRITE = {"type": "write", "key": 1, "value": 1}


def server(terms: list[int] | None = None, term: int = 0, **options: str) -> Raft:
    """n1 of five, with a log of no-ops of these terms, without pre-vote."""
    options = {"pre_vote": "false", **options}
    core = Raft("n1", ["n2", "n3", "n4", "n5"], settings(raft.OPTIONS, options))
    entries = [[t, NOOP] for t in terms or []]
    term = max([term, *(terms or [])])
    core.start(
        [
            {"term": term, "voted_for": None},
            {"first": 1, "entries": entries},
        ]
    )
    return core


def hear(
    core: Raft, src: str, kind: str, at_ms: int = 0, **fields: Any
) -> list[Effect]:
    """The core's effects when it receives a message."""
    now = Now(at_ms * MS, at_ms * MS)
    if kind == "request_vote":
        fields.setdefault("transfer", False)
    return core.step(Received(src, {"type": kind, **fields}, now))


def fire(core: Raft, timer: str, at_ms: int = 0) -> list[Effect]:
    return core.step(TimerFired(timer, Now(at_ms * MS, at_ms * MS)))


def sent(effects: list[Effect], kind: str) -> list[Send]:
    return [e for e in effects if isinstance(e, Send) and e.body["type"] == kind]


def observed(effects: list[Effect]) -> list[str]:
    return [e.kind for e in effects if isinstance(e, Observe)]


def ask_vote(core: Raft, src: str, term: int, last: tuple[int, int] = (0, 0)) -> bool:
    """Ask for a vote with a log that ends in (term, index); was it granted?"""
    effects = hear(
        core,
        src,
        "request_vote",
        term=term,
        last_log_term=last[0],
        last_log_index=last[1],
    )
    (reply,) = sent(effects, "request_vote_reply")
    return bool(reply.body["vote_granted"])


def append(
    core: Raft,
    term: int,
    prev: tuple[int, int] = (0, 0),
    terms: tuple[int, ...] = (),
    commit: int = 0,
    src: str = "n2",
    at_ms: int = 0,
) -> dict[str, Any]:
    """Send AppendEntries after (term, index) and return the answer's body."""
    effects = hear(
        core,
        src,
        "append_entries",
        at_ms,
        term=term,
        prev_log_term=prev[0],
        prev_log_index=prev[1],
        entries=[[t, NOOP] for t in terms],
        leader_commit=commit,
        round=1,
    )
    (reply,) = sent(effects, "append_entries_reply")
    return dict(reply.body)


def acknowledge(
    core: Raft,
    src: str,
    match: int,
    round_: int | None = None,
    at_ms: int = 0,
    incarnation: int = 0,
) -> list[Effect]:
    return hear(
        core,
        src,
        "append_entries_reply",
        at_ms,
        term=core.current_term,
        success=True,
        match_index=match,
        conflict_index=0,
        conflict_term=0,
        round=core.round if round_ is None else round_,
        incarnation=incarnation,
    )


def elect(core: Raft) -> list[Effect]:
    """Make it lead its next term with the votes of n2 and n3."""
    fire(core, "election")
    effects: list[Effect] = []
    for voter in ("n2", "n3"):
        effects = hear(
            core,
            voter,
            "request_vote_reply",
            term=core.current_term,
            vote_granted=True,
        )
    assert core.role == LEADER
    return effects


def log_terms(core: Raft) -> list[int]:
    return [entry.term for entry in core.log.since(1)]


def replies(effects: list[Effect]) -> list[dict[str, Any]]:
    """The bodies of the answers to clients."""
    return [dict(e.body) for e in effects if isinstance(e, Reply)]
