"""Raft (Ongaro and Ousterhout 2014, Figure 2; Ongaro's thesis 2014), serving `kv`.

No membership change, no snapshots, no client sessions yet. Names are the paper's in
Python's spelling: `current_term, voted_for, log, commit_index, last_applied,
next_index, match_index`.

What survives a crash: `current_term`, `voted_for` and `log`, through `Persist`, before
any message that depends on them leaves. All else is volatile and rebuilt.

Beyond Figure 2, each an option or a rule with its source cited where it is applied:
pre-vote (thesis 9.6), leader stickiness (thesis 4.2.3), a leader that lost touch with
its majority steps down (thesis 6.2), conflict back-up by term (paper 5.3), a no-op at
the start of a term (paper 8), replication in parallel with the leader's own disk
(thesis 10.2.1), and reads: through the log, by ReadIndex (thesis 6.4), by lease (thesis
6.4.1), or local.

Choices:

- *Batches.* Requests wait until everything that has arrived was delivered (a timer of 0
  ms), then go to the log, the disk and the followers together.
- *Rounds.* Every AppendEntries carries the number of the broadcast it belongs to, and
  its answer, success or not, echoes it. A round that a majority answered in this term
  proves that this node still led when the round was *sent*. ReadIndex, the lease and
  the step-down rest on that one fact.
- *One append in flight* per follower; heartbeats flow regardless, and the answer to a
  later heartbeat tells that an earlier append was lost.
- *Forwarding.* A follower passes a request on to its leader and the answer back.
  Requests carry a number, so that a duplicated message isn't a second write.
- *What a client is told.* A write that left the leader's hands may still commit after
  its leadership, whoever leads then. It is answered ok or failed once an entry is
  committed at its index, and otherwise, after a while, 13: nobody knows. An entry that
  was truncated here isn't thereby dead: another node may hold it and win the next
  election (Figure 8).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from reference_impls import kv
from reference_impls.actor import (
    CRASH,
    TEMPORARILY_UNAVAILABLE,
    TIMEOUT,
    Actor,
    Body,
    CancelTimer,
    Effect,
    Event,
    Now,
    Observe,
    Option,
    Persist,
    Received,
    Record,
    Reply,
    Send,
    SetTimer,
    TimerFired,
    error,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SUMMARY = "Raft with a replicated key-value store"
FORMAT_VERSION = 1
"""Of the records in the log on disk."""

OPTIONS = (
    Option(
        "reads",
        "log",
        "how a read is made linearizable: log (an entry like a write), read_index (a "
        "round of heartbeats), lease (the leader's clock, good while clocks keep "
        "within clock_drift_bound), local (not at all: any node answers from "
        "its own state)",
        ("log", "read_index", "lease", "local"),
    ),
    Option("election_timeout_ms_min", "150", "least wait for a leader before electing"),
    Option("election_timeout_ms_max", "300", "most wait for a leader before electing"),
    Option("heartbeat_ms", "50", "how often a leader shows that it is there"),
    Option(
        "pre_vote", "true", "ask for votes before raising the term", ("true", "false")
    ),
    Option(
        "clock_drift_bound",
        "0.1",
        "with reads=lease: no clock runs more than this share too fast or too slow",
    ),
    Option("entries_per_append_max", "128", "most entries in one message"),
    Option("request_timeout_ms", "1000", "when an unanswered request is given up"),
)

FOLLOWER = "follower"
PRE_CANDIDATE = "pre_candidate"
CANDIDATE = "candidate"
LEADER = "leader"

NOOP: kv.Command = {"type": "noop"}
SEEN_FORWARDS_MAX = 10_000

MESSAGES: Mapping[str, Mapping[str, type]] = {
    "pre_vote": {"term": int, "last_log_index": int, "last_log_term": int},
    "pre_vote_reply": {"term": int, "for_term": int, "vote_granted": bool},
    "request_vote": {"term": int, "last_log_index": int, "last_log_term": int},
    "request_vote_reply": {"term": int, "vote_granted": bool},
    "append_entries": {
        "term": int,
        "prev_log_index": int,
        "prev_log_term": int,
        "entries": list,
        "leader_commit": int,
        "round": int,
    },
    "append_entries_reply": {
        "term": int,
        "success": bool,
        "match_index": int,
        "conflict_index": int,
        "conflict_term": int,
        "round": int,
    },
    "forward": {"term": int, "id": int, "request": dict},
    "forward_reply": {"id": int, "reply": dict},
}
"""What peers say to each other: type -> field -> JSON type. Numbers are never
negative."""


class Entry(NamedTuple):
    """A log entry; a list of two in JSON."""

    term: int
    command: kv.Command


class Waiting(NamedTuple):
    """A request that isn't answered yet.

    Attributes:
        request: The client's, or a peer's `forward`.
        term: Under which it was proposed, or forwarded.
        since: The sweep (`Raft.sweep`) in which it came.
    """

    request: Received
    term: int
    since: int


class Raft(Actor):
    """One server. The rules live in small methods, each with its source."""

    def __init__(
        self, node: str, peers: Sequence[str], options: Mapping[str, str]
    ) -> None:
        self.node = node
        self.peers = tuple(peers)
        self.reads = options["reads"]
        self.pre_vote = options["pre_vote"] == "true"
        self.election_timeout_ms_min = float(options["election_timeout_ms_min"])
        self.election_timeout_ms_max = float(options["election_timeout_ms_max"])
        self.heartbeat_ms = float(options["heartbeat_ms"])
        self.clock_drift_bound = float(options["clock_drift_bound"])
        self.request_timeout_ms = float(options["request_timeout_ms"])
        self.entries_per_append_max = max(
            1, int(float(options["entries_per_append_max"]))
        )
        self.effects: list[Effect] = []

        # persistent: on disk before any message that depends on it leaves
        self.current_term = 0
        self.voted_for: str | None = None
        self.log: list[Entry] = [Entry(0, NOOP)]  # the first index is 1

        # volatile
        self.role = FOLLOWER
        self.leader: str | None = None
        self.commit_index = 0
        self.last_applied = 0
        self.state = kv.KeyValueStore()
        self.heard_leader_ns: int | None = None  # on this node's monotonic clock
        self.may_vote = True
        self.votes: set[str] = set()
        self.forwarded: dict[int, Waiting] = {}
        self.last_forward_id = 0
        self.recovered_term = 0  # in terms up to this, an earlier life may have led
        self.seen_forwards: set[tuple[str, int]] = set()
        self.seen_forwards_before: set[tuple[str, int]] = set()
        self.proposed: dict[int, Waiting] = {}  # by log index; outlives leadership
        self.sweep = 0
        self.sweeping = False

        # leader only: made anew at each election
        self.next_index: dict[str, int] = {}
        self.match_index: dict[str, int] = {}
        self.in_flight: dict[str, tuple[int, int]] = {}  # append: round, last index
        self.round = 0
        self.sent_round: dict[str, int] = {}
        self.acked_round: dict[str, int] = {}
        self.sent_rounds: deque[tuple[int, int]] = deque()  # (round, sent at, ns)
        self.quorum_contact_ns = 0  # when the last round a quorum answered was sent
        self.batch: list[tuple[Received, kv.Command]] = []
        self.waiting_reads: deque[tuple[int, Received, kv.Command]] = deque()

    # --- the actor ---------------------------------------------------------------

    def start(self, recovered: Sequence[Record]) -> list[Effect]:
        """Begin as a follower (paper 5.2) with what the disk remembers."""
        for record in recovered:
            self.recover(record)
        self.recovered_term = self.current_term
        if recovered and self.reads == "lease":
            # The last life may have heard from a leader a moment ago, and that leader
            # counts on this node to refuse its vote for the whole minimum timeout.
            self.may_vote = False
            self.set_timer("may_vote", self.election_timeout_ms_min)
        self.reset_election_timer()
        return self.take_effects()

    def step(self, event: Event) -> list[Effect]:
        """React to one event."""
        if isinstance(event, TimerFired):
            self.on_timer(event.name, event.now)
        elif event.src in self.peers:
            self.on_peer_message(event)
        else:
            self.on_request(event)
        self.check_invariants()
        return self.take_effects()

    def status(self) -> dict[str, Any]:
        """Where this server stands."""
        return {
            "role": self.role,
            "term": self.current_term,
            "leader": self.leader,
            "commit_index": self.commit_index,
            "last_applied": self.last_applied,
            "last_log_index": self.last_log_index,
        }

    def on_timer(self, name: str, now: Now) -> None:
        """Dispatch a timer."""
        match name:
            case "election":
                self.on_election_timeout(now)
            case "heartbeat":
                self.on_heartbeat(now)
            case "batch":
                self.on_batch(now)
            case "sweep":
                self.on_sweep()
            case "may_vote":
                self.may_vote = True
            case _:
                pass

    def on_peer_message(self, event: Received) -> None:
        """Dispatch a peer's message, once it is known to make sense."""
        body = event.body
        if not well_formed(body):
            return
        match body["type"]:
            case "append_entries":
                self.on_append_entries(event.src, body, event.now)
            case "append_entries_reply":
                self.on_append_entries_reply(event.src, body, event.now)
            case "forward":
                self.on_forward(event)
            case "forward_reply":
                self.on_forward_reply(body)
            case "pre_vote":
                self.on_pre_vote(event.src, body, event.now)
            case "pre_vote_reply":
                self.on_pre_vote_reply(event.src, body, event.now)
            case "request_vote":
                self.on_request_vote(event.src, body, event.now)
            case "request_vote_reply":
                self.on_request_vote_reply(event.src, body, event.now)
            case _:
                pass

    def check_invariants(self) -> None:
        """What holds after every step, whatever was said."""
        assert self.commit_index <= self.last_log_index, "committed what it hasn't got"
        assert self.last_applied == self.commit_index, "committed, but not applied"
        assert self.last_log_term <= self.current_term, "an entry of a later term"
        match self.role:
            case "leader":
                assert self.leader == self.node, "leads, but follows another"
                assert self.voted_for == self.node, "leads a term it voted otherwise in"
            case "candidate":
                assert self.voted_for == self.node, "didn't vote for itself"
            case _:
                assert not self.waiting_reads, "reads wait without a leader"
                assert not self.batch, "requests wait without a leader"

    # --- terms and roles (paper 5.1, 5.2) ----------------------------------------

    def become_follower(self, term: int, leader: str | None) -> None:
        """Follow in `term`; a higher term than one's own is adopted (paper 5.1)."""
        if term > self.current_term:
            self.current_term = term
            self.voted_for = None
            self.persist_term_and_vote()
            self.abandon_forwarded("its leader's term is over")
        if self.role == LEADER:
            self.resign()
        if self.role != FOLLOWER or leader != self.leader:
            self.observe("became_follower", term=term, leader=leader)
        self.role = FOLLOWER
        self.leader = leader

    def resign(self) -> None:
        """Stop leading: what never left fails for sure; the rest stays `proposed`."""
        self.cancel_timer("heartbeat")
        self.leader = None
        self.drop_reads("lost its leadership before it could answer the read")
        for request, _ in self.batch:
            self.refuse(request, "lost its leadership before it proposed the request")
        self.batch.clear()
        self.reset_election_timer()

    def on_election_timeout(self, now: Now) -> None:
        """No leader was heard of for an election timeout (paper 5.2)."""
        if self.role == LEADER:
            return
        self.reset_election_timer()
        self.leader = None
        self.heard_leader_ns = None
        if self.pre_vote:
            self.ask_for_pre_votes(now)
        else:
            self.become_candidate(now)

    def ask_for_pre_votes(self, now: Now) -> None:
        """Would a majority vote for this server? The term stays as it is (thesis 9.6).

        Otherwise a server that was cut off for long comes back with a high term and
        deposes a leader that served everyone else well.
        """
        self.role = PRE_CANDIDATE
        self.votes = {self.node}
        self.observe("became_pre_candidate", term=self.current_term)
        self.broadcast(self.vote_request("pre_vote", self.current_term + 1))
        if self.is_quorum(self.votes):
            self.become_candidate(now)

    def become_candidate(self, now: Now) -> None:
        """Start an election: a new term, a vote for oneself, and ask the others."""
        self.role = CANDIDATE
        self.leader = None
        self.current_term += 1
        self.voted_for = self.node
        self.votes = {self.node}
        self.persist_term_and_vote()
        self.abandon_forwarded("its leader fell silent")
        self.observe("became_candidate", term=self.current_term)
        self.broadcast(self.vote_request("request_vote", self.current_term))
        if self.is_quorum(self.votes):
            self.become_leader(now)

    def vote_request(self, kind: str, term: int) -> dict[str, Any]:
        """RequestVote's arguments, or PreVote's (Figure 2)."""
        return {
            "type": kind,
            "term": term,
            "last_log_index": self.last_log_index,
            "last_log_term": self.last_log_term,
        }

    def become_leader(self, now: Now) -> None:
        """Lead this term: forget old leadership, and commit a no-op (paper 8)."""
        self.role = LEADER
        self.leader = self.node
        self.heard_leader_ns = None
        self.next_index = dict.fromkeys(self.peers, self.last_log_index + 1)
        self.match_index = dict.fromkeys(self.peers, 0)
        self.sent_round = dict.fromkeys(self.peers, 0)
        self.acked_round = dict.fromkeys(self.peers, 0)
        self.in_flight = {}
        self.round = 0
        self.sent_rounds.clear()
        # The votes are a majority's word that this is the leader, as of now at best;
        # the lease starts with a round of its own, but stepping down counts from here.
        self.quorum_contact_ns = now.mono_ns
        self.cancel_timer("election")
        self.observe(
            "became_leader",
            term=self.current_term,
            last_log_index=self.last_log_index,
        )
        self.set_timer("heartbeat", self.heartbeat_ms)
        self.append_and_replicate([Entry(self.current_term, NOOP)], now)

    # --- votes (paper 5.2, 5.4.1) ------------------------------------------------

    def on_pre_vote(self, src: str, body: Body, now: Now) -> None:
        """Say whether one would vote, without promising anything (thesis 9.6)."""
        if self.trusts_leader(now):
            return
        granted = body["term"] > self.current_term and self.is_up_to_date(body)
        self.send(
            src,
            {
                "type": "pre_vote_reply",
                "term": self.current_term,
                "for_term": body["term"],
                "vote_granted": granted,
            },
        )

    def on_pre_vote_reply(self, src: str, body: Body, now: Now) -> None:
        """Count; a majority that would vote is worth an election."""
        if body["term"] > self.current_term:
            self.become_follower(body["term"], None)
        if self.role != PRE_CANDIDATE or body["for_term"] != self.current_term + 1:
            return
        if body["vote_granted"]:
            self.votes.add(src)
        if self.is_quorum(self.votes):
            self.become_candidate(now)

    def on_request_vote(self, src: str, body: Body, now: Now) -> None:
        """RequestVote (Figure 2), ignored while there is a leader (thesis 4.2.3)."""
        if self.trusts_leader(now):
            return
        if body["term"] > self.current_term:
            self.become_follower(body["term"], None)
        granted = self.may_vote_for(src, body)
        if granted:
            self.grant_vote(src)
        self.send(
            src,
            {
                "type": "request_vote_reply",
                "term": self.current_term,
                "vote_granted": granted,
            },
        )

    def on_request_vote_reply(self, src: str, body: Body, now: Now) -> None:
        """Count; a candidate with votes from a majority leads (paper 5.2)."""
        if body["term"] > self.current_term:
            self.become_follower(body["term"], None)
        if self.role != CANDIDATE or body["term"] != self.current_term:
            return
        if body["vote_granted"]:
            self.votes.add(src)
        if self.is_quorum(self.votes):
            self.become_leader(now)

    def may_vote_for(self, candidate: str, body: Body) -> bool:
        """RequestVote, rules 1 and 2: one vote per term, to an up-to-date log."""
        return (
            body["term"] == self.current_term
            and self.voted_for in {None, candidate}
            and self.is_up_to_date(body)
        )

    def grant_vote(self, candidate: str) -> None:
        """Vote; the answer leaves only once the vote is durable."""
        if self.voted_for != candidate:
            self.voted_for = candidate
            self.persist_term_and_vote()
        self.observe("voted", term=self.current_term, candidate=candidate)
        self.reset_election_timer()

    def is_up_to_date(self, body: Body) -> bool:
        """Is the candidate's log at least as up to date as this one? (paper 5.4.1)."""
        theirs = (body["last_log_term"], body["last_log_index"])
        return theirs >= (self.last_log_term, self.last_log_index)

    def trusts_leader(self, now: Now) -> bool:
        """Stickiness: a leader was heard of within the minimum election timeout.

        Vote requests are then ignored, their term too (thesis 4.2.3), so that nobody
        deposes a leader that a majority hears; the lease rests on it (thesis 6.4.1).
        """
        if not self.may_vote:
            return True
        heard_ns = (
            self.quorum_contact_ns if self.role == LEADER else self.heard_leader_ns
        )
        if heard_ns is None:
            return False
        return now.mono_ns - heard_ns < self.election_timeout_ms_min * 1e6

    def is_quorum(self, members: set[str]) -> bool:
        """True for a majority of the servers."""
        return len(members) >= self.majority()

    def majority(self) -> int:
        """How many servers are more than half of them."""
        return (len(self.peers) + 1) // 2 + 1

    # --- replication, the leader's side (paper 5.3) ------------------------------

    def on_heartbeat(self, now: Now) -> None:
        """Show that there is a leader, or stop being one (thesis 6.2)."""
        if self.role != LEADER:
            return
        if self.lost_touch(now):
            self.observe("lost_quorum", term=self.current_term)
            self.become_follower(self.current_term, None)
            return
        self.set_timer("heartbeat", self.heartbeat_ms)
        self.start_round(now)
        self.broadcast_appends(heartbeat=True)

    def lost_touch(self, now: Now) -> bool:
        """True when no majority answered for an election timeout (thesis 6.2)."""
        silence_ns = now.mono_ns - self.quorum_contact_ns
        return bool(self.peers) and silence_ns > self.election_timeout_ms_max * 1e6

    def start_round(self, now: Now) -> None:
        """All appends from here on belong to a new round, sent now or later."""
        self.round += 1
        self.sent_rounds.append((self.round, now.mono_ns))
        if not self.peers:
            self.on_quorum_round(self.round)

    def on_batch(self, now: Now) -> None:
        """All that had arrived is here: replicate it, confirm leadership for reads."""
        if self.role != LEADER or (self.sent_rounds and not self.batch):
            return  # the end of the round under way begins the next one, for reads
        batch, self.batch = self.batch, []
        first = self.last_log_index + 1
        for index, (request, _) in enumerate(batch, first):
            self.abandon_proposed(index)
            self.proposed[index] = self.waiting(request)
        entries = [Entry(self.current_term, command) for _, command in batch]
        self.append_and_replicate(entries, now)

    def append_and_replicate(self, entries: list[Entry], now: Now) -> None:
        """Append to one's own log and send to everyone.

        The sends come before the `Persist`, so the followers' disks work in parallel
        with this one (thesis 10.2.1). This server counts itself at once, which is safe
        because whatever follows from that, such as a reply, comes after the `Persist`.
        """
        first = self.last_log_index + 1
        self.log.extend(entries)
        self.start_round(now)
        self.broadcast_appends(heartbeat=False)
        if entries:
            self.persist_entries(first, entries)
            self.observe("appended", first=first, entries=entries)
        self.advance_commit_index()

    def broadcast_appends(self, *, heartbeat: bool) -> None:
        """Send what each follower lacks, but one append at a time.

        Followers at the same point get the same body, for the world to encode once.
        """
        bodies: dict[tuple[int, bool], Body] = {}
        for peer in self.peers:
            empty = peer in self.in_flight
            if empty and not heartbeat:
                continue
            point = (self.next_index[peer], empty)
            if point not in bodies:
                bodies[point] = self.append_entries(point[0], empty=empty)
            self.send_append(peer, bodies[point])

    def send_append(self, peer: str, body: Body) -> None:
        """Send an AppendEntries, and remember it when it carries entries."""
        if body["entries"]:
            last = body["prev_log_index"] + len(body["entries"])
            self.in_flight[peer] = (self.round, last)
        self.sent_round[peer] = self.round
        self.send(peer, body)

    def append_entries(self, next_index: int, *, empty: bool) -> Body:
        """AppendEntries' arguments (Figure 2) for a follower at `next_index`."""
        prev_log_index = next_index - 1
        last = prev_log_index if empty else prev_log_index + self.entries_per_append_max
        return {
            "type": "append_entries",
            "term": self.current_term,
            "prev_log_index": prev_log_index,
            "prev_log_term": self.term_at(prev_log_index),
            "entries": self.log[next_index : last + 1],
            "leader_commit": self.commit_index,
            "round": self.round,
        }

    def on_append_entries_reply(self, src: str, body: Body, now: Now) -> None:
        """Learn how far a follower is, and whether a majority still follows."""
        if body["term"] > self.current_term:
            self.become_follower(body["term"], None)
        if self.role != LEADER or body["term"] != self.current_term:
            return
        self.on_round_acked(src, body["round"])
        self.settle_in_flight(src, body)
        if body["success"]:
            self.on_match(src, body["match_index"])
        elif src not in self.in_flight:
            self.next_index[src] = self.back_up(body)
            self.send_append(
                src, self.append_entries(self.next_index[src], empty=False)
            )

    def settle_in_flight(self, src: str, body: Body) -> None:
        """Was this the answer to the append in flight, or to something sent later?

        In the latter case the append was lost, or the answer to it was.
        """
        sent_round, last = self.in_flight.get(src, (0, 0))
        acked = body["round"]
        answered = not body["success"] or body["match_index"] >= last
        if acked > sent_round or (acked == sent_round and answered):
            self.in_flight.pop(src, None)

    def on_match(self, src: str, match_index: int) -> None:
        """The follower's log equals this one up to `match_index`; send it the rest."""
        match_index = min(match_index, self.last_log_index)
        if match_index > self.match_index[src]:
            self.match_index[src] = match_index
            self.advance_commit_index()
        if src in self.in_flight:
            return
        self.next_index[src] = self.match_index[src] + 1
        lacks_entries = self.next_index[src] <= self.last_log_index
        lacks_round = bool(self.waiting_reads) and self.sent_round[src] < self.round
        if lacks_entries or lacks_round:
            self.send_append(
                src, self.append_entries(self.next_index[src], empty=False)
            )

    def back_up(self, body: Body) -> int:
        """Where to try next after a mismatch, a term at a time (paper 5.3).

        If this log has entries of the conflicting term, try behind the last of them;
        otherwise where the follower's entries of that term begin.
        """
        index: int = min(body["conflict_index"], self.last_log_index + 1)
        if body["conflict_term"]:
            index = self.last_index_of_term(body["conflict_term"]) + 1 or index
        return max(index, 1)

    def last_index_of_term(self, term: int) -> int:
        """The last index whose entry is of `term`; -1 if there is none."""
        index = bisect_right(self.log, term, key=entry_term) - 1
        return index if index > 0 and self.term_at(index) == term else -1

    def advance_commit_index(self) -> None:
        """Figure 2, leaders: commit what a majority stores, if it is of this term."""
        index = self.quorum_match_index()
        if index > self.commit_index and self.may_commit(index):
            self.commit(index)

    def quorum_match_index(self) -> int:
        """The highest index that a majority stores, this server included."""
        matches = [*self.match_index.values(), self.last_log_index]
        matches.sort(reverse=True)
        return matches[self.majority() - 1]

    def may_commit(self, index: int) -> bool:
        """Count replicas of this term's entries only (paper 5.4.2, Figure 8)."""
        return self.term_at(index) == self.current_term

    # --- replication, the follower's side (paper 5.3) ----------------------------

    def on_append_entries(self, src: str, body: Body, now: Now) -> None:
        """AppendEntries (Figure 2)."""
        if body["term"] < self.current_term:
            self.reply_to_append(src, body, success=False)
            return
        assert body["term"] > self.current_term or self.role != LEADER, (
            f"{src} and {self.node} both lead term {body['term']}"
        )
        if (
            self.leader != src
            or self.role != FOLLOWER
            or body["term"] > self.current_term
        ):
            self.become_follower(body["term"], src)
        self.heard_leader_ns = now.mono_ns
        self.reset_election_timer()
        if not self.matches(body["prev_log_index"], body["prev_log_term"]):
            self.reply_to_append(src, body, success=False)
            return
        self.store_entries(body["prev_log_index"], body["entries"])
        last_new_entry = body["prev_log_index"] + len(body["entries"])
        self.commit(min(body["leader_commit"], last_new_entry))
        self.reply_to_append(src, body, success=True, match_index=last_new_entry)

    def reply_to_append(
        self, src: str, body: Body, *, success: bool, match_index: int = 0
    ) -> None:
        """Answer, with where the logs part if they do."""
        conflict_index = conflict_term = 0
        if not success:
            conflict_index, conflict_term = self.conflict(body["prev_log_index"])
        self.send(
            src,
            {
                "type": "append_entries_reply",
                "term": self.current_term,
                "success": success,
                "match_index": match_index,
                "conflict_index": conflict_index,
                "conflict_term": conflict_term,
                "round": body["round"],
            },
        )

    def matches(self, prev_log_index: int, prev_log_term: int) -> bool:
        """Rule 2: this log holds the entry that precedes the new ones."""
        if prev_log_index > self.last_log_index:
            return False
        return self.term_at(prev_log_index) == prev_log_term

    def conflict(self, prev_log_index: int) -> tuple[int, int]:
        """First index of the term that conflicts, and that term (0: log too short)."""
        if prev_log_index > self.last_log_index:
            return self.last_log_index + 1, 0
        term = self.term_at(prev_log_index)
        index = prev_log_index
        while index > self.commit_index + 1 and self.term_at(index - 1) == term:
            index -= 1
        return index, term

    def store_entries(self, prev_log_index: int, entries: Sequence[Any]) -> None:
        """Rules 3 and 4: drop what conflicts, append what isn't there yet.

        An append that arrives late, after newer entries, must not truncate them: only a
        conflict does.
        """
        skip = self.already_stored(prev_log_index, entries)
        if skip == len(entries):
            return
        first = prev_log_index + 1 + skip
        new = [Entry(term, command) for term, command in entries[skip:]]
        self.truncate(first)
        self.log.extend(new)
        self.persist_entries(first, new)
        self.observe("appended", first=first, entries=new)

    def already_stored(self, prev_log_index: int, entries: Sequence[Any]) -> int:
        """How many of `entries` this log already holds, from the first on."""
        known = min(len(entries), self.last_log_index - prev_log_index)
        for i in range(known):
            if self.log[prev_log_index + 1 + i].term != entries[i][0]:
                return i
        return known

    def truncate(self, first: int) -> None:
        """Drop the entries from `first` on; what is committed never goes."""
        if first > self.last_log_index:
            return
        assert first > self.commit_index, (
            f"index {first} conflicts, but up to {self.commit_index} is committed"
        )
        self.observe("truncated", first=first, last=self.last_log_index)
        del self.log[first:]

    # --- commit and apply (paper 5.3) --------------------------------------------

    def commit(self, index: int) -> None:
        """Raise commit_index to `index`, if that is higher, and apply."""
        if index <= self.commit_index:
            return
        first = self.commit_index + 1
        self.commit_index = index
        self.observe("committed", first=first, last=index)
        while self.last_applied < self.commit_index:
            self.last_applied += 1
            self.apply(self.last_applied, self.log[self.last_applied])
        if self.role == LEADER:
            self.answer_confirmed_reads()

    def apply(self, index: int, entry: Entry) -> None:
        """Apply one entry and answer whoever waits for this index."""
        result = None
        if entry.command["type"] != "noop":
            result = self.state.apply(entry.command)
        waiting = self.proposed.pop(index, None)
        if waiting is None:
            return
        if waiting.term == entry.term and result is not None:
            self.answer(waiting.request, result)
        else:
            # Committed at its index is another entry, so this one never will be.
            self.refuse(waiting.request, "overwritten by another leader's entry")

    # --- requests ----------------------------------------------------------------

    def on_request(self, request: Received) -> None:
        """A client's request: check it, then serve it or pass it on."""
        command, flaw = kv.parse(request.body)
        if command is None:
            assert flaw is not None
            self.answer(request, flaw)
        elif self.reads == "local" and kv.is_read(command):
            self.answer(request, self.state.answer_read(command))
        elif self.role == LEADER:
            self.serve(request, command)
        elif self.leader is not None:
            self.forward(request, command)
        else:
            self.refuse(request, "no leader is known")

    def serve(self, request: Received, command: kv.Command) -> None:
        """The leader's part, by the kind of request and the way of reading."""
        if not kv.is_read(command) or self.reads == "log":
            self.propose(request, command)
        elif self.reads == "lease" and self.has_lease(request.now):
            self.answer(request, self.state.answer_read(command))
        else:
            self.read_index(request, command)

    def propose(self, request: Received, command: kv.Command) -> None:
        """Put the command into the batch that goes to the log next."""
        self.batch.append((request, command))
        self.set_timer("batch", 0)

    def forward(self, request: Received, command: kv.Command) -> None:
        """Pass a request on to the leader. Ids only ever grow, restarts included."""
        assert self.leader is not None
        self.last_forward_id = max(self.last_forward_id + 1, request.now.mono_ns)
        self.forwarded[self.last_forward_id] = self.waiting(request)
        self.send(
            self.leader,
            {
                "type": "forward",
                "term": self.current_term,
                "id": self.last_forward_id,
                "request": command,
            },
        )

    def on_forward(self, request: Received) -> None:
        """A request that a follower passed on, to be served at most once.

        In any other term than its own it is refused, unless an earlier life of this
        server may have led that term and taken a copy: then only silence is honest.
        """
        body = request.body
        if not self.is_first_copy(request.src, body["id"]):
            return
        if self.role == LEADER and body["term"] == self.current_term:
            command, flaw = kv.parse(body["request"])
            if command is None:
                assert flaw is not None
                self.answer(request, flaw)
            else:
                self.serve(request, command)
        elif body["term"] > self.recovered_term:
            self.refuse(request, "does not lead in that term")

    def is_first_copy(self, src: str, forward_id: int) -> bool:
        """Remember a forwarded request; False for one that came before.

        Two generations bound the memory: a copy is known for at least one of them.
        """
        copy = (src, forward_id)
        if copy in self.seen_forwards or copy in self.seen_forwards_before:
            return False
        self.seen_forwards.add(copy)
        if len(self.seen_forwards) >= SEEN_FORWARDS_MAX:
            self.seen_forwards_before = self.seen_forwards
            self.seen_forwards = set()
        return True

    def on_forward_reply(self, body: Body) -> None:
        """The leader's answer to a request that was passed on."""
        waiting = self.forwarded.pop(body["id"], None)
        if waiting is not None:
            self.answer(waiting.request, body["reply"])

    def abandon_forwarded(self, why: str) -> None:
        """Nobody here will learn what became of the requests that were passed on.

        Saying so at once, and not when they time out, frees clients for the new leader
        while the old one may still believe in itself.
        """
        for waiting in self.forwarded.values():
            text = f"{self.node}: passed on, but {why}"
            self.answer(waiting.request, error(TIMEOUT, text))
        self.forwarded.clear()

    def answer(self, request: Received, reply: Body) -> None:
        """Answer a client, or the follower that passed the request on."""
        if request.src in self.peers:
            body = {"type": "forward_reply", "id": request.body["id"], "reply": reply}
            self.send(request.src, body)
        else:
            self.effects.append(Reply(request, reply))

    def refuse(self, request: Received, why: str) -> None:
        """Answer that the request certainly has no effect."""
        self.answer(request, error(TEMPORARILY_UNAVAILABLE, f"{self.node}: {why}"))

    def waiting(self, request: Received) -> Waiting:
        """Note that a request is under way, and see to it that it ends some day."""
        if not self.sweeping:
            self.sweeping = True
            self.set_timer("sweep", self.request_timeout_ms)
        return Waiting(request, self.current_term, self.sweep)

    def on_sweep(self) -> None:
        """Give up what waited for a whole timeout: nobody knows what becomes of it."""
        for index in [i for i, w in self.proposed.items() if w.since < self.sweep]:
            self.abandon_proposed(index)
        for key in [k for k, w in self.forwarded.items() if w.since < self.sweep]:
            request = self.forwarded.pop(key).request
            text = f"{self.node}: passed on, but never answered"
            self.answer(request, error(TIMEOUT, text))
        self.sweep += 1
        self.sweeping = bool(self.proposed or self.forwarded)
        if self.sweeping:
            self.set_timer("sweep", self.request_timeout_ms)

    def abandon_proposed(self, index: int) -> None:
        """Tell whoever waits for `index` that nobody knows (Figure 8)."""
        waiting = self.proposed.pop(index, None)
        if waiting is not None:
            text = f"{self.node}: proposed, but not known to be committed"
            self.answer(waiting.request, error(CRASH, text))

    # --- reads without the log (thesis 6.4) --------------------------------------

    def read_index(self, request: Received, command: kv.Command) -> None:
        """Answer once a majority confirms, after now, that this is the leader.

        The round must begin after the read arrived: an earlier round says nothing about
        writes that another leader took since. The "batch" timer begins one, for all
        reads that have arrived by then, unless one is under way: its end begins the
        next. A round that is lost ends with the next heartbeat's.
        """
        self.waiting_reads.append((self.round + 1, request, command))
        self.set_timer("batch", 0)

    def on_round_acked(self, src: str, acked: int) -> None:
        """A follower answered an append of that round, in this term."""
        if not self.acked_round[src] < acked <= self.round:
            return
        self.acked_round[src] = acked
        rounds = sorted(self.acked_round.values(), reverse=True)
        self.on_quorum_round(rounds[self.majority() - 2])

    def on_quorum_round(self, acked: int) -> None:
        """A majority, this server included, answered that round and all before it."""
        while self.sent_rounds and self.sent_rounds[0][0] <= acked:
            self.quorum_contact_ns = self.sent_rounds.popleft()[1]
        self.answer_confirmed_reads()
        if self.reads_need_a_round() and not self.sent_rounds:
            self.set_timer("batch", 0)

    def reads_need_a_round(self) -> bool:
        """True when a read waits for a round that hasn't begun."""
        return bool(self.waiting_reads) and self.waiting_reads[-1][0] > self.round

    def answer_confirmed_reads(self) -> None:
        """Answer the reads whose round is confirmed (thesis 6.4, steps 1 to 5).

        The state must also cover all that was committed when the read arrived. An entry
        of this term is committed by then, so commit_index does (step 1), and entries
        are applied as they are committed (step 4).
        """
        if not self.waiting_reads or not self.committed_in_this_term():
            return
        confirmed = self.sent_rounds[0][0] - 1 if self.sent_rounds else self.round
        while self.waiting_reads and self.waiting_reads[0][0] <= confirmed:
            _, request, command = self.waiting_reads.popleft()
            self.answer(request, self.state.answer_read(command))

    def committed_in_this_term(self) -> bool:
        """Until then a leader may not know all that is committed (paper 8)."""
        return self.term_at(self.commit_index) == self.current_term

    def has_lease(self, now: Now) -> bool:
        """May the leader answer from its own state, by its clock alone? (thesis 6.4.1).

        A majority heard it at `quorum_contact_ns` or later, and refuses its votes to
        others for the minimum election timeout from then.
        """
        age_ns = now.mono_ns - self.quorum_contact_ns
        return self.committed_in_this_term() and age_ns < self.lease_ns()

    def lease_ns(self) -> float:
        """How long a lease lasts on this clock.

        It must end before the followers' minimum timeout T does, in true time. If no
        clock deviates by more than the share d, a follower's T lasts at least T / (1 +
        d), and a lease of L on the leader's clock at most L / (1 - d).
        """
        bound = self.clock_drift_bound
        return self.election_timeout_ms_min * 1e6 * (1 - bound) / (1 + bound)

    def drop_reads(self, why: str) -> None:
        """Refuse the reads that wait; a read has no effect, so that is always true."""
        reads, self.waiting_reads = self.waiting_reads, deque()
        for _, request, _ in reads:
            self.refuse(request, why)

    # --- the log and the disk ----------------------------------------------------

    @property
    def last_log_index(self) -> int:
        """Index of the last entry; 0 for an empty log."""
        return len(self.log) - 1

    @property
    def last_log_term(self) -> int:
        """Term of the last entry; 0 for an empty log."""
        return self.log[-1].term

    def term_at(self, index: int) -> int:
        """Term of the entry at `index`; 0 before the first."""
        return self.log[index].term

    def persist_term_and_vote(self) -> None:
        """Both in one record, so that a vote can't be taken for another term's."""
        record = {"term": self.current_term, "voted_for": self.voted_for}
        self.effects.append(Persist(record))

    def persist_entries(self, first: int, entries: list[Entry]) -> None:
        """The log from `first` on is now `entries`."""
        self.effects.append(Persist({"first": first, "entries": entries}))

    def recover(self, record: Record) -> None:
        """Take back what one of the two methods above persisted."""
        if "entries" in record:
            del self.log[record["first"] :]
            self.log.extend(Entry(term, command) for term, command in record["entries"])
        else:
            self.current_term = record["term"]
            self.voted_for = record["voted_for"]

    # --- effects -----------------------------------------------------------------

    def take_effects(self) -> list[Effect]:
        """The effects so far, in order; the list begins anew."""
        effects, self.effects = self.effects, []
        return effects

    def send(self, dest: str, body: Body) -> None:
        """Send to a peer."""
        self.effects.append(Send(dest, body))

    def broadcast(self, body: Body) -> None:
        """Send to all peers."""
        for peer in self.peers:
            self.send(peer, body)

    def set_timer(self, name: str, after_ms: float) -> None:
        """A timer without randomness."""
        self.effects.append(SetTimer(name, after_ms, after_ms))

    def cancel_timer(self, name: str) -> None:
        """Stop a timer."""
        self.effects.append(CancelTimer(name))

    def reset_election_timer(self) -> None:
        """Randomised, so that split votes are rare (paper 5.2)."""
        self.effects.append(
            SetTimer(
                "election", self.election_timeout_ms_min, self.election_timeout_ms_max
            )
        )

    def observe(self, kind: str, **fields: Any) -> None:
        """Tell the world what happened."""
        self.effects.append(Observe(kind, fields))


