"""Raft's properties: a small correct Raft passes, and each broken rule is convicted."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkers.raft import logs
from checkers.raft.logs import Log
from checkers.raft_invariants import PLUGIN, build
from checkers.tests.histories import FEWER
from harness import registry
from harness.errors import UsageError
from harness.history import History, Op
from harness.verdict import CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

NODES = ("n1", "n2", "n3", "n4", "n5")
MAJORITY = 3


class Entry(NamedTuple):
    term: int
    command: str


@dataclass
class Server:
    """One server of the model: what is on its disk, and what it believes."""

    term: int = 0
    voted_for: str | None = None
    log: list[Entry] = field(default_factory=lambda: [Entry(0, "")])
    commit: int = 0
    leads: bool = False
    match: dict[str, int] = field(default_factory=dict)

    @property
    def last(self) -> int:
        return len(self.log) - 1


class Model:
    """Raft by whole steps: elections, appends, replication, commits, restarts.

    Rules are methods, so that a broken Raft is a subclass. What servers observe is
    kept per server and told one server after the other, as from a run.
    """

    def __init__(self, seed: int, steps: int = 60) -> None:
        self.random = random.Random(seed)
        self.servers = {node: Server() for node in NODES}
        self.events: dict[str, list[tuple[str, dict[str, Any]]]] = {
            n: [] for n in NODES
        }
        self.commands = 0
        self.confirms = self.random.random() < 0.5
        self.tells_terms = self.random.random() < 0.5
        self.shows_disks = self.random.random() < 0.5
        for _ in range(steps):
            kind = self.random.choices(
                (self.elect, self.propose, self.replicate, self.restart),
                (2, 4, 12, 1),
            )[0]
            kind(self.random.choice(NODES))
        if self.shows_disks:
            for node in NODES:
                self.show_disk(node)

    def observe(self, node: str, kind: str, **fields: Any) -> None:
        self.events[node].append((kind, fields))

    def history(self) -> History:
        ops: list[Op] = []
        for node, events in self.events.items():
            for kind, fields in events:
                i = len(ops)
                ops.append(Op(i, i, node, "info", kind, fields, node=node))
        return History(ops)

    def show_disk(self, node: str) -> None:
        """As after a kill: the last instant's events may be gone."""
        server = self.survives(self.servers[node])
        self.lose_events(node)
        base = self.random.randint(0, min(server.last, self.servers[node].commit))
        self.observe(
            node,
            "on_disk",
            term=server.term,
            voted_for=server.voted_for,
            prev_log_term=server.log[base].term,
            first=base + 1,
            entries=[list(entry) for entry in server.log[base + 1 :]],
            last_log_index=server.last,
            last_log_term=server.log[-1].term,
        )

    # Rules

    def may_vote(self, voter: Server, candidate: Server, node: str) -> bool:
        ends = [(s.log[-1].term, s.last) for s in (candidate, voter)]
        return voter.voted_for in {None, node} and ends[0] >= ends[1]

    def may_commit(self, leader: Server, index: int) -> bool:
        return leader.log[index].term == leader.term

    def majority(self) -> int:
        return MAJORITY

    def conflict(
        self, log: list[Entry], first: int, entries: list[Entry]
    ) -> int | None:
        """The first index at which a follower's log differs from what it is sent."""
        for i, entry in enumerate(entries, first):
            if i < len(log) and log[i] != entry:
                return i
        return None

    def survives(self, server: Server) -> Server:
        return Server(server.term, server.voted_for, server.log)

    # Steps

    def follow(self, node: str, term: int, leader: str | None = None) -> None:
        server = self.servers[node]
        if term > server.term:
            server.term, server.voted_for = term, None
        server.leads = False
        self.observe(node, "became_follower", term=server.term, leader=leader)

    def elect(self, node: str) -> None:
        candidate = self.servers[node]
        candidate.leads = False
        candidate.term += 1
        candidate.voted_for = node
        self.observe(node, "became_candidate", term=candidate.term)
        votes = {node}
        for other in self.random.sample(NODES, 4):
            voter = self.servers[other]
            if other == node or voter.term > candidate.term:
                continue
            if voter.term < candidate.term:
                self.follow(other, candidate.term)
            if self.may_vote(voter, candidate, node):
                voter.voted_for = node
                self.observe(
                    other,
                    "voted",
                    term=candidate.term,
                    candidate=node,
                    last_log_index=candidate.last,
                    last_log_term=candidate.log[-1].term,
                )
                votes.add(other)
        if len(votes) >= self.majority():
            candidate.leads = True
            candidate.match = dict.fromkeys(NODES, 0)
            fields = {"term": candidate.term, "last_log_index": candidate.last}
            self.observe(node, "became_leader", **fields)
            if self.random.random() < 0.5:
                self.append(node, candidate.last + 1, [Entry(candidate.term, "noop")])

    def append(self, node: str, first: int, entries: list[Entry]) -> None:
        self.servers[node].log[first:] = entries
        told = [list(entry) for entry in entries]
        self.observe(node, "appended", first=first, entries=told)

    def propose(self, node: str) -> None:
        server = self.servers[node]
        if server.leads:
            self.commands += 1
            entry = Entry(server.term, f"c{self.commands}")
            self.append(node, server.last + 1, [entry])

    def replicate(self, node: str) -> None:
        """One AppendEntries from a leader to one follower, and its answer."""
        leaders = [n for n, s in self.servers.items() if s.leads and n != node]
        if not leaders:
            return
        source = self.random.choice(leaders)
        leader, follower = self.servers[source], self.servers[node]
        if follower.term > leader.term:
            return
        if follower.term < leader.term or follower.leads:
            self.follow(node, leader.term, source)
        first = self.random.randint(max(0, leader.last - 3), leader.last) + 1
        while first > 1 and leader.log[first - 1] != self.entry(follower, first - 1):
            first -= 1
        end = self.random.randint(first, leader.last + 1)
        self.store(node, first, leader.log[first:end])
        leader.match[node] = max(leader.match[node], end - 1)
        self.advance(source)
        self.commit(node, min(leader.commit, end - 1))

    def entry(self, server: Server, index: int) -> Entry | None:
        return server.log[index] if index <= server.last else None

    def store(self, node: str, first: int, entries: list[Entry]) -> None:
        server = self.servers[node]
        index = self.conflict(server.log, first, entries)
        if index is not None:
            self.observe(node, "truncated", first=index, last=server.last)
            del server.log[index:]
        new = entries[max(0, server.last + 1 - first) :]
        if new:
            self.append(node, server.last + 1, new)

    def advance(self, node: str) -> None:
        leader = self.servers[node]
        matches = sorted([*leader.match.values(), leader.last], reverse=True)
        index = matches[self.majority() - 1]
        # Its own entry of `match` is 0: it counts by its log.
        if index > leader.commit and self.may_commit(leader, index):
            self.commit(node, index)

    def commit(self, node: str, index: int) -> None:
        server = self.servers[node]
        if index > server.commit:
            more = {"term": server.term} if self.tells_terms else {}
            first = server.commit + 1
            self.observe(node, "committed", first=first, last=index, **more)
            server.commit = index

    def restart(self, node: str) -> None:
        """Volatile state goes; so may what was observed in the last instant."""
        server = self.servers[node] = self.survives(self.servers[node])
        self.lose_events(node)
        self.observe(node, "restarted")
        if self.confirms:
            fields = {
                "voted_for": server.voted_for,
                "last_log_index": server.last,
                "last_log_term": server.log[-1].term,
            }
            self.observe(node, "recovered", term=server.term, **fields)

    def lose_events(self, node: str) -> None:
        """A crash takes what was observed in the last instant."""
        events = self.events[node]
        harmless = {"appended", "truncated", "committed", "voted"}
        while events and events[-1][0] in harmless and self.random.random() < 0.3:
            events.pop()


