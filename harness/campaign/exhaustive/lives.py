"""What a node is at, and what each event makes of it.

A node's state is its core, what its disk holds, its timers, its clock, and all that it
has observed so far. The last is part of it because the invariants are about whole
lives: a server that lost its term in a crash is at the same point as one that never had
it, but only one of them has broken a rule.

A core is deterministic, so an event in a state is computed once, however many states of
the cluster share it. A core can't be copied, as it may hold anything. It is made again
by what it has been told since it started, which is short.

What a world owes to cores (`reference_impls.actor`), and how it is kept here:

- *Disk.* A step is atomic: its records are durable when it is over. Or the node crashes
  in it, before a record: then what came before that record has left, and the rest is
  lost. Nothing else could be told apart by others.
- *Timers.* One fires at the earliest moment that its bounds allow, and only if no other
  timer of the node must have fired before. Timers of 0 ms end the turn in which they
  were set: so each message is a turn of its own, and batches have one request.
- *Clocks.* Each node has its own, which stands still but for timers and restarts. So
  the clocks of two nodes may be apart as far as one likes, as if one ran slow.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeAlias, TypeVar

import msgspec

from harness.campaign.exhaustive.freezing import freeze
from harness.errors import HarnessError
from harness.history.observations import RESTARTED
from reference_impls.actor import (
    CancelTimer,
    Now,
    Observe,
    Persist,
    Received,
    Reply,
    Send,
    SetTimer,
    TimerFired,
)

if TYPE_CHECKING:
    from harness.systems.abilities import Simulated
    from reference_impls.actor import Actor, Effect, Event

MS = 1_000_000
START_NS = 1_000 * MS
"""What all clocks show at first; cores take 0 for "never"."""
RESTART_NS = MS
"""How long a restart takes, so that no reading comes back in another life."""
TIMERS_IN_A_TURN_MAX = 1_000

DELIVER, FIRE, INVOKE, CRASH = "deliver", "fire", "invoke", "crash"

Happening: TypeAlias = tuple[str, int | str]
"""An event: DELIVER and a message, FIRE and a timer, INVOKE and an operation, CRASH."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

K = TypeVar("K", bound=Hashable)


class Numbered(Generic[K]):
    """Things by number, each once."""

    def __init__(self) -> None:
        self.things: list[K] = []
        self._numbers: dict[K, int] = {}

    def number(self, thing: K) -> int:
        """The number of `thing`; a new one if it is new."""
        number = self._numbers.setdefault(thing, len(self.things))
        if number == len(self.things):
            self.things.append(thing)
        return number

    def __getitem__(self, number: int) -> K:
        return self.things[number]

    def __len__(self) -> int:
        return len(self.things)


class Message(NamedTuple):
    """A message on its way; servers by their places, `body` is JSON."""

    src: int
    dest: int
    body: bytes


class Observation(NamedTuple):
    """What a node observed; `fields` is JSON."""

    kind: str
    fields: bytes


class Timer(NamedTuple):
    """A timer that runs; it fires within these bounds, on the node's clock."""

    name: str
    earliest_ns: int
    latest_ns: int


class Told(NamedTuple):
    """Something that a core was told, and what its clock showed."""

    kind: str
    what: int | str
    clock_ns: int


@dataclass(frozen=True, slots=True)
class Life:
    """A node at some moment.

    Attributes:
        node: Its place among the servers.
        recovered: The records that it started with.
        told: What happened to it since.
        durable: The records on its disk.
        timers: Those that run, in the order in which they were set.
        clock_ns: What its clock shows.
        observed: All its observations, by number, in all its lives.
        touched: Something has happened to it since it first started.
        fault: Why its process ended by itself; empty while it lives.
    """

    node: int
    recovered: tuple[bytes, ...] = ()
    told: tuple[Told, ...] = ()
    durable: tuple[bytes, ...] = ()
    timers: tuple[Timer, ...] = ()
    clock_ns: int = START_NS
    observed: tuple[int, ...] = ()
    touched: bool = False
    fault: str = ""

    def due(self) -> list[Timer]:
        """The timers that may be the next to fire."""
        limit_ns = min((timer.latest_ns for timer in self.timers), default=0)
        return [timer for timer in self.timers if timer.earliest_ns <= limit_ns]


class Outcome(NamedTuple):
    """What an event made of a node.

    Attributes:
        life: Its number.
        sent: The messages that left, by number.
        replies: Operations that were answered, with the answer's number.
        torn: The node crashed in the middle, with so many records of the step durable,
            and was started again; -1 if it did not.
    """

    life: int
    sent: tuple[int, ...]
    replies: tuple[tuple[int, int], ...]
    torn: int


