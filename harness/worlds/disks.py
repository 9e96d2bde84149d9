"""Nodes' disks, as the cluster sees them.

A disk keeps apart what was written and what is durable. What a node wrote and did not
sync is in the operating system's hands: it survives the node's process (a kill), and
not the loss of power. The contents of a file are durable once the file was synced, its
name and a rename once the folder was (fsync(2), "Calling fsync() does not necessarily
ensure that the entry in the directory containing the file has also reached disk").

Three faults end a node: `Processes.kill` ends its process alone; `Disks.cut_power` ends
the process and takes what was not durable; with `during` it does so in the middle of a
sync, which then has made a part durable, and has told nobody.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FileOp: TypeAlias = Literal["read", "write", "fsync", "rename", "create"]
FILE_OPS: frozenset[FileOp] = frozenset(get_args(FileOp))

DiskError: TypeAlias = Literal["EIO", "ENOSPC"]

Decay: TypeAlias = Literal["flip", "truncate", "stale", "restore"]
"""A bit of what is durable flips; a file's end is gone; what the last sync overwrote is
back; a file is what it was when the snapshot was taken, and all writes since are lost.
"""


@dataclass(frozen=True)
class Loss:
    """What a loss of power leaves of what was not durable.

    Attributes:
        kept: Share of the pieces (a write, a rename, a new name) that had reached the
            disk all the same. Each is drawn for itself, so later ones may be there and
            earlier ones not: nothing orders what was not synced.
        torn: A piece that was kept may be there in part, cut at any byte.
        names: New names and renames may be lost, too; else only contents are.
        during: The operation in the middle of which it happens, if any. Then the world
            waits for the next one of that kind, for at most `within_s`.
        within_s: See `during`; when the time is up, it happens without one.
        seed: What is drawn comes from it.
    """

    kept: float = 0.0
    torn: bool = False
    names: bool = True
    during: Literal["", "fsync"] = ""
    within_s: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class Lost:
    """What a loss of power took from one node: the evidence.

    Attributes:
        pid: Of the process that ended with it; 0 where none ran.
        bytes: Bytes written and gone, rewritten ones included.
        writes: Pieces of contents that are gone.
        torn: Pieces that are there in part.
        kept: Pieces that are there though nobody synced them.
        names: New names and renames that are gone.
        files: The files concerned, in the node's data folder.
        during: Whether it came in the middle of the operation that was waited for.
    """

    pid: int = 0
    bytes: int = 0
    writes: int = 0
    torn: int = 0
    kept: int = 0
    names: int = 0
    files: tuple[str, ...] = ()
    during: bool = False


@dataclass(frozen=True)
class DiskRule:
    """What goes wrong with operations on the files that it is for.

    Attributes:
        files: A glob over paths in the node's data folder ("*", "member/wal/*").
        operations: Which operations on them.
        error: The error that they end with; nothing was done then. After an fsync that
            fails so, what was dirty is gone: a second fsync says that all is well, as
            on Linux (Rebello et al., USENIX ATC 2020, "Can Applications Recover from
            fsync Failures?").
        delay_ms: How long they take beside.
    """

    files: str = "*"
    operations: frozenset[FileOp] = FILE_OPS
    error: DiskError | None = None
    delay_ms: float = 0.0


@dataclass(frozen=True)
class Damage:
    """Decay of what is durable.

    Attributes:
        kind: See `Decay`; `restore` is for whoever has called `Disks.snapshot` before.
        files: A glob, as in `DiskRule`; one file that has any bytes is drawn, to be
            restored one that has changed.
        seed: What is drawn comes from it.
    """

    kind: Decay
    files: str = "*"
    seed: int = 0


@dataclass(frozen=True)
class Decayed:
    """What decayed: the evidence, read back.

    Attributes:
        file: In the node's data folder; empty where there was nothing to damage.
        at: The offset.
        before, after: The bytes there, in hexadecimal; of a truncation the sizes.
    """

    file: str = ""
    at: int = 0
    before: str = ""
    after: str = ""


def alike(one: bytes, other: bytes) -> int:
    """How many bytes they have in common at the beginning; cost: a few passes."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass
class DiskCounters:
    """What rules did to one node's operations.

    Attributes:
        errors: How many ended with an error, by "operation error".
        delayed: How many were delayed, by operation.
        syncs: How many syncs there were in all.
    """

    errors: Counter[str] = field(default_factory=Counter)
    delayed: Counter[str] = field(default_factory=Counter)
    syncs: int = 0

    def __sub__(self, before: DiskCounters) -> DiskCounters:
        """What was done since then."""
        return DiskCounters(
            self.errors - before.errors,
            self.delayed - before.delayed,
            self.syncs - before.syncs,
        )

    def copy(self) -> DiskCounters:
        """What they are now, whatever comes."""
        return DiskCounters(self.errors.copy(), self.delayed.copy(), self.syncs)


class Disks(Protocol):
    """Each node's disk."""

    async def cut_power(self, losses: Mapping[str, Loss]) -> Mapping[str, Lost]:
        """Cut the power of these nodes, all at the same moment.

        Their processes end as with a kill, and start again on what is durable.
        """
        ...

    async def set_rules(self, rules: Mapping[str, Sequence[DiskRule]]) -> None:
        """Put these rules in force, in the place of those that were; by node."""
        ...

    async def counters(self) -> Mapping[str, DiskCounters]:
        """What rules have done so far, by node."""
        ...

    async def snapshot(self, node: str, damage: Damage) -> int:
        """Keep what is durable of all files that `damage` may restore; how many."""
        ...

    async def damage(self, node: str, damage: Damage) -> Decayed:
        """Damage what is durable of a node's disk, whether its process runs or not."""
        ...

    async def repair(self, node: str) -> int:
        """Undo all damage to a node's disk, but where something else was written since.

        Snapshots are forgotten.

        Returns:
            How many places are again as they were.
        """
        ...
