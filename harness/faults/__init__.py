"""Faults: as data, as plans, and carried out.

For writing a nemesis:

    fault.py      Fault, Strike: a fault and its outcome, as data; Skip: there is none
    states.py     the states of a fault: asked for, applied, healed, skipped, failed
    targets.py    which nodes a fault is for: words, drawing, looking up
    quorum.py     Standing: whether a majority is left, or would be
    nemesis.py    Nemesis, Discerning, Lingering, Patterned: a kind of fault
    force.py      Grip: a strike acts through it; how several strikes add up
    holds.py      Holds: which strikes hold a node, a link or a clock, and how

The nodes that strikes act on:

    cluster.py     Cluster: a system's nodes in a world
    leadership.py  Leadership: guesses who leads if no node says so, by logs or answers
    watchdog.py    Watchdog: starts nodes again that exit on their own

For running a test:

    plan.py       Trigger, Step, Plan: when to break what; YAML in and out
    profiles.py   Profile, Rhythm: how hard a run is, in a word; swarms
    drawing.py    plans drawn from a seed
    schedule.py   Schedule: a plan as nemesis operations, for the interpreter
    conductor.py  Conductor: carries out these operations, and records the evidence

The kinds of fault are in the package `nemesis`, one module each; nothing here knows
any of them.
"""

from harness.faults.conductor import Conductor, Record
from harness.faults.fault import Fault, NodeNames, Skip, Strike
from harness.faults.force import Force, Grip, Skew
from harness.faults.nemesis import (
    Discerning,
    Lingering,
    Nemesis,
    NemesisFactory,
    Patterned,
)
from harness.faults.plan import Plan, Step, Trigger
from harness.faults.schedule import Schedule, Sightings

__all__ = [
    "Conductor",
    "Discerning",
    "Fault",
    "Force",
    "Grip",
    "Lingering",
    "Nemesis",
    "NemesisFactory",
    "NodeNames",
    "Patterned",
    "Plan",
    "Record",
    "Schedule",
    "Sightings",
    "Skew",
    "Skip",
    "Step",
    "Strike",
    "Trigger",
]