def check(history: History) -> CheckResult:
    return build({}).check(history, Limits())


def names(result: CheckResult) -> set[str]:
    return {anomaly.name for anomaly in result.anomalies}


def judge(model: Model) -> CheckResult:
    result = check(model.history())
    for anomaly in result.anomalies:
        assert anomaly.explanation.endswith(".")
        assert anomaly.witness is not None
        assert len(anomaly.ops) >= 2
    return result


@FEWER
@given(st.integers(0, 2**32))
def test_a_correct_raft_keeps_its_invariants(seed: int) -> None:
    result = judge(Model(seed, 150))
    assert result.verdict is not Verdict.INVALID, (seed, result.anomalies)


def test_most_correct_histories_are_enough_for_a_verdict() -> None:
    verdicts = [judge(Model(seed, 150)).verdict for seed in range(30)]
    assert verdicts.count(Verdict.VALID) > 20


class VotesTwice(Model):
    def may_vote(self, voter: Server, candidate: Server, node: str) -> bool:
        return True


class VotesForAnyLog(Model):
    def may_vote(self, voter: Server, candidate: Server, node: str) -> bool:
        return voter.voted_for in {None, node}


class HalfIsEnough(Model):
    def majority(self) -> int:
        return 2


class CommitsOldTerms(Model):
    def may_commit(self, leader: Server, index: int) -> bool:
        return True


