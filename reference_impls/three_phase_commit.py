"""Three-phase commit (Skeen 1981; Bernstein, Hadzilacos and Goodman 1987, 7.5).

    phase 1   canCommit  the vote, as in two-phase commit (`atomic_commit`)
    phase 2   preCommit  the barrier: everybody learns that everybody voted yes
    phase 3   doCommit   the decision

Two-phase commit blocks because a participant that voted yes can't tell whether another
has committed or aborted. Here nobody commits before everybody is known to have crossed
the barrier. So (BHG 7.5's NB rule) as long as any operational process is uncertain,
nobody has committed, and the operational processes can find an outcome by themselves
when the coordinator dies.

- A coordinator that gets all votes sends preCommit, and decides to commit once all
  participants acknowledge. One that misses an acknowledgement aborts.
- A participant that hears nothing for `decision_timeout_ms` ends the transaction
  without its coordinator. With `termination=elect` (Skeen's termination protocol) it
  has itself elected among the participants that it can reach, asks for their states and
  applies BHG's rules TR1 to TR4: whoever has decided is followed; if all are uncertain,
  abort; if one has crossed the barrier, bring the others across, then commit. With
  `termination=simple` it decides alone: before the barrier it aborts, after it commits.

What it promises, and on what condition. Processes may crash and come back, any of them,
at any time. Messages must arrive within bounds that the timeouts allow for, so that
silence means a crash. Under that condition AC1 to AC5 hold with `termination=elect`,
and no process that has not crashed waits for one that has. If a partition, a pause or a
slow disk breaks the condition while only some are over the barrier, both sides take
each other for dead: one aborts, the other commits. That is three-phase commit's known
weakness, and no bug of this implementation. `simple` also needs that no coordinator
dies between two sends of the same round.

What survives a crash: besides votes and decisions, on which side of the barrier a
participant is, before it acknowledges.

Choices, as papers differ:

- *The way back.* A coordinator that missed an acknowledgement can't just abort: if it
  died after it wrote that to its own disk, the participants that crossed the barrier
  would commit. So it first calls them back (preAbort). It aborts when all of them have
  answered or are taken for dead, and at least one participant is on record as not
  across. BHG's coordinator commits in this situation. Either way no operational process
  is uncertain once somebody has committed, and none is across the barrier once somebody
  has aborted.
- *Recovery* (BHG 7.5). A participant that crashed before it knew the decision must not
  use the rules TR1 to TR4: others may have gone on without it. It asks until somebody
  knows the decision; it neither crosses the barrier any more nor comes back. A
  coordinator that crashed undecided does the same.
- *Total failure.* When all the participants of a transaction have crashed, none of them
  can know more than is on their disks, which doesn't change any more. That decides:
  commit if all are across the barrier (an abort would have needed one that isn't),
  abort if one isn't (a commit would have needed all). The coordinator is not needed.
- *Rounds.* The coordinator speaks in round 0 (preCommit) and 1 (preAbort). Participants
  that terminate use higher rounds, each its own. A participant follows no round below
  the highest that it knows.
- *Elections.* Participants wait a little longer the higher their rank by name, so that
  usually only the lowest that is alive asks.
- *preCommit is durable*, which BHG don't require: total failure makes use of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reference_impls import atomic_commit
from reference_impls.actor import ABORT as ABORTED
from reference_impls.actor import MS, MS_OR_NONE, TIMEOUT, OneOf, Option, error
from reference_impls.atomic_commit import (
    ABORT,
    COMMIT,
    PREPARED,
    AtomicCommit,
    Coordinated,
    Part,
    check_times,
    is_id,
    is_names,
)
from reference_impls.core import is_count, is_text
from reference_impls.override import override

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reference_impls.actor import Actor, Body, Effect, Record
    from reference_impls.core import Fields

SUMMARY = "three-phase commit over a sharded key-value store"
FORMAT_VERSION = atomic_commit.FORMAT_VERSION
MOMENTS = (
    *atomic_commit.MOMENTS,
    "precommitting",
    "precommitted",
    "turning_back",
    "terminating",
)

ELECT = "elect"
SIMPLE = "simple"

OPTIONS = (
    *atomic_commit.options(
        vote_timeout_ms="400", lock_timeout_ms="200", decision_timeout_ms="1200"
    ),
    Option(
        "ack_timeout_ms",
        "250",
        "how long acknowledgements of preCommit, and states, are waited for",
        MS,
    ),
    Option(
        "election_step_ms",
        "100",
        "how much longer the next participant waits to lead",
        MS_OR_NONE,
    ),
    Option(
        "termination",
        ELECT,
        "what participants do without their coordinator: elect (one of them asks the "
        "others and decides for all) or simple (each decides by its own state)",
        OneOf(ELECT, SIMPLE),
    ),
)

PRE_COMMITTED = "precommit"

CROSS = 0
"""The coordinator's round in which participants cross the barrier."""

