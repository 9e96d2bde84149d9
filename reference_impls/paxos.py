"""Single-decree Paxos (Lamport 2001, "Paxos Made Simple"), an instance for every key.

Each server is proposer, acceptor and learner of every instance. Instances share nothing
but the network; the key in each message says which instance it belongs to.

- *Phase 1.* A proposer selects a ballot and asks the acceptors to `prepare`. An
  acceptor promises not to accept below that ballot any more, and tells what it has
  accepted.
- *Phase 2.* With promises from a majority the proposer asks them to `accept` a value:
  that of the highest ballot among what they had accepted, or any if they had none.
- A value is *chosen* once a majority accepted it under one ballot. Acceptors tell all
  learners what they accept (2.3), and learners count.

What survives a crash: an acceptor's `promised` and `accepted`, through `Persist`,
before any answer leaves (2.5). A proposer's ballots are covered by that: it promises to
itself before it asks anyone else, so no later life uses the ballot again. A learner
forgets.

Service: `propose{key, value}` answers with the chosen value, whoever proposed it;
`learn{key}` with the chosen value, or null if none is known. No value is null.

Choices:

- *Ballots* are (round, server), ordered as pairs: the server makes them unique (2.2).
  With `ballots=timestamp` the round is the proposer's wall clock, in milliseconds. A
  proposer whose clock is behind then loses every contest, and one whose clock is far
  ahead leaves promises that no other clock can exceed: progress depends on clocks,
  safety doesn't.
- *Refusals.* An acceptor tells a proposer under which ballot it is bound (2.2, end),
  and the proposer gives up the attempt.
- *Duels* (2.4). There is no distinguished proposer, as instances are many and short. An
  attempt that failed is followed by another after a pause drawn at random from a range
  that doubles with every failure.
- *One attempt at a time* per server and instance serves all the clients that wait
  there.
- *Learning late.* `learn` asks the acceptors what they have accepted (2.3). If their
  answers leave open whether a value is chosen, as an acceptor may be away, the server
  makes a proposal, with the value that it is bound to (2.3, end). If no value has been
  accepted, there is nothing to propose, and nothing was chosen either.
- *What a client is told.* A value that never went out in an `accept` has failed for
  sure: error 11. Otherwise nobody knows: error 0, after `request_timeout_ms`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from reference_impls import kv
from reference_impls.actor import (
    MALFORMED_REQUEST,
    MS,
    MS_OR_NONE,
    NOT_SUPPORTED,
    TEMPORARILY_UNAVAILABLE,
    TIMEOUT,
    Actor,
    Body,
    Effect,
    Event,
    Now,
    OneOf,
    Option,
    Received,
    Record,
    TimerFired,
    error,
)
from reference_impls.core import (
    Core,
    is_anything,
    is_count,
    is_key,
    well_formed,
)
from reference_impls.override import override

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reference_impls.core import Fields

SUMMARY = "single-decree Paxos, an independent instance for every key"
FORMAT_VERSION = 1
"""Version of the records in the log on disk."""

MOMENTS = ("promised", "proposed", "accepted", "chosen")
"""Events at which a fault may hurt most: something has begun, and isn't done yet."""

OPTIONS = (
    Option(
        "ballots",
        "rounds",
        "what a proposer numbers its ballots by: rounds (one more than any it saw) or "
        "timestamp (its wall clock, so that skewed clocks stand in the way)",
        OneOf("rounds", "timestamp"),
    ),
    Option(
        "attempt_timeout_ms",
        "100",
        "when an attempt without an outcome is given up",
        MS,
    ),
    Option(
        "backoff_ms_min", "5", "least pause after an attempt that failed", MS_OR_NONE
    ),
    Option(
        "backoff_ms_max",
        "25",
        "most pause after an attempt that failed; doubles with each failure in a row",
        MS_OR_NONE,
    ),
    Option("request_timeout_ms", "1000", "when an unanswered request is given up", MS),
)

DOUBLINGS_MAX = 5
"""Failures in a row after which pauses get no longer."""


class Ballot(NamedTuple):
    """A proposal number (2.2); a list of two in JSON.

    Attributes:
        round: One more than any before, or a clock reading in milliseconds.
        server: The proposer, so that no two servers ever use the same ballot.
    """

    round: int
    server: str


