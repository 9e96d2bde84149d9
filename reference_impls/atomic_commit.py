"""What the atomic commit protocols share: the service, the votes, and the aftermath.

After Bernstein, Hadzilacos and Goodman 1987 ("BHG"), chapter 7. A protocol for atomic
commit must see to it that (7.2)

    AC1  all processes that reach a decision reach the same one,
    AC2  a process cannot reverse its decision after it has reached one,
    AC3  commit can only be reached if all processes voted yes,
    AC4  if there are no failures and all processes voted yes, it is to commit,
    AC5  if all failures are repaired and no new ones occur for long enough, then all
         processes will eventually reach a decision.

Here are the parts on which two-phase and three-phase commit agree:

- *Service.* Any node coordinates the transactions whose clients ask it. The
  participants are the owners of the keys (`shards`), and the coordinator may be one.
- *Voting.* The coordinator asks for votes. A participant gets its locks, does its part,
  makes that durable and votes yes; or it votes no, and has thereby decided. Until it
  has voted yes, a participant may abort on its own.
- *Aftermath.* The decision is durable at the coordinator before anyone hears of it, and
  is repeated until every participant has acknowledged it, through crashes of either. A
  participant makes it durable, keeps or undoes what it wrote, and lets its locks go.

What happens between the votes and the decision, and when no decision arrives, is up to
each protocol: `on_all_yes`, `on_decision_timeout`, `on_inquire`, `on_resume`.

What survives a crash: votes with the operations voted on, decisions, and of which
transactions a node is the coordinator. Locks of a prepared transaction are taken back
before anything else happens.

Choices:

- *Start records.* The coordinator notes that a transaction begins (BHG's start-2PC)
  after it has asked for votes, so that its disk works while the participants do. A
  crash in between loses the note, which the protocols take into account.
- *Ages* for wait-die are Lamport clocks, with the transaction's id to tell equals
  apart. A transaction that died isn't tried again here: its client may.
- *Nothing is forgotten.* A node remembers every transaction that it had part in, since
  `decisions` asks for all of them in the end.
- *Oneself as a participant.* A node's messages to itself take no detour over the
  network, but are handled like any other. As records become durable in order, what is
  decided on such a message is never durable before what the message says.
- *What a client is told.* Aborted for a participant's own reason, 14; for a conflict
  with another transaction, 30. Both are definite.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reference_impls import kv, shards, transactions
from reference_impls.actor import (
    ABORT as ABORTED,
)
from reference_impls.actor import (
    MALFORMED_REQUEST,
    MS,
    NOT_SUPPORTED,
    Body,
    Effect,
    Event,
    OneOf,
    Option,
    Received,
    Record,
    TimerFired,
    error,
)
from reference_impls.core import Core, Fields, is_count, is_text, well_formed
from reference_impls.override import override

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reference_impls.transactions import MicroOp

CONFLICT = 30
"""Maelstrom's txn-conflict: aborted because of another transaction."""

FORMAT_VERSION = 1
"""Version of the records in the log on disk."""

MOMENTS = ("voted", "decided", "in_doubt")
"""Events at which a fault may hurt most: something has begun, and isn't done yet."""

COMMIT = "commit"
ABORT = "abort"
YES = "yes"
NO = "no"

PREPARED = "prepared"
UNCERTAIN = "uncertain"
UNDECIDED = "undecided"

COORDINATOR = "coordinator"
PARTICIPANT = "participant"

ID_CHARS_MAX = 200


def options(
    vote_timeout_ms: str, lock_timeout_ms: str, decision_timeout_ms: str
) -> tuple[Option, ...]:
    """The options that both protocols have, with these defaults."""
    return (
        Option(
            "vote_timeout_ms",
            vote_timeout_ms,
            "how long a coordinator waits for votes before it aborts",
            MS,
        ),
        Option(
            "lock_timeout_ms",
            lock_timeout_ms,
            "how long a participant waits for locks before it votes no",
            MS,
        ),
        Option(
            "decision_timeout_ms",
            decision_timeout_ms,
            "how long a participant that voted yes waits before it acts on silence",
            MS,
        ),
        Option("inquiry_ms", "200", "how often a participant in doubt asks again", MS),
        Option(
            "retry_ms",
            "200",
            "how often a decision is repeated until acknowledged",
            MS,
        ),
        Option(
            "deadlock",
            shards.WAIT_DIE,
            "what is done against deadlock: wait_die (a younger transaction never "
            "waits for an older one) or timeout (whoever waits too long is aborted)",
            OneOf(shards.WAIT_DIE, shards.TIMEOUT),
        ),
    )


