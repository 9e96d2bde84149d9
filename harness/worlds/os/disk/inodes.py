"""Files and folders as they are now, and what of them is not durable yet."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from harness.host import syscalls

Name: TypeAlias = "tuple[int, bytes]"
"""A folder's number, and a name in it."""

Kind: TypeAlias = Literal["create", "link", "rename", "unlink"]


class Piece(NamedTuple):
    """One change of a file's contents.

    Attributes:
        kind: "write" puts `data` at `offset`, "truncate" sets the size to `offset`,
            "extend" makes it at least `offset`, "zero" clears `length` bytes at
            `offset`, as far as the file goes.
        offset, length, data: See there.
    """

    kind: Literal["write", "truncate", "extend", "zero"]
    offset: int
    length: int = 0
    data: bytes = b""

    def put_into(self, fd: int) -> None:
        """Apply it to an open file."""
        match self.kind:
            case "write":
                write_all(fd, self.data, self.offset)
            case "truncate":
                os.ftruncate(fd, self.offset)
            case "extend":
                if os.fstat(fd).st_size < self.offset:
                    os.ftruncate(fd, self.offset)
            case "zero":
                mode = syscalls.FALLOC_PUNCH_HOLE | syscalls.FALLOC_KEEP_SIZE
                syscalls.fallocate(fd, mode, self.offset, self.length)


class Version(NamedTuple):
    """What a sync replaced: `data` stood at `offset`, and the file had `size` bytes."""

    size: int
    offset: int
    data: bytes


@dataclass(eq=False, frozen=True, slots=True)
class Change:
    """A change of names that is not durable yet.

    Attributes:
        order: Grows from change to change.
        kind: What was done.
        about: The file whose names change.
        entries: Name -> the file that it leads to from now on, or None.
    """

    order: int
    kind: Kind
    about: Inode
    entries: tuple[tuple[Name, Inode | None], ...]

    @property
    def moves_folder(self) -> bool:
        """Whether it takes a folder out of one and puts it into another."""
        folders = {folder for (folder, _), _ in self.entries}
        return len(folders) > 1 and any(
            inode is not None and inode.is_folder for _, inode in self.entries
        )


@dataclass(eq=False, slots=True)
class Inode:
    """A file, a folder or something else that has names.

    Attributes:
        number: Never used again for another.
        mode: Type and permissions.
        times_ns: Of the last access, modification and change.
        size: Of the contents, or of a symbolic link's target.
        entries: Of a folder: name -> number and a place in listings, which grows.
        saved: Of a folder: the entries that are durable.
        names: Where it is to be found; none once it was unlinked.
        saved_names: How many durable entries lead to it.
        lookups: How often the kernel was told of it and has not forgotten.
        changes: Changes of its names that are not durable yet; in their order, as keys.
        within: The same of names in it, for a folder.
        mentions: How many of these there are that it is part of.
        path: In the file system, of one that has lost all its names.
        pieces: Changes of contents that are not durable yet, in their order.
        previous: What the last sync of its contents replaced.
        diverged: What is written is not what is durable even without `pieces`.
    """

    number: int
    mode: int
    uid: int = 0
    gid: int = 0
    times_ns: list[int] = field(default_factory=lambda: [0, 0, 0])
    size: int = 0
    target: bytes = b""
    attributes: dict[bytes, bytes] = field(default_factory=dict)
    entries: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    saved: dict[bytes, int] = field(default_factory=dict)
    names: set[Name] = field(default_factory=set)
    saved_names: int = 0
    subfolders: int = 0
    lookups: int = 0
    changes: dict[Change, None] = field(default_factory=dict)
    within: dict[Change, None] = field(default_factory=dict)
    mentions: int = 0
    path: bytes = b""
    pieces: list[Piece] = field(default_factory=list)
    previous: Version | None = None
    diverged: bool = False
    written_fd: int = -1
    durable_fd: int = -1

    @property
    def is_folder(self) -> bool:
        """Whether it has entries."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it has contents."""
        return stat.S_ISREG(self.mode)

    @property
    def links(self) -> int:
        """As stat(2) tells."""
        if self.is_folder:
            return 2 + self.subfolders if self.names or self.number == 1 else 0
        return len(self.names)

    @property
    def dirty_bytes(self) -> int:
        """What its pieces take up in memory, about."""
        return sum(PIECE_BYTES + len(piece.data) for piece in self.pieces)

    def touch(self, now_ns: int) -> None:
        """It was modified."""
        self.times_ns[1] = self.times_ns[2] = now_ns

    def drop_set_ids(self) -> None:
        """As a write by somebody without privileges does."""
        self.mode &= ~stat.S_ISUID
        if self.mode & stat.S_IXGRP:
            self.mode &= ~stat.S_ISGID


PIECE_BYTES = 150
"""What a piece takes up beside its data."""


def write_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Like pwrite(2), but all of it."""
    while (done := os.pwrite(fd, data, offset)) < len(data):
        data, offset = data[done:], offset + done