class KeepsConflicts(Model):
    def conflict(
        self, log: list[Entry], first: int, entries: list[Entry]
    ) -> int | None:
        return None


class TruncatesForNothing(Model):
    def conflict(
        self, log: list[Entry], first: int, entries: list[Entry]
    ) -> int | None:
        return first if first < len(log) else None


class ForgetsTerm(Model):
    def survives(self, server: Server) -> Server:
        return Server(0, None, server.log)


class ForgetsVote(Model):
    def survives(self, server: Server) -> Server:
        return Server(server.term, None, server.log)


class ForgetsLog(Model):
    def survives(self, server: Server) -> Server:
        return Server(server.term, server.voted_for, server.log[:-1] or server.log)


@pytest.mark.parametrize(
    ("broken", "anomaly"),
    [
        (VotesTwice, "double-vote"),
        (VotesTwice, "two-leaders"),
        (VotesForAnyLog, "leader-lacks-committed"),
        (HalfIsEnough, "different-entries-committed"),
        (HalfIsEnough, "two-leaders"),
        (VotesForAnyLog, "vote-for-older-log"),
        (CommitsOldTerms, "leader-lacks-committed"),
        (CommitsOldTerms, "committed-by-count"),
        (TruncatesForNothing, "dropped-without-conflict"),
        (KeepsConflicts, "log-mismatch"),
        (ForgetsTerm, "term-went-back"),
        (ForgetsVote, "double-vote"),
        (ForgetsVote, "forgot-vote"),
        (ForgetsLog, "leader-lacks-committed"),
        (ForgetsLog, "forgot-log"),
    ],
)
def test_a_raft_with_a_broken_rule_is_convicted(
    broken: type[Model], anomaly: str
) -> None:
    found: set[str] = set()
    for seed in range(300):
        found |= names(judge(broken(seed, 150)))
        if anomaly in found:
            return
    pytest.fail(f"{broken.__name__}: no {anomaly} in 300 runs, only {found}")


# Planted, one by one


def events(**of: list[tuple[str, dict[str, Any]]]) -> History:
    ops: list[Op] = []
    for node, told in of.items():
        for kind, fields in told:
            ops.append(Op(len(ops), 0, node, "info", kind, fields, node=node))
    return History(ops)


def leads(term: int, last: int = 0) -> tuple[str, dict[str, Any]]:
    return "became_leader", {"term": term, "last_log_index": last}


def follows(term: int) -> tuple[str, dict[str, Any]]:
    return "became_follower", {"term": term, "leader": None}


def appends(first: int, *entries: tuple[int, str]) -> tuple[str, dict[str, Any]]:
    return "appended", {"first": first, "entries": [list(e) for e in entries]}


def commits(first: int, last: int, **more: int) -> tuple[str, dict[str, Any]]:
    return "committed", {"first": first, "last": last, **more}


