"""Raft's properties by their definitions, over all logs that ever were.

Random events of three servers, mostly broken, that never crash: so each log is known at
every moment, and Figure 3 of the paper can be taken at its word, over all pairs. What a
crash leaves unknown is the matter of `test_raft_invariants`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import event, given
from hypothesis import strategies as st

from checkers.tests.counting_histories import check, names
from checkers.tests.histories import MANY
from harness.history import History, Op
from harness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVERS = ("n1", "n2", "n3")
TERMS = st.integers(1, 3)

Entry = tuple[int, Any]
"""Term and command."""


@dataclass
class Drawn:
    """A server's log so far, so that the next event can be about it."""

    log: list[Entry] = field(default_factory=list)
    committed: int = 0


@st.composite
def observations(draw: st.DrawFn) -> History:
    """What three servers observe: elections, votes, appends, commits, at will."""
    servers = {name: Drawn() for name in SERVERS}
    ops: list[Op] = []
    for _ in range(draw(st.integers(0, 14))):
        node = draw(st.sampled_from(SERVERS))
        kind, fields = draw(st.sampled_from(EVENTS))(draw, node, servers[node])
        i = len(ops)
        ops.append(Op(i, i, node, "info", kind, fields, node=node))
    return History(ops)


def leads(draw: st.DrawFn, _node: str, server: Drawn) -> tuple[str, dict[str, Any]]:
    return "became_leader", {"term": draw(TERMS), "last_log_index": len(server.log)}


def changes(draw: st.DrawFn, _node: str, _server: Drawn) -> tuple[str, dict[str, Any]]:
    kind = draw(st.sampled_from(["became_follower", "became_candidate"]))
    return kind, {"term": draw(TERMS)}


def votes(draw: st.DrawFn, node: str, _server: Drawn) -> tuple[str, dict[str, Any]]:
    fields: dict[str, Any] = {
        "term": draw(TERMS),
        "candidate": draw(st.sampled_from(SERVERS)),
    }
    if draw(st.booleans()):
        fields |= {
            "last_log_index": draw(st.integers(0, 3)),
            "last_log_term": draw(st.integers(0, 3)),
        }
    return "voted", fields


def appends(draw: st.DrawFn, _node: str, server: Drawn) -> tuple[str, dict[str, Any]]:
    """Mostly behind the end, with the terms of a leader or older ones."""
    back = draw(st.sampled_from([0, 0, 0, 1, 2]))
    first = max(0, len(server.log) - back) + 1
    commands = st.sampled_from(["a", "a", "b", {"members": ["n1"]}])
    entries = draw(st.lists(st.tuples(TERMS, commands), min_size=1, max_size=2))
    server.log[first - 1 :] = entries
    return "appended", {"first": first, "entries": [list(e) for e in entries]}


def truncates(draw: st.DrawFn, _node: str, server: Drawn) -> tuple[str, dict[str, Any]]:
    first = draw(st.integers(1, len(server.log) + 1))
    last = len(server.log)
    del server.log[first - 1 :]
    return "truncated", {"first": first, "last": last}


def commits(draw: st.DrawFn, node: str, server: Drawn) -> tuple[str, dict[str, Any]]:
    """What was not known to be committed, up to some entry of its log."""
    first = server.committed + 1
    if first > len(server.log):
        return applies(draw, node, server)
    last = draw(st.integers(first, len(server.log)))
    server.committed = last
    told = {"term": draw(TERMS)} if draw(st.booleans()) else {}
    return "committed", {"first": first, "last": last, **told}


def applies(draw: st.DrawFn, _node: str, _server: Drawn) -> tuple[str, dict[str, Any]]:
    return "applied", {"index": draw(st.integers(1, 2)), "hash": draw(TERMS)}


EVENTS = (leads, changes, votes, appends, appends, truncates, commits, commits, applies)


class Moment(NamedTuple):
    """An event, with its server's state before it and after.

    Attributes:
        before, log: The server's log, from index 1 on.
        leads: The term that it leads after the event; None if it doesn't.
        known: Up to where it knew entries to be committed, before the event.
    """

    op: Op
    before: tuple[Entry, ...]
    log: tuple[Entry, ...]
    leads: int | None
    known: int


def moments(judged: History) -> Iterator[Moment]:
    logs: dict[str | None, list[Entry]] = {name: [] for name in SERVERS}
    leading: dict[str | None, int | None] = dict.fromkeys(SERVERS)
    known: dict[str | None, int] = dict.fromkeys(SERVERS, 0)
    for op in judged:
        log, value = logs[op.node], op.value
        before, knew = tuple(log), known[op.node]
        match op.f:
            case "appended":
                entries = [(term, command) for term, command in value["entries"]]
                log[value["first"] - 1 :] = entries
            case "truncated":
                del log[value["first"] - 1 :]
            case "committed":
                known[op.node] = max(knew, value["last"])
            case "became_leader":
                leading[op.node] = value["term"]
            case "became_follower" | "became_candidate":
                leading[op.node] = None
            case _:
                pass
        yield Moment(op, before, tuple(log), leading[op.node], knew)


def committed_in(all_moments: list[Moment], commit: Moment) -> int | None:
    """The term in which all that a server knows to be committed was, at the latest."""
    told: int | None = commit.op.value.get("term", commit.leads)
    if told is not None:
        return told
    later = [
        m.op.value["term"]
        for m in all_moments
        if m.op.node == commit.op.node
        and m.op.index > commit.op.index
        and "term" in m.op.value
    ]
    highest = max(
        (
            m.op.value["term"]
            for m in all_moments
            if m.op.node == commit.op.node
            and m.op.index < commit.op.index
            and "term" in m.op.value
        ),
        default=0,
    )
    return next((term for term in later if term >= highest), None)