NO_BALLOT = Ballot(0, "")
"""Below all others."""


class Proposal(NamedTuple):
    """A value under a ballot; a list of two in JSON."""

    ballot: Ballot
    value: Any


@dataclass(slots=True)
class Waiting:
    """A client's request that isn't answered yet.

    Attributes:
        request: A `propose` or a `learn`.
        since: The sweep (`Paxos.sweep`) in which it came.
        offered: Its value went out in an `accept`, so it may be chosen.
    """

    request: Received
    since: int
    offered: bool = False

    @property
    def value(self) -> Any:
        """The value to propose; None for a `learn`."""
        return self.request.body.get("value")


@dataclass(slots=True)
class Attempt:
    """A proposer's way through both phases, under one ballot."""

    ballot: Ballot
    promises: dict[str, Proposal | None] = field(default_factory=dict)
    proposal: Proposal | None = None  # since phase 2 began


@dataclass(slots=True)
class Instance:
    """One consensus, as this server sees it."""

    key: int | str

    # acceptor: persistent
    promised: Ballot = NO_BALLOT
    accepted: Proposal | None = None
    observed: bool = True  # `accepted` was surely observed

    # proposer: volatile
    attempt: Attempt | None = None
    failures: int = 0  # attempts in a row
    highest_seen: Ballot = NO_BALLOT  # in refusals
    paused: bool = False  # between two attempts
    timer_runs: bool = False
    waiting: list[Waiting] = field(default_factory=list)

    # learner: volatile
    accepted_by: dict[tuple[Ballot, str], set[str]] = field(default_factory=dict)
    accepted_nothing: set[str] = field(default_factory=set)
    learned: Any = None

    @property
    def timer(self) -> str:
        """The timer that begins the next attempt."""
        return f"attempt:{json.dumps(self.key)}"