TURN_BACK = 1
"""The coordinator's round in which participants come back over the barrier."""

FIRST_TERMINATION = 2
"""The lowest round of a participant that terminates."""

ROUND_FIELDS: Fields = {
    "id": is_id,
    "coordinator": is_text,
    "participants": is_names,
    "round": is_count,
}

MESSAGES: Mapping[str, Fields] = {
    **atomic_commit.MESSAGES,
    "pre_commit": ROUND_FIELDS,
    "pre_abort": ROUND_FIELDS,
    "state_request": ROUND_FIELDS,
    "state": {
        "id": is_id,
        "coordinator": is_text,
        "round": is_count,
        "state": (PREPARED, PRE_COMMITTED).__contains__,
        "recovering": lambda value: isinstance(value, bool),
    },
}
"""`state` answers the three above it, so it acknowledges a preCommit too."""


@dataclass(slots=True)
class Barrier:
    """Phase 2 of a transaction, at its coordinator.

    Attributes:
        crossed: Participants on record as across.
        turning_back: Whether an acknowledgement was missing, so that it will abort.
        answered: Participants that have answered since it turned back.
        turned: Participants on record as not across.
    """

    crossed: set[str] = field(default_factory=set)
    turning_back: bool = False
    answered: set[str] = field(default_factory=set)
    turned: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Termination:
    """What a participant knows that ends a transaction in its coordinator's place.

    Attributes:
        round: The round of its messages.
        states: The states of the participants that answered, and its own.
        recovering: Participants that came back from a crash, and so don't count.
        crossing: Whether the others are being brought across the barrier.
    """

    round: int
    states: dict[str, str]
    recovering: set[str] = field(default_factory=set)
    crossing: bool = False