RESTART: tuple[str, dict[str, Any]] = ("restarted", {})


def test_a_leader_that_overwrites_its_log_is_told() -> None:
    history = events(
        n1=[leads(1), appends(1, (1, "a"), (1, "b")), appends(2, (1, "c"))]
    )
    assert "leader-overwrote-log" in names(check(history))
    stepped_down = events(
        n1=[leads(1), appends(1, (1, "a"), (1, "b")), follows(2), appends(2, (2, "c"))]
    )
    assert "leader-overwrote-log" not in names(check(stepped_down))


def test_dropping_what_is_committed_is_told() -> None:
    history = events(
        n1=[
            leads(1),
            appends(1, (1, "a"), (1, "b")),
            commits(1, 2),
            follows(2),
            ("truncated", {"first": 2, "last": 2}),
        ]
    )
    assert names(check(history)) == {"committed-entry-lost"}


@pytest.mark.parametrize("end", [(), ((2, "c"),)])
def test_a_committed_entry_behind_one_that_stays_is_lost_too(
    end: tuple[tuple[int, str], ...],
) -> None:
    whole = [leads(1), appends(1, (1, "a"), (1, "b")), commits(1, 2), follows(2)]
    history = events(n1=[*whole, appends(1, (1, "a"), *end)])
    (anomaly,) = check(history).anomalies
    assert anomaly.name == "committed-entry-lost"
    assert "lost 'b' of term 1 at index 2, although it knew that all" in (
        anomaly.explanation
    )
    same = events(n1=[*whole, appends(1, (1, "a"), (1, "b"))])
    assert check(same).verdict is Verdict.VALID


def test_different_predecessors_of_one_entry_break_log_matching() -> None:
    history = events(
        n1=[leads(3), appends(1, (1, "a"), (3, "x"))],
        n2=[appends(1, (2, "b"), (3, "x"))],
    )
    (anomaly,) = check(history).anomalies
    assert anomaly.explanation == (
        "Log matching is broken: the entries of index 2 and term 3 in the logs of n1 "
        "and n2 follow entries of different terms, 1 and 2."
    )


def test_a_leader_without_a_committed_entry_is_told() -> None:
    history = events(
        n1=[leads(1), appends(1, (1, "a")), commits(1, 1)],
        n2=[leads(2, 0)],
    )
    (anomaly,) = check(history).anomalies
    assert anomaly.name == "leader-lacks-committed"
    assert anomaly.explanation == (
        "Leader completeness is broken: 'a' of term 1 was committed at index 1 in term "
        "1 or before, as n1 knew, but the log of n2, leader of term 2, ends at index 0."
    )


def test_a_leader_need_not_hold_what_later_terms_committed() -> None:
    """The entry of term 1 may have been committed in term 3 only."""
    history = events(
        n1=[leads(1), appends(1, (1, "a")), follows(3), commits(1, 1), follows(4)],
        n2=[leads(2, 0)],
    )
    assert check(history).verdict is Verdict.VALID
    told = events(
        n1=[leads(1), appends(1, (1, "a")), commits(1, 1, term=1), follows(4)],
        n2=[leads(2, 0)],
    )
    assert names(check(told)) == {"leader-lacks-committed"}


def test_what_a_crash_may_have_hidden_is_not_held_against_a_server() -> None:
    """It may have replaced index 2 in its last instant, unseen."""
    lost = [appends(1, (1, "a"), (1, "b")), commits(1, 1), RESTART, commits(2, 2)]
    history = events(
        n1=lost, n2=[leads(2), appends(1, (1, "a"), (2, "c")), commits(1, 2)]
    )
    assert check(history).verdict is Verdict.VALID


def test_what_a_server_recovers_with_is_certain_again() -> None:
    end = {"term": 2, "last_log_index": 2, "last_log_term": 1}
    kept = [appends(1, (1, "a"), (1, "b")), RESTART, ("recovered", end), commits(1, 2)]
    history = events(
        n1=kept, n2=[leads(2), appends(1, (1, "a"), (2, "c")), commits(1, 2)]
    )
    assert names(check(history)) == {"different-entries-committed"}


