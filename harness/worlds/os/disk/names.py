"""New names, removals and renames, and which of them are durable.

A change of names waits until something makes it durable:

- fsync of a folder: all changes of its entries;
- fsync of a file: the changes that this file's own names went through. So a new file
  that is synced has its name, though POSIX does not promise it: the journals of ext4,
  XFS and btrfs bring it along, and programs rely on that. A rename of another file, or
  of this one after its last fsync, waits for the folder;
- either: the same for the folders that lead there.

What is durable always is a state that the folder could have been in: changes of one
name become durable in their order, both halves of a rename together. Changes of
different names may become durable in any order, as nothing orders them; but folders
move to other folders in their order, or two could end up inside each other.

Modes, owners, times, extended attributes and the targets of links are durable at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.worlds.os.disk.inodes import Change

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

    from harness.worlds.os.disk.inodes import Inode, Kind, Name

PENDING_MAX = 10_000
"""Beyond that the oldest become durable by themselves, as with every kernel."""


class Names:
    """The changes of names that are not durable yet.

    Args:
        inodes: All there are, by number.
        on_forgotten: Called with an inode that no change mentions any more.
    """

    def __init__(
        self, inodes: dict[int, Inode], on_forgotten: Callable[[Inode], None]
    ) -> None:
        self._inodes = inodes
        self._on_forgotten = on_forgotten
        self._pending: dict[Change, None] = {}
        self._by_name: dict[Name, list[Change]] = {}
        self._next = 0

    def record(
        self, kind: Kind, about: Inode, *entries: tuple[Name, Inode | None]
    ) -> None:
        """A change was made; it is not durable."""
        self._next += 1
        change = Change(self._next, kind, about, entries)
        self._pending[change] = None
        named, folders = self._mentioned(change)
        for one in (*named, *folders):
            one.mentions += 1
        for one in named:
            one.changes[change] = None
        for one in folders:
            one.within[change] = None
        for name, _ in entries:
            self._by_name.setdefault(name, []).append(change)
        if len(self._pending) > PENDING_MAX:
            self._commit(self._with_those_before([next(iter(self._pending))]))

    def sync(self, inode: Inode) -> None:
        """Make durable what fsync of this file or folder does."""
        wanted: list[Change] = list(inode.within)
        seen: set[int] = set()
        ways = [inode]
        while ways:
            one = ways.pop()
            if one.number in seen:
                continue
            seen.add(one.number)
            wanted += one.changes
            ways += [self._inodes[folder] for folder, _ in one.names]
        if wanted:
            self._commit(self._with_those_before(wanted))

    def commit_all(self) -> None:
        """Make everything durable."""
        self._commit(list(self._pending))

    def lose(self, kept: float, dice: random.Random) -> list[Change]:
        """Make each change durable with this probability; returns those that are lost.

        One that follows a lost one of the same name, or is in a folder that was never
        durable, is lost, too. Nothing is pending afterwards.
        """
        lost: list[Change] = []
        broken: set[Name] = set()
        unborn: set[int] = set()
        move_lost = False
        for change in list(self._pending):
            names = [name for name, _ in change.entries]
            stands = all(n not in broken and n[0] not in unborn for n in names)
            if change.moves_folder and move_lost:
                stands = False
            if dice.random() < kept and stands:
                self._commit([change])
                continue
            lost.append(change)
            broken.update(names)
            move_lost = move_lost or change.moves_folder
            if change.kind == "create":
                unborn.add(change.about.number)
        for change in lost:
            self._settle(change)
        return lost

    def _with_those_before(self, wanted: Iterable[Change]) -> list[Change]:
        """These changes, and what they follow from, in their order."""
        found: set[Change] = set()
        left = list(wanted)
        while left:
            change = left.pop()
            if change in found:
                continue
            found.add(change)
            for name, _ in change.entries:
                left += [c for c in self._by_name[name] if c.order < change.order]
                folder = self._inodes[name[0]]
                first = next(iter(folder.changes), None)
                if first is not None and first.kind == "create":
                    left.append(first)
            if change.moves_folder:
                left += [
                    c
                    for c in self._pending
                    if c.order < change.order and c.moves_folder
                ]
        return sorted(found, key=lambda change: change.order)

    def _commit(self, changes: Iterable[Change]) -> None:
        for change in changes:
            for (folder, name), inode in change.entries:
                saved = self._inodes[folder].saved
                before = saved.pop(name, None)
                if before is not None:
                    self._inodes[before].saved_names -= 1
                if inode is not None:
                    saved[name] = inode.number
                    inode.saved_names += 1
            self._settle(change)

    def _settle(self, change: Change) -> None:
        """It is no longer pending: durable now, or lost."""
        del self._pending[change]
        for name, _ in change.entries:
            same = self._by_name[name]
            same.remove(change)
            if not same:
                del self._by_name[name]
        named, folders = self._mentioned(change)
        for one in named:
            del one.changes[change]
        for one in folders:
            del one.within[change]
        for one in (*named, *folders):
            one.mentions -= 1
            if not one.mentions:
                self._on_forgotten(one)

    def _mentioned(self, change: Change) -> tuple[list[Inode], list[Inode]]:
        """The files whose names change, and the folders that these are in."""
        named = {change.about.number: change.about}
        folders: dict[int, Inode] = {}
        for (folder, _), inode in change.entries:
            folders[folder] = self._inodes[folder]
            if inode is not None:
                named[inode.number] = inode
        return list(named.values()), list(folders.values())