class ThreePhaseCommit(AtomicCommit):
    """One node. Every rule names its source; see the module for the choices."""

    messages = MESSAGES

    def __init__(
        self, node: str, peers: Sequence[str], options: Mapping[str, Any]
    ) -> None:
        super().__init__(node, peers, options)
        self.ack_timeout_ms: float = options["ack_timeout_ms"]
        self.election_step_ms: float = options["election_step_ms"]
        self.termination: str = options["termination"]

        # persistent: of undecided transactions
        self.pre_committed: set[str] = set()
        self.turned_back: set[str] = set()  # came back over the barrier

        # volatile: of undecided transactions
        self.recovering: set[str] = set()  # from before this life
        self.rounds: dict[str, int] = {}  # the highest one known, as participant
        self.barriers: dict[str, Barrier] = {}  # as coordinator
        self.terminations: dict[str, Termination] = {}  # in a coordinator's place
        self.orphans: set[str] = set()  # their coordinator is back, undecided
        self.survivors: dict[str, dict[str, str]] = {}  # states after total failure

    # --- dispatch ----------------------------------------------------------------

    @override
    def on_timer(self, name: str, transaction: str) -> None:
        """Dispatch this protocol's own timers."""
        match name:
            case "barrier" if transaction in self.barriers:
                self.on_ack_timeout(self.coordinated[transaction])
            case "states" if transaction in self.terminations:
                self.advance(self.parts[transaction])
            case "outcome" if self.coordinated[transaction].decision is None:
                self.ask_for_outcome(self.coordinated[transaction])
            case _:
                super().on_timer(name, transaction)

    @override
    def handle(self, src: str, body: Body) -> None:
        """Dispatch this protocol's own messages."""
        match body["type"]:
            case "pre_commit" | "pre_abort" | "state_request":
                self.on_round(src, body)
            case "state":
                self.on_state(src, body)
            case _:
                super().handle(src, body)

    @override
    def state(self, part: Part) -> str:
        crossed = part.decision is None and part.id in self.pre_committed
        return PRE_COMMITTED if crossed else super().state(part)

    # --- the barrier: the coordinator (BHG 7.5) ----------------------------------

    @override
    def on_all_yes(self, coordinated: Coordinated) -> None:
        """Phase 2: tell all participants that all voted yes, and wait."""
        self.barriers[coordinated.id] = Barrier()
        self.observe("precommitting", id=coordinated.id)
        self.lead_round(coordinated, "pre_commit", CROSS)

    def lead_round(self, coordinated: Coordinated, kind: str, number: int) -> None:
        """Send to all participants, and wait for their answers."""
        for participant in coordinated.participants:
            body = self.round_message(kind, coordinated, self.node, number)
            self.send(participant, body)
        self.set_timer(f"barrier {coordinated.id}", self.ack_timeout_ms)

    def round_message(
        self, kind: str, of: Coordinated | Part, coordinator: str, number: int
    ) -> Body:
        """A message of a round, whether a coordinator or a participant leads it."""
        return {
            "type": kind,
            "id": of.id,
            "coordinator": coordinator,
            "participants": list(of.participants),
            "round": number,
        }

    def on_barrier_state(self, coordinated: Coordinated, src: str, body: Body) -> None:
        """Note on which side of the barrier a participant is, and act on it."""
        barrier = self.barriers[coordinated.id]
        crossed = body["state"] == PRE_COMMITTED
        if not barrier.turning_back:
            if crossed:
                barrier.crossed.add(src)
                self.commit_if_all_crossed(coordinated, barrier)
            elif body["recovering"]:
                self.turn_back(coordinated, barrier)  # it will never cross
        elif body["round"] == TURN_BACK or body["recovering"]:
            barrier.answered.add(src)
            if not crossed:
                barrier.turned.add(src)
            if barrier.answered.issuperset(coordinated.participants):
                self.abort_if_one_turned(coordinated, barrier)

    def commit_if_all_crossed(self, coordinated: Coordinated, barrier: Barrier) -> None:
        """Phase 3: commit once all have crossed, so that nobody is uncertain."""
        if barrier.crossed.issuperset(coordinated.participants):
            self.decide(coordinated, COMMIT, self.node)

    def on_ack_timeout(self, coordinated: Coordinated) -> None:
        """Turn back, as an acknowledgement is missing; or end the way back."""
        barrier = self.barriers[coordinated.id]
        if barrier.turning_back:
            self.abort_if_one_turned(coordinated, barrier)
        else:
            self.turn_back(coordinated, barrier)

    def turn_back(self, coordinated: Coordinated, barrier: Barrier) -> None:
        """Call the participants that crossed the barrier back."""
        barrier.turning_back = True
        self.observe("turning_back", id=coordinated.id)
        self.lead_round(coordinated, "pre_abort", TURN_BACK)

    def abort_if_one_turned(self, coordinated: Coordinated, barrier: Barrier) -> None:
        """Abort, as all that are alive are back, if one is on record as not across.

        If none is on record, all participants may have crashed right after they
        crossed, and will commit among themselves when they come back. So try again.
        """
        if barrier.turned:
            missing = set(coordinated.participants) - barrier.crossed
            names = ", ".join(sorted(missing))
            text = f"no acknowledgement of preCommit from {names}"
            self.decide(coordinated, ABORT, self.node, error(ABORTED, text))
            return
        text = f"{self.node}: no participant answers any more"
        self.answer(coordinated, error(TIMEOUT, text))
        self.lead_round(coordinated, "pre_abort", TURN_BACK)

    # --- the barrier: the participant --------------------------------------------

    def on_round(self, src: str, body: Body) -> None:
        """Answer a round: of the coordinator, or of a participant in its place."""
        part = self.help_decide(src, body)
        if part is None:
            return
        if part.id not in self.recovering:
            if body["round"] < self.rounds.get(part.id, CROSS):
                return
            self.follow(part, src, body)
        self.send_state(src, part, body["round"])

    def follow(self, part: Part, src: str, body: Body) -> None:
        """Do what this round's leader says; lower rounds are refused from now on."""
        self.rounds[part.id] = body["round"]
        if src != self.node:
            self.terminations.pop(part.id, None)
        if body["type"] == "pre_commit":
            self.cross(part)
        elif body["type"] == "pre_abort":
            self.come_back(part)
        self.set_timer(f"decision {part.id}", self.patience_ms(part))

    def cross(self, part: Part) -> None:
        """Go over the barrier; durable before it is acknowledged."""
        if part.id not in self.pre_committed:
            self.pre_committed.add(part.id)
            self.turned_back.discard(part.id)
            self.persist_pre_committed(part)
            self.observe("precommitted", id=part.id)

    def come_back(self, part: Part) -> None:
        """Be uncertain again; durable before it is acknowledged."""
        if part.id in self.pre_committed:
            self.pre_committed.discard(part.id)
            self.turned_back.add(part.id)
            self.persist({"record": "pre_abort", "id": part.id})
            self.observe("preaborted", id=part.id)

    def send_state(self, dest: str, part: Part, number: int) -> None:
        """Say on which side of the barrier this participant is."""
        self.send(
            dest,
            {
                "type": "state",
                "id": part.id,
                "coordinator": part.coordinator,
                "round": number,
                "state": self.state(part),
                "recovering": part.id in self.recovering,
            },
        )

    def on_state(self, src: str, body: Body) -> None:
        """Use an answer, in each role in which this node may have asked."""
        coordinated = self.coordinated.get(body["id"])
        part = self.open_parts.get(body["id"])
        if part is not None and part.coordinator == body["coordinator"]:
            self.on_survivor_state(part, src, body)
            self.on_termination_state(part, src, body)
        if (
            coordinated is not None
            and body["coordinator"] == self.node
            and body["id"] in self.barriers
            and body["round"] < FIRST_TERMINATION
        ):
            self.on_barrier_state(coordinated, src, body)

    # --- without the coordinator (Skeen 1981, section 5; BHG 7.5) ----------------

    @override
    def patience_ms(self, part: Part) -> float:
        """How long to wait for word: the longer the higher the rank."""
        return self.decision_timeout_ms + self.rank(part) * self.election_step_ms

    def rank(self, part: Part) -> int:
        """This participant's place among the participants, by name."""
        return sorted(part.participants).index(self.node)

    @override
    def on_decision_timeout(self, part: Part) -> None:
        """Go on without the coordinator, which is silent and so taken for crashed."""
        self.doubt(part)
        if part.id in self.recovering:
            self.ask_as_survivor(part)
        elif self.termination == SIMPLE:
            self.learn(part, self.decision_alone(part), self.node)
        else:
            self.take_over(part)

    def decision_alone(self, part: Part) -> str:
        """The decision of a participant that asks nobody: commit if it has crossed."""
        return COMMIT if part.id in self.pre_committed else ABORT

    def take_over(self, part: Part) -> None:
        """Ask all participants for their states, in a round of this node's own."""
        number = self.next_round(part)
        self.rounds[part.id] = number
        self.terminations[part.id] = Termination(number, {self.node: self.state(part)})
        self.observe("terminating", id=part.id, round=number)
        for other in part.participants:
            if other != self.node:
                body = self.round_message(
                    "state_request", part, part.coordinator, number
                )
                self.send(other, body)
        self.set_timer(f"states {part.id}", self.ack_timeout_ms)
        self.set_timer(f"decision {part.id}", self.patience_ms(part))
        self.advance_if_complete(part)

    def next_round(self, part: Part) -> int:
        """A round above all that are known here, which no other participant uses."""
        count = len(part.participants)
        known = self.rounds.get(part.id, CROSS)
        turns = max(0, known - FIRST_TERMINATION + count) // count
        return FIRST_TERMINATION + turns * count + self.rank(part)

    def on_termination_state(self, part: Part, src: str, body: Body) -> None:
        """Note a participant's answer to this node's termination."""
        termination = self.terminations.get(part.id)
        if termination is None or body["round"] != termination.round:
            return
        if body["recovering"]:
            termination.recovering.add(src)
        else:
            termination.states[src] = body["state"]
        self.advance_if_complete(part)

    def advance_if_complete(self, part: Part) -> None:
        """Go on once no answer is missing; if one is, the timer `states` goes on."""
        termination = self.terminations[part.id]
        if termination.crossing:
            missing = [s for s in termination.states.values() if s == PREPARED]
        else:
            heard = termination.states.keys() | termination.recovering
            missing = [name for name in part.participants if name not in heard]
        if not missing:
            self.advance(part)

    def advance(self, part: Part) -> None:
        """TR3 and TR4 of BHG 7.5; TR1 and TR2 are `help_decide` and `on_decision`.

        TR3: all that are alive are uncertain, so nobody has committed: abort. TR4: one
        of them has crossed, so nobody has aborted: bring the others across, and then
        commit. A participant that doesn't answer has crashed, and will ask when it
        comes back.
        """
        termination = self.terminations[part.id]
        states = termination.states
        if PRE_COMMITTED not in states.values():
            self.end_for_all(part, ABORT)
            return
        behind = [name for name, state in states.items() if state == PREPARED]
        if termination.crossing or not behind:
            self.end_for_all(part, COMMIT)
            return
        termination.crossing = True
        for other in behind:
            body = self.round_message(
                "pre_commit", part, part.coordinator, termination.round
            )
            self.send(other, body)
        self.set_timer(f"states {part.id}", self.ack_timeout_ms)

    def end_for_all(self, part: Part, decision: str) -> None:
        """Decide, and tell all other participants and the coordinator."""
        self.learn(part, decision, self.node)
        self.pass_on(part, decision)
        if part.coordinator == self.node:
            self.adopt(part.id, decision, self.node)

    def pass_on(self, part: Part, decision: str) -> None:
        """Send a decision to all other participants and the coordinator."""
        for other in sorted({part.coordinator, *part.participants} - {self.node}):
            self.send_decision(other, part.id, part.coordinator, decision)

    # --- after a crash (BHG 7.5, recovery and total failure) ---------------------

    @override
    def on_resume(self) -> None:
        """Ask about all that is undecided, in either role."""
        super().on_resume()
        for coordinated in list(self.coordinated.values()):
            if coordinated.decision is None:
                self.ask_for_outcome(coordinated)
        for part in list(self.open_parts.values()):
            self.on_decision_timeout(part)

    def ask_for_outcome(self, coordinated: Coordinated) -> None:
        """As a coordinator back from a crash, ask how the participants ended it."""
        for participant in coordinated.participants:
            body = self.round_message("inquire", coordinated, self.node, CROSS)
            self.send(participant, body)
        self.set_timer(f"outcome {coordinated.id}", self.inquiry_ms)

    def ask_as_survivor(self, part: Part) -> None:
        """As a participant back from a crash, ask the others; note its own state."""
        self.survivors.setdefault(part.id, {})[self.node] = self.state(part)
        self.ask(part)
        self.decide_if_all_crashed(part)

    @override
    def on_inquire(self, src: str, body: Body) -> None:
        """Tell the decision; or this node's state, if it is back from a crash too.

        Participants that haven't crashed don't answer, as they will decide by
        themselves. They do so soon if the coordinator asks, as it must have crashed.
        """
        coordinated = self.coordinated.get(body["id"])
        if (
            body["coordinator"] == self.node
            and coordinated is not None
            and coordinated.decision is not None
        ):
            self.tell(coordinated, src)
        elif self.node in body["participants"]:
            part = self.help_decide(src, body)
            if part is not None and part.id in self.recovering:
                self.send_state(src, part, CROSS)
            elif part is not None and src == part.coordinator:
                self.be_orphaned(part)

    def be_orphaned(self, part: Part) -> None:
        """Take over soon, only once: a coordinator that asks has crashed."""
        if part.id not in self.orphans:
            self.orphans.add(part.id)
            wait_ms = self.rank(part) * self.election_step_ms
            self.set_timer(f"decision {part.id}", wait_ms)

    def on_survivor_state(self, part: Part, src: str, body: Body) -> None:
        """Note the state of another participant that is back from a crash."""
        if part.id in self.survivors and body["recovering"]:
            self.survivors[part.id][src] = body["state"]
            self.decide_if_all_crashed(part)

    def decide_if_all_crashed(self, part: Part) -> None:
        """After total failure, once all are back, let what is on their disks decide.

        That doesn't change any more, so all of them come to the same decision.
        """
        states = self.survivors[part.id]
        if states.keys() >= set(part.participants):
            all_crossed = set(states.values()) == {PRE_COMMITTED}
            self.end_for_all(part, COMMIT if all_crossed else ABORT)

    # --- decisions ---------------------------------------------------------------

    @override
    def on_decision(self, src: str, body: Body) -> None:
        """Learn it, as participant, as coordinator that was replaced, or as both.

        TR1 and TR2: a participant that terminates passes the decision on, as the others
        follow its round and would wait for it. If the decision is the coordinator's
        own, the coordinator tells all itself.
        """
        if body["coordinator"] == self.node:
            self.adopt(body["id"], body["decision"], src)
            if body["id"] not in self.parts:
                return
        leads = body["id"] in self.terminations and src != body["coordinator"]
        super().on_decision(src, body)
        if leads and body["id"] not in self.terminations:
            part = self.parts[body["id"]]
            self.pass_on(part, body["decision"])

    def adopt(self, transaction: str, decision: str, by: str) -> None:
        """As coordinator, adopt what participants decided in its place."""
        coordinated = self.coordinated.get(transaction)
        if coordinated is not None and coordinated.decision is None:
            self.decide(coordinated, decision, by)

    @override
    def decide(
        self,
        coordinated: Coordinated,
        decision: str,
        by: str,
        reply: Body | None = None,
    ) -> None:
        """Decide as coordinator, and forget the barrier."""
        self.barriers.pop(coordinated.id, None)
        self.cancel_timer(f"barrier {coordinated.id}")
        self.cancel_timer(f"outcome {coordinated.id}")
        super().decide(coordinated, decision, by, reply)

    @override
    def settle(self, part: Part, decision: str) -> None:
        """Decide as participant, and forget all that was kept until then."""
        super().settle(part, decision)
        self.pre_committed.discard(part.id)
        self.turned_back.discard(part.id)
        self.recovering.discard(part.id)
        self.orphans.discard(part.id)
        self.rounds.pop(part.id, None)
        if self.terminations.pop(part.id, None) is not None:
            self.cancel_timer(f"states {part.id}")
        self.survivors.pop(part.id, None)

    @override
    def on_vote_for_unknown(self, src: str, body: Body) -> None:
        """Do nothing: the participants may have committed, so presume no abort."""

    # --- the disk ----------------------------------------------------------------

    def persist_pre_committed(self, part: Part) -> None:
        """Persist that this participant is across the barrier."""
        self.persist({"record": "pre_commit", "id": part.id})

    @override
    def start(self, recovered: Sequence[Record]) -> list[Effect]:
        """Begin, and observe on which side of the barrier this participant is."""
        effects = super().start(recovered)
        if self.recovering:
            self.observe(
                "recovered",
                undecided=sorted(self.recovering),
                pre_committed=sorted(self.pre_committed),
                turned_back=sorted(self.turned_back),
            )
        return [*effects, *self.take_effects()]

    @override
    def recover(self, record: Record) -> None:
        """Take back on which side of the barrier this participant was."""
        match record["record"]:
            case "pre_commit":
                self.pre_committed.add(record["id"])
                self.turned_back.discard(record["id"])
            case "pre_abort":
                self.pre_committed.discard(record["id"])
                self.turned_back.add(record["id"])
            case _:
                super().recover(record)

    @override
    def recover_vote(self, record: Record) -> None:
        """Take back a vote. What is undecided at the end of the log is recovering."""
        super().recover_vote(record)
        if record["id"] in self.open_parts:
            self.recovering.add(record["id"])


def build(
    node: str,
    peers: Sequence[str],
    options: Mapping[str, Any],
    core: type[ThreePhaseCommit] | None = None,
) -> Actor:
    """A node called `node`; `options` holds a value for each of OPTIONS.

    Args:
        node: Its name.
        peers: The names of the others.
        options: A value for each of OPTIONS.
        core: The class to build: ThreePhaseCommit, or a mutant of it.

    Raises:
        ValueError: Options that make no sense together.
    """
    actor = (core or ThreePhaseCommit)(node, peers, options)
    check_times(actor)
    if actor.decision_timeout_ms <= 2 * actor.ack_timeout_ms:
        # A coordinator may take that long to cross the barrier and come back.
        raise ValueError("decision_timeout_ms must be above twice ack_timeout_ms")
    return actor