def test_a_server_that_joins_with_an_empty_disk_owes_nothing_of_its_life_before() -> (
    None
):
    vote = {"term": 1, "candidate": "n2"}
    before = [("voted", vote), appends(1, (1, "a"), (1, "b")), commits(1, 2), RESTART]
    empty = [
        ("voted", {**vote, "candidate": "n3"}),
        follows(1),
        ("on_disk", {"term": 1, "voted_for": "n3", "first": 1, "entries": []}),
    ]
    empty[-1][1].update(last_log_index=0, last_log_term=0, prev_log_term=0)
    joins: tuple[str, dict[str, Any]] = ("joins", {"incarnation": 1})
    others = [leads(1), appends(1, (1, "a"), (1, "b")), commits(1, 2)]
    assert (
        check(events(n1=[*before, joins, *empty], n2=others)).verdict is Verdict.VALID
    )
    forgot = names(check(events(n1=[*before, *empty], n2=others)))
    assert forgot >= {"double-vote"}
    unseen = events(n1=[*before, joins, leads(2, 0)], n2=others)
    assert names(check(unseen)) == {"leader-lacks-committed"}, "it may not lead so"


def test_a_snapshot_stands_in_for_the_entries_before_it() -> None:
    snapshot = {"index": 2, "term": 1, "last_log_index": 2}
    n3 = [
        ("installed_snapshot", snapshot),
        appends(3, (2, "c")),
        commits(3, 3),
        leads(3, 3),
    ]
    n1 = [leads(1), appends(1, (1, "a"), (1, "b"), (2, "c")), commits(1, 2), follows(2)]
    assert check(events(n1=n1, n3=n3)).verdict is Verdict.VALID
    snapshot["term"] = 2
    assert names(check(events(n1=n1, n3=n3))) == {"log-mismatch"}


def test_a_snapshot_takes_the_place_of_an_end_that_was_never_committed() -> None:
    snapshot = {"index": 2, "term": 2, "last_log_index": 2}
    n1 = [leads(2), appends(1, (1, "a"), (2, "b"), (2, "c")), commits(1, 3)]
    other = appends(1, (1, "a"), (1, "x"))
    n3 = [other, ("installed_snapshot", snapshot), appends(3, (2, "c")), commits(3, 3)]
    assert check(events(n1=n1, n3=n3)).verdict is Verdict.VALID
    n3.insert(1, commits(1, 2))
    assert "different-entries-committed" in names(check(events(n1=n1, n3=n3)))


def voted(term: int, last_index: int, last_term: int) -> tuple[str, dict[str, Any]]:
    fields = {"last_log_index": last_index, "last_log_term": last_term}
    return "voted", {"term": term, "candidate": "n2", **fields}


def test_a_vote_for_a_log_that_ends_in_a_lower_term_or_earlier_is_told() -> None:
    own = [appends(1, (1, "a"), (2, "b")), commits(1, 1)]
    for stale in (voted(3, 9, 1), voted(3, 1, 2)):
        assert names(check(events(n1=[*own, stale], n2=[leads(1)]))) == {
            "vote-for-older-log"
        }
    for current in (voted(3, 2, 2), voted(3, 1, 3), voted(3, 3, 2)):
        assert check(events(n1=[*own, current], n2=[leads(1)])).verdict is Verdict.VALID


def test_a_vote_after_a_crash_that_may_have_hidden_the_log_is_no_breach() -> None:
    own = [appends(1, (1, "a"), (2, "b")), commits(1, 1), RESTART, voted(3, 1, 1)]
    assert check(events(n1=own, n2=[leads(1)])).verdict is Verdict.VALID


def recovers(
    last: int, last_term: int, vote: str | None = None, term: int = 3
) -> tuple[str, dict[str, Any]]:
    fields = {"last_log_index": last, "last_log_term": last_term, "voted_for": vote}
    return "recovered", {"term": term, **fields}


