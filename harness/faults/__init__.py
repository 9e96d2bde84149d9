"""Faults: as data, as plans, and carried out.

For whoever writes a nemesis:

    fault.py      Fault, Strike, Json: what breaks and what came of it, as data
    targets.py    which nodes a fault is for: words, drawing, looking up
    nemesis.py    Nemesis, Lingering, NemesisFactory: one kind of fault, as a plug-in

For whoever runs a test:

    plan.py       Trigger, Step, Plan: when to break what; YAML in and out
    drawing.py    plans drawn from a seed
    schedule.py   Schedule: a plan as nemesis operations, for the interpreter
    conductor.py  Conductor: carries them out, and writes down the evidence

The kinds of fault are in the package `nemesis`, one module each; nothing here knows
any of them.
"""

from harness.faults.conductor import Conductor, Record
from harness.faults.fault import Fault, Json, NodeNames, Strike
from harness.faults.nemesis import Lingering, Nemesis, NemesisFactory
from harness.faults.plan import Plan, Step, Trigger
from harness.faults.schedule import Schedule, Sightings

__all__ = [
    "Conductor",
    "Fault",
    "Json",
    "Lingering",
    "Nemesis",
    "NemesisFactory",
    "NodeNames",
    "Plan",
    "Record",
    "Schedule",
    "Sightings",
    "Step",
    "Strike",
    "Trigger",
]