def is_id(value: Any) -> bool:
    """True for a possible name of a transaction."""
    return isinstance(value, str) and 0 < len(value) <= ID_CHARS_MAX


def is_names(value: Any) -> bool:
    """True for a list of strings."""
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def is_txn(value: Any) -> bool:
    """True for a list of micro-operations."""
    return not transactions.malformed(value)


MESSAGES: Mapping[str, Fields] = {
    "vote_request": {
        "id": is_id,
        "participants": is_names,
        "stamp": is_count,
        "txn": is_txn,
    },
    "vote": {
        "id": is_id,
        "vote": (YES, NO).__contains__,
        "results": lambda value: isinstance(value, list),
        "code": is_count,
        "text": is_text,
    },
    "decision": {
        "id": is_id,
        "coordinator": is_text,
        "decision": (COMMIT, ABORT).__contains__,
    },
    "ack": {"id": is_id},
    "inquire": {"id": is_id, "coordinator": is_text, "participants": is_names},
}
"""The messages that both protocols have: type -> field -> its check."""


@dataclass(slots=True)
class Coordinated:
    """A transaction that this node coordinates.

    Attributes:
        stamp: The transaction's age.
        txn: The whole transaction; empty once decided.
        request: The client's request, until it is answered.
        decision: COMMIT, ABORT, or None while there is none.
        results: Participant -> its results, once it voted yes.
        waited_ms: How long the transaction has been waiting for votes.
        unacknowledged: Participants that have not confirmed the decision.
    """

    id: str
    participants: tuple[str, ...]
    stamp: int = 0
    txn: list[MicroOp] = field(default_factory=list)
    request: Received | None = None
    decision: str | None = None
    results: dict[str, list[MicroOp]] = field(default_factory=dict)
    waited_ms: float = 0.0
    unacknowledged: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Part:
    """This node's part in a transaction, as a participant.

    Attributes:
        stamp: The transaction's age.
        txn: This node's part of the transaction; empty once decided.
        vote: YES, NO, or None as long as it hasn't voted.
        decision: COMMIT, ABORT, or None while it knows of none.
        results: The results of its operations, once it voted yes.
        since_ns: When it voted, on this node's monotonic clock; after a crash, when
            it came back.
        in_doubt: Whether it has been waiting for a decision for too long.
    """

    id: str
    coordinator: str
    participants: tuple[str, ...] = ()
    stamp: int = 0
    txn: list[MicroOp] = field(default_factory=list)
    vote: str | None = None
    decision: str | None = None
    results: list[MicroOp] = field(default_factory=list)
    since_ns: int = 0
    in_doubt: bool = False


