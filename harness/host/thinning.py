"""Thins run folders: verdict and report stay, and a note says when and why.

    results/raft-register/<utc>-<seed>/
        test.yaml  plan.yaml  run.json  verdict.json  report.html  shrunk/   as before
        thinned.json    when, why, and what went

The note is there before anything goes, though empty, as a full disk has no room for
more. So whoever reads a folder that was thinned, or whose thinning was cut off, is told
so, and it is not judged again: its verdict would be unknown, and take the place of the
one that was kept.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import stat
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, UsageError
from harness.host import documents, nodefiles, packing
from harness.host.documents import writing

if TYPE_CHECKING:
    from pathlib import Path

NOTE = packing.THINNED
VERSION = 1
_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def thin(folder: Path, why: str) -> int:
    """Leave verdict and report of a run; the bytes that were freed.

    Where it was killed, or something can't be removed, the next one goes on.

    Args:
        folder: Of a run that is over and judged.
        why: What asked for it, as `keep.valid_runs of the suite nightly`.

    Raises:
        HarnessError: The note can't be made, and all is as it was; or the disk is so
            full, after all went, that it is empty.
    """
    goes = _goes(folder)
    if not goes and not _was_cut_off(folder):
        return 0
    before = size_bytes(folder)
    with writing(folder / NOTE):
        os.close(os.open(folder / NOTE, os.O_CREAT | os.O_WRONLY | _PLAIN, 0o644))
        packing.sync(folder)
    for path in goes:
        with contextlib.suppress(OSError):
            nodefiles.clear(path)
    freed = before - size_bytes(folder)
    _write_note(folder, why, [path.name for path in goes])
    return freed


def would_free_bytes(folder: Path) -> int:
    """The bytes that `thin` would free."""
    return sum(map(size_bytes, _goes(folder)))


def _was_cut_off(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return (folder / NOTE).lstat().st_size == 0
    return False


def _goes(folder: Path) -> list[Path]:
    packed = [folder / packing.BULK]
    return [*packing.bulky(folder), *filter(os.path.lexists, packed)]


def is_thinned(folder: Path) -> bool:
    """Whether a run folder is thinned, or its thinning has begun."""
    return os.path.lexists(folder / NOTE)


def refuse(folder: Path) -> None:
    """Refuse a folder that is thinned, for those who need more than what is left.

    Raises:
        UsageError: It is; says when, why, and what to do.
    """
    if is_thinned(folder):
        raise UsageError(
            f"{folder} {told(folder)}: only verdict and report are left; see its "
            "report.html, or run it again with the command in its test.yaml"
        )


def told(folder: Path) -> str:
    """When a folder was thinned, and why: "was thinned on DAY, by REASON"."""
    note: Any = None
    with contextlib.suppress(UsageError):
        note = documents.read_json(folder / NOTE)
    if not isinstance(note, dict):
        return "is thinned in part, which was cut off"
    day, why = (str(note.get(name, "?"))[:200] for name in ("utc", "why"))
    return f"was thinned on {day[:10]}, by {why}"


def size_bytes(path: Path) -> int:
    """The bytes of a file, or of all files in a folder; links count for nothing."""
    total = 0
    with contextlib.suppress(OSError):
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode):
            return sum(map(size_bytes, path.iterdir()))
        total = found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total


def _write_note(folder: Path, why: str, gone: list[str]) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    note = {"version": VERSION, "utc": now, "why": why, "gone": gone}
    temporary = folder / f".{NOTE}.tmp"
    try:
        with writing(folder / NOTE):
            temporary.unlink(missing_ok=True)
            with temporary.open("x", encoding="utf-8") as file:
                json.dump(note, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(folder / NOTE)
            packing.sync(folder)
    except HarnessError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
