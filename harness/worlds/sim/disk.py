"""A node's file system: what is in the page cache, and what is on the disk.

A file has its contents twice. `cache` is what processes read and write, and survives
theirs; `durable` is what survives the loss of power. Between the two lie *pieces*, one
for each write and truncation since the file was synced. Names are kept likewise, as
creations and renames that the folder's sync makes durable. So there are three ways for
a node to end, and to lose nothing, something, or all that it did not sync:

    a crash of the process     descriptors and locks are gone, nothing else
    a loss of power            each piece, and each new name, reached the disk or didn't
    one in the middle of a     the same, when part of what `sync` does is done
    sync (`power_fails_in`)

What nobody syncs is written back after WRITE_BACK_NS. A sync that fails loses the
file's pieces: they stay in the cache, as clean pages, and never reach the disk, and the
next sync has nothing to do and succeeds, as on Linux (Rebello et al., USENIX ATC 2020).
A folder's names are in a journal, which is tried again.

Choices: a name refers to a file whether that reached the disk or not, so a name that
was kept may lead to an empty file. A piece that is torn is there up to some byte, or in
some of its sectors. What is damaged is read back damaged at once, as if the cache had
let go of it, unless it was written anew since.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from harness.override import override
from harness.worlds.disks import Decayed, DiskCounters, Lost, alike
from reference_impls.files import Files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from random import Random

    from harness.worlds.disks import Damage, DiskRule, FileOp, Loss

WRITE_BACK_NS = 5_000_000_000
"""What nobody syncs, the operating system writes out after so long."""
TEAR_CHANCE = 0.5
"""How often a piece is torn that was kept, where pieces may be."""
SECTOR_BYTES = 512
OLDER_MAX = 8
"""Syncs of which the contents that they overwrote are remembered, for stale reads."""
SHOWN_BYTES = 16
"""Of damaged bytes, so many are told."""


class PowerFailed(BaseException):  # no error: nobody may handle it
    """The machine stops here, in the middle of a system call."""


class Piece(NamedTuple):
    """A write that is not durable yet; without data, a truncation at that offset."""

    since_ns: int
    at: int
    data: bytes | None

    def apply(self, contents: bytearray) -> None:
        """Do to `contents` what it does to the file."""
        at, data = self.at, self.data
        if data is not None and at == len(contents):  # as most are
            contents += data
            return
        if at > len(contents):
            contents.extend(bytes(at - len(contents)))
        if data is None:
            del contents[at:]
        else:
            contents[at : at + len(data)] = data


class Overwritten(NamedTuple):
    """What a sync overwrote on the disk: `before` stood there, `size` bytes do now."""

    at: int
    before: bytes
    size: int


@dataclass(eq=False, slots=True)
class File:
    """A file; see the module."""

    cache: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    dirty: list[Piece] = field(default_factory=list)
    older: deque[Overwritten] = field(default_factory=lambda: deque(maxlen=OLDER_MAX))

    def change(self, piece: Piece) -> None:
        """A process writes or truncates."""
        piece.apply(self.cache)
        self.dirty.append(piece)

    def settle(self, pieces: Sequence[Piece]) -> None:
        """These reach the disk."""
        durable = self.durable
        for piece in pieces:
            at, size = piece.at, len(piece.data or b"")
            before = bytes(durable[at : at + size]) if at < len(durable) else b""
            piece.apply(durable)
            if size:
                self.older.append(Overwritten(at, before, size))

    def write_back(self, until_ns: int) -> None:
        """What was written until then reaches the disk, though nobody asked."""
        due = [piece for piece in self.dirty if piece.since_ns <= until_ns]
        self.settle(due)
        del self.dirty[: len(due)]

    def put(self, at: int, data: bytes) -> None:
        """Change what is durable; the cache, too, where it showed the same."""
        end = at + len(data)
        if self.cache[at:end] == self.durable[at:end]:
            self.cache[at:end] = data
        self.durable[at:end] = data

    def become(self, contents: bytes) -> None:
        """Have other contents altogether, in the cache too."""
        self.dirty.clear()
        self.durable[:] = self.cache[:] = contents

    def cut(self, size: int) -> None:
        """What is durable ends there; the cache, too, where it ended alike."""
        if len(self.cache) == len(self.durable):
            del self.cache[size:]
        del self.durable[size:]


FOLDER = File()
"""What the name of any folder stands for."""


class Naming(NamedTuple):
    """A new name that is not durable yet: of a new file, or in the place of `old`."""

    since_ns: int
    name: str
    file: File
    old: str | None = None

    def apply(self, names: dict[str, File]) -> None:
        """Do to `names` what it does to the folder."""
        if self.old is not None:
            names.pop(self.old, None)
        names[self.name] = self.file


class Scar(NamedTuple):
    """A place that was damaged, to be repaired: what stood there, and what does."""

    file: File
    at: int
    before: bytes
    after: bytes
    whole: bool = False
    """Whether it is the whole file."""


class Disk(Files):
    """One node's. Paths are relative to its data folder, which is called "".

    Args:
        now_ns: Tells the time.

    Attributes:
        rules: What goes wrong, in force now.
        counters: What rules did so far.
        power_fails_in: None, or the power fails in the middle of a sync when so many
            have ended.
    """

    room_bytes = 1

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.rules: Sequence[DiskRule] = ()
        self.counters = DiskCounters()
        self._owed_ns = 0
        self.power_fails_in: int | None = None
        self._now_ns = now_ns
        self._names: dict[str, File] = {"": FOLDER}
        self._durable_names: dict[str, File] = {"": FOLDER}
        self._dirty_names: list[Naming] = []
        self._open: dict[int, tuple[str, File]] = {}
        self._locked: dict[int, File] = {}
        self._next_fd = 3
        self._scars: list[Scar] = []
        self._kept: dict[Damage, dict[str, bytes]] = {}

    # What processes do

    @override
    def make_folder(self, path: str) -> None:
        if path in self._names:
            return
        self.make_folder(os.path.dirname(path))
        self._obey("create", path)
        self._name(Naming(self._now_ns(), path, FOLDER))

    @override
    def open(self, path: str, *, empty: bool = False) -> int:
        file = self._names.get(path)
        if file is FOLDER:
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if file is None:
            if os.path.dirname(path) not in self._names:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            self._obey("create", path)
            file = File()
            self._name(Naming(self._now_ns(), path, file))
        elif empty and file.cache:
            self._obey("write", path)
            file.change(Piece(self._now_ns(), 0, None))
        fd, self._next_fd = self._next_fd, self._next_fd + 1
        self._open[fd] = path, file
        return fd

    @override
    def close(self, fd: int) -> None:
        del self._open[fd]
        self._locked.pop(fd, None)

    @override
    def lock(self, fd: int, path: str) -> bool:
        _, file = self._open[fd]
        if file in self._locked.values() or self._names.get(path) is not file:
            return False
        self._locked[fd] = file
        return True

    @override
    def read(self, fd: int) -> bytes:
        path, file = self._open[fd]
        self._obey("read", path)
        return bytes(file.cache)

    @override
    def write(self, fd: int, data: bytes, at: int) -> None:
        path, file = self._open[fd]
        if self.rules:
            self._obey("write", path)
        file.change(Piece(self._now_ns(), at, data))

    @override
    def truncate(self, fd: int, size: int) -> None:
        path, file = self._open[fd]
        self._obey("write", path)
        file.change(Piece(self._now_ns(), size, None))

    @override
    def sync_data(self, fd: int) -> None:
        self.sync(fd)

    @override
    def sync(self, fd: int) -> None:
        path, file = self._open[fd]
        self._begin_sync()
        try:
            self._obey("fsync", path, slow=False)
        except OSError:
            file.dirty.clear()
            raise
        file.settle(file.dirty)
        file.dirty.clear()

    @override
    def rename(self, old: str, new: str) -> None:
        if old not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), old)
        self._obey("rename", new)
        self._name(Naming(self._now_ns(), new, self._names[old], old))

    @override
    def sync_folder(self, path: str) -> None:
        self._begin_sync()
        self._obey("fsync", path, slow=False)
        waiting, self._dirty_names = self._dirty_names, []
        for naming in waiting:
            if os.path.dirname(naming.name) == path:
                naming.apply(self._durable_names)
            else:
                self._dirty_names.append(naming)

    def contents(self, path: str) -> bytes:
        """What a file holds, for whoever looks at a node that has ended.

        Raises:
            FileNotFoundError: There is none of that name.
        """
        file = self._names.get(path, FOLDER)
        if file is FOLDER:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return bytes(file.cache)

    def fsync_delay_ns(self, path: str) -> int:
        """How much longer than usual a sync of that file takes that begins now."""
        if not self.rules:
            return 0
        delay_ms = sum(rule.delay_ms for rule in self._rules_for("fsync", path))
        if delay_ms:
            self.counters.delayed["fsync"] += 1
        return int(delay_ms * 1e6)

    def take_owed_ns(self) -> int:
        """How long what was done since the last call should have taken, by rules."""
        owed_ns, self._owed_ns = self._owed_ns, 0
        return owed_ns

    def empty(self) -> int:
        """Take all files away, durably; how many bytes they had."""
        size = sum(len(file.cache) for file in set(self._names.values()))
        self._names, self._durable_names = {"": FOLDER}, {"": FOLDER}
        self._dirty_names.clear()
        self._scars.clear()
        return size

    # How they end

    def crash(self) -> None:
        """The process that used the disk is gone."""
        self._open.clear()
        self._locked.clear()
        self._owed_ns = 0
        self.power_fails_in = None

    def lose_power(self, loss: Loss, random: Random) -> Lost:
        """Lose what was not durable, but for what `loss` leaves, and with it the cache.

        What it leaves of several pieces is drawn for each.
        """
        self.crash()
        until_ns = self._now_ns() - WRITE_BACK_NS
        told = Lost()
        files: set[str] = set()
        for file, name in self._all_files().items():
            file.write_back(until_ns)
            if file.dirty:
                took = self._lose_pieces(file, loss, random)
                if took != Lost(kept=took.kept):
                    files.add(name)
                told = added(told, took)
        lost_names = 0
        for naming in self._dirty_names:
            old = naming.since_ns <= until_ns
            if old or not loss.names or random.random() < loss.kept:
                naming.apply(self._durable_names)
            else:
                lost_names += 1
                files.add(naming.name)
        self._dirty_names.clear()
        self._forget_cache()
        return replace(told, names=lost_names, files=tuple(sorted(files)))

    def _all_files(self) -> dict[File, str]:
        """Those that a name leads to, or may lead to after a loss of power."""
        files = {naming.file: naming.name for naming in self._dirty_names}
        for names in (self._durable_names, self._names):
            files |= {file: name for name, file in names.items()}
        return files

    def _lose_pieces(self, file: File, loss: Loss, random: Random) -> Lost:
        kept = torn = writes = bytes_lost = 0
        for piece in file.dirty:
            size = len(piece.data or b"")
            if random.random() >= loss.kept:
                writes += 1
                bytes_lost += size
                continue
            tears = loss.torn and size > 0 and random.random() < TEAR_CHANCE
            left = list(torn_pieces(piece, random)) if tears else [piece]
            there = sum(len(part.data or b"") for part in left)
            file.settle(left)
            kept += there == size
            torn += there < size
            bytes_lost += size - there
        file.dirty.clear()
        return Lost(bytes=bytes_lost, writes=writes, torn=torn, kept=kept)

    def _forget_cache(self) -> None:
        """Only what is on the disk is there, and only what has a name on it."""
        names = self._durable_names
        for name in sorted(names):
            if name and os.path.dirname(name) not in names:
                del names[name]
        self._names = dict(names)
        for file in names.values():
            file.cache[:] = file.durable

    # What goes wrong with it

    def snapshot(self, damage: Damage) -> int:
        """Keep what is durable of all files that it is for; returns how many."""
        self._kept[damage] = {
            name: bytes(file.durable)
            for name, file in self._durable_names.items()
            if file is not FOLDER and fnmatchcase(name, damage.files)
        }
        return len(self._kept[damage])

    def damage(self, damage: Damage, random: Random) -> Decayed:
        """Damage what is durable of one file that has any."""
        if damage.kind == "restore":
            return self._restore(self._kept.get(damage, {}), random)
        able = [
            (name, file)
            for name, file in sorted(self._durable_names.items())
            if file.durable and fnmatchcase(name, damage.files)
        ]
        if damage.kind == "stale":
            able = [(name, file) for name, file in able if file.older]
        if not able:
            return Decayed()
        name, file = random.choice(able)
        if damage.kind == "truncate":
            size, at = len(file.durable), random.randrange(len(file.durable))
            self._scars.append(Scar(file, at, bytes(file.durable[at:]), b""))
            file.cut(at)
            return Decayed(name, at, str(size), str(at))
        if damage.kind == "flip":
            at = random.randrange(len(file.durable))
            after = bytes([file.durable[at] ^ 1 << random.randrange(8)])
        else:
            was = random.choice(file.older)
            at = was.at
            end = min(len(file.durable), at + was.size)
            after = was.before[: end - at].ljust(end - at, b"\0")
        before = bytes(file.durable[at : at + len(after)])
        if before == after:
            return Decayed()
        self._scars.append(Scar(file, at, before, after))
        file.put(at, after)
        return Decayed(name, at, shown(before), shown(after))

    def _restore(self, kept: Mapping[str, bytes], random: Random) -> Decayed:
        """Have one file be what it was; what nobody synced is written back first."""
        names = self._durable_names
        for name in kept.keys() & names.keys():
            names[name].settle(names[name].dirty)
            names[name].dirty.clear()
        changed = [
            n for n in sorted(kept) if n in names and names[n].durable != kept[n]
        ]
        if not changed:
            return Decayed()
        name = random.choice(changed)
        file, was = names[name], kept[name]
        now = bytes(file.durable)
        self._scars.append(Scar(file, 0, now, was, whole=True))
        file.become(was)
        at = alike(was, now)
        if len(was) < len(now):
            return Decayed(name, len(was), str(len(now)), str(len(was)))
        return Decayed(name, at, shown(now[at:]), shown(was[at:]))

    def repair(self) -> int:
        """Undo all damage, the last first, unless something else stands there now.

        Returns:
            How many places are again as they were.
        """
        self._kept.clear()
        scars, self._scars = self._scars, []
        repaired = 0
        for file, at, before, after, whole in reversed(scars):
            if whole:
                if file.durable == after and not file.dirty:
                    file.become(before)
                    repaired += 1
                continue
            now = bytes(file.durable[at : at + len(before)])
            # Past the end of a file that was cut, others may have left a hole.
            if now == after or (not after and not any(now) and len(file.durable) >= at):
                file.put(at, before)
                repaired += 1
        return repaired

    def _rules_for(self, operation: FileOp, path: str) -> Iterable[DiskRule]:
        return (
            rule
            for rule in self.rules
            if operation in rule.operations and fnmatchcase(path, rule.files)
        )

    def _obey(self, operation: FileOp, path: str, *, slow: bool = True) -> None:
        """Fail or take long, where rules would have it."""
        if not self.rules:
            return
        for rule in self._rules_for(operation, path):
            if slow and rule.delay_ms:
                self._owed_ns += int(rule.delay_ms * 1e6)
                self.counters.delayed[operation] += 1
            if rule.error is not None:
                self.counters.errors[f"{operation} {rule.error}"] += 1
                number = getattr(errno, rule.error)
                raise OSError(number, os.strerror(number), path)

    def _begin_sync(self) -> None:
        self.counters.syncs += 1
        if self.power_fails_in is not None:
            if not self.power_fails_in:
                raise PowerFailed
            self.power_fails_in -= 1

    def _name(self, naming: Naming) -> None:
        naming.apply(self._names)
        self._dirty_names.append(naming)


def torn_pieces(piece: Piece, random: Random) -> Iterable[Piece]:
    """What is there of a write that was torn: it up to a byte, or some sectors."""
    at, data = piece.at, piece.data
    assert data
    if random.random() < 0.5:
        yield piece._replace(data=data[: random.randrange(len(data) + 1)])
        return
    end = at + len(data)
    while at < end:
        sector_end = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        if random.random() < 0.5:
            part = data[at - piece.at : sector_end - piece.at]
            yield piece._replace(at=at, data=part)
        at = sector_end


def added(one: Lost, other: Lost) -> Lost:
    """The sums of what was lost of contents."""
    return Lost(
        bytes=one.bytes + other.bytes,
        writes=one.writes + other.writes,
        torn=one.torn + other.torn,
        kept=one.kept + other.kept,
    )


def shown(data: bytes) -> str:
    """Bytes as evidence."""
    return data[:SHOWN_BYTES].hex() + ("..." if len(data) > SHOWN_BYTES else "")
