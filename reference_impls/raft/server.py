"""A Raft server's state, its disk, and what counts as a quorum.

The rules are in the parts built on this: `election`, `replication`, `snapshots`,
`membership`, `reads`, `requests`. They call each other through the methods that are
abstract here.
"""

from __future__ import annotations

import abc
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from reference_impls import kv
from reference_impls.actor import Persist
from reference_impls.core import Core
from reference_impls.raft.log import Entry, Log
from reference_impls.raft.members import CHANGES, Members

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from reference_impls.actor import Body, Now, Received, Record
    from reference_impls.raft.snapshot import Incoming, Outgoing, Snapshot

FOLLOWER = "follower"
PRE_CANDIDATE = "pre_candidate"
CANDIDATE = "candidate"
LEADER = "leader"


class Waiting(NamedTuple):
    """A request that isn't answered yet.

    Attributes:
        request: The client's, or a peer's `forward`.
        command: What it asks for.
        term: Under which it was proposed, or passed on.
        since: The sweep (`Requests.sweep`) in which it came.
    """

    request: Received
    command: kv.Command
    term: int
    since: int


class CatchUp(NamedTuple):
    """A server that is to become a member, and is brought level before (thesis 4.2.1).

    Attributes:
        request: Who asked for it.
        node: The server.
        target: The round ends when it holds the log up to here.
        round: Rounds so far, this one included.
        since_ns: When the round began, on the leader's monotonic clock.
    """

    request: Received
    node: str
    target: int
    round: int
    since_ns: int


class Transfer(NamedTuple):
    """Leadership on its way to another server (thesis 3.10).

    Attributes:
        request: Who asked for it.
        to: The heir.
        is_sent: The heir was told to stand for election.
    """

    request: Received
    to: str
    is_sent: bool = False


