"""Draws fault plans from a seed.

Kinds of fault take turns in random order, so that each strikes early in even a short
run; now and then a fault begins while another is in force, as the bugs worth finding
need two things to go wrong; and there are quiet spells, in which a system must get
going again. In some rhythms a fault is relayed: the next one of its kind begins just
before it ends, so the cluster goes from one broken state to another, and nobody catches
up between. How often and for how long, the rhythm of a profile says (`profiles`).

A fault that only makes others worse, such as a wrong clock, lasts while others come and
go: as long as it is felt, its kind gives up its turns. Most of the faults that strike
meanwhile are aimed at its nodes. A leader does no harm by a slow clock, nor by being
cut off; both at once break its lease, and two faults that are drawn apart seldom meet
at one node.

If a system names its `moments`, some steps wait for one of them. Bugs of recovery lie
between two messages or two writes; a fault at a random time hits such a gap by luck, a
fault at the moment that opens it by design. Most such moments come in answer to another
fault, so such a step begins to watch when the latest fault before it begins.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.faults.nemesis import Aimable, Lingering, Targeting, Timed
from harness.faults.plan import Plan, Step, Trigger
from harness.faults.profiles import STANDARD
from harness.faults.targets import LEADER, for_observer, for_target, word_for
from harness.registry import nearest
from harness.worlds.events import Observed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.faults.fault import Fault
    from harness.faults.nemesis import Nemesis
    from harness.faults.profiles import Rhythm
    from harness.worlds.events import Event

FIRST_S = (0.5, 1.5)
"""The first fault comes this soon after the start, so that a newcomer sees one; in a
run that is shorter than `SHORT_S`, sooner by as much."""
SHORT_S = 10.0
ROOM_S_MIN = 1.0
"""No fault begins when less time than this is left."""
BACKGROUND_S_MIN = 0.5
"""A wrong clock or a slow link breaks little by itself: it has to last, and something
else has to go wrong meanwhile."""
SLOT_S = 1.0
"""What a kind needs for its first strike, the pause before the next one included."""
APART_S_MIN = 0.2
"""Least time between two faults of one kind."""
WITHIN_S = 0.7
"""How long a step waits for its event: elections take up to half a second."""
AWAITED_WITHIN_S = 2.0
"""The same, if all faults of its kind wait for events: other steps may come first."""
RELAY_S = (0.01, 0.3)
"""How long before the end of a fault the one begins that it is relayed by."""
COMPANY_CHANCE = 0.8
"""Part of the faults during one that makes others worse which are for its nodes."""
COMPANY_WITHIN = 0.25
"""The part of such a fault in which the next one begins, if they overlap: they should
overlap for long enough to matter."""
OBSERVER_CHANCE = 0.5
"""Part of the steps set off by an event that strike the node that observed it."""


def draw(
    seed: int,
    nemeses: Mapping[str, Nemesis],
    nodes: Sequence[str],
    *,
    time_limit_s: float,
    moments: Sequence[Event] = (),
    rhythm: Rhythm = STANDARD.rhythm,
) -> Plan:
    """A random plan for `time_limit_s` seconds; the same for the same arguments.

    Every fault ends before the time is up, and two faults of one kind never overlap,
    unless one is relayed by another.
    Every kind strikes, if there is a second for each. `moments` are events that are
    worth a fault.

    Raises:
        UsageError: A kind is to wait for an event that is none of `moments`.
    """
    random = Random(f"plan {seed}")
    steps: list[Step] = []
    bag: list[str] = []
    free_at = dict.fromkeys(nemeses, 0.0)
    awaited = {kind: events_of(nemesis, moments) for kind, nemesis in nemeses.items()}
    start = random.uniform(*FIRST_S) * min(1.0, time_limit_s / SHORT_S)
    last_begin = start
    worse: Step | None = None  # the latest step whose fault makes others worse
    while nemeses:
        relays = bool(steps) and is_relayed(random, steps[-1], nemeses, rhythm)
        if relays:
            kind, moment = steps[-1].fault.kind, False
            begin = max(last_begin, end_s(steps[-1]) - log_uniform(random, *RELAY_S))
        else:
            kind = take_turn(random, bag, nemeses, free_at, start)
            moment = bool(moments) and random.random() < rhythm.moment_chance
            moment = moment or bool(awaited[kind])
            early = (moment or nemeses[kind].background) and rhythm.overlaps
            earliest = last_begin if early else start
            begin = max(earliest, free_at[kind])
        at = draw_trigger(random, begin, moments if moment else (), awaited[kind])
        nemesis = nemeses[kind]
        background = nemesis.background
        joins = not background and worse is not None and begin < end_s(worse)
        joins = joins and random.random() < COMPANY_CHANCE
        shortest, longest = rhythm.background_s if background else rhythm.duration_s
        if background or joins:
            shortest, longest = (max(s, BACKGROUND_S_MIN) for s in (shortest, longest))
        duration = log_uniform(random, shortest, longest)
        room = time_limit_s - at.latest_s
        if room < min(ROOM_S_MIN, time_limit_s / 2):
            break
        # In the first round, leave those that have not struck yet a slot each.
        untried = bag if len(steps) < len(nemeses) else []
        until = time_limit_s - ROOM_S_MIN - SLOT_S * len(untried)
        if untried and until > at.latest_s + shortest:
            room = min(room, until - at.latest_s)
        end = at.latest_s + min(duration, room)
        fault = nemesis.draw(random, nodes)
        if moment and (awaited[kind] or random.random() < OBSERVER_CHANCE):
            if awaited[kind] or may_be_one(nemesis):
                fault = for_observer(fault)
        elif joins and worse is not None:
            fault = beside(fault, nemesis, worse.fault, nodes)
        steps.append(Step(at, fault, round(end - at.latest_s, 3)))
        if background:
            worse = steps[-1]
        felt_s = 0.0
        if isinstance(nemesis, Lingering):
            felt_s = nemesis.lingers_s(fault, end - begin)
        free_at[kind] = end + APART_S_MIN + felt_s
        chance = (
            rhythm.background_overlap_chance if background else rhythm.overlap_chance
        )
        overlap = len(nemeses) > 1 and random.random() < chance
        quiet = log_uniform(random, *rhythm.quiet_s)
        part = COMPANY_WITHIN if background else 1.0
        during = random.uniform(begin, begin + part * (end - begin))
        start = during if overlap else max(end, start) + quiet
        if not rhythm.overlaps:
            start += felt_s
        if untried and until > end:
            start = min(start, until)
        last_begin = max(last_begin, begin)
    return tuple(sorted(steps, key=lambda step: step.at.time_s or 0.0))


def events_of(nemesis: Nemesis, moments: Sequence[Event]) -> list[Event]:
    """Those of `moments` that all faults of this kind wait for; most wait for none.

    Raises:
        UsageError: It is to wait for another event.
    """
    wanted = nemesis.events if isinstance(nemesis, Timed) else ()
    known = {m.kind: m for m in moments if isinstance(m, Observed)}
    for name in wanted:
        if name not in known:
            raise UsageError(
                f"--set {nemesis.kind}.events: the system names no event {name!r:.60}"
                f"{nearest(name, known)} (it names: {', '.join(known) or 'none'})"
            )
    return [known[name] for name in wanted]


def take_turn(
    random: Random,
    bag: list[str],
    nemeses: Mapping[str, Nemesis],
    free_at: Mapping[str, float],
    begin_s: float,
) -> str:
    """The kind whose turn it is at `begin_s`, taken out of `bag`, which is refilled.

    A kind that makes others worse gives its turn up while its last fault is felt.
    """

    def is_free(kind: str) -> bool:
        return free_at[kind] <= begin_s or not nemeses[kind].background

    if not any(map(is_free, bag)):
        rest = sorted(set(nemeses) - set(bag))
        bag[:0] = random.sample(rest, len(rest))
    kind = next((kind for kind in reversed(bag) if is_free(kind)), bag[-1])
    bag.remove(kind)
    return kind


def may_be_one(nemesis: Nemesis) -> bool:
    """False if a user has aimed all faults of this kind at all nodes, or the leader."""
    return not isinstance(nemesis, Targeting) or not set(nemesis.targets) <= {
        "all",
        LEADER,
    }


def beside(fault: Fault, nemesis: Nemesis, other: Fault, nodes: Sequence[str]) -> Fault:
    """The fault aimed at the nodes of another one, if its kind may strike these."""
    target = other.params.get("target")
    if isinstance(nemesis, Aimable):
        return nemesis.aimed_at(fault, target, nodes)
    words = nemesis.targets if isinstance(nemesis, Targeting) else ()
    return for_target(fault, target) if word_for(target, nodes) in words else fault


def end_s(step: Step) -> float:
    """When the step is healed at the latest, if time decides when it begins."""
    return step.at.latest_s + step.heal_after_s


def is_relayed(
    random: Random, step: Step, nemeses: Mapping[str, Nemesis], rhythm: Rhythm
) -> bool:
    """Whether the step's fault is relayed; those that only make others worse aren't."""
    possible = rhythm.relay_chance > 0 and not nemeses[step.fault.kind].background
    return possible and random.random() < rhythm.relay_chance


def draw_trigger(
    random: Random,
    begin_s: float,
    moments: Sequence[Event],
    awaited: Sequence[Event] = (),
) -> Trigger:
    """A trigger at `begin_s`, or at one of `moments` that come soon after, if any.

    If some are awaited, it is at one of these.
    """
    if not moments and not awaited:
        return Trigger(time_s=round(begin_s, 3))
    return Trigger(
        time_s=round(begin_s, 3),
        event=random.choice(awaited or moments),
        count=random.choice((1, 1, 2, 3)),
        within_s=AWAITED_WITHIN_S if awaited else WITHIN_S,
    )


def log_uniform(random: Random, low: float, high: float) -> float:
    """A number between the bounds, each of its orders of magnitude equally likely."""
    return float(low * (high / low) ** random.random())