class AtomicCommit(Core):
    """One node: coordinator of some transactions, participant in some."""

    messages: Mapping[str, Fields] = MESSAGES

    def __init__(
        self, node: str, peers: Sequence[str], options: Mapping[str, Any]
    ) -> None:
        super().__init__(node, peers)
        self.vote_timeout_ms: float = options["vote_timeout_ms"]
        self.lock_timeout_ms: float = options["lock_timeout_ms"]
        self.decision_timeout_ms: float = options["decision_timeout_ms"]
        self.inquiry_ms: float = options["inquiry_ms"]
        self.retry_ms: float = options["retry_ms"]

        # persistent: on disk before any message that depends on it leaves
        self.life = 0  # how often this node has started
        self.coordinated: dict[str, Coordinated] = {}
        self.parts: dict[str, Part] = {}
        self.shard = shards.Shard(options["deadlock"])

        # volatile, or rebuilt from what is persistent
        self.known: dict[str, None] = {}  # every transaction, in order of appearance
        self.open_parts: dict[str, Part] = {}  # not decided
        self.untold: dict[str, Coordinated] = {}  # decided, not acknowledged by all
        self.retrying = False
        self.clock = 0  # Lamport's
        self.ids_made = 0
        self.now_ns = 0  # of the event at hand
        self.to_self: deque[Body] = deque()

    # --- the actor ---------------------------------------------------------------

    @override
    def start(self, recovered: Sequence[Record]) -> list[Effect]:
        """Begin with what the disk remembers."""
        for record in recovered:
            self.recover(record)
        self.life += 1
        self.persist({"record": "life", "life": self.life})
        if recovered:
            self.set_timer("resume", 0)
        return self.take_effects()

    @override
    def step(self, event: Event) -> list[Effect]:
        self.now_ns = event.now.mono_ns
        if isinstance(event, TimerFired):
            name, _, transaction = event.name.partition(" ")
            self.on_timer(name, transaction)
        elif event.src in self.peers:
            self.on_message(event.src, event.body)
        else:
            self.on_request(event)
        while self.to_self:
            self.on_message(self.node, self.to_self.popleft())
        return self.take_effects()

    @override
    def status(self) -> dict[str, Any]:
        """This node's role, which is the same for all, and its unfinished work."""
        open_parts = self.open_parts.values()
        return {
            "role": "peer",
            "term": 0,
            "leader": None,
            "undecided": len(self.open_parts),
            "in_doubt": sum(part.in_doubt for part in open_parts),
            "unacknowledged": len(self.untold),
        }

    def on_timer(self, name: str, transaction: str) -> None:
        """Dispatch a timer; most are for one transaction."""
        coordinated = self.coordinated.get(transaction)
        part = self.open_parts.get(transaction)
        match name:
            case "votes" if coordinated is not None and coordinated.decision is None:
                self.on_votes_missing(coordinated)
            case "locks" if part is not None and part.vote is None:
                self.vote_no(part, CONFLICT, "waited too long for locks")
            case "decision" if part is not None and part.vote == YES:
                self.on_decision_timeout(part)
            case "retry":
                self.on_retry()
            case "resume":
                self.on_resume()
            case _:
                pass

    def on_message(self, src: str, body: Body) -> None:
        """Handle a message of a peer or of this node itself, if it is well formed."""
        if well_formed(body, self.messages):
            self.handle(src, body)

    def handle(self, src: str, body: Body) -> None:
        """Dispatch a well-formed message."""
        match body["type"]:
            case "vote_request":
                self.on_vote_request(src, body)
            case "vote":
                self.on_vote(src, body)
            case "decision":
                self.on_decision(src, body)
            case "ack":
                self.on_ack(src, body)
            case "inquire":
                self.on_inquire(src, body)
            case _:
                pass

    @override
    def send(self, dest: str, body: Body) -> None:
        """Send to a peer, or to oneself."""
        if dest == self.node:
            self.to_self.append(body)
        else:
            super().send(dest, body)

    # --- each protocol's own -----------------------------------------------------

    def on_all_yes(self, coordinated: Coordinated) -> None:
        """Go on after all participants voted yes."""
        raise NotImplementedError

    def on_decision_timeout(self, part: Part) -> None:
        """Act for a participant that voted yes and has heard nothing for too long."""
        raise NotImplementedError

    def on_inquire(self, src: str, body: Body) -> None:
        """Answer a participant in doubt, or a coordinator back from a crash."""
        raise NotImplementedError

    def on_vote_for_unknown(self, src: str, body: Body) -> None:
        """Handle a vote for a transaction that this node doesn't know."""
        raise NotImplementedError

    def on_resume(self) -> None:
        """Go on after a crash: repeat what was decided, deal with what was not."""
        self.on_retry()

    # --- requests ----------------------------------------------------------------

    def on_request(self, request: Received) -> None:
        """Dispatch a client's request."""
        match request.body.get("type"):
            case "txn":
                self.on_txn(request)
            case "decisions":
                self.on_decisions(request)
            case kind:
                text = f"no operation {kv.shorten(kind)}"
                self.reply(request, error(NOT_SUPPORTED, text))

    def on_txn(self, request: Received) -> None:
        """Coordinate a transaction, under a name that nobody has used."""
        command, flaw = kv.parse(request.body)
        if command is None:
            assert flaw is not None
            self.reply(request, flaw)
            return
        transaction = request.body["id"] if "id" in request.body else self.make_id()
        if not is_id(transaction):
            text = f"an id is a string of at most {ID_CHARS_MAX} characters"
            self.reply(request, error(MALFORMED_REQUEST, text))
        elif transaction in self.known:
            text = f"id {transaction!r} has been used before"
            self.reply(request, error(MALFORMED_REQUEST, text))
        else:
            self.coordinate(transaction, command["txn"], request)

    def make_id(self) -> str:
        """A new name; the number of this life keeps it from earlier ones' names."""
        self.ids_made += 1
        return f"{self.node}.{self.life}.{self.ids_made}"

    def on_decisions(self, request: Received) -> None:
        """This node's account of all transactions, or of `count` after `from`."""
        first, count = request.body.get("from", 0), request.body.get("count")
        if not is_count(first) or not (count is None or is_count(count)):
            text = "from and count are whole numbers from 0 up"
            self.reply(request, error(MALFORMED_REQUEST, text))
            return
        last = len(self.known) if count is None else first + count
        names = list(self.known)[first:last]
        account = {"more": last < len(self.known), **self.account(names)}
        self.reply(request, {"type": "decisions_ok", **account})

    def account(self, names: Sequence[str]) -> dict[str, Any]:
        """The states, votes and decisions of these transactions on this node."""
        parts = [self.parts[name] for name in names if name in self.parts]
        led = [self.coordinated[name] for name in names if name in self.coordinated]
        return {
            "decisions": {part.id: self.state(part) for part in parts},
            "votes": {part.id: part.vote for part in parts if part.vote is not None},
            "coordinated": {each.id: each.decision or UNDECIDED for each in led},
        }

    def state(self, part: Part) -> str:
        """A participant's state, in a word."""
        if part.decision is not None:
            return part.decision
        return UNCERTAIN if part.vote is None else PREPARED

    # --- voting: the coordinator -------------------------------------------------

    def coordinate(
        self, transaction: str, txn: list[MicroOp], request: Received
    ) -> None:
        """Ask the participants for their votes (BHG 7.4, step 1)."""
        self.clock += 1
        participants = tuple(sorted(shards.split(txn, self.servers)))
        coordinated = Coordinated(transaction, participants, self.clock, txn, request)
        self.remember_coordinated(coordinated)
        self.ask_for_votes(coordinated)
        self.persist_begin(coordinated)

    def ask_for_votes(self, coordinated: Coordinated) -> None:
        """Ask those that haven't voted yes, again and again, as messages get lost."""
        for participant, part in shards.split(coordinated.txn, self.servers).items():
            if participant in coordinated.results:
                continue
            body = {
                "type": "vote_request",
                "id": coordinated.id,
                "participants": list(coordinated.participants),
                "stamp": coordinated.stamp,
                "txn": part,
            }
            self.send(participant, body)
        left_ms = self.vote_timeout_ms - coordinated.waited_ms
        wait_ms = min(self.retry_ms, left_ms)
        coordinated.waited_ms += wait_ms
        self.set_timer(f"votes {coordinated.id}", wait_ms)

    def on_vote(self, src: str, body: Body) -> None:
        """Count the votes (BHG 7.4, step 3)."""
        coordinated = self.coordinated.get(body["id"])
        if coordinated is None:
            self.on_vote_for_unknown(src, body)
        elif coordinated.decision is not None:
            return  # the decision is on its way, again and again if need be
        elif body["vote"] == NO:
            text = f"{src} voted no: {body['text']}"
            self.decide(coordinated, ABORT, self.node, error(body["code"], text))
        elif src in coordinated.participants:
            self.count_yes(coordinated, src, body)

    def count_yes(self, coordinated: Coordinated, src: str, body: Body) -> None:
        """Count a yes; act on the last one."""
        if src in coordinated.results:
            return
        coordinated.results[src] = body["results"]
        if self.may_commit(coordinated):
            self.cancel_timer(f"votes {coordinated.id}")
            self.on_all_yes(coordinated)

    def may_commit(self, coordinated: Coordinated) -> bool:
        """True if all participants voted yes (AC3)."""
        return len(coordinated.results) == len(coordinated.participants)

    def on_votes_missing(self, coordinated: Coordinated) -> None:
        """Ask again; abort after `vote_timeout_ms` (BHG 7.4, timeout actions)."""
        if coordinated.waited_ms < self.vote_timeout_ms:
            self.ask_for_votes(coordinated)
            return
        missing = set(coordinated.participants) - coordinated.results.keys()
        text = f"no vote from {', '.join(sorted(missing))} in {self.vote_timeout_ms} ms"
        self.decide(coordinated, ABORT, self.node, error(ABORTED, text))

    # --- voting: the participant -------------------------------------------------

    def on_vote_request(self, src: str, body: Body) -> None:
        """Get the locks, then vote (BHG 7.4, step 2)."""
        self.clock = max(self.clock, body["stamp"])
        part = self.parts.get(body["id"])
        if self.node not in body["participants"]:
            return
        if part is None:
            self.take_part(src, body)
        elif part.coordinator != src:
            text = f"{self.node} knows that id from {part.coordinator}"
            self.send_vote(src, body["id"], NO, code=ABORTED, text=text)
        elif part.vote == YES:
            self.send_vote(src, part.id, YES, part.results)
        elif part.decision is not None:
            self.send_vote(src, part.id, NO, code=ABORTED, text="aborted before")

    def take_part(self, src: str, body: Body) -> None:
        """Ask for the locks of a transaction that is new here, and vote accordingly."""
        part = Part(
            body["id"], src, tuple(body["participants"]), body["stamp"], body["txn"]
        )
        self.remember_part(part)
        match self.shard.lock(part.id, part.stamp, part.txn):
            case shards.HELD:
                self.vote(part)
            case shards.WAITS:
                self.set_timer(f"locks {part.id}", self.lock_timeout_ms)
            case _:
                text = "an older transaction holds or awaits a lock"
                self.vote_no(part, CONFLICT, text)

    def vote(self, part: Part) -> None:
        """Do the part, whose locks are held now, and vote yes if that was possible."""
        self.cancel_timer(f"locks {part.id}")
        try:
            part.results = self.shard.prepare(part.id, part.txn)
        except transactions.AbortError as why:
            self.vote_no(part, ABORTED, str(why))
            return
        part.vote = YES
        part.since_ns = self.now_ns
        self.persist_vote(part)
        self.observe("voted", id=part.id, vote=YES)
        self.send_vote(part.coordinator, part.id, YES, part.results)
        self.set_timer(f"decision {part.id}", self.patience_ms(part))
        self.after_yes(part)

    def after_yes(self, part: Part) -> None:
        """Do nothing: strict two-phase locking keeps all locks until the decision."""

    def patience_ms(self, part: Part) -> float:
        """How long a participant that voted yes waits before it acts on silence."""
        return self.decision_timeout_ms

    def vote_no(self, part: Part, code: int, text: str) -> None:
        """Vote no, and thereby decide: no other outcome is possible (AC3)."""
        part.vote = NO
        self.cancel_timer(f"locks {part.id}")
        self.persist_vote(part)
        self.observe("voted", id=part.id, vote=NO)
        self.send_vote(part.coordinator, part.id, NO, code=code, text=text)
        self.settle(part, ABORT)
        self.observe_decided(part, self.node)
        self.free_locks(part)

    def send_vote(
        self,
        dest: str,
        transaction: str,
        vote: str,
        results: Sequence[MicroOp] = (),
        code: int = 0,
        text: str = "",
    ) -> None:
        """Send a vote to the coordinator; a no carries its reason."""
        body = {
            "type": "vote",
            "id": transaction,
            "vote": vote,
            "results": list(results),
            "code": code,
            "text": text,
        }
        self.send(dest, body)

    # --- the decision: the coordinator -------------------------------------------

    def decide(
        self,
        coordinated: Coordinated,
        decision: str,
        by: str,
        reply: Body | None = None,
    ) -> None:
        """Decide, make it durable, answer the client, tell the participants.

        Args:
            coordinated: The transaction, which must be undecided.
            decision: COMMIT or ABORT.
            by: The node that made the decision.
            reply: What the client is told of an abort.
        """
        assert coordinated.decision is None, "a decision is never reversed (AC2)"
        coordinated.decision = decision
        self.cancel_timer(f"votes {coordinated.id}")
        self.persist_decision(coordinated)
        self.observe(
            "decided",
            id=coordinated.id,
            decision=decision,
            by=by,
            role=COORDINATOR,
        )
        if decision == COMMIT:
            reply = self.txn_ok(coordinated)
        self.answer(coordinated, reply or error(ABORTED, f"aborted by {by}"))
        coordinated.txn, coordinated.results = [], {}
        coordinated.unacknowledged = set(coordinated.participants)
        self.untold[coordinated.id] = coordinated
        self.tell_all(coordinated)

    def txn_ok(self, coordinated: Coordinated) -> Body:
        """The answer to a transaction that is committed."""
        txn = shards.merge(coordinated.txn, coordinated.results, self.servers)
        return {"type": "txn_ok", "txn": txn}

    def answer(self, coordinated: Coordinated, reply: Body) -> None:
        """Answer the client, once, if this life of the node has its request."""
        request, coordinated.request = coordinated.request, None
        if request is not None:
            self.reply(request, reply)

    def tell_all(self, coordinated: Coordinated) -> None:
        """Send the decision to those that have not acknowledged it, now and later."""
        for participant in sorted(coordinated.unacknowledged):
            self.tell(coordinated, participant)
        if not self.retrying:
            self.retrying = True
            self.set_timer("retry", self.retry_ms)

    def tell(self, coordinated: Coordinated, dest: str) -> None:
        """Send the decision to one participant, or to a node that asked."""
        assert coordinated.decision is not None
        self.send_decision(dest, coordinated.id, self.node, coordinated.decision)

    def send_decision(
        self, dest: str, transaction: str, coordinator: str, decision: str
    ) -> None:
        """Send a decision, be it this node's or another's."""
        body = {
            "type": "decision",
            "id": transaction,
            "coordinator": coordinator,
            "decision": decision,
        }
        self.send(dest, body)

    def on_retry(self) -> None:
        """Repeat the decisions that not all participants have acknowledged."""
        self.retrying = False
        for coordinated in list(self.untold.values()):
            self.tell_all(coordinated)

    def on_ack(self, src: str, body: Body) -> None:
        """Note that a participant has made the decision durable."""
        coordinated = self.untold.get(body["id"])
        if coordinated is None:
            return
        coordinated.unacknowledged.discard(src)
        if not coordinated.unacknowledged:
            del self.untold[coordinated.id]
            self.persist({"record": "end", "id": coordinated.id})

    # --- the decision: the participant -------------------------------------------

    def on_decision(self, src: str, body: Body) -> None:
        """Learn a decision, and acknowledge it to the coordinator, which repeats it.

        An abort may overtake the request for a vote. It is remembered, so that the
        request will be answered with no.
        """
        part = self.parts.get(body["id"])
        if part is None:
            part = Part(body["id"], body["coordinator"])
            self.remember_part(part)
        if part.coordinator == body["coordinator"]:
            self.learn(part, body["decision"], src)
        if src == body["coordinator"]:
            self.send(src, {"type": "ack", "id": body["id"]})

    def learn(self, part: Part, decision: str, by: str) -> None:
        """Decide as others did, unless this node has decided (AC2)."""
        if part.decision is not None:
            return
        self.cancel_timer(f"decision {part.id}")
        self.cancel_timer(f"locks {part.id}")
        if part.in_doubt:
            waited_ms = round((self.now_ns - part.since_ns) / 1e6, 3)
            self.observe("resolved", id=part.id, waited_ms=waited_ms)
        self.settle(part, decision)
        self.persist_learned(part)
        self.observe_decided(part, by)
        self.free_locks(part)

    def settle(self, part: Part, decision: str) -> None:
        """Keep or undo what the transaction wrote here."""
        part.decision = decision
        if decision == COMMIT:
            self.shard.commit(part.id)
        else:
            self.undo(part)
        part.txn, part.results = [], []
        self.open_parts.pop(part.id, None)

    def undo(self, part: Part) -> None:
        """Undo what an aborted transaction wrote here."""
        self.shard.abort(part.id)

    def free_locks(self, part: Part) -> None:
        """Release the part's locks, and vote for the transactions that get them."""
        for transaction in self.shard.release(part.id):
            self.vote(self.parts[transaction])

    def observe_decided(self, part: Part, by: str) -> None:
        """Observe that this participant decided."""
        assert part.decision is not None
        self.observe(
            "decided", id=part.id, decision=part.decision, by=by, role=PARTICIPANT
        )

    def doubt(self, part: Part) -> None:
        """Note that the participant waits for a decision that others may have made."""
        if not part.in_doubt:
            part.in_doubt = True
            part.since_ns = part.since_ns or self.now_ns
            self.observe("in_doubt", id=part.id, coordinator=part.coordinator)

    def ask(self, part: Part) -> None:
        """Ask coordinator and participants what they know (BHG 7.4)."""
        body = {
            "type": "inquire",
            "id": part.id,
            "coordinator": part.coordinator,
            "participants": list(part.participants),
        }
        for other in sorted({part.coordinator, *part.participants} - {self.node}):
            self.send(other, body)
        self.set_timer(f"decision {part.id}", self.inquiry_ms)

    def help_decide(self, src: str, body: Body) -> Part | None:
        """As a participant, tell `src` the decision.

        A participant that has not voted yes is free to abort, and does so rather than
        let others wait (BHG 7.4, cooperative termination).

        Returns:
            The part, if it is undecided; None if there is nothing else to tell.
        """
        part = self.parts.get(body["id"])
        if part is None:
            part = Part(body["id"], body["coordinator"], tuple(body["participants"]))
            self.remember_part(part)
            self.learn(part, ABORT, self.node)
        elif part.coordinator != body["coordinator"]:
            return None
        elif part.vote is None and part.decision is None:
            self.vote_no(part, ABORTED, "another participant had to wait too long")
        if part.decision is None:
            return part
        self.send_decision(src, part.id, part.coordinator, part.decision)
        return None

    # --- the disk ----------------------------------------------------------------

    def remember_coordinated(self, coordinated: Coordinated) -> None:
        """Note a transaction that this node coordinates."""
        self.known[coordinated.id] = None
        self.coordinated[coordinated.id] = coordinated

    def remember_part(self, part: Part) -> None:
        """Note a transaction in which this node takes part."""
        self.known[part.id] = None
        self.parts[part.id] = part
        self.open_parts[part.id] = part

    def persist_begin(self, coordinated: Coordinated) -> None:
        """Persist that this node coordinates the transaction (BHG's start record)."""
        participants = list(coordinated.participants)
        self.persist(
            {"record": "begin", "id": coordinated.id, "participants": participants}
        )

    def persist_vote(self, part: Part) -> None:
        """Persist the vote, and with a yes what it takes to redo or undo the part."""
        self.persist(
            {
                "record": "vote",
                "id": part.id,
                "vote": part.vote,
                "coordinator": part.coordinator,
                "participants": list(part.participants),
                "stamp": part.stamp,
                "txn": part.txn if part.vote == YES else [],
            }
        )

    def persist_decision(self, coordinated: Coordinated) -> None:
        """Persist the coordinator's decision, before anyone hears of it."""
        self.persist(
            {
                "record": "decide",
                "id": coordinated.id,
                "decision": coordinated.decision,
            }
        )

    def persist_learned(self, part: Part) -> None:
        """Persist the decision that this participant learned, before the answer."""
        self.persist(
            {
                "record": "learn",
                "id": part.id,
                "coordinator": part.coordinator,
                "decision": part.decision,
            }
        )

    def recover(self, record: Record) -> None:
        """Take back what one of the methods above persisted, in its order."""
        match record["record"]:
            case "life":
                self.life = record["life"]
            case "begin":
                participants = tuple(record["participants"])
                self.remember_coordinated(Coordinated(record["id"], participants))
            case "vote":
                self.recover_vote(record)
            case "decide":
                coordinated = self.coordinated[record["id"]]
                coordinated.decision = record["decision"]
                coordinated.unacknowledged = set(coordinated.participants)
                self.untold[coordinated.id] = coordinated
            case "learn":
                part = self.parts.get(record["id"])
                if part is None:
                    part = Part(record["id"], record["coordinator"])
                    self.remember_part(part)
                self.settle(part, record["decision"])
                self.shard.release(part.id)
            case "end":
                self.untold.pop(record["id"], None)
            case _:
                pass

    def recover_vote(self, record: Record) -> None:
        """Take back a vote: be prepared again after a yes, aborted after a no."""
        part = Part(
            record["id"],
            record["coordinator"],
            tuple(record["participants"]),
            record["stamp"],
            record["txn"],
            record["vote"],
        )
        self.clock = max(self.clock, part.stamp)
        self.remember_part(part)
        if part.vote == YES:
            part.results = self.shard.prepare_again(part.id, part.stamp, part.txn)
        else:
            self.settle(part, ABORT)


def check_times(core: AtomicCommit) -> None:
    """Refuse times that make no sense together.

    Raises:
        ValueError: Two times contradict each other; the message names them.
    """
    if core.lock_timeout_ms >= core.vote_timeout_ms:
        raise ValueError("lock_timeout_ms must be below vote_timeout_ms")
    if core.decision_timeout_ms < core.vote_timeout_ms:
        raise ValueError("decision_timeout_ms must not be below vote_timeout_ms")