class Server(Core):
    """What a server knows, and how it keeps it."""

    def __init__(
        self, node: str, peers: Sequence[str], options: Mapping[str, Any]
    ) -> None:
        super().__init__(node, peers)
        self.reads: str = options["reads"]
        self.pre_vote: bool = options["pre_vote"]
        self.election_timeout_ms_min: float = options["election_timeout_ms_min"]
        self.election_timeout_ms_max: float = options["election_timeout_ms_max"]
        self.heartbeat_ms: float = options["heartbeat_ms"]
        self.clock_drift_bound: float = options["clock_drift_bound"]
        self.request_timeout_ms: float = options["request_timeout_ms"]
        self.entries_per_append_max: int = options["entries_per_append_max"]
        self.snapshot_entries: int = options["snapshot_entries"]
        self.snapshot_chunk_chars: int = options["snapshot_chunk_chars"]
        initial: tuple[str, ...] = options["initial_members"]

        # persistent: on disk before any message that depends on it leaves
        self.current_term = 0
        self.voted_for: str | None = None
        self.log = Log()
        self.snapshot: Snapshot | None = None
        self.life = 0  # how often this server began to pass requests on

        # volatile
        self.role = FOLLOWER
        self.leader: str | None = None
        self.commit_index = 0
        self.last_applied = 0
        self.state = kv.KeyValueStore()
        self.members = Members(initial or self.servers)
        self.heard_leader_ns: int | None = None  # on this node's monotonic clock
        self.may_vote = True
        self.votes: set[str] = set()
        self.incoming: Incoming | None = None
        self.forwarded: dict[int, Waiting] = {}
        self.last_forward_id = 0
        self.proposed: dict[int, Waiting] = {}  # by log index; outlives leadership
        self.transfer: Transfer | None = None
        self.sweep = 0
        self.sweeping = False

        # leader only: made anew at each election
        self.next_index: dict[str, int] = {}
        self.match_index: dict[str, int] = {}
        self.in_flight: dict[str, tuple[int, int]] = {}  # append: round, last index
        self.outgoing: dict[str, Outgoing] = {}
        self.round = 0
        self.sent_round: dict[str, int] = {}
        self.acked_round: dict[str, int] = {}
        self.sent_rounds: deque[tuple[int, int]] = deque()  # (round, sent at, ns)
        self.quorum_contact_ns = 0  # when the last round a quorum answered was sent
        self.gave_up_lease = False
        self.batch: list[tuple[Received, kv.Command]] = []
        self.waiting_reads: deque[tuple[int, Received, kv.Command]] = deque()
        self.catch_up: CatchUp | None = None

    def status(self) -> dict[str, Any]:
        """Where this server stands."""
        return {
            "role": self.role,
            "term": self.current_term,
            "leader": self.leader,
            "commit_index": self.commit_index,
            "last_applied": self.last_applied,
            "last_log_index": self.log.last_index,
            "snapshot_index": self.log.base,
            "members": list(self.members.names),
        }

    def check_invariants(self) -> None:
        """What holds after every step, whatever was said."""
        assert self.log.base <= self.commit_index, "compacted what isn't committed"
        assert self.commit_index <= self.log.last_index, "committed what it hasn't got"
        assert self.last_applied == self.commit_index, "committed, but not applied"
        assert self.log.last_term <= self.current_term, "an entry of a later term"
        match self.role:
            case "leader":
                assert self.leader == self.node, "leads, but follows another"
                assert self.voted_for == self.node, "leads a term it voted otherwise in"
            case "candidate":
                assert self.voted_for == self.node, "didn't vote for itself"
            case _:
                assert not self.waiting_reads, "reads wait without a leader"
                assert not self.batch, "requests wait without a leader"
                assert self.catch_up is None, "a server joins without a leader"

    # --- quorums (thesis 4.1) ----------------------------------------------------

    def majority(self) -> int:
        """How many members are more than half of them."""
        return len(self.members.names) // 2 + 1

    def is_quorum(self, servers: Iterable[str]) -> bool:
        """True for a majority of the members; others don't count."""
        return len(set(servers).intersection(self.members.names)) >= self.majority()

    def quorum_value(self, values: Mapping[str, int], own: int) -> int:
        """The highest number that a majority of the members has reached.

        A leader that is no member, as it is about to leave, doesn't count itself
        (thesis 4.2.2).
        """
        reached = [
            own if name == self.node else values.get(name, 0)
            for name in self.members.names
        ]
        reached.sort(reverse=True)
        return reached[self.majority() - 1]

    # --- the log and the disk ----------------------------------------------------

    def extend_log(self, entries: Sequence[Entry]) -> None:
        """Append to the log; a configuration counts from now on (thesis 4.1)."""
        self.log.extend(entries)
        index = self.log.last_index - len(entries)
        for entry in entries:
            index += 1
            if entry.command["type"] in CHANGES:
                self.members.adopt(index, entry.command["members"])
                self.observe("members", index=index, members=list(self.members.names))

    def term_and_vote(self) -> dict[str, Any]:
        """Both in one record, so that a vote can't be taken for another term's."""
        return {"term": self.current_term, "voted_for": self.voted_for}

    def persist_term_and_vote(self) -> None:
        """Before anyone hears of either."""
        self.persist(self.term_and_vote())

    def persist_entries(self, first: int, entries: Sequence[Entry]) -> None:
        """The log from `first` on is now `entries`."""
        self.persist({"first": first, "entries": entries})

    def persist_snapshot(self) -> None:
        """All that is kept, in one record, so that the earlier ones may go."""
        assert self.snapshot is not None
        record = {
            **self.term_and_vote(),
            "life": self.life,
            "snapshot": self.snapshot,
            "entries": self.log.since(self.log.base + 1),
        }
        self.effects.append(Persist(record, replaces=True))

    def recover(self, record: Record) -> None:
        """Take back what one of the methods above persisted."""
        if "term" in record:
            self.current_term = record["term"]
            self.voted_for = record["voted_for"]
        if "life" in record:
            self.life = record["life"]
        if "snapshot" in record:
            self.recover_snapshot(*record["snapshot"])
        if "entries" in record:
            first = record.get("first", self.log.base + 1)
            self.log.truncate(first)
            self.members.truncate(first)
            self.extend_log([Entry(term, cmd) for term, cmd in record["entries"]])

    # --- what the parts do for each other ----------------------------------------

    @abc.abstractmethod
    def become_follower(self, term: int, leader: str | None) -> None:
        """`election`: follow in `term`."""

    @abc.abstractmethod
    def may_campaign(self) -> bool:
        """`election`: may this server stand for election?"""

    @abc.abstractmethod
    def become_candidate(self, now: Now, *, transfer: bool = False) -> None:
        """`election`: start an election."""

    @abc.abstractmethod
    def reset_election_timer(self) -> None:
        """`election`: wait for a leader from now."""

    @abc.abstractmethod
    def append_and_replicate(self, entries: list[Entry], now: Now) -> None:
        """`replication`: append to one's own log and send to everyone."""

    @abc.abstractmethod
    def send_next(self, peer: str) -> None:
        """`replication`: send what a follower lacks next."""

    @abc.abstractmethod
    def follow(self, leader: str, term: int, now: Now) -> None:
        """`replication`: a leader of this term or a later one was heard."""

    @abc.abstractmethod
    def reply_to_append(
        self, src: str, body: Body, *, success: bool, match_index: int = 0
    ) -> None:
        """`replication`: answer the leader."""

    @abc.abstractmethod
    def committed_in_this_term(self) -> bool:
        """`replication`: does this leader know all that is committed?"""

    @abc.abstractmethod
    def recover_snapshot(self, index: int, term: int, text: str) -> None:
        """`snapshots`: begin with a snapshot from the disk."""

    @abc.abstractmethod
    def compact(self) -> None:
        """`snapshots`: replace the log by a snapshot, if it is long enough."""

    @abc.abstractmethod
    def send_chunk(self, peer: str) -> None:
        """`snapshots`: send a follower its next piece of a snapshot."""

    @abc.abstractmethod
    def on_new_leader(self, leader: str, now: Now | None) -> None:
        """`requests`: a leader is known, perhaps this server."""

    @abc.abstractmethod
    def on_round_acked(self, src: str, acked: int) -> None:
        """`reads`: a follower answered a message of that round, in this term."""

    @abc.abstractmethod
    def on_quorum_round(self, acked: int) -> None:
        """`reads`: a majority answered that round, and all before it."""

    @abc.abstractmethod
    def answer_confirmed_reads(self) -> None:
        """`reads`: answer the reads that need wait no longer."""

    @abc.abstractmethod
    def drop_reads(self, why: str) -> None:
        """`reads`: refuse the reads that wait."""

    @abc.abstractmethod
    def answer(self, request: Received, reply: Body) -> None:
        """`requests`: answer a client, or the server that passed the request on."""

    @abc.abstractmethod
    def refuse(self, request: Received, why: str) -> None:
        """`requests`: answer that this copy of the request certainly has no effect."""

    @abc.abstractmethod
    def waiting(self, request: Received, command: kv.Command) -> Waiting:
        """`requests`: note that a request is under way."""

    @abc.abstractmethod
    def abandon_proposed(self, index: int) -> None:
        """`requests`: nobody knows what becomes of the request at `index`."""
