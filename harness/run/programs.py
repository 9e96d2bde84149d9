"""Which programs a system consisted of: the files that its commands name, by digest.

A failure that doesn't come back may be one that somebody has mended since. So a run
records what its nodes were started from, and a replay tells which files have changed.
A module that an interpreter finds by its name is not seen, nor is a shared library.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from harness.host import nodefiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.worlds.places import Launch

FILES_MAX = 32
BYTES_MAX = 64 << 20
"""A longer file is told by its length alone. A quarter of a second reads one of this
length, and most programs are a tenth of it."""


def digests(launches: Iterable[Launch], leave_out: Path) -> dict[str, str]:
    """Path -> digest (`digest`) of each file that a word of these commands names.

    A word names a file by itself, or as `--option=FILE`. Files below `leave_out` are
    nodes' own, and no programs. The first `FILES_MAX` files count.
    """
    found: dict[str, str] = {}
    for path in dict.fromkeys(_named(launches)):
        if len(found) == FILES_MAX:
            break
        if path.is_relative_to(leave_out):
            continue
        known = digest(path)
        if known is not None:
            found[str(path)] = known
    return found


def digest(path: Path) -> str | None:
    """`sha256:HEX` of a file's bytes; None if it is no plain file, or can't be read.

    `bytes:LENGTH` if it is longer than BYTES_MAX.
    """
    try:
        with nodefiles.open_plain(path, follows_links=True) as file:
            length = os.fstat(file.fileno()).st_size
            if length > BYTES_MAX:
                return f"bytes:{length}"
            return f"sha256:{hashlib.sha256(file.read()).hexdigest()}"
    except (OSError, ValueError):
        return None


def changes(recorded: Mapping[str, str]) -> list[str]:
    """A sentence for each file that is another one now, or is gone."""
    told = []
    for path, before in recorded.items():
        now = digest(Path(path))
        if now is None:
            told.append(f"the system's program is gone: {path}")
        elif now != before:
            told.append(f"the system's program changed since: {path}")
    return told


def _named(launches: Iterable[Launch]) -> Iterable[Path]:
    for launch in launches:
        beside = launch.cwd or Path.cwd()
        for word in launch.argv:
            for text in (word, word.partition("=")[2]):
                with contextlib.suppress(
                    OSError, ValueError
                ):  # a name no file can have
                    path = beside / text
                    if text and stat.S_ISREG(path.stat().st_mode):
                        yield path.absolute()