class Lives:
    """All states that nodes were found in, by number, with what follows from them.

    Args:
        system: Whose cores they run.
        nodes: Their names.
        requests: What clients ask for, in order.
        tell_touched: Whether it matters that nothing has happened to a node yet.
    """

    def __init__(
        self,
        system: Simulated,
        nodes: Sequence[str],
        requests: Sequence[Mapping[str, object]],
        *,
        tell_touched: bool,
    ) -> None:
        self.nodes = tuple(nodes)
        self.lives: list[Life] = []
        self.messages: Numbered[Message] = Numbered()
        self.answers: Numbered[bytes] = Numbered()
        self.observations: Numbered[Observation] = Numbered()
        self.observed: list[int] = []
        """Life -> the number of all that it has observed."""
        self.due: list[tuple[str, ...]] = []
        """Life -> the timers that may fire next."""
        self.steps = 0
        self._tell_touched = tell_touched
        self._system = system
        self._places = {name: place for place, name in enumerate(self.nodes)}
        self._requests = [_encode(request) for request in requests]
        self._histories: Numbered[tuple[int, ...]] = Numbered()
        self._numbers: dict[Hashable, int] = {}
        self._after: dict[tuple[int, Happening], tuple[Outcome, ...]] = {}

    def first(self, node: int) -> Outcome:
        """A node starts for the first time."""
        return self._begin(Life(node, touched=not self._tell_touched), (), ())

    def history(self, life: int) -> tuple[int, ...]:
        """All that a node has observed, by number."""
        return self.lives[life].observed

    def after(self, life: int, event: Happening) -> tuple[Outcome, ...]:
        """What an event makes of a node: first without a crash, then with each."""
        found = self._after.get((life, event))
        if found is None:
            found = self._after[life, event] = self._computed(self.lives[life], event)
        return found

    # Cores

    def _computed(self, life: Life, event: Happening) -> tuple[Outcome, ...]:
        self.steps += 1
        life = replace(life, touched=True)
        kind, what = event
        if kind == CRASH:
            return (self._restarted(life, (), ()),)
        clock_ns, timers = life.clock_ns, {t.name: t for t in life.timers}
        if kind == FIRE:
            timer = timers.pop(str(what))
            clock_ns = max(clock_ns, timer.earliest_ns)
        core = self._revived(life)
        turn = Turn(self, life.node, clock_ns, timers)
        turn.take(core, Told(kind, what, clock_ns))
        whole = self._ended(life, turn, core)
        if turn.fault or not self._system.fsync:
            return (whole,)
        return (whole, *self._torn(life, turn))

    def _revived(self, life: Life) -> Actor:
        """A core that has been told all that this life was told."""
        core = self._built(life.node)
        core.start([_decode(record) for record in life.recovered])
        for told in life.told:
            core.step(self.event(life.node, told))
        return core

    def _built(self, node: int) -> Actor:
        name = self.nodes[node]
        return self._system.build(name, [n for n in self.nodes if n != name])

    def event(self, node: int, told: Told) -> Event:
        """What a core is told, as its own copy."""
        now = Now(told.clock_ns, told.clock_ns)
        if told.kind == FIRE:
            return TimerFired(str(told.what), now)
        number = int(told.what)
        if told.kind == INVOKE:
            return Received(f"c{number}", _decode(self._requests[number]), now, number)
        message = self.messages[number]
        assert message.dest == node
        return Received(self.nodes[message.src], _decode(message.body), now)

    def send(self, src: int, effect: Send) -> int:
        """The number of a message.

        Raises:
            HarnessError: It goes to nobody.
        """
        if effect.dest not in self._places:
            raise HarnessError(f"{self.nodes[src]} sends to {effect.dest!r}: no node")
        dest = self._places[effect.dest]
        return self.messages.number(Message(src, dest, _encode(effect.body)))

    # What a step leaves

    def _ended(self, life: Life, turn: Turn, core: Actor) -> Outcome:
        """After the whole turn, with all its records durable."""
        done = self._released(life, turn.effects)
        new = replace(
            life,
            told=life.told + tuple(turn.told),
            durable=done.durable,
            timers=tuple(turn.timers.values()),
            clock_ns=turn.clock_ns,
            observed=done.observed,
            fault=turn.fault,
        )
        # A node that has ended is no more than what it leaves.
        frozen = None if turn.fault else freeze(core)
        return Outcome(self._number(new, frozen), done.sent, done.replies, -1)

    def _torn(self, life: Life, turn: Turn) -> list[Outcome]:
        """The same turn, with a crash before each of its records was durable."""
        at = [i for i, x in enumerate(turn.effects) if isinstance(x, Persist)]
        out = []
        for kept, end in enumerate(at):
            done = self._released(life, turn.effects[:end])
            left = replace(
                life,
                durable=done.durable,
                observed=done.observed,
                clock_ns=turn.clock_ns,
            )
            again = self._restarted(left, done.sent, done.replies)
            out.append(again._replace(torn=kept))
        return out

    def _released(self, life: Life, effects: Sequence[Effect]) -> Released:
        """What these effects of a turn put on the disk and let go."""
        durable, observed = list(life.durable), list(life.observed)
        sent: list[int] = []
        replies: list[tuple[int, int]] = []
        for effect in effects:
            match effect:
                case Persist(record, replaces):
                    if replaces:
                        durable.clear()
                    durable.append(_encode(record))
                case Send():
                    sent.append(self.send(life.node, effect))
                case Reply(request, body):
                    assert isinstance(request.channel, int), "no client asked for that"
                    answer = self.answers.number(_encode(body))
                    replies.append((request.channel, answer))
                case Observe(kind, fields):
                    seen = Observation(kind, _encode(fields))
                    observed.append(self.observations.number(seen))
                case SetTimer() | CancelTimer():
                    pass
        return Released(tuple(durable), tuple(observed), tuple(sent), tuple(replies))

    def _restarted(
        self, life: Life, sent: tuple[int, ...], replies: tuple[tuple[int, int], ...]
    ) -> Outcome:
        """A node comes back, with what is on its disk."""
        mark = self.observations.number(Observation(RESTARTED, b"{}"))
        again = Life(
            life.node,
            recovered=life.durable,
            durable=life.durable,
            clock_ns=life.clock_ns + RESTART_NS,
            observed=(*life.observed, mark),
            touched=True,
        )
        return self._begin(again, sent, replies)

    def _begin(
        self, life: Life, sent: tuple[int, ...], replies: tuple[tuple[int, int], ...]
    ) -> Outcome:
        """A node starts, with the records that it recovers."""
        core = self._built(life.node)
        turn = Turn(self, life.node, life.clock_ns, {})
        turn.begin(core, [_decode(record) for record in life.recovered])
        whole = self._ended(life, turn, core)
        return whole._replace(sent=sent + whole.sent, replies=replies + whole.replies)

    def _number(self, life: Life, frozen: Hashable) -> int:
        """The number of a state; `frozen` stands for what the core was told."""
        key = (
            life.node,
            frozen,
            life.durable,
            life.timers,
            life.clock_ns,
            life.observed,
            life.touched,
            life.fault,
        )
        number = self._numbers.setdefault(key, len(self.lives))
        if number == len(self.lives):
            self.lives.append(life)
            self.observed.append(self._histories.number(life.observed))
            due = () if life.fault else tuple(timer.name for timer in life.due())
            self.due.append(due)
        return number