def test_a_vote_that_a_crash_took_is_told() -> None:
    def after(recovered: tuple[str, dict[str, Any]]) -> set[str]:
        n1 = [appends(1, (1, "a")), commits(1, 1), voted(3, 1, 1), RESTART, recovered]
        return names(check(events(n1=n1, n2=[leads(1)])))

    assert after(recovers(1, 1, None)) == {"forgot-vote"}
    assert after(recovers(1, 1, "n3")) == {"forgot-vote"}
    assert after(recovers(1, 1, "n2")) == set()
    # In a later term it has not voted yet, or nobody saw it.
    assert after(recovers(1, 1, None, term=4)) == set()


def test_entries_that_a_crash_took_are_told_unless_others_replaced_them() -> None:
    def after(recovered: tuple[str, dict[str, Any]]) -> set[str]:
        log = appends(1, (1, "a"), (1, "b"), (2, "c"))
        n1 = [log, commits(1, 1), RESTART, recovered]
        return names(check(events(n1=n1, n2=[leads(1)])))

    assert after(recovers(2, 1)) == {"forgot-log"}
    assert after(recovers(0, 0)) == {"forgot-log"}
    assert after(recovers(3, 2)) == set()
    # Index 2 was replaced in the last instant, which took index 3 along, unseen.
    assert after(recovers(2, 3)) == set()


def disk(
    *entries: tuple[int, str], first: int = 1, prev: int = 0, term: int = 2
) -> tuple[str, dict[str, Any]]:
    last = first - 1 + len(entries)
    return "on_disk", {
        "term": term,
        "voted_for": None,
        "first": first,
        "prev_log_term": prev,
        "entries": [list(entry) for entry in entries],
        "last_log_index": last,
        "last_log_term": entries[-1][0] if entries else prev,
    }


A_B = [leads(1), appends(1, (1, "a"), (1, "b")), commits(1, 2)]


def test_the_disks_at_the_end_hold_what_was_committed() -> None:
    whole, half = disk((1, "a"), (1, "b")), disk((1, "a"))
    assert check(events(n1=[*A_B, whole])).verdict is Verdict.VALID
    assert names(check(events(n1=[*A_B, half]))) >= {
        "committed-entry-lost",
        "forgot-log",
    }
    # A snapshot stands in for what it covers.
    compacted = disk(first=3, prev=1)
    assert check(events(n1=[*A_B, compacted])).verdict is Verdict.VALID


def test_what_nobody_has_any_more_is_lost_whoever_knew_of_it() -> None:
    """n1 tells nothing of its disk's end; another's disk may have been unreadable."""
    n1 = [*A_B, RESTART, disk((3, "x"), (3, "y"), term=3)]
    n2 = [follows(1), disk((1, "a"), (3, "y"), term=3)]
    found = check(events(n1=n1, n2=n2))
    assert "committed-entry-lost" in names(found)
    unread = check(events(n1=A_B, n2=n2))
    assert "committed-entry-lost" not in names(unread)


def test_the_disks_at_the_end_match() -> None:
    n1 = [*A_B, disk((1, "a"), (1, "b"))]
    assert names(check(events(n1=n1, n2=[disk((1, "a"), (1, "c"))]))) == {
        "log-mismatch"
    }


def test_terms_and_votes_on_the_disks_are_those_that_were_told() -> None:
    n1 = [*A_B, voted(4, 9, 9)]
    whole = ((1, "a"), (1, "b"))
    assert names(check(events(n1=[*n1, disk(*whole, term=3)]))) == {"term-went-back"}
    assert names(check(events(n1=[*n1, disk(*whole, term=4)]))) == {"forgot-vote"}
    assert check(events(n1=[*n1, disk(*whole, term=5)])).verdict is Verdict.VALID


def test_a_leader_that_counts_replicas_of_an_old_term_is_told() -> None:
    def leader_commits(last: int) -> set[str]:
        log = appends(1, (1, "a"))
        n1 = [log, leads(2, 1), appends(2, (2, "noop")), commits(1, last)]
        return names(check(events(n1=n1)))

    assert leader_commits(1) == {"committed-by-count"}
    assert leader_commits(2) == set()


