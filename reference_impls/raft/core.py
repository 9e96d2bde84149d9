"""The Raft actor: what a server is composed of, and which part handles what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from reference_impls.actor import Actor, Observe, TimerFired
from reference_impls.core import Outbox, chosen
from reference_impls.override import override
from reference_impls.raft.commitment import Commitment
from reference_impls.raft.compaction import Compaction
from reference_impls.raft.election import Election
from reference_impls.raft.following import Following
from reference_impls.raft.leadership import Leadership
from reference_impls.raft.log import Log
from reference_impls.raft.machine import StateMachine
from reference_impls.raft.members import Members
from reference_impls.raft.membership import Membership
from reference_impls.raft.messages import ANSWERS, well_formed
from reference_impls.raft.options import Settings
from reference_impls.raft.quorum import Quorum
from reference_impls.raft.reads import Reads
from reference_impls.raft.replication import Replication
from reference_impls.raft.requests import Requests
from reference_impls.raft.rounds import Rounds
from reference_impls.raft.service import Service
from reference_impls.raft.snapshot_receiver import SnapshotReceiver
from reference_impls.raft.snapshot_sender import SnapshotSender
from reference_impls.raft.standing import Standing
from reference_impls.raft.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reference_impls.actor import Effect, Event, Now, Received, Record
    from reference_impls.kv import KeyValueStore
    from reference_impls.raft.membership import CatchUp
    from reference_impls.raft.snapshot import Snapshot


@dataclass(frozen=True)
class Parts:
    """The classes that a server is composed of; a mutant has another in one's place."""

    outbox: type[Outbox] = Outbox
    standing: type[Standing] = Standing
    log: type[Log] = Log
    quorum: type[Quorum] = Quorum
    machine: type[StateMachine] = StateMachine
    rounds: type[Rounds] = Rounds
    requests: type[Requests] = Requests
    reads: type[Reads] = Reads
    compaction: type[Compaction] = Compaction
    commitment: type[Commitment] = Commitment
    snapshot_sender: type[SnapshotSender] = SnapshotSender
    replication: type[Replication] = Replication
    transfer: type[Transfer] = Transfer
    membership: type[Membership] = Membership
    service: type[Service] = Service
    leadership: type[Leadership] = Leadership
    election: type[Election] = Election
    following: type[Following] = Following
    snapshot_receiver: type[SnapshotReceiver] = SnapshotReceiver


