"""Draws fault plans from a seed.

Kinds of fault take turns in random order, so that each strikes early in even a short
run; now and then a fault begins while another is in force, as the bugs worth finding
need two things to go wrong; and there are quiet spells, in which a system must get
going again. In some rhythms a fault is relayed: the next one of its kind begins just
before it ends, so the cluster goes from one broken state to another, and nobody catches
up between. How often and for how long, the rhythm of a profile says (`profiles`).

If a system names its `moments`, some steps wait for one of them. Bugs of recovery lie
between two messages or two writes; a fault at a random time hits such a gap by luck, a
fault at the moment that opens it by design. Most such moments come in answer to another
fault, so such a step begins to watch when the latest fault before it begins.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from harness.faults.nemesis import Lingering
from harness.faults.plan import Plan, Step, Trigger
from harness.faults.profiles import STANDARD
from harness.faults.targets import for_observer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
RELAY_S = (0.01, 0.3)
"""How long before the end of a fault the one begins that it is relayed by."""
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
    """
    random = Random(f"plan {seed}")
    steps: list[Step] = []
    bag: list[str] = []
    free_at = dict.fromkeys(nemeses, 0.0)
    start = random.uniform(*FIRST_S) * min(1.0, time_limit_s / SHORT_S)
    last_begin = start
    while nemeses:
        relays = bool(steps) and is_relayed(random, steps[-1], nemeses, rhythm)
        if relays:
            kind, moment = steps[-1].fault.kind, False
            ends_s = steps[-1].at.latest_s + steps[-1].heal_after_s
            begin = max(last_begin, ends_s - log_uniform(random, *RELAY_S))
        else:
            if not bag:
                bag = random.sample(sorted(nemeses), len(nemeses))
            kind = bag.pop()
            moment = bool(moments) and random.random() < rhythm.moment_chance
            earliest = last_begin if moment and rhythm.overlaps else start
            begin = max(earliest, free_at[kind])
        at = draw_trigger(random, begin, moments if moment else ())
        nemesis = nemeses[kind]
        background = nemesis.background
        shortest, longest = rhythm.duration_s
        if background:
            shortest, longest = BACKGROUND_S_MIN, max(longest, BACKGROUND_S_MIN)
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
        if moment and random.random() < OBSERVER_CHANCE:
            fault = for_observer(fault)
        steps.append(Step(at, fault, round(end - at.latest_s, 3)))
        felt_s = 0.0
        if isinstance(nemesis, Lingering):
            felt_s = nemesis.lingers_s(fault, end - begin)
        free_at[kind] = end + APART_S_MIN + felt_s
        chance = (
            rhythm.background_overlap_chance if background else rhythm.overlap_chance
        )
        overlap = len(nemeses) > 1 and random.random() < chance
        quiet = log_uniform(random, *rhythm.quiet_s)
        start = random.uniform(begin, end) if overlap else max(end, start) + quiet
        if not rhythm.overlaps:
            start += felt_s
        if untried and until > end:
            start = min(start, until)
        last_begin = max(last_begin, begin)
    return tuple(sorted(steps, key=lambda step: step.at.time_s or 0.0))


def is_relayed(
    random: Random, step: Step, nemeses: Mapping[str, Nemesis], rhythm: Rhythm
) -> bool:
    """Whether the step's fault is relayed; those that only make others worse aren't."""
    possible = rhythm.relay_chance > 0 and not nemeses[step.fault.kind].background
    return possible and random.random() < rhythm.relay_chance


def draw_trigger(random: Random, begin_s: float, moments: Sequence[Event]) -> Trigger:
    """A trigger at `begin_s`, or at one of `moments` that come soon after, if any."""
    if not moments:
        return Trigger(time_s=round(begin_s, 3))
    return Trigger(
        time_s=round(begin_s, 3),
        event=random.choice(moments),
        count=random.choice((1, 1, 2, 3)),
        within_s=WITHIN_S,
    )


def log_uniform(random: Random, low: float, high: float) -> float:
    """A number between the bounds, each of its orders of magnitude equally likely."""
    return float(low * (high / low) ** random.random())