class Paxos(Core):
    """One server. The rules live in small methods, each with its source."""

    def __init__(
        self, node: str, peers: Sequence[str], options: Mapping[str, Any]
    ) -> None:
        super().__init__(node, peers)
        self.ballots: str = options["ballots"]
        self.attempt_timeout_ms: float = options["attempt_timeout_ms"]
        self.backoff_ms_min: float = options["backoff_ms_min"]
        self.backoff_ms_max: float = options["backoff_ms_max"]
        self.request_timeout_ms: float = options["request_timeout_ms"]
        self.instances: dict[int | str, Instance] = {}
        self.open: dict[int | str, Instance] = {}  # those that somebody waits for
        self.sweep = 0
        self.sweeping = False

    # --- the actor ---------------------------------------------------------------

    @override
    def start(self, recovered: Sequence[Record]) -> list[Effect]:
        """Begin with what the acceptor had persisted."""
        for record in recovered:
            self.recover(record)
        return self.take_effects()

    @override
    def step(self, event: Event) -> list[Effect]:
        if isinstance(event, TimerFired):
            self.on_timer(event.name, event.now)
        elif event.src in self.peers:
            self.on_peer_message(event)
        else:
            self.on_request(event)
        return self.take_effects()

    @override
    def status(self) -> dict[str, Any]:
        """How many instances this server knows and has learned; nobody leads."""
        instances = self.instances.values()
        return {
            "role": "server",
            "term": 0,
            "leader": None,
            "instances": len(instances),
            "learned": sum(instance.learned is not None for instance in instances),
        }

    def on_timer(self, name: str, now: Now) -> None:
        """Dispatch a timer."""
        if name == "sweep":
            self.on_sweep()
        elif name.startswith("attempt:"):
            self.on_attempt_timer(self.instance(json.loads(name[8:])), now)

    def on_peer_message(self, event: Received) -> None:
        """Dispatch a peer's message, once it is known to make sense."""
        src, body = event.src, event.body
        if not well_formed(body, MESSAGES):
            return
        instance = self.instance(body["key"])
        match body["type"]:
            case "prepare":
                self.on_prepare(src, instance, Ballot(*body["ballot"]))
            case "promise":
                accepted = as_accepted(body["accepted"])
                self.on_promise(src, instance, Ballot(*body["ballot"]), accepted)
            case "accept":
                self.on_accept(src, instance, as_proposal(body["proposal"]))
            case "accepted":
                self.on_accepted(src, instance, as_proposal(body["proposal"]))
            case "refused":
                promised = Ballot(*body["promised"])
                self.on_refused(instance, Ballot(*body["ballot"]), promised)
            case "ask":
                self.on_ask(src, instance)
            case _:
                self.on_report(src, instance, body)

    def instance(self, key: int | str) -> Instance:
        """The instance of that key; a new one if nothing has happened in it yet."""
        instance = self.instances.get(key)
        if instance is None:
            instance = self.instances[key] = Instance(key)
        return instance

    # --- the proposer (2.2) ------------------------------------------------------

    def on_attempt_timer(self, instance: Instance, now: Now) -> None:
        """Try again if a client waits: a pause is over, or an attempt timed out."""
        instance.paused = instance.timer_runs = False
        if instance.attempt is not None:
            instance.failures += 1
            instance.attempt = None
        if instance.waiting and instance.learned is None:
            self.begin_attempt(instance, now)

    def begin_attempt(self, instance: Instance, now: Now) -> None:
        """Phase 1(a): select a ballot and ask the acceptors to prepare.

        This server's own promise comes first, and is durable before anyone hears of the
        ballot: so "each proposer remembers the highest-numbered proposal it has tried
        to issue" (2.5).
        """
        ballot = self.next_ballot(instance, now)
        if not self.may_promise(instance, ballot):
            self.back_off(instance)  # its clock is behind the promised ballot
            return
        instance.attempt = Attempt(ballot)
        self.set_attempt_timer(instance)
        self.promise(instance, ballot)
        self.broadcast({"type": "prepare", "key": instance.key, "ballot": ballot})
        self.on_promise(self.node, instance, ballot, instance.accepted)

    def next_ballot(self, instance: Instance, now: Now) -> Ballot:
        """A ballot that this server never used, above any that it has seen (2.2).

        With timestamps it may be below another's ballot; then the server has to wait
        for its clock.
        """
        if self.ballots == "timestamp":
            return Ballot(now.wall_ns // 1_000_000, self.node)
        highest = max(instance.promised, instance.highest_seen)
        return Ballot(highest.round + 1, self.node)

    def on_promise(
        self, src: str, instance: Instance, ballot: Ballot, accepted: Proposal | None
    ) -> None:
        """Count promises; with those of a majority, phase 2 begins."""
        attempt = instance.attempt
        if attempt is None or attempt.ballot != ballot or attempt.proposal is not None:
            return
        attempt.promises[src] = accepted
        if self.is_quorum(attempt.promises):
            self.propose(instance, attempt)

    def propose(self, instance: Instance, attempt: Attempt) -> None:
        """Phase 2(a): ask the acceptors to accept a value under this ballot."""
        own = next((w for w in instance.waiting if w.value is not None), None)
        value = self.value_bound_to(attempt)
        if value is None and own is not None:
            value = own.value
            own.offered = True
        if value is None:
            self.conclude_nothing(instance)
            return
        attempt.proposal = Proposal(attempt.ballot, value)
        self.observe("proposed", key=instance.key, ballot=attempt.ballot, value=value)
        body = {"type": "accept", "key": instance.key, "proposal": attempt.proposal}
        self.broadcast(body)
        self.on_accept(self.node, instance, attempt.proposal)

    def value_bound_to(self, attempt: Attempt) -> Any:
        """The value that this attempt must propose (2.2, P2c).

        Returns:
            The value of the highest ballot that the acceptors had accepted; None if
            they had accepted nothing, so that any value will do.
        """
        answers = [p for p in attempt.promises.values() if p is not None]
        return max(answers, key=lambda p: p.ballot).value if answers else None

    def conclude_nothing(self, instance: Instance) -> None:
        """End an attempt without a proposal: there is no value to propose."""
        instance.attempt = None
        self.answer_learners(instance)

    def on_refused(self, instance: Instance, ballot: Ballot, promised: Ballot) -> None:
        """Give up this ballot if an acceptor is bound to a higher one (2.2, end).

        An acceptor also refuses a prepare that arrives twice, or after the accept. It
        is then bound to this same ballot, and the attempt goes on.
        """
        instance.highest_seen = max(instance.highest_seen, promised)
        attempt = instance.attempt
        if attempt is not None and attempt.ballot == ballot < promised:
            instance.attempt = None
            self.back_off(instance)

    def back_off(self, instance: Instance) -> None:
        """Pause at random, so that one of the duelling proposers gets through (2.4)."""
        doublings = min(instance.failures, DOUBLINGS_MAX)
        instance.failures += 1
        instance.paused = instance.timer_runs = True
        self.set_timer(
            instance.timer, self.backoff_ms_min, self.backoff_ms_max * 2**doublings
        )

    def set_attempt_timer(self, instance: Instance) -> None:
        """Limit the attempt, whose messages may get lost.

        The limit is random, so that duelling proposers don't retry in step (2.4).
        """
        instance.timer_runs = True
        timeout_ms = self.attempt_timeout_ms
        self.set_timer(instance.timer, timeout_ms, 2 * timeout_ms)

    def stop_timer(self, instance: Instance) -> None:
        """Stop the timer: no attempt is due."""
        if instance.timer_runs:
            instance.paused = instance.timer_runs = False
            self.cancel_timer(instance.timer)

    # --- the acceptor (2.2) ------------------------------------------------------

    def on_prepare(self, src: str, instance: Instance, ballot: Ballot) -> None:
        """Phase 1(b): promise, and tell what has been accepted."""
        if not self.may_promise(instance, ballot):
            self.refuse(src, instance, ballot)
            return
        self.promise(instance, ballot)
        body = {
            "type": "promise",
            "key": instance.key,
            "ballot": ballot,
            "accepted": instance.accepted,
        }
        self.send(src, body)

    def may_promise(self, instance: Instance, ballot: Ballot) -> bool:
        """True above the ballot of any prepare answered so far (phase 1(b))."""
        return ballot > instance.promised

    def promise(self, instance: Instance, ballot: Ballot) -> None:
        """Accept nothing below `ballot` from now on, whatever happens."""
        self.observe_recovered(instance)
        instance.promised = ballot
        self.persist_promised(instance)
        self.observe(
            "promised", key=instance.key, ballot=ballot, accepted=instance.accepted
        )

    def on_accept(self, src: str, instance: Instance, proposal: Proposal) -> None:
        """Phase 2(b): accept, unless bound by a promise, and tell all learners."""
        if not self.may_accept(instance, proposal.ballot):
            self.refuse(src, instance, proposal.ballot)
            return
        if instance.accepted != proposal:
            self.accept(instance, proposal)
        self.observe_recovered(instance)
        body = {"type": "accepted", "key": instance.key, "proposal": proposal}
        self.broadcast(body)
        self.on_accepted(self.node, instance, proposal)

    def may_accept(self, instance: Instance, ballot: Ballot) -> bool:
        """True if this acceptor answered no prepare of a higher ballot (2.2, P1a)."""
        return ballot >= instance.promised

    def accept(self, instance: Instance, proposal: Proposal) -> None:
        """Accept a proposal, and be bound by its ballot."""
        instance.promised = max(instance.promised, proposal.ballot)
        instance.accepted = proposal
        self.persist_accepted(instance)
        self.observe("accepted", key=instance.key, **proposal._asdict())
        instance.observed = True

    def observe_recovered(self, instance: Instance) -> None:
        """Observe what an earlier life accepted, if it may have died before it could.

        Otherwise a checker could see a value learned that it saw no majority accept.
        """
        if not instance.observed and instance.accepted is not None:
            instance.observed = True
            accepted = instance.accepted._asdict()
            self.observe("accepted", key=instance.key, **accepted)

    def refuse(self, src: str, instance: Instance, ballot: Ballot) -> None:
        """Tell a proposer by which promise this acceptor is bound."""
        if src == self.node:
            self.on_refused(instance, ballot, instance.promised)
            return
        body = {
            "type": "refused",
            "key": instance.key,
            "ballot": ballot,
            "promised": instance.promised,
        }
        self.send(src, body)

    # --- the learner (2.3) -------------------------------------------------------

    def on_accepted(self, src: str, instance: Instance, proposal: Proposal) -> None:
        """Count acceptors; what a majority accepted under one ballot is chosen."""
        if instance.learned is not None:
            return
        # A ballot has one value. Counting by value too finds out proposers that broke
        # this rule, rather than trusting them.
        counted = (proposal.ballot, json.dumps(proposal.value, sort_keys=True))
        acceptors = instance.accepted_by.setdefault(counted, set())
        acceptors.add(src)
        if self.is_chosen(acceptors):
            self.observe("chosen", key=instance.key, **proposal._asdict())
            self.learn(instance, proposal.value)

    def is_chosen(self, acceptors: set[str]) -> bool:
        """True if the acceptors are a majority (2.1)."""
        return self.is_quorum(acceptors)

    def learn(self, instance: Instance, value: Any) -> None:
        """Learn the chosen value, and answer all who wait for it."""
        if instance.learned is not None:
            return
        instance.learned = value
        instance.accepted_by.clear()
        self.observe("learned", key=instance.key, value=value)
        waiting, instance.waiting = instance.waiting, []
        for one in waiting:
            self.answer(one.request, value)
        self.close_if_idle(instance)

    def on_ask(self, src: str, instance: Instance) -> None:
        """Report to another learner what this server has accepted and learned."""
        self.observe_recovered(instance)
        body = {
            "type": "report",
            "key": instance.key,
            "accepted": instance.accepted,
            "learned": instance.learned,
        }
        self.send(src, body)

    def on_report(self, src: str, instance: Instance, body: Body) -> None:
        """Learn from another server's report: a chosen value, an accepted one, or none.

        If a majority has accepted nothing, nothing was chosen when they were asked.
        """
        accepted = as_accepted(body["accepted"])
        if body["learned"] is not None:
            self.learn(instance, body["learned"])
        elif accepted is not None:
            self.on_accepted(src, instance, accepted)
        else:
            instance.accepted_nothing.add(src)
            if self.is_quorum(instance.accepted_nothing):
                self.answer_learners(instance)

    def answer_learners(self, instance: Instance) -> None:
        """Answer the `learn`s that wait: nothing is known to be chosen."""
        for one in [w for w in instance.waiting if w.value is None]:
            instance.waiting.remove(one)
            self.answer(one.request, None)
        self.close_if_idle(instance)

    # --- clients -----------------------------------------------------------------

    def on_request(self, request: Received) -> None:
        """Check a client's request, then answer it or work for the answer."""
        flaw = flaw_of(request.body)
        if flaw is not None:
            self.reply(request, flaw)
            return
        instance = self.instance(request.body["key"])
        if instance.learned is not None:
            self.answer(request, instance.learned)
            return
        self.await_outcome(instance, request)
        if request.body["type"] == "propose":
            if instance.attempt is None and not instance.paused:
                self.begin_attempt(instance, request.now)
        else:
            self.ask(instance)

    def await_outcome(self, instance: Instance, request: Received) -> None:
        """Note that a client waits; a sweep ends that if nothing else does."""
        instance.waiting.append(Waiting(request, self.sweep))
        self.open[instance.key] = instance
        if not self.sweeping:
            self.sweeping = True
            self.set_timer("sweep", self.request_timeout_ms)

    def ask(self, instance: Instance) -> None:
        """Ask all acceptors (2.3); if that isn't enough, an attempt follows."""
        instance.accepted_nothing = set() if instance.accepted else {self.node}
        self.broadcast({"type": "ask", "key": instance.key})
        if not instance.timer_runs:
            self.set_attempt_timer(instance)

    def answer(self, request: Received, value: Any) -> None:
        """Answer with the chosen value; None when none is known."""
        self.reply(request, {"type": f"{request.body['type']}_ok", "value": value})

    def on_sweep(self) -> None:
        """Give up the requests that waited for a whole timeout."""
        for instance in list(self.open.values()):
            late = [w for w in instance.waiting if w.since < self.sweep]
            for one in late:
                instance.waiting.remove(one)
                self.give_up(one)
            self.close_if_idle(instance)
        self.sweep += 1
        self.sweeping = bool(self.open)
        if self.sweeping:
            self.set_timer("sweep", self.request_timeout_ms)

    def give_up(self, waiting: Waiting) -> None:
        """Answer a request without an outcome: null, unknown or failed for sure."""
        if waiting.value is None:
            self.answer(waiting.request, None)
        elif waiting.offered:
            text = f"{self.node}: proposed, but not known to be chosen"
            self.reply(waiting.request, error(TIMEOUT, text))
        else:
            text = f"{self.node}: could not propose the value"
            self.reply(waiting.request, error(TEMPORARILY_UNAVAILABLE, text))

    def close_if_idle(self, instance: Instance) -> None:
        """Stop trying if no client waits any more."""
        if not instance.waiting:
            self.open.pop(instance.key, None)
            instance.attempt = None
            instance.failures = 0
            self.stop_timer(instance)

    # --- the disk (2.5) ----------------------------------------------------------

    def persist_promised(self, instance: Instance) -> None:
        """Persist a promise, which binds later lives too."""
        self.persist({"key": instance.key, "promised": instance.promised})

    def persist_accepted(self, instance: Instance) -> None:
        """Persist what was accepted, for later lives too."""
        self.persist({"key": instance.key, "accepted": instance.accepted})

    def recover(self, record: Record) -> None:
        """Take back a promise or what was accepted."""
        instance = self.instance(record["key"])
        if "promised" in record:
            instance.promised = Ballot(*record["promised"])
            instance.observed = True  # `promise` observes what was accepted before it
        else:
            proposal = as_proposal(record["accepted"])
            instance.accepted = proposal
            instance.observed = False
            instance.promised = max(instance.promised, proposal.ballot)


# --- what peers and clients say --------------------------------------------------


def is_ballot(value: Any) -> bool:
    """True for a round and a server."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and is_count(value[0])
        and type(value[1]) is str
    )


def is_proposal(value: Any) -> bool:
    """True for a ballot and a value, which isn't null."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and is_ballot(value[0])
        and value[1] is not None
    )