class Raft(Actor):
    """One server, whole.

    Args:
        node: Its name.
        peers: The other servers.
        options: A value for each of OPTIONS.
    """

    parts: ClassVar[Parts] = Parts()

    def __init__(
        self, node: str, peers: Sequence[str], options: Mapping[str, Any]
    ) -> None:
        made = self.parts
        out = self.out = made.outbox(node, peers)
        settings = self.settings = chosen(Settings, options)
        members = Members(settings.initial_members or out.servers)

        # what every server knows
        standing = self.standing = made.standing(out)
        log = self.log = made.log(out, members)
        known = (out, settings, standing, log)
        machine = self.machine = made.machine()
        quorum = self.quorum = made.quorum(node, settings.incarnation, log)

        # those who wait, and what they wait for
        requests = self.requests = made.requests(out, settings, standing)
        rounds = self.rounds = made.rounds(out, settings, quorum)
        reads = self.reads = made.reads(*known, machine, rounds, requests)
        compaction = self.compaction = made.compaction(*known, machine, requests)
        commitment = made.commitment(
            out, standing, log, machine, requests, reads, compaction
        )

        # the leader
        snapshots = made.snapshot_sender(out, settings, standing, rounds, compaction)
        replication = self.replication = made.replication(
            *known, quorum, rounds, reads, commitment, snapshots
        )
        transfer = self.transfer = made.transfer(*known, replication, reads, requests)
        membership = self.membership = made.membership(
            *known, machine, replication, requests, transfer
        )
        service = self.service = made.service(
            *known, rounds, requests, reads, replication, membership, transfer
        )
        leadership = made.leadership(
            *known, rounds, reads, replication, snapshots, service, membership
        )

        # everyone
        election = self.election = made.election(
            *known, quorum, rounds, leadership, service, membership, transfer
        )
        following = self.following = made.following(
            out, standing, election, log, machine, commitment
        )
        self.snapshot_receiver = made.snapshot_receiver(
            out, standing, election, machine, compaction, following
        )

    # --- the actor ---------------------------------------------------------------

    @override
    def start(self, recovered: Sequence[Record]) -> list[Effect]:
        """Begin as a follower (paper 5.2) with what the disk remembers."""
        for record in recovered:
            self.recover(record)
        if recovered:
            self.out.observe(
                "recovered",
                term=self.current_term,
                voted_for=self.voted_for,
                last_log_index=self.log.last_index,
                last_log_term=self.log.last_term,
                snapshot_index=self.log.base,
            )
        elif self.settings.incarnation:
            self.out.observe("joins", incarnation=self.settings.incarnation)
        self.election.begin(again=bool(recovered))
        return self.out.take_effects()

    def recover(self, record: Record) -> None:
        """Take back what a part persisted; a snapshot's record speaks of all parts."""
        self.standing.recover(record)
        self.requests.recover(record)
        self.compaction.recover(record)
        self.log.recover(record)

    @override
    def step(self, event: Event) -> list[Effect]:
        if isinstance(event, TimerFired):
            self.on_timer(event.name, event.now)
        elif event.src in self.out.peers:
            self.on_peer_message(event)
        else:
            self.service.on_request(event)
        if self.standing.leads:
            self.election.leave_if_removed()
        self.check_invariants()
        return self.out.take_effects()

    def on_timer(self, name: str, now: Now) -> None:
        """Dispatch a timer."""
        match name:
            case "election":
                self.election.on_timeout(now)
            case "heartbeat":
                self.election.on_heartbeat(now)
                self.membership.check_catch_up(now)
            case "batch":
                self.service.on_batch(now)
            case "sweep":
                self.requests.on_sweep()
            case "transfer":
                self.transfer.on_timeout()
            case "may_vote":
                self.election.may_vote = True
            case _:
                pass

    def on_peer_message(self, event: Received) -> None:
        """Dispatch a peer's message, once it is known to make sense.

        An answer with a higher term first makes this server a follower (Figure 2, all
        servers). What a higher term in a request means, its handler decides. What an
        earlier incarnation of a server says is of no interest.
        """
        src, body, now = event.src, event.body, event.now
        if not well_formed(body):
            return
        incarnation = body.get("incarnation", 0)
        if body["type"] in ANSWERS and not self.quorum.show(src, incarnation):
            return
        match body["type"]:
            case "append_entries":
                self.following.on_append_entries(src, body, now)
            case "append_entries_reply":
                self.election.adopt_term(body)
                self.replication.on_append_entries_reply(src, body)
                self.on_answer(src, now)
            case "forward":
                self.service.on_forward(event)
            case "forward_reply":
                self.requests.on_forward_reply(body["id"], body["reply"])
            case "install_snapshot":
                self.snapshot_receiver.on_install_snapshot(src, body, now)
            case "install_snapshot_reply":
                self.election.adopt_term(body)
                self.replication.on_install_snapshot_reply(src, body)
            case "pre_vote":
                self.election.on_pre_vote(src, body, now)
            case "pre_vote_reply":
                self.election.adopt_term(body)
                self.election.on_pre_vote_reply(src, body, now)
            case "request_vote":
                self.election.on_request_vote(src, body, now)
            case "request_vote_reply":
                self.election.adopt_term(body)
                self.election.on_request_vote_reply(src, body, now)
            case "timeout_now":
                self.election.on_timeout_now(body, now)
            case _:
                pass

    def on_answer(self, src: str, now: Now) -> None:
        """Go on with what clients or an operator asked for, if it waited for this."""
        if self.standing.leads:
            self.service.on_answer()
            self.membership.on_progress(src, now)
            self.transfer.hand_over()

    def check_invariants(self) -> None:
        """Assert what holds after every step, whatever messages said."""
        log, machine, standing = self.log, self.machine, self.standing
        node = self.out.node
        commit_index, base, entries = machine.commit_index, log.base, log.entries
        assert base <= commit_index, "compacted what isn't committed"
        assert commit_index < base + len(entries), "committed what it hasn't got"
        assert machine.last_applied == commit_index, "committed, but not applied"
        assert entries[-1].term <= standing.current_term, "an entry of a later term"
        match standing.role:
            case "leader":
                assert standing.leader == node, "leads, but follows another"
                assert standing.voted_for == node, "leads a term it voted otherwise in"
            case "candidate":
                assert standing.voted_for == node, "didn't vote for itself"
            case _:
                assert not self.reads.waiting, "reads wait without a leader"
                assert not self.service.batch, "requests wait without a leader"
                assert self.membership.catch_up is None, (
                    "a server joins without a leader"
                )

    # --- what others may see -----------------------------------------------------

    @override
    def status(self) -> dict[str, Any]:
        """This server's role, term and leader, and how far its log is."""
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

    def on_disk(self) -> list[Observe]:
        """Figure 2's persistent state, for checkers to judge after a run."""
        base = self.log.base
        fields = {
            "term": self.current_term,
            "voted_for": self.voted_for,
            "prev_log_term": self.log.term_at(base),
            "first": base + 1,
            "entries": self.log.since(base + 1),
            "last_log_index": self.log.last_index,
            "last_log_term": self.log.last_term,
        }
        return [Observe("on_disk", fields)]

    # --- Figure 2's state, and what changes it, under the paper's names ------------

    @property
    def node(self) -> str:
        """This server's name."""
        return self.out.node

    @property
    def peers(self) -> tuple[str, ...]:
        """The other servers."""
        return self.out.peers

    @property
    def current_term(self) -> int:
        """The latest term this server has seen."""
        return self.standing.current_term

    @property
    def voted_for(self) -> str | None:
        """The candidate that got its vote in that term, if any."""
        return self.standing.voted_for

    @property
    def role(self) -> str:
        """FOLLOWER, PRE_CANDIDATE, CANDIDATE or LEADER."""
        return self.standing.role

    @property
    def leader(self) -> str | None:
        """Whom it follows, or itself."""
        return self.standing.leader

    @property
    def commit_index(self) -> int:
        """The highest index known to be committed."""
        return self.machine.commit_index

    @property
    def last_applied(self) -> int:
        """The highest index applied to the state machine."""
        return self.machine.last_applied

    @property
    def state(self) -> KeyValueStore:
        """The state machine's state."""
        return self.machine.state

    @property
    def members(self) -> Members:
        """The configurations in its log, the latest of which is in use."""
        return self.log.members

    @property
    def snapshot(self) -> Snapshot | None:
        """The snapshot in place of the entries that are compacted away."""
        return self.compaction.snapshot

    @property
    def match_index(self) -> Mapping[str, int]:
        """Up to where each follower's log equals this leader's."""
        return self.replication.match_index

    @property
    def round(self) -> int:
        """The last broadcast of this leader."""
        return self.rounds.round

    @property
    def catch_up(self) -> CatchUp | None:
        """The server that is brought level before it becomes a member."""
        return self.membership.catch_up

    @property
    def election_timeout_ms_min(self) -> float:
        """The least wait for a leader."""
        return self.settings.election_timeout_ms_min

    def take_effects(self) -> list[Effect]:
        """The effects of the methods below, when they are called by themselves."""
        return self.out.take_effects()

    def become_follower(self, term: int, leader: str | None) -> None:
        """Follow, as `Election` has it."""
        self.election.become_follower(term, leader)

    def become_candidate(self, now: Now) -> None:
        """Stand for election, as `Election` has it."""
        self.election.become_candidate(now)

    def become_leader(self, now: Now) -> None:
        """Lead, as `Election` has it."""
        self.election.become_leader(now)

    def has_lease(self, now: Now) -> bool:
        """May it answer reads by its clock alone?"""
        return self.reads.has_lease(now)

    def lease_ns(self) -> float:
        """How long its lease lasts."""
        return self.reads.lease_ns()
