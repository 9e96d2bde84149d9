"""A plan put to work: the generator of nemesis operations, and their conductor."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.faults import drawing
from harness.faults import plan as plans
from harness.faults.conductor import Conductor, Record, Value, numbered
from harness.faults.nemesis import Discerning
from harness.faults.profiles import STANDARD
from harness.workload.generator import (
    DONE,
    HEAL,
    NEMESIS,
    PENDING,
    START,
    STOP,
    Flow,
    Generator,
    Invocation,
    Pending,
)
from harness.worlds.capabilities import Capabilities

if TYPE_CHECKING:
    from harness.faults.cluster import Cluster
    from harness.faults.nemesis import Nemesis
    from harness.faults.plan import Plan, Trigger
    from harness.faults.profiles import Rhythm
    from harness.workload.generator import Context, Offer, Step
    from harness.worlds.events import Event, Where

NS_PER_S = 1_000_000_000

LOOK_AGAIN_NS = 2_000_000

Sightings = Callable[["Event"], Mapping["Where", int]]
"""Event -> how often it was seen so far, by the nodes at which it happened."""


class _Watch:
    """Counts the event of a trigger from the moment at which the watch begins."""

    __slots__ = ("_before", "_enough", "_event", "_sightings")

    def __init__(self, event: Event, trigger: Trigger, sightings: Sightings) -> None:
        self._event = event
        self._sightings = sightings
        since_start = trigger.time_s is None
        self._before = {} if since_start else dict(sightings(event))
        self._enough = trigger.count + sum(self._before.values())

    def where(self) -> Where:
        """Where the event happened since; empty until it has come often enough.

        If it happened at several places, the first counts.
        """
        now = self._sightings(self._event)
        if sum(now.values()) < self._enough:
            return ()
        return next(where for where, n in now.items() if n > self._before.get(where, 0))


class _PlanFlow(Flow):
    """Starts each step when its trigger fires, and stops it `heal_after_s` later.

    Steps are started in the order of the plan. One that waits for an event for a
    limited time lets others go first: what they break may be what brings the event. Any
    other step whose trigger does not fire holds back the later ones, but no healing.
    """

    __slots__ = ("_sightings", "_steps", "_stops", "_waiting", "_watches", "_wheres")

    def __init__(self, steps: Plan, sightings: Sightings) -> None:
        self._steps = steps
        self._sightings = sightings
        self._waiting = list(range(len(steps)))  # not started yet, in order
        self._watches: dict[int, _Watch] = {}  # by step
        self._wheres: dict[int, Where] = {}  # by step: the place of its event
        self._stops: list[tuple[int, int]] = []  # (time_ns, step), soonest first

    def next(self, ctx: Context) -> Step:
        stop_ns = self._stops[0][0] if self._stops else None
        start, look_ns = self._next_start(ctx)
        if start is None or (look_ns is not None and look_ns < start[0]):
            # No event of a node wakes a generator, so it has to look again soon.
            if look_ns is not None and (stop_ns is None or look_ns < stop_ns):
                return Pending(look_ns)
            start = None
        if stop_ns is not None and (start is None or stop_ns <= start[0]):
            kind = self._steps[self._stops[0][1]].fault.kind
            return self._offer(ctx, STOP + kind, self._stops[0][1], stop_ns)
        if start is not None:
            start_ns, step = start
            where = self._wheres.get(step, ())
            value: Value = [step, *where] if where else step
            kind = self._steps[step].fault.kind
            return self._offer(ctx, START + kind, value, start_ns)
        return DONE

    def take(self, offer: Offer) -> None:
        if not isinstance(offer, Invocation):
            return
        if offer.f.startswith(STOP):
            self._stops.pop(0)
            return
        number, _ = numbered(offer.value)
        begun_ns = offer.time_ns or 0
        stop_ns = begun_ns + int(self._steps[number].heal_after_s * NS_PER_S)
        self._stops.append((stop_ns, number))
        self._stops.sort()
        self._waiting.remove(number)

    def _offer(self, ctx: Context, f: str, value: Value, time_ns: int) -> Step:
        if not ctx.free & ctx.board.nemesis:
            return PENDING
        return Invocation(f, value, thread=NEMESIS, time_ns=max(time_ns, ctx.time_ns))

    def _next_start(self, ctx: Context) -> tuple[tuple[int, int] | None, int | None]:
        """The next start and its step, and when to look for events again.

        Each is None if that is not known, or if there is no need to.
        """
        look_ns: int | None = None
        for step in self._waiting:
            at = self._steps[step].at
            start_ns = self._start_ns(step, ctx)
            if start_ns is not None:
                return (start_ns, step), look_ns
            again_ns = self._look_again_ns(at, ctx)
            look_ns = again_ns if look_ns is None else min(look_ns, again_ns)
            if at.within_s is None or step not in self._watches:
                break
        return None, look_ns

    def _start_ns(self, step: int, ctx: Context) -> int | None:
        """When the step starts; None if that is not known yet."""
        at = self._steps[step].at
        if at.ops is not None:
            return ctx.time_ns if ctx.board.completed >= at.ops else None
        if at.event is None:
            assert at.time_s is not None
            return int(at.time_s * NS_PER_S)
        if not self._wheres.get(step):
            self._look(step, at.event, at, ctx)
        fires = self._wheres.get(step) or self._is_too_late(at, ctx)
        return ctx.time_ns if fires else None

    def _look(self, step: int, event: Event, at: Trigger, ctx: Context) -> None:
        """Begin the watch once its time has come, and note where the event happened."""
        if step not in self._watches:
            if at.time_s is not None and ctx.time_ns < at.time_s * NS_PER_S:
                return
            self._watches[step] = _Watch(event, at, self._sightings)
        self._wheres[step] = self._watches[step].where()

    def _is_too_late(self, at: Trigger, ctx: Context) -> bool:
        return at.within_s is not None and ctx.time_ns >= at.latest_s * NS_PER_S

    def _look_again_ns(self, at: Trigger, ctx: Context) -> int:
        begin_ns = int((at.time_s or 0) * NS_PER_S) + 1
        return max(begin_ns, ctx.time_ns + LOOK_AGAIN_NS)


class Schedule:
    """The faults of one run: their plan and the nemeses that carry it out.

    Args:
        plan: When to break what.
        nemeses: By kind.
        written: Whether the plan was written, and not drawn.
    """

    def __init__(
        self, plan: Plan, nemeses: Mapping[str, Nemesis], *, written: bool = False
    ) -> None:
        self.plan = plan
        self._written = written
        self._nemeses = nemeses

    @property
    def needs(self) -> Capabilities:
        """The capabilities that the faults need of the world."""
        return union(self.needs_of(kind) for kind in self._nemeses)

    def needs_of(self, kind: str) -> Capabilities:
        """Those that faults of this kind need."""
        nemesis = self._nemeses[kind]
        if not (self._written and isinstance(nemesis, Discerning)):
            return nemesis.needs
        faults = [step.fault for step in self.plan if step.fault.kind == kind]
        return union(nemesis.needs_of(fault) for fault in faults)

    @property
    def events(self) -> frozenset[Event]:
        """The events that triggers wait for."""
        events = (step.at.event for step in self.plan)
        return frozenset(event for event in events if event is not None)

    def yaml(self) -> str:
        """The plan as it is stored in plan.yaml."""
        return plans.dump(self.plan)

    def generator(self, sightings: Sightings) -> Generator:
        """Nemesis operations that carry out the plan."""
        text = f"plan({len(self.plan)} steps)"
        return Generator(text, lambda _: _PlanFlow(self.plan, sightings))

    def heal(self) -> Invocation:
        """The operation that ends all faults."""
        return Invocation(HEAL, thread=NEMESIS)

    def conductor(self, cluster: Cluster, record: Record) -> Conductor:
        """The conductor that carries out the plan's operations on `cluster`."""
        return Conductor(self.plan, self._nemeses, cluster, record)