def is_accepted(value: Any) -> bool:
    """True for a proposal, or null."""
    return value is None or is_proposal(value)


def as_proposal(value: Sequence[Any]) -> Proposal:
    """A proposal out of JSON."""
    return Proposal(Ballot(*value[0]), value[1])


def as_accepted(value: Sequence[Any] | None) -> Proposal | None:
    """A proposal out of JSON, or None for null."""
    return None if value is None else as_proposal(value)


MESSAGES: Mapping[str, Fields] = {
    "prepare": {"key": is_key, "ballot": is_ballot},
    "promise": {"key": is_key, "ballot": is_ballot, "accepted": is_accepted},
    "accept": {"key": is_key, "proposal": is_proposal},
    "accepted": {"key": is_key, "proposal": is_proposal},
    "refused": {"key": is_key, "ballot": is_ballot, "promised": is_ballot},
    "ask": {"key": is_key},
    "report": {"key": is_key, "accepted": is_accepted, "learned": is_anything},
}
"""The messages between peers: type -> field -> its check."""


def flaw_of(body: Body) -> Body | None:
    """The error to answer a malformed request with; None for a good one."""
    kind = body["type"]
    if kind not in {"propose", "learn"}:
        return error(NOT_SUPPORTED, f"no operation {kv.shorten(kind)}")
    if not is_key(body.get("key")) or kv.oversized(body["key"]):
        return error(
            MALFORMED_REQUEST, f"{kind} needs a key: a whole number or a string"
        )
    if kind == "propose" and body.get("value") is None:
        return error(MALFORMED_REQUEST, "propose needs a value, and null is none")
    if kind == "propose" and kv.oversized(body["value"]):
        text = f"the value is longer than {kv.VALUE_CHARS_MAX} characters of JSON"
        return error(MALFORMED_REQUEST, text)
    return None


def build(
    node: str,
    peers: Sequence[str],
    options: Mapping[str, Any],
    core: type[Paxos] = Paxos,
) -> Actor:
    """A server called `node`; `options` holds a value for each of OPTIONS.

    Raises:
        ValueError: Options that make no sense together.
    """
    server = core(node, peers, options)
    if not server.backoff_ms_min <= server.backoff_ms_max:
        raise ValueError("backoff_ms_min is above backoff_ms_max")
    if server.attempt_timeout_ms >= server.request_timeout_ms:
        raise ValueError("attempt_timeout_ms must be below request_timeout_ms")
    return server