def entry_term(entry: Entry) -> int:
    """For searching the log by term, which never falls."""
    return entry.term


def well_formed(body: Body) -> bool:
    """True when a peer's message has every field of its type, with sensible values.

    Cost: a microsecond or two; a message that lies about its content isn't caught.
    """
    kind = body.get("type")
    fields = MESSAGES.get(kind) if isinstance(kind, str) else None
    if fields is None:
        return False
    for name, expected in fields.items():
        value = body.get(name)
        if type(value) is not expected:
            return False
        if isinstance(value, int) and value < 0:
            return False
    return kind != "append_entries" or all(map(is_entry, body["entries"]))


def is_entry(value: Any) -> bool:
    """True for a list of a term and a command that this state machine knows."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    term, command = value
    if type(term) is not int or type(command) is not dict:
        return False
    return command.get("type") == "noop" or kv.parse(command)[0] is not None


def build(
    node: str,
    peers: Sequence[str],
    options: Mapping[str, str],
    core: type[Raft] | None = None,
) -> Actor:
    """A server called `node`; `options` are complete, see OPTIONS.

    Args:
        node: Its name.
        peers: The other servers' names.
        options: A value for each of OPTIONS.
        core: The class to build: Raft, or a mutant of it.

    Raises:
        ValueError: Options that make no sense together.
    """
    server = (core or Raft)(node, peers, options)
    if not 0 < server.election_timeout_ms_min <= server.election_timeout_ms_max:
        raise ValueError(
            "election_timeout_ms_min is not in (0, election_timeout_ms_max]"
        )
    if not 0 < server.heartbeat_ms < server.election_timeout_ms_min:
        raise ValueError("heartbeat_ms must be > 0 and below election_timeout_ms_min")
    if server.clock_drift_bound >= 1:
        raise ValueError("clock_drift_bound must be below 1")
    return server