def build(
    nemeses: Mapping[str, Nemesis],
    nodes: Sequence[str],
    *,
    seed: int,
    time_limit_s: float,
    moments: Sequence[Event] = (),
    rhythm: Rhythm = STANDARD.rhythm,
    written: object = None,
) -> Schedule:
    """The schedule of a run: `written` (plain data) if given, else drawn from `seed`.

    `moments` are the events of the system that are worth a fault, and `rhythm` says how
    faults come.

    Raises:
        UsageError: The written plan makes no sense, or has a fault of a kind that is
            not among `nemeses`.
    """
    if written is not None:
        plan = plans.parse(written, "plan")
        plans.validate(plan, nemeses, nodes)
    else:
        plan = drawing.draw(
            seed,
            nemeses,
            nodes,
            time_limit_s=time_limit_s,
            moments=moments,
            rhythm=rhythm,
        )
    return Schedule(plan, nemeses, written=written is not None)


def union(needs: Iterable[Capabilities]) -> Capabilities:
    """All of them."""
    return functools.reduce(operator.or_, needs, Capabilities())


def kinds(written: object) -> list[str]:
    """The kinds of fault in a written plan, each once, in order of appearance."""
    return list(dict.fromkeys(step.fault.kind for step in plans.parse(written, "plan")))
