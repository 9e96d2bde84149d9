"""One node of Zab: discovery, synchronization, broadcast, and the requests of clients.

Names are the papers' in Python's spelling: `accepted_epoch` (f.p in Junqueira, Reed and
Serafini 2011, section V: the last NEWEPOCH acknowledged), `current_epoch` (f.a: the
last NEWLEADER acknowledged), `history` (h_f). Steps are cited by their labels there:
l.1.1 is the leader's first in phase 1, f.2.1 a follower's first in phase 2.

What survives a crash: these three, through `Persist`, before any message that depends
on them leaves. All else is volatile; what was delivered is delivered again, from the
last snapshot on, once the node follows or leads again.

Choices:

- *The leader's own history* is the initial history of its epoch (l.1.2), as in
  ZooKeeper (Medeiros 2012, 4.2): election finds a node that is ahead of a quorum, and
  discovery makes sure. A leader that finds itself behind any follower gives up.
- *A leader that hears of a later epoch* than its own gives up too, and takes a later
  one still the next time. ZooKeeper leaves such a follower out until the leader dies.
- *Batches.* Requests wait until everything that has arrived was delivered (a timer of 0
  ms), then are proposed, sent and made durable together.
- *Sync is a broadcast.* ZooKeeper's leader answers a sync from what it has in hand, so
  that a leader which was deposed, and doesn't know yet, lets a stale read pass. Hunt et
  al. 2010, 4.4, propose a null transaction, unless others are pending. Here those that
  were proposed before the sync arrived don't count: their acknowledgements may be older
  than the sync, and older than the next leader. So a sync waits for a transaction of
  its own batch, the null transaction if there is no other.
- *Sessions.* A follower passes requests on in its session with the leader and so gets
  each answer after the COMMIT that it rests on: it reads what it wrote. When the
  session breaks, nobody here learns what became of them, and the clients are told so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from reference_impls.actor import (
    COUNT,
    CRASH,
    MS,
    MS_OR_NONE,
    TEMPORARILY_UNAVAILABLE,
    TIMEOUT,
    Body,
    Effect,
    Event,
    Now,
    OneOf,
    Option,
    Persist,
    Received,
    Record,
    TimerFired,
    Whole,
    error,
)
from reference_impls.core import Core, well_formed
from reference_impls.zab import service
from reference_impls.zab.channel import UNKNOWN, Channel
from reference_impls.zab.election import FOLLOWING, LEADING, LOOKING, Election, Tell
from reference_impls.zab.history import History
from reference_impls.zab.messages import (
    FRAMED,
    OPEN,
    ZERO,
    Txn,
    Vote,
    Zxid,
    txns_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SUMMARY = "Zab: primary-order broadcast, with a replicated key-value store"
FORMAT_VERSION = 1
"""Of the records in the log on disk."""

MOMENTS = (
    "new_epoch",
    "became_leader",
    "became_follower",
    "gave_up",
    "truncated",
    "delivered",
)
"""Events at which a fault may hurt most: something has begun, and isn't done yet."""

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

ELECTION = "election"
DISCOVERY = "discovery"
SYNCHRONIZATION = "synchronization"
BROADCAST = "broadcast"


@dataclass(eq=False)
class Learner:
    """What the leader knows of a follower, for as long as their session lasts.

    Attributes:
        name: The follower.
        channel: This end of the session.
        silent_ticks: How many ticks ago it was last heard. Ticks, as a clock that jumps
            would make it seem silent, or not.
        accepted_epoch: From its CEPOCH.
        end: How recent its history is, from its ACK-E: current epoch and last zxid.
        promised: Its ACK-E says that it accepted the new epoch from this leader.
        acked: The last zxid it acknowledged since it acknowledged NEWLEADER.
        is_fed: It was sent the history, and is sent all that follows.
        is_up_to_date: It was told to serve.
    """

    name: str
    channel: Channel
    silent_ticks: int = 0
    accepted_epoch: int | None = None
    end: tuple[int, Zxid] | None = None
    promised: bool = False
    acked: Zxid | None = None
    is_fed: bool = False
    is_up_to_date: bool = False


class Request(NamedTuple):
    """A request under way.

    Attributes:
        received: From a client, or the FORWARD of a follower.
        command: What it asks for.
        learner: The session in which it was passed on, if it was.
    """

    received: Received
    command: service.Command
    learner: Learner | None = None


