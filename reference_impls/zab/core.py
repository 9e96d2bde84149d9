"""The Zab actor: what a node is composed of, and which part handles what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from reference_impls.actor import Actor, TimerFired
from reference_impls.core import Outbox, chosen, well_formed
from reference_impls.override import override
from reference_impls.zab.broadcast import Broadcast
from reference_impls.zab.clients import Clients
from reference_impls.zab.delivery import Delivery
from reference_impls.zab.discovery import Discovery
from reference_impls.zab.disk import Disk
from reference_impls.zab.election import FOLLOWING, LEADING
from reference_impls.zab.looking import Looking
from reference_impls.zab.messages import FRAMED, OPEN, Zxid, txns_of
from reference_impls.zab.options import Settings
from reference_impls.zab.requests import Requests
from reference_impls.zab.sessions import Sessions
from reference_impls.zab.standing import BROADCAST, ELECTION, Standing
from reference_impls.zab.synchronization import Synchronization

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from reference_impls.actor import Body, Effect, Event, Received, Record
    from reference_impls.zab.election import Election
    from reference_impls.zab.history import History
    from reference_impls.zab.sessions import Learner


@dataclass(frozen=True)
class Parts:
    """The classes that a node is composed of; a mutant has another in one's place."""

    standing: type[Standing] = Standing
    disk: type[Disk] = Disk
    sessions: type[Sessions] = Sessions
    requests: type[Requests] = Requests
    delivery: type[Delivery] = Delivery
    looking: type[Looking] = Looking
    broadcast: type[Broadcast] = Broadcast
    synchronization: type[Synchronization] = Synchronization
    discovery: type[Discovery] = Discovery
    clients: type[Clients] = Clients


