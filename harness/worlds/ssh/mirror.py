"""What nodes write on their hosts, in the run folder here.

Logs and observations are appended as they come, so that whoever watches the files of
nodes on this machine (`worlds.os.watch`) watches these. Data folders come when the run
is over. The other way round, what a system has written for a node into its folder here
is brought to the host before the node starts.

The names of files come from another machine, and nodes may have chosen them.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from harness.worlds.os.keeper import cut_back

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.worlds.processes import Limits

CHUNK_BYTES = 1 << 20
OWN = ("log", "observe.jsonl")
"""Files of a node that come from its host only."""


class Mirror:
    """The folders of nodes here.

    Args:
        folder: The run folder.
        limits: What nodes may leave on the disk.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._known: dict[Path, tuple[int, int]] = {}

    def take(self, piece: Mapping[str, Any]) -> None:
        """Append a piece of a node's file, unless it would leave the node's folder."""
        path = self._path(str(piece["node"]), str(piece["name"]))
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = os.O_TRUNC if piece["fresh"] else 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | fresh
        fd = os.open(path, flags, 0o644)
        with open(fd, "ab") as file:
            file.write(base64.b64decode(piece["data"]))
        if piece["name"] == "log":
            cut_back(path, self._limits.log_bytes)

    def _path(self, node: str, name: str) -> Path | None:
        """The file of that name in a node's folder; None if it would lie elsewhere."""
        inner = PurePosixPath(name)
        if (
            inner.is_absolute()
            or ".." in inner.parts
            or "\0" in name
            or not inner.parts
        ):
            return None
        folder = self._folder / "nodes" / node
        is_node = len(PurePosixPath(node).parts) == 1 and node != ".."
        return folder / inner if is_node and folder.is_dir() else None

    def changed(self, node: str, there: str) -> Iterator[tuple[str, int, bytes, bool]]:
        """The files here that the host has not: name, mode, a piece, whether first.

        Settings that a system has written name folders of the run: in a text, the path
        of the run folder becomes the one on the host.

        Args:
            node: Whose files.
            there: The run folder on the host.
        """
        folder = self._folder / "nodes" / node
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            if name in OWN or path.is_symlink() or not path.is_file():
                continue
            state = path.stat()
            seen = (state.st_mtime_ns, state.st_size)
            if self._known.get(path) == seen:
                continue
            for data, first in chunks(path):
                if first and len(data) == state.st_size and _is_text(data):
                    data = data.replace(bytes(self._folder), there.encode())
                yield name, state.st_mode & 0o777, data, first
            self._known[path] = seen

    def forget(self, node: str) -> None:
        """Take what was in a node's data folder for gone."""
        data = self._folder / "nodes" / node / "data"
        for path in [path for path in self._known if path.is_relative_to(data)]:
            del self._known[path]
            path.unlink(missing_ok=True)


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


def chunks(path: Path) -> Iterator[tuple[bytes, bool]]:
    """The content of a file in pieces, each with whether it is the first."""
    with path.open("rb") as file:
        data, first = file.read(CHUNK_BYTES), True
        while data or first:
            yield data, first
            data, first = file.read(CHUNK_BYTES), False