class Zab(Core):
    """One node. The rules live in small methods, each with its source."""

    def __init__(
        self, node: str, peers: Sequence[str], options: Mapping[str, Any]
    ) -> None:
        super().__init__(node, peers)
        self.reads: str = options["reads"]
        self.tick_ms: float = options["tick_ms"]
        self.silence_ms_min: float = options["silence_ms_min"]
        self.silence_ms_max: float = options["silence_ms_max"]
        self.init_ms: float = options["init_ms"]
        self.finalize_ms: float = options["finalize_ms"]
        self.snapshot_txns: int = options["snapshot_txns"]
        self.txns_per_message_max: int = options["txns_per_message_max"]
        self.now = Now(0, 0)

        # persistent: on disk before any message that depends on it leaves
        self.accepted_epoch = 0
        self.current_epoch = 0
        self.history = History()

        # volatile
        self.state = LOOKING
        self.phase = ELECTION
        self.leader: str | None = None
        self.delivered = ZERO
        self.service = service.Service()
        self.election = Election(node, len(peers) + 1, self.vote_order)
        self.last_session = UNKNOWN
        self.epoch_seen = 0  # the latest that anyone spoke of

        # follower only: made anew with each leader
        self.channel = Channel(UNKNOWN)
        self.incoming: dict[str, Any] = {}  # the history to adopt at NEWLEADER
        self.forwarded: dict[int, Request] = {}
        self.last_forward_id = 0

        # leader only: made anew with each leadership
        self.epoch = 0  # 0: not yet chosen
        self.counter = 0
        self.learners: dict[str, Learner] = {}
        self.batch: list[Request] = []
        self.waiting: dict[Zxid, list[Request]] = {}

    # --- the actor -------------------------------------------------------------------

    def start(self, recovered: Sequence[Record]) -> list[Effect]:
        """Begin with an election and what the disk remembers."""
        for record in recovered:
            self.install(record)
        self.observe(
            "recovered",
            accepted_epoch=self.accepted_epoch,
            current_epoch=self.current_epoch,
            last_zxid=self.history.last_zxid,
            snapshot_zxid=self.history.base,
        )
        self.look_for_leader()
        return self.take_effects()

    def step(self, event: Event) -> list[Effect]:
        """React to one event."""
        self.now = event.now
        if isinstance(event, TimerFired):
            self.on_timer(event.name)
        elif event.src in self.peers:
            self.on_peer_message(event)
        else:
            self.on_request(event)
        self.check_invariants()
        return self.take_effects()

    def status(self) -> dict[str, Any]:
        """Where this node stands; it leads or follows once it serves."""
        serves = self.phase == BROADCAST
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

    def on_timer(self, name: str) -> None:
        """Dispatch a timer."""
        match name:
            case "notify":
                self.on_notify()
            case "finalize":
                self.on_finalize()
            case "tick":
                self.on_tick()
            case "batch":
                self.on_batch()
            case "init" if self.phase not in {ELECTION, BROADCAST}:
                self.give_up(f"came to no broadcast in {self.init_ms:g} ms")
            case "silence" if self.state == FOLLOWING:
                self.give_up(f"heard nothing from {self.leader}")
            case _:
                pass

    def on_peer_message(self, event: Received) -> None:
        """A vote at any time, or a frame of a session, once it makes sense."""
        if not well_formed(event.body, OPEN):
            return
        if event.body["type"] == "notification":
            self.on_notification(event.src, event.body)
        elif self.state == LEADING:
            self.on_frame_of_follower(event.src, event.body)
        elif self.state == FOLLOWING and event.src == self.leader:
            self.on_frame_of_leader(event.body)

    def check_invariants(self) -> None:
        """What holds after every step, whatever was said."""
        assert self.accepted_epoch >= self.current_epoch, "an epoch not accepted"
        assert self.delivered <= self.history.last_zxid, "delivered what it hasn't got"
        if self.state == LEADING:
            assert self.leader == self.node, "leads, but follows another"
        else:
            assert not self.waiting, "requests wait without a leader"
            assert not self.batch, "requests wait without a leader"
        if self.state != FOLLOWING:
            assert not self.forwarded, "passed on, but to whom?"

    # --- phase 0: election (Medeiros 2012, 4.1) --------------------------------------

    def look_for_leader(self) -> None:
        """Vote for oneself and tell everyone."""
        self.state, self.phase, self.leader = LOOKING, ELECTION, None
        for timer in ("init", "silence", "tick"):
            self.cancel_timer(timer)
        own = Vote(self.current_epoch, self.history.last_zxid, self.node)
        self.election.begin(own)
        self.tell_vote_to_all()
        self.consider_votes()

    def vote_order(self, vote: Vote) -> tuple[Any, ...]:
        """The most recent history wins; the highest id if there are several."""
        return (*self.recency(vote.epoch, vote.zxid), vote.leader)

    def recency(self, epoch: int, zxid: Zxid) -> tuple[Any, ...]:
        """How recent a history is: by f.a, then by its last zxid (l.1.2)."""
        return (epoch, zxid)

    def notification(self) -> Body:
        """This node's vote."""
        election = self.election
        return {
            "type": "notification",
            "round": election.round,
            "state": self.state,
            "vote": election.vote,
        }

    def tell_vote_to_all(self) -> None:
        """Now, and again after a while, in case that it gets lost."""
        self.broadcast(self.notification())
        if self.peers:
            self.set_timer("notify", self.tick_ms, 2 * self.tick_ms)

    def on_notify(self) -> None:
        """The votes heard so far decide nothing yet: tell one's own once more."""
        if self.state == LOOKING:
            self.tell_vote_to_all()

    def on_notification(self, src: str, body: Body) -> None:
        """Count a vote; one who has found a leader tells those who look for one."""
        if self.state != LOOKING:
            if body["state"] == LOOKING:
                self.send(src, self.notification())
            return
        match self.election.hear(src, body):
            case Tell.ALL:
                self.cancel_timer("finalize")
                self.tell_vote_to_all()
            case Tell.SENDER:
                self.send(src, self.notification())
            case Tell.NOBODY:
                pass
        self.consider_votes()

    def consider_votes(self) -> None:
        """Has a leader been found? A quorum waits a little for a better vote."""
        serving = self.election.serving_leader()
        if serving is not None:
            self.follow(serving)
        elif self.election.is_unanimous():
            self.elect()
        elif self.election.has_quorum():
            self.set_timer("finalize", self.finalize_ms)

    def on_finalize(self) -> None:
        """No better vote came."""
        if self.state == LOOKING and self.election.has_quorum():
            self.elect()

    def elect(self) -> None:
        """Lead or follow, as the vote says."""
        leader = self.election.vote.leader
        if leader == self.node:
            self.lead()
        else:
            self.follow(leader)

    def give_up(self, why: str) -> None:
        """Leader and follower alike: start over with an election."""
        self.observe("gave_up", state=self.state, epoch=self.accepted_epoch, why=why)
        self.abandon_requests(why)
        self.learners.clear()
        self.look_for_leader()

    # --- sessions --------------------------------------------------------------------

    def new_session(self) -> int:
        """A number that was never used before, not in earlier lives either."""
        self.last_session = max(self.last_session + 1, self.now.mono_ns)
        return self.last_session

    def on_frame_of_leader(self, frame: Body) -> None:
        """Messages in the order in which the leader sent them; each a sign of life."""
        channel = self.channel
        if not channel.fits(frame):
            return
        self.set_timer("silence", self.silence_ms_min, self.silence_ms_max)
        for body in channel.receive(frame):
            if self.channel is channel and self.state == FOLLOWING:
                self.on_message_of_leader(body)

    def on_frame_of_follower(self, src: str, frame: Body) -> None:
        """The same from a follower, which may be a new one or a new session."""
        learner = self.learners.get(src)
        if learner is None or not learner.channel.fits(frame):
            known = learner.channel.theirs if learner else UNKNOWN
            if frame["receiver"] != UNKNOWN or frame["sender"] <= known:
                return
            channel = Channel(self.new_session(), frame["sender"])
            learner = self.learners[src] = Learner(src, channel)
        learner.silent_ticks = 0
        for body in learner.channel.receive(frame):
            if self.learners.get(src) is learner:
                self.on_message_of_follower(learner, body)

    def on_message_of_leader(self, body: Body) -> None:
        """Dispatch what the leader says."""
        if not well_formed(body, FRAMED):
            return
        if self.phase != BROADCAST:
            self.set_timer("init", self.init_ms)  # a long history may take its time
        match body["type"]:
            case "propose":
                self.on_propose(txns_of(body["txns"]))
            case "commit":
                self.on_commit(Zxid(*body["zxid"]))
            case "forward_reply":
                self.on_forward_reply(body)
            case "newepoch":
                self.on_newepoch(body["epoch"])
            case "snapshot" | "truncate" | "diff":
                self.on_history(body)
            case "newleader":
                self.on_newleader(body["epoch"])
            case "uptodate":
                self.on_uptodate(Zxid(*body["zxid"]))
            case _:
                pass

    def on_message_of_follower(self, learner: Learner, body: Body) -> None:
        """Dispatch what a follower says."""
        if not well_formed(body, FRAMED):
            return
        match body["type"]:
            case "ack":
                self.on_ack(learner, Zxid(*body["zxid"]))
            case "forward":
                self.on_forward(learner, body)
            case "cepoch":
                self.on_cepoch(learner, body["accepted_epoch"])
            case "ack_epoch":
                self.on_ack_epoch(learner, body)
            case "ack_newleader":
                self.on_ack_newleader(learner, Zxid(*body["zxid"]))
            case _:
                pass

    def on_tick(self) -> None:
        """Signs of life, what seems lost once more, and a look at who is there."""
        if self.state == LOOKING:
            return
        self.set_timer("tick", self.tick_ms)
        if self.state == FOLLOWING:
            assert self.leader is not None
            for frame in self.channel.tick():
                self.send(self.leader, frame)
            return
        for name, learner in list(self.learners.items()):
            learner.silent_ticks += 1
            if learner.silent_ticks * self.tick_ms > self.silence_ms_max:
                del self.learners[name]
            else:
                for frame in learner.channel.tick():
                    self.send(name, frame)
        if self.phase == BROADCAST and not self.has_quorum(lambda f: f.is_up_to_date):
            self.observe("lost_quorum", term=self.epoch)
            self.give_up("lost its quorum")

    def tell_leader(self, body: Body) -> None:
        """Say something in the session with the leader."""
        assert self.leader is not None
        self.send(self.leader, self.channel.frame(body))

    def tell(self, learner: Learner, body: Body) -> None:
        """Say something in the session with a follower."""
        self.send(learner.name, learner.channel.frame(body))

    # --- phase 1: discovery ----------------------------------------------------------

    def lead(self) -> None:
        """Be the prospective leader, until a quorum agrees or time is up."""
        self.state, self.phase, self.leader = LEADING, DISCOVERY, self.node
        self.epoch = 0
        self.learners = {}
        self.begin_phases()
        self.try_new_epoch()

    def follow(self, leader: str) -> None:
        """Tell the prospective leader the last epoch promised (f.1.1)."""
        self.state, self.phase, self.leader = FOLLOWING, DISCOVERY, leader
        self.channel = Channel(self.new_session())
        self.incoming = {}
        self.begin_phases()
        self.tell_leader({"type": "cepoch", "accepted_epoch": self.accepted_epoch})

    def begin_phases(self) -> None:
        """The election is over; what comes next has its time."""
        self.cancel_timer("notify")
        self.cancel_timer("finalize")
        self.set_timer("init", self.init_ms)
        if self.peers:
            self.set_timer("tick", self.tick_ms)

    def on_cepoch(self, learner: Learner, accepted_epoch: int) -> None:
        """A follower's last promise; one who comes late is told the epoch (l.3.3)."""
        learner.accepted_epoch = accepted_epoch
        self.epoch_seen = max(self.epoch_seen, accepted_epoch)
        if not self.epoch:
            self.try_new_epoch()
        elif accepted_epoch > self.epoch:
            self.give_up(f"{learner.name} promised epoch {accepted_epoch}")
        else:
            self.tell(learner, {"type": "newepoch", "epoch": self.epoch})

    def try_new_epoch(self) -> None:
        """With a quorum's CEPOCHs, choose an epoch later than all of them (l.1.1)."""
        if not self.has_quorum(lambda f: f.accepted_epoch is not None):
            return
        self.epoch = max(self.epoch_seen, self.accepted_epoch) + 1
        self.accept_epoch(self.epoch)
        for learner in self.learners.values():
            if learner.accepted_epoch is not None:
                self.tell(learner, {"type": "newepoch", "epoch": self.epoch})
        self.try_synchronization()

    def accept_epoch(self, epoch: int) -> None:
        """Promise to follow no leader of an earlier epoch; durable before it's told."""
        self.accepted_epoch = epoch
        self.epoch_seen = max(self.epoch_seen, epoch)
        self.persist_epochs()
        self.observe(
            "new_epoch",
            epoch=epoch,
            leader=self.leader,
            current_epoch=self.current_epoch,
            last_zxid=self.history.last_zxid,
        )

    def on_newepoch(self, epoch: int) -> None:
        """Promise, and tell how recent one's history is (f.1.2).

        A node promises an epoch once: when it had promised this one before, maybe to
        another leader, it follows, but its answer doesn't count.
        """
        if epoch < self.accepted_epoch:
            self.give_up(f"{self.leader} is of epoch {epoch}")
            return
        promised = epoch > self.accepted_epoch
        if promised:
            self.accept_epoch(epoch)
        self.tell_leader(
            {
                "type": "ack_epoch",
                "current_epoch": self.current_epoch,
                "zxid": self.history.last_zxid,
                "promised": promised,
            }
        )

    def on_ack_epoch(self, learner: Learner, body: Body) -> None:
        """A follower's promise and the end of its history (l.1.2, l.3.4)."""
        learner.end = (body["current_epoch"], Zxid(*body["zxid"]))
        learner.promised = body["promised"]
        if self.phase != DISCOVERY:
            self.synchronize(learner)
        elif self.recency(*learner.end) > self.own_recency():
            self.give_up(f"{learner.name} has a more recent history")
        else:
            self.try_synchronization()

    def own_recency(self) -> tuple[Any, ...]:
        """How recent this node's own history is."""
        return self.recency(self.current_epoch, self.history.last_zxid)

    # --- phase 2: synchronization ----------------------------------------------------

    def try_synchronization(self) -> None:
        """A quorum promised, and isn't ahead: this history begins the epoch (l.2.1)."""
        if not self.has_quorum(lambda f: f.promised):
            return
        self.phase = SYNCHRONIZATION
        began_from, self.current_epoch = self.current_epoch, self.epoch
        self.persist_epochs()
        self.observe(
            "synchronizing",
            term=self.epoch,
            promised=[f.name for f in self.learners.values() if f.promised],
            current_epoch=began_from,
            last_zxid=self.history.last_zxid,
        )
        for learner in self.learners.values():
            if learner.end is not None:
                self.synchronize(learner)
        self.try_broadcast()

    def synchronize(self, learner: Learner) -> None:
        """Bring a follower level (Medeiros 2012, 4.2), then ask it to agree (l.2.1).

        TRUNC drops what it has and this history lacks, DIFF brings what it lacks; one
        that is behind the oldest transaction kept here gets the state, SNAP.
        """
        assert learner.end is not None
        _, end = learner.end
        if end < self.history.base:
            common = self.delivered
            for part in [{}, *self.service.parts()]:
                self.tell(learner, {"type": "snapshot", "zxid": common, "part": part})
        else:
            common = self.history.last_up_to(end)
            if common != end:
                self.tell(learner, {"type": "truncate", "zxid": common})
        for txns in self.chunks(self.history.after(common)):
            self.tell(learner, {"type": "diff", "txns": txns})
        self.tell(learner, {"type": "newleader", "epoch": self.epoch})
        learner.is_fed = True

    def chunks(self, txns: list[Txn]) -> list[list[Txn]]:
        """As many at a time as one message may hold."""
        size = self.txns_per_message_max
        return [txns[i : i + size] for i in range(0, len(txns), size)]

    def on_history(self, body: Body) -> None:
        """Keep a piece of the leader's history until NEWLEADER comes."""
        match body["type"]:
            case "snapshot":
                parts = self.incoming.setdefault("parts", [])
                parts.append(body["part"])
                self.incoming["snapshot"] = body["zxid"]
            case "truncate":
                self.incoming["truncate"] = body["zxid"]
            case _:
                self.incoming.setdefault("txns", []).extend(body["txns"])

    def on_newleader(self, epoch: int) -> None:
        """Adopt the leader's history and its epoch, both or neither (f.2.1).

        One record, hence: an epoch without its history would win elections for a node
        that lacks what was delivered.
        """
        if epoch != self.accepted_epoch:
            self.give_up(f"{self.leader} leads epoch {epoch}")
            return
        adopted, self.incoming = self.incoming, {}
        self.install(adopted)
        self.current_epoch = epoch
        self.phase = SYNCHRONIZATION
        self.persist_epochs(**adopted)
        if "snapshot" in adopted:
            self.observe("snapshot_installed", zxid=self.history.base)
        zxid = self.history.last_zxid
        self.tell_leader({"type": "ack_newleader", "zxid": zxid})

    def on_ack_newleader(self, learner: Learner, zxid: Zxid) -> None:
        """A follower is level, and says so durably."""
        learner.acked = zxid
        if self.phase == SYNCHRONIZATION:
            self.try_broadcast()
        else:
            self.bring_up_to_date(learner)
            self.advance_commit()

    def may_broadcast(self) -> bool:
        """A quorum acknowledged NEWLEADER (l.2.2)."""
        return self.has_quorum(lambda f: f.acked is not None)

    def try_broadcast(self) -> None:
        """Lead: this history is committed, and new transactions may follow."""
        if not self.may_broadcast():
            return
        self.phase = BROADCAST
        self.counter = 0
        self.cancel_timer("init")
        zxid = self.history.last_zxid
        self.deliver_up_to(zxid)
        acked = [f.name for f in self.learners.values() if f.acked is not None]
        self.observe("became_leader", term=self.epoch, last_zxid=zxid, acked=acked)
        for learner in self.learners.values():
            if learner.acked is not None:
                self.bring_up_to_date(learner)

    def bring_up_to_date(self, learner: Learner) -> None:
        """Let a follower deliver what is committed, and serve."""
        learner.is_up_to_date = True
        self.tell(learner, {"type": "uptodate", "zxid": self.delivered})

    def on_uptodate(self, zxid: Zxid) -> None:
        """The leader leads: deliver its history (f.2.2) and serve."""
        self.phase = BROADCAST
        self.cancel_timer("init")
        self.observe("became_follower", term=self.current_epoch, leader=self.leader)
        self.deliver_up_to(zxid)

    # --- phase 3: broadcast ----------------------------------------------------------

    def propose(self, request: Request) -> None:
        """Put a request into the batch that is proposed next."""
        self.batch.append(request)
        self.set_timer("batch", 0)

    def on_batch(self) -> None:
        """All that had arrived is here: give it zxids and propose it (l.3.1)."""
        batch, self.batch = self.batch, []
        txns: list[Txn] = []
        syncs: list[Request] = []
        for request in batch:
            if service.changes_nothing(request.command):
                syncs.append(request)
            else:
                txns.append(self.next_txn(request.command))
                self.waiting[txns[-1].zxid] = [request]
        if syncs and not txns:
            txns.append(self.next_txn(service.NULL))
        if syncs:
            self.waiting.setdefault(txns[-1].zxid, []).extend(syncs)
        if txns:
            self.broadcast_txns(txns)

    def next_txn(self, command: service.Command) -> Txn:
        """The next transaction of this epoch."""
        self.counter += 1
        return Txn(self.epoch, self.counter, command)

    def broadcast_txns(self, txns: list[Txn]) -> None:
        """Accept the transactions and send them to all who have the history.

        The sends come before the `Persist`, so the followers' disks work in parallel
        with this one. This node counts itself at once, which is safe because whatever
        follows from that comes after the `Persist`.
        """
        self.history.extend(txns)
        for chunk in self.chunks(txns):
            for learner in self.learners.values():
                if learner.is_fed:
                    self.tell(learner, {"type": "propose", "txns": chunk})
        self.persist({"txns": txns})
        self.advance_commit()

    def on_propose(self, txns: list[Txn]) -> None:
        """Accept in the order of arrival, and acknowledge once durable (f.3.1)."""
        self.history.extend(txns)
        self.persist({"txns": txns})
        self.tell_leader({"type": "ack", "zxid": self.history.last_zxid})

    def on_ack(self, learner: Learner, zxid: Zxid) -> None:
        """An acknowledgement covers everything before it: channels are FIFO."""
        if learner.acked is not None and zxid > learner.acked:
            learner.acked = zxid
            self.advance_commit()

    def advance_commit(self) -> None:
        """Commit what a quorum acknowledged, in the order of zxids (l.3.2)."""
        zxid = self.quorum_acked()
        if zxid <= self.delivered:
            return
        for learner in self.learners.values():
            if learner.is_up_to_date:
                self.tell(learner, {"type": "commit", "zxid": zxid})
        self.deliver_up_to(zxid)

    def quorum_acked(self) -> Zxid:
        """The last zxid that a majority holds, this node included."""
        acked = [learner.acked or ZERO for learner in self.learners.values()]
        acked += [ZERO] * (len(self.peers) - len(acked)) + [self.history.last_zxid]
        acked.sort(reverse=True)
        return acked[len(acked) // 2]

    def on_commit(self, zxid: Zxid) -> None:
        """Deliver, once all that comes before is delivered (f.3.2)."""
        if self.phase == BROADCAST:
            self.deliver_up_to(zxid)

    def deliver_up_to(self, zxid: Zxid) -> None:
        """Deliver everything up to `zxid`."""
        txns = self.deliverable(zxid)
        self.delivered = max(self.delivered, zxid)
        for txn in txns:
            self.deliver(txn)
        self.compact()

    def deliverable(self, zxid: Zxid) -> list[Txn]:
        """What is committed up to `zxid` and not delivered yet, in order."""
        return self.history.between(self.delivered, zxid)

    def deliver(self, txn: Txn) -> None:
        """Hand a transaction to the service, and answer whoever waits for it."""
        reply = self.service.apply(*txn)
        what = "message" if txn.command["type"] == "broadcast" else "command"
        self.observe(
            "delivered",
            epoch=txn.epoch,
            counter=txn.counter,
            **{what: txn.command.get("message", txn.command)},
        )
        for request in self.waiting.pop(txn.zxid, ()):
            if service.changes_nothing(request.command):
                reply = self.service.answer(request.command)
            self.answer(request, reply)

    def has_quorum(self, sign: Callable[[Learner], bool]) -> bool:
        """True when this node and the followers with that sign are a majority."""
        return self.is_quorum(
            {self.node, *(f.name for f in self.learners.values() if sign(f))}
        )

    # --- requests --------------------------------------------------------------------

    def on_request(self, received: Received) -> None:
        """A client's request: check it, then serve it or pass it on."""
        command, flaw = service.parse(received.body)
        if command is None:
            assert flaw is not None
            self.reply(received, flaw)
            return
        request = Request(received, command)
        if self.phase != BROADCAST:
            self.refuse(request, "no leader serves yet")
        elif self.is_local(command):
            self.answer(request, self.service.answer(command))
        elif self.state == LEADING:
            self.propose(request)
        else:
            self.forward(request)

    def is_local(self, command: service.Command) -> bool:
        """May any node answer this from its own state?"""
        if command["type"] == "delivered":
            return True
        is_read = service.changes_nothing(command) and command["type"] != "sync"
        return is_read and self.reads == "local"

    def forward(self, request: Request) -> None:
        """Pass a write on to the leader; for a read, pass a sync and read here then."""
        self.last_forward_id += 1
        self.forwarded[self.last_forward_id] = request
        command = request.command
        if service.changes_nothing(command):
            command = {"type": "sync"}
        self.tell_leader(
            {"type": "forward", "id": self.last_forward_id, "request": command}
        )

    def on_forward(self, learner: Learner, body: Body) -> None:
        """A request that a follower passed on; its session brings it exactly once."""
        received = Received(learner.name, body, self.now)
        command, flaw = service.parse(body["request"])
        if command is None:
            assert flaw is not None
            self.answer(Request(received, {}, learner), flaw)
        elif self.phase == BROADCAST:
            self.propose(Request(received, command, learner))
        else:
            self.refuse(Request(received, command, learner), "does not serve yet")

    def on_forward_reply(self, body: Body) -> None:
        """The leader's answer; what it rests on has been delivered here before."""
        request = self.forwarded.pop(body["id"], None)
        if request is None:
            return
        reply = body["reply"]
        if reply.get("type") == "sync_ok":
            reply = self.service.answer(request.command)
        self.answer(request, reply)

    def answer(self, request: Request, reply: Body) -> None:
        """Answer a client, or the follower that passed the request on."""
        learner = request.learner
        if learner is None:
            self.reply(request.received, reply)
        elif self.learners.get(learner.name) is learner:
            body = request.received.body
            self.tell(
                learner, {"type": "forward_reply", "id": body["id"], "reply": reply}
            )

    def refuse(self, request: Request, why: str) -> None:
        """Answer that the request certainly has no effect."""
        text = f"{self.node}: {why}"
        self.answer(request, error(TEMPORARILY_UNAVAILABLE, text))

    def abandon_requests(self, why: str) -> None:
        """Answer all that are under way, before this node stops leading or following.

        Only what was proposed or passed on, and isn't a read, may yet take effect.
        """
        for request in self.batch:
            self.refuse(request, f"{why}; the request was not proposed")
        proposed = [r for requests in self.waiting.values() for r in requests]
        for request, code, how in (
            *((r, CRASH, "proposed") for r in proposed),
            *((r, TIMEOUT, "passed on") for r in self.forwarded.values()),
        ):
            if service.changes_nothing(request.command):
                self.refuse(request, why)
            else:
                text = f"{self.node}: {how}, but {why}"
                self.answer(request, error(code, text))
        self.batch = []
        self.waiting = {}
        self.forwarded = {}

    # --- the disk --------------------------------------------------------------------

    def persist_epochs(self, *, replaces: bool = False, **history: Any) -> None:
        """Both epochs, and what changes of the history with them."""
        epochs = {
            "accepted_epoch": self.accepted_epoch,
            "current_epoch": self.current_epoch,
        }
        self.effects.append(Persist({**epochs, **history}, replaces))

    def compact(self) -> None:
        """Put a snapshot in place of what was delivered, once there is much of it.

        The later half stays in memory, to bring followers level that missed a little.
        """
        count = self.history.count_up_to(self.delivered)
        if not self.snapshot_txns or count < 2 * self.snapshot_txns:
            return
        self.persist_epochs(
            replaces=True,
            snapshot=self.delivered,
            parts=[*self.service.parts()],
            txns=self.history.after(self.delivered),
        )
        self.history.forget(self.history.txns[count - self.snapshot_txns - 1].zxid)

    def install(self, record: Record) -> None:
        """Take back what was persisted, or take over what the leader sent."""
        self.accepted_epoch = record.get("accepted_epoch", self.accepted_epoch)
        self.current_epoch = record.get("current_epoch", self.current_epoch)
        if "snapshot" in record:
            self.install_snapshot(Zxid(*record["snapshot"]), record["parts"])
        if "truncate" in record:
            self.truncate(Zxid(*record["truncate"]))
        self.history.extend(txns_of(record.get("txns", ())))

    def install_snapshot(self, zxid: Zxid, parts: Sequence[Mapping[str, Any]]) -> None:
        """Put the state up to `zxid` in place of everything."""
        self.history.begin_at(zxid)
        self.delivered = zxid
        self.service = service.Service()
        for part in parts:
            self.service.add_part(part)

    def truncate(self, zxid: Zxid) -> None:
        """Drop what the leader's history lacks; what is delivered never goes."""
        assert zxid >= self.delivered, (
            f"the leader lacks what follows {zxid}, but up to {self.delivered} is "
            "delivered"
        )
        lost = self.history.truncate(zxid)
        if lost:
            first, last = lost[0].zxid, lost[-1].zxid
            self.observe("truncated", first=first, last=last)


def build(
    node: str,
    peers: Sequence[str],
    options: Mapping[str, Any],
    core: type[Zab] | None = None,
) -> Zab:
    """A node called `node`; `options` are complete, see OPTIONS.

    Args:
        node: Its name.
        peers: The others.
        options: A value for each of OPTIONS.
        core: What to build in place of `Zab`: a mutant.

    Raises:
        ValueError: Options that make no sense together.
    """
    zab = (core or Zab)(node, peers, options)
    if zab.silence_ms_min > zab.silence_ms_max:
        raise ValueError("silence_ms_min is above silence_ms_max")
    if zab.tick_ms >= zab.silence_ms_min:
        raise ValueError("tick_ms must be below silence_ms_min")
    return zab