class Zab(Actor):
    """One node, whole.

    Args:
        node: Its name.
        peers: The other nodes.
        options: A value for each of OPTIONS.
    """

    parts: ClassVar[Parts] = Parts()

    def __init__(
        self, node: str, peers: Sequence[str], options: Mapping[str, Any]
    ) -> None:
        made = self.parts
        out = self.out = Outbox(node, peers)
        settings = self.settings = chosen(Settings, options)

        # what every node knows
        standing = self.standing = made.standing()
        disk = self.disk = made.disk(out)
        known = (out, settings, standing, disk)
        sessions = self.sessions = made.sessions(out, settings, standing)
        requests = self.requests = made.requests(out, sessions)
        delivery = self.delivery = made.delivery(out, settings, disk, requests)

        # the phases, from 0 to 3
        looking = self.looking = made.looking(*known, sessions, requests)
        broadcast = self.broadcast = made.broadcast(
            *known, delivery, sessions, requests
        )
        synchronization = self.synchronization = made.synchronization(
            *known, sessions, looking, delivery, broadcast
        )
        self.discovery = made.discovery(*known, sessions, looking, synchronization)

        self.clients = made.clients(
            out, settings, standing, sessions, requests, delivery
        )

    # --- the actor ---------------------------------------------------------------

    @override
    def start(self, recovered: Sequence[Record]) -> list[Effect]:
        """Begin with an election and what the disk remembers."""
        for record in recovered:
            self.delivery.install(record)
        self.out.observe(
            "recovered",
            accepted_epoch=self.accepted_epoch,
            current_epoch=self.current_epoch,
            last_zxid=self.history.last_zxid,
            snapshot_zxid=self.history.base,
        )
        self.looking.begin()
        self.begin_with_elected()
        return self.out.take_effects()

    @override
    def step(self, event: Event) -> list[Effect]:
        self.sessions.now = event.now
        if isinstance(event, TimerFired):
            self.on_timer(event.name)
        elif event.src in self.out.peers:
            self.on_peer_message(event)
        else:
            self.clients.on_request(event)
        if self.looking.elected is not None:
            self.begin_with_elected()
        self.check_invariants()
        return self.out.take_effects()

    def begin_with_elected(self) -> None:
        """Go on to discovery if this step's votes name a leader."""
        leader, self.looking.elected = self.looking.elected, None
        if leader is not None:
            self.discovery.begin(leader)

    def on_timer(self, name: str) -> None:
        """Dispatch a timer."""
        standing = self.standing
        match name:
            case "notify":
                self.looking.on_notify()
            case "finalize":
                self.looking.on_finalize()
            case "tick":
                self.on_tick()
            case "batch":
                self.broadcast.on_batch()
            case "init" if standing.phase not in {ELECTION, BROADCAST}:
                init_ms = self.settings.init_ms
                self.looking.give_up(f"came to no broadcast in {init_ms:g} ms")
            case "silence" if standing.follows:
                self.looking.give_up(f"heard nothing from {standing.leader}")
            case _:
                pass

    def on_tick(self) -> None:
        """Keep up the sessions; a leader that lost its quorum gives up."""
        standing = self.standing
        if standing.state in {LEADING, FOLLOWING}:
            self.sessions.tick()
        if standing.leads and standing.serves and not self.has_quorum(is_up_to_date):
            self.out.observe("lost_quorum", term=standing.epoch)
            self.looking.give_up("lost its quorum")

    def on_peer_message(self, event: Received) -> None:
        """Dispatch a vote or a frame of a session, once it is known to make sense."""
        src, body = event.src, event.body
        if not well_formed(body, OPEN):
            return
        if body["type"] == "notification":
            self.looking.on_notification(src, body)
        elif self.standing.leads:
            for learner, said in self.sessions.hear_follower(src, body):
                self.on_message_of_follower(learner, said)
        elif self.standing.follows and src == self.standing.leader:
            for said in self.sessions.hear_leader(body):
                self.on_message_of_leader(said)

    def on_message_of_leader(self, body: Body) -> None:
        """Dispatch what the leader says."""
        if not well_formed(body, FRAMED):
            return
        if not self.standing.serves:
            # A long history may take longer than `init_ms` to arrive.
            self.out.set_timer("init", self.settings.init_ms)
        match body["type"]:
            case "propose":
                self.broadcast.on_propose(txns_of(body["txns"]))
            case "commit":
                self.broadcast.on_commit(Zxid(*body["zxid"]))
            case "forward_reply":
                self.clients.on_forward_reply(body)
            case "newepoch":
                self.discovery.on_newepoch(body["epoch"])
            case "snapshot" | "truncate" | "diff":
                self.synchronization.on_history(body)
            case "newleader":
                self.synchronization.on_newleader(body["epoch"])
            case "uptodate":
                self.synchronization.on_uptodate(Zxid(*body["zxid"]))
            case _:
                pass

    def on_message_of_follower(self, learner: Learner, body: Body) -> None:
        """Dispatch what a follower says."""
        if not well_formed(body, FRAMED):
            return
        match body["type"]:
            case "ack":
                self.broadcast.on_ack(learner, Zxid(*body["zxid"]))
            case "forward":
                self.clients.on_forward(learner, body)
            case "cepoch":
                self.discovery.on_cepoch(learner, body["accepted_epoch"])
            case "ack_epoch":
                self.discovery.on_ack_epoch(learner, body)
            case "ack_newleader":
                zxid = Zxid(*body["zxid"])
                self.synchronization.on_ack_newleader(learner, zxid)
            case _:
                pass

    def check_invariants(self) -> None:
        """Assert what holds after every step, whatever messages said."""
        disk, requests, standing = self.disk, self.requests, self.standing
        assert disk.accepted_epoch >= disk.current_epoch, "an epoch not accepted"
        delivered, last_zxid = self.delivery.delivered, disk.history.last_zxid
        assert delivered <= last_zxid, "delivered what it hasn't got"
        if standing.leads:
            assert standing.leader == self.out.node, "leads, but follows another"
        else:
            assert not requests.waiting, "requests wait without a leader"
            assert not requests.batch, "requests wait without a leader"
        if not standing.follows:
            assert not requests.forwarded, "passed on, but to whom?"

    # --- what others may see -----------------------------------------------------

    @override
    def status(self) -> dict[str, Any]:
        """This node's role, epochs and history; it leads or follows once it serves."""
        serves = self.standing.serves
        role = {LEADING: "leader", FOLLOWING: "follower"}.get(self.state)
        return {
            "role": role if serves and role else "looking",
            "term": self.current_epoch,
            "leader": self.leader if serves else None,
            "state": self.state,
            "phase": self.phase,
            "accepted_epoch": self.accepted_epoch,
            "last_zxid": self.history.last_zxid,
            "delivered": self.delivered,
        }

    def has_quorum(self, sign: Callable[[Learner], bool]) -> bool:
        """True when this node and the followers with that sign are a majority."""
        return self.sessions.has_quorum(sign)

    # --- the paper's variables, under their names ----------------------------------

    @property
    def accepted_epoch(self) -> int:
        """The last epoch promised (f.p)."""
        return self.disk.accepted_epoch

    @property
    def current_epoch(self) -> int:
        """The last epoch whose history was adopted (f.a)."""
        return self.disk.current_epoch

    @property
    def history(self) -> History:
        """The transactions accepted (h_f)."""
        return self.disk.history

    @property
    def delivered(self) -> Zxid:
        """The last transaction delivered."""
        return self.delivery.delivered

    @property
    def state(self) -> str:
        """LOOKING, FOLLOWING or LEADING."""
        return self.standing.state

    @property
    def phase(self) -> str:
        """ELECTION, DISCOVERY, SYNCHRONIZATION or BROADCAST."""
        return self.standing.phase

    @property
    def leader(self) -> str | None:
        """Whom this node follows, or itself."""
        return self.standing.leader

    @property
    def epoch(self) -> int:
        """The epoch that this node leads."""
        return self.standing.epoch

    @property
    def epoch_seen(self) -> int:
        """The latest epoch that anyone spoke of."""
        return self.discovery.epoch_seen

    @property
    def election(self) -> Election:
        """This node's ballot box."""
        return self.looking.election

    @property
    def learners(self) -> Mapping[str, Learner]:
        """The followers in a session with this leader."""
        return self.sessions.learners


def is_up_to_date(learner: Learner) -> bool:
    """True for a follower that was told to serve."""
    return learner.is_up_to_date