def violations(judged: History) -> set[str]:
    """Figure 3, and the rules that it rests on, over all pairs of moments."""
    every = list(moments(judged))
    out: set[str] = set()

    def of(kind: str) -> list[Moment]:
        return [m for m in every if m.op.f == kind]

    for a, b in itertools.combinations(of("became_leader"), 2):
        if a.op.value["term"] == b.op.value["term"] and a.op.node != b.op.node:
            out.add("two-leaders")
    cast = [
        (m.op.node, m.op.value["term"], m.op.value.get("candidate", m.op.node))
        for m in every
        if m.op.f in {"voted", "became_candidate"}
    ]
    for a_vote, b_vote in itertools.combinations(set(cast), 2):
        if a_vote[:2] == b_vote[:2]:
            out.add("double-vote")
    for a, b in itertools.combinations([m for m in every if "term" in m.op.value], 2):
        if a.op.node == b.op.node and b.op.value["term"] < a.op.value["term"]:
            out.add("term-went-back")
    for a, b in itertools.combinations(of("applied"), 2):
        if a.op.value["index"] == b.op.value["index"] and a.op.value != b.op.value:
            out.add("state-machines-differ")
    for m in every:
        kept = len(m.log) if m.op.f == "truncated" else m.op.value.get("first", 0) - 1
        loses = m.op.f in {"appended", "truncated"} and kept < len(m.before)
        if m.leads is not None and loses:
            out.add("leader-overwrote-log")
        if m.log[: len(m.before[: m.known])] != m.before[: m.known]:
            out.add("committed-entry-lost")
    for m in of("voted"):
        theirs = m.op.value.get("last_log_term"), m.op.value.get("last_log_index")
        own = (m.before[-1][0] if m.before else 0, len(m.before))
        if theirs[0] is not None and theirs < own:
            out.add("vote-for-older-log")
    for m in of("appended"):
        held = m.before if m.known <= len(m.before) else m.log
        if m.known > len(held):
            continue
        term = held[m.known - 1][0] if m.known else 0
        changed = any(isinstance(command, dict) for _, command in m.op.value["entries"])
        if changed and m.leads not in {None, term}:
            out.add("early-change")
    logs = {freeze(m.log) for m in every}
    for a_log, b_log in itertools.combinations(logs, 2):
        for i in range(min(len(a_log), len(b_log))):
            if a_log[i][0] == b_log[i][0] and a_log[: i + 1] != b_log[: i + 1]:
                out.add("log-mismatch")
    for m in of("committed"):
        last = m.op.value["last"]
        known = last <= len(m.log)
        if known and m.leads is not None and m.log[last - 1][0] != m.leads:
            out.add("committed-by-count")
    for a, b in itertools.combinations(of("committed"), 2):
        first = max(m.op.value["first"] for m in (a, b))
        last = min(m.op.value["last"] for m in (a, b))
        for x, y in zip(a.log[first - 1 : last], b.log[first - 1 : last], strict=False):
            if x != y:
                out.add("different-entries-committed")
    out |= dropped_without_conflict(every)
    for commit, leader in itertools.product(of("committed"), of("became_leader")):
        bound = committed_in(every, commit)
        entries = commit.log[: commit.op.value["last"]]
        if bound is None or bound >= leader.op.value["term"]:
            continue
        if any(
            entry[0] <= bound and leader.log[i : i + 1] != (entry,)
            for i, entry in enumerate(entries)
        ):
            out.add("leader-lacks-committed")
    return out


def freeze(log: tuple[Entry, ...]) -> tuple[tuple[int, str], ...]:
    return tuple((term, str(command)) for term, command in log)


def dropped_without_conflict(every: list[Moment]) -> set[str]:
    """After a truncation comes what it was for: another entry in that place."""
    for m in every:
        if m.op.f != "truncated" or m.log == m.before:
            continue
        after = [
            n for n in every if n.op.node == m.op.node and n.op.index > m.op.index
            and n.op.f not in {"applied", "truncated"}
        ]  # fmt: skip
        if not after:
            continue
        end = len(after[0].before)
        first = after[0].op.value.get("first")
        instead, lost = after[0].log[end : end + 1], m.before[end : end + 1]
        if after[0].op.f != "appended" or (first == end + 1 and instead == lost):
            return {"dropped-without-conflict"}
    return set()


def beyond_its_term(judged: History) -> bool:
    """Whether a server committed an entry of a higher term than its own."""
    every = list(moments(judged))
    return any(
        (bound := committed_in(every, m)) is not None and term > bound
        for m in every
        if m.op.f == "committed"
        for term, _ in m.log[: m.op.value["last"]]
    )


def show(judged: History) -> str:
    return "\n".join(f"{op.node} {op.f} {op.value}" for op in judged)


@MANY
@given(observations())
def test_raft_is_judged_by_all_pairs_of_moments(judged: History) -> None:
    expected = violations(judged)
    result = check("raft_invariants", judged)
    event(f"{len(expected)} rules broken")
    found = names(result)
    open_question: set[str] = set()
    if beyond_its_term(judged) or "different-entries-committed" in found:
        # Commits that contradict each other, or themselves, leave it open what leaders
        # had to hold.
        open_question = {"leader-lacks-committed"}
    assert found - open_question == expected - open_question, show(judged)
    seen = {op.f for op in judged}
    told = "became_leader" in seen and bool(
        result.stats["entries_committed"] or "applied" in seen
    )
    assert result.verdict is (
        Verdict.INVALID if found else Verdict.VALID if told else Verdict.UNKNOWN
    )
