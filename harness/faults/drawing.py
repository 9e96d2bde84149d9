"""Draws fault plans from a seed.

Kinds of fault take turns in random order, so that each strikes early in even a short
run; now and then a fault begins while another is in force, as the bugs worth finding
need two things to go wrong; and there are quiet spells, in which a system must get
going again.

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
from harness.faults.targets import for_observer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.faults.nemesis import Nemesis
    from harness.worlds.events import Event

FIRST_S = (0.5, 1.5)
"""The first fault comes this soon after the start, so that a newcomer sees one."""
DURATION_S = (0.1, 4.5)
"""Every order of magnitude is equally likely: a node that is killed and back in a
moment takes part in the election that it forgot; one that is away for seconds comes
back to another leader and a longer log. Different bugs hide behind each."""
QUIET_S = (0.2, 2.0)
ROOM_S_MIN = 1.0
"""No fault begins when less time than this is left."""
OVERLAP_CHANCE = 0.35
BACKGROUND_OVERLAP_CHANCE = 0.8
BACKGROUND_S_MIN = 0.5
"""A wrong clock or a slow link breaks little by itself: it has to last, and something
else has to go wrong meanwhile."""
MOMENT_CHANCE = 0.4
"""Part of the steps that are set off by an event."""
WITHIN_S = 0.7
"""How long a step waits for its event: elections take up to half a second."""
OBSERVER_CHANCE = 0.5
"""Part of the steps set off by an event that strike the node that observed it."""


def draw(
    seed: int,
    nemeses: Mapping[str, Nemesis],
    nodes: Sequence[str],
    *,
    time_limit_s: float,
    moments: Sequence[Event] = (),
) -> Plan:
    """A random plan for `time_limit_s` seconds; the same for the same arguments.

    Every fault ends before the time is up, and two faults of one kind never overlap.
    `moments` are events that are worth a fault.
    """
    random = Random(f"plan {seed}")
    steps: list[Step] = []
    bag: list[str] = []
    free_at = dict.fromkeys(nemeses, 0.0)
    last_begin = start = random.uniform(*FIRST_S)
    while nemeses:
        if not bag:
            bag = random.sample(sorted(nemeses), len(nemeses))
        kind = bag.pop()
        moment = bool(moments) and random.random() < MOMENT_CHANCE
        begin = max(last_begin if moment else start, free_at[kind])
        at = draw_trigger(random, begin, moments if moment else ())
        nemesis = nemeses[kind]
        background = nemesis.background
        shortest, longest = DURATION_S
        if background:
            shortest = BACKGROUND_S_MIN
        duration = log_uniform(random, shortest, longest)
        room = time_limit_s - at.latest_s
        if room < min(ROOM_S_MIN, time_limit_s / 2):
            break
        end = at.latest_s + min(duration, room)
        fault = nemesis.draw(random, nodes)
        if moment and random.random() < OBSERVER_CHANCE:
            fault = for_observer(fault)
        steps.append(Step(at, fault, round(end - at.latest_s, 3)))
        free_at[kind] = end + QUIET_S[0]
        if isinstance(nemesis, Lingering):
            free_at[kind] += nemesis.lingers_s(fault, end - begin)
        chance = BACKGROUND_OVERLAP_CHANCE if background else OVERLAP_CHANCE
        overlap = len(nemeses) > 1 and random.random() < chance
        quiet = log_uniform(random, *QUIET_S)
        start = random.uniform(begin, end) if overlap else max(end, start) + quiet
        last_begin = max(last_begin, begin)
    return tuple(sorted(steps, key=lambda step: step.at.time_s or 0.0))


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
