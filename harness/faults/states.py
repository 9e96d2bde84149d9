"""The states of a fault, and the events of faults.jsonl that tell them.

    event     the fault is   that means
    asked     asked for      its time in the plan has come
    start     applied        it is in force
    end       healed         it was undone, and nothing of it is in force
    skipped   skipped        there was nothing to strike until its time to heal came
    failed    failed         its nemesis raised, and the run is a failure of the harness

Beside these, `leader` says who led as a fault began or was about to be healed, and
`note` tells of nodes.

One word says what came of a fault that was asked for: its effect. A fault that was
applied *bit* or had *no effect*, by its own evidence; or it is *indeterminate*, as
there is no proof of either: what it does can't be seen from outside, or the controller
ended before the fault was healed. A fault that a run was too short for was never asked
for, and has no effect in this sense.
"""

from __future__ import annotations

from typing import Literal

Event = Literal["asked", "start", "end", "skipped", "failed", "leader", "note"]
"""What a line of faults.jsonl tells. Readers take an event that they don't know for a
note."""

Effect = Literal["bit", "no-effect", "indeterminate", "skipped", "failed"]
"""What came of a fault that was asked for."""

Moment = Literal["start", "end"]
"""When the leader was asked for: as the fault began, or before it was healed."""


def effect_of(bit: bool | None) -> Effect:
    """The effect of a fault that was applied and healed."""
    if bit is None:
        return "indeterminate"
    return "bit" if bit else "no-effect"