class Released(NamedTuple):
    """What effects put on the disk and let go."""

    durable: tuple[bytes, ...]
    observed: tuple[int, ...]
    sent: tuple[int, ...]
    replies: tuple[tuple[int, int], ...]


class Turn:
    """One turn of a node: an event, and the timers of 0 ms that are set in it.

    Attributes:
        effects: What it did, in order.
        timers: Those that run after it.
        told: What the core was told.
        fault: Why the core ended by itself; empty if it did not.
    """

    def __init__(
        self, lives: Lives, node: int, clock_ns: int, timers: dict[str, Timer]
    ) -> None:
        self.effects: list[Effect] = []
        self.timers = timers
        self.clock_ns = clock_ns
        self.told: list[Told] = []
        self.fault = ""
        self._lives = lives
        self._node = node
        self._at_once: dict[str, None] = {}

    def begin(self, core: Actor, recovered: list[dict[str, object]]) -> None:
        """Start a core."""
        self._note(self._asked(lambda: core.start(recovered)))
        self._finish(core)

    def take(self, core: Actor, told: Told) -> None:
        """Tell a core of an event."""
        self._step(core, told)
        self._finish(core)

    def _finish(self, core: Actor) -> None:
        for _ in range(TIMERS_IN_A_TURN_MAX):
            if self.fault or not self._at_once:
                return
            name = next(iter(self._at_once))
            del self._at_once[name]
            self._step(core, Told(FIRE, name, self.clock_ns))
        self.fault = "it sets timers of 0 ms without end"

    def _step(self, core: Actor, told: Told) -> None:
        self.told.append(told)
        event = self._lives.event(self._node, told)
        self._note(self._asked(lambda: core.step(event)))

    def _asked(self, core: Callable[[], Sequence[Effect]]) -> Sequence[Effect]:
        """What a core does; nothing if it fails, which is its own, and a finding."""
        try:
            return core()
        except Exception as flaw:  # whatever a broken core raises fells its node
            self.fault = f"{type(flaw).__name__}: {flaw}"
            return ()

    def _note(self, effects: Sequence[Effect]) -> None:
        self.effects += effects
        for effect in effects:
            match effect:
                case SetTimer(name, low_ms, high_ms):
                    self.timers.pop(name, None)
                    self._at_once.pop(name, None)
                    if high_ms <= 0:
                        self._at_once[name] = None
                    else:
                        low, high = (int(ms * MS) for ms in (low_ms, high_ms))
                        now_ns = self.clock_ns
                        self.timers[name] = Timer(name, now_ns + low, now_ns + high)
                case CancelTimer(name):
                    self.timers.pop(name, None)
                    self._at_once.pop(name, None)
                case _:
                    pass