def test_members_that_change_before_the_leaders_first_commit_are_told() -> None:
    entry = [2, {"type": "add", "members": ["n1", "n2"]}]
    change = ("appended", {"first": 3, "entries": [entry]})
    before = [appends(1, (1, "a")), commits(1, 1), leads(2, 1), appends(2, (2, "noop"))]
    early = events(n1=[*before, change])
    assert names(check(early)) == {"early-change"}
    in_time = events(n1=[*before, commits(2, 2), change])
    assert check(in_time).verdict is Verdict.VALID


def test_entries_dropped_for_nothing_are_told() -> None:
    log = [appends(1, (1, "a"), (1, "b")), commits(1, 1)]
    drops = ("truncated", {"first": 2, "last": 2})

    def then(*after: tuple[str, dict[str, Any]]) -> set[str]:
        return names(check(events(n1=[*log, drops, *after], n2=[leads(1)])))

    assert then(appends(2, (1, "b"))) == {"dropped-without-conflict"}
    assert then(follows(3)) == {"dropped-without-conflict"}
    assert then(appends(2, (2, "c"))) == set()
    assert then(("members", {"index": 2}), appends(2, (2, "c"))) == set()
    # What came next may have been lost in the crash.
    assert then(RESTART, follows(3)) == set()
    assert then() == set()


@pytest.mark.parametrize("name", ["hash", "term"])
def test_state_machines_that_differ_are_told(name: str) -> None:
    def applied(value: int) -> tuple[str, dict[str, Any]]:
        return "applied", {"index": 4, "term": 1, "hash": 1, name: value}

    history = events(n1=[leads(1), applied(7)], n2=[applied(8)])
    (anomaly,) = check(history).anomalies
    assert anomaly.name == "state-machines-differ"
    assert f"the {name} of n1 is 7, and that of n2 is 8" in anomaly.explanation


def test_ballots_that_are_pairs_are_terms_too() -> None:
    def lead(*ballot: Any) -> tuple[str, dict[str, Any]]:
        return "became_leader", {"term": list(ballot)}

    history = events(
        n1=[lead(1, "n1"), lead(2, "n1")], n2=[lead(2, "n2"), lead(2, "n1")]
    )
    assert names(check(history)) == {"two-leaders", "term-went-back"}


def test_too_little_to_judge_is_unknown_and_says_what_is_missing() -> None:
    for history, missing in (
        (History([]), "observed anything"),
        (events(n1=[follows(1)]), "become leader"),
        (events(n1=[leads(1)]), "commit an entry"),
    ):
        result = check(history)
        assert result.verdict is Verdict.UNKNOWN
        assert missing in result.reason


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("appended", {"first": "1", "entries": []}),
        ("appended", {"first": 1}),
        ("committed", {"last": 2}),
        ("voted", {"term": None, "candidate": "n1"}),
        ("truncated", {"first": [1, 2], "last": [1, 3]}),
        ("became_leader", {}),
    ],
)
def test_events_of_another_form_are_passed_over(kind: str, fields: Any) -> None:
    assert check(events(n1=[(kind, fields)])).verdict is Verdict.UNKNOWN


def test_the_registry_finds_it_and_it_has_no_options() -> None:
    assert registry.find("checker", "raft-invariants") is PLUGIN
    with pytest.raises(UsageError, match="no option"):
        build({"nodes": "5"})


class Watched(dict[int, logs.Entry]):
    """A log's entries that count how often all of them are gone through."""

    walks = 0

    def __iter__(self) -> Iterator[int]:
        self.walks += 1
        return super().__iter__()


def test_an_append_does_not_go_through_the_whole_log() -> None:
    entries = Watched()
    log = Log(entries)
    for index in range(1, 50):
        assert not log.drop(index)
        log.append(index, [logs.Entry(1, "x", index)])
    assert list(log.drop(49)) == [49]
    assert entries.walks == 0
    log.restart()
    assert log.drop(2) == {}
