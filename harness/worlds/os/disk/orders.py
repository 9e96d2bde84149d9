"""What the controller and the server of a disk say to each other.

A loss of power takes four orders, so that all nodes concerned lose it at one moment and
none of their processes sees anything of it: `Arm` all; when the moment has come, which
they all read in shared memory, they answer nobody; `AwaitMoment` says that it is so.
Once all the nodes' processes are doomed, `Drown` lets go of what they wait for. When
they are gone, `Restart`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from harness.worlds.disks import Damage, DiskRule, Loss  # noqa: TC001 - msgspec


class SetRules(msgspec.Struct, tag="set_rules"):
    """Put these rules in the place of those that were."""

    rules: list[DiskRule]


class AskCounters(msgspec.Struct, tag="ask_counters"):
    """Tell what rules have done; the answer is `Counted`."""


class Counted(msgspec.Struct):
    """What rules have done, as `DiskCounters` has it."""

    errors: dict[str, int]
    delayed: dict[str, int]
    syncs: int


class Look(msgspec.Struct, tag="look"):
    """Take over what others did to the node's files while it was down."""


class Arm(msgspec.Struct, tag="arm"):
    """Stop answering as soon as the moment has come.

    Attributes:
        during: Make the moment come with the next fsync.
        within_s: Make it come after this time.
    """

    during: Literal["", "fsync"]
    within_s: float


class AwaitMoment(msgspec.Struct, tag="await_moment"):
    """The answer comes with the moment: whether we are in the middle of an fsync."""


class Drown(msgspec.Struct, tag="drown"):
    """Fail whatever is asked from now on, and what waits."""


class Restart(msgspec.Struct, tag="restart"):
    """Go on with what is durable; the answer is `Lost`."""

    loss: Loss


class Snapshot(msgspec.Struct, tag="snapshot"):
    """Keep what this damage may restore; the answer is the number of files."""

    damage: Damage


class Decay(msgspec.Struct, tag="decay"):
    """Damage a file; the answer is `Decayed`."""

    damage: Damage


class Repair(msgspec.Struct, tag="repair"):
    """Undo damage, and forget snapshots; the answer counts the places undone."""


Order = (
    SetRules
    | AskCounters
    | Look
    | Arm
    | AwaitMoment
    | Drown
    | Restart
    | Snapshot
    | Decay
    | Repair
)
