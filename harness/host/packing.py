"""Packs what is bulky in a run folder into one compressed file, and unpacks it again.

    results/raft-register/<utc>-<seed>/
        test.yaml  plan.yaml  run.json  verdict.json  report.html  shrunk/   as they are
        bulk.tar.gz     history, faults, messages, and the nodes' logs and data

A run that is judged is read by people through its report, so what the report was made
from need not lie about at full length. Whatever reads it again unpacks it first.

Killed at any moment, nothing is lost: the packed file is whole and synced before what
it holds is removed, and it is removed after all of it is back.

A folder may come from anywhere. Only plain files and folders are unpacked, only below
the folder, no more bytes than `BYTES_MAX` and the disk have room for, and no name
through a link. All of that is looked at before the first byte is written.

Several may read a folder at once. One of them unpacks it, and the others wait for it:
whoever wrote a file again under somebody's eyes would have him read a torn history.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import os
import shutil
import stat
import tarfile
import zlib
from gzip import BadGzipFile
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from harness.errors import HarnessError, UsageError
from harness.host import nodefiles
from harness.host.documents import writing

if TYPE_CHECKING:
    from collections.abc import Iterator

BULK = "bulk.tar.gz"
THINNED = "thinned.json"
STAYS = frozenset(
    {
        "test.yaml",
        "plan.yaml",
        "run.json",
        "verdict.json",
        "report.html",
        "why.json",
        "shrunk",
        THINNED,
        BULK,
    }
)
"""What is not packed: what lists, reports and `--plan` read."""

LEVEL = 4
"""Of gzip: higher ones take twice the time for a tenth of the size."""
BYTES_MAX = 64 << 30
FILES_MAX = 1_000_000
ROOM_BYTES = 64 << 20
"""What unpacking leaves free on the disk, at least."""
SIP_BYTES_MAX = 2 << 20
"""Of one read, also of headers; nobody's file is called anything so long."""
_TEMPORARY = f".{BULK}.tmp"


def is_packed(folder: Path) -> bool:
    """Whether a run folder is packed."""
    return (folder / BULK).is_file()


def bulky(folder: Path) -> list[Path]:
    """What is not among what stays, and was not packed yet."""
    told = sorted(folder.iterdir())
    return [path for path in told if path.name not in {*STAYS, _TEMPORARY}]


def pack(folder: Path) -> None:
    """Pack what is bulky in the folder of a run that is over and judged.

    Links, sockets and the like, which a node may have left, are not packed, and go.

    Cost: about 10 ms for a megabyte; a sixth of it is left.

    Raises:
        HarnessError: The disk is full, or a file can't be read; all is as it was.
    """
    goes = bulky(folder)
    if not goes or is_packed(folder):
        return
    temporary = folder / _TEMPORARY
    try:
        with writing(folder / BULK):
            nodefiles.clear(temporary)
            with temporary.open("xb") as file:
                with tarfile.open(
                    fileobj=file, mode="w:gz", compresslevel=LEVEL
                ) as packed:
                    for path in goes:
                        _add(packed, path, folder)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(folder / BULK)
            sync(folder)
    except HarnessError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    for path in goes:
        with contextlib.suppress(OSError):
            nodefiles.clear(path)


def _add(packed: tarfile.TarFile, path: Path, folder: Path) -> None:
    """Add a plain file, or a folder with all that is plain in it."""
    told = path.lstat()
    if stat.S_ISDIR(told.st_mode):
        packed.add(path, arcname=str(path.relative_to(folder)), recursive=False)
        for inner in sorted(path.iterdir()):
            _add(packed, inner, folder)
    elif stat.S_ISREG(told.st_mode):
        with nodefiles.open_plain(path) as content:
            name = str(path.relative_to(folder))
            info = packed.gettarinfo(arcname=name, fileobj=content)
            info.type, info.linkname = tarfile.REGTYPE, ""  # hard links become files
            info.size = os.fstat(content.fileno()).st_size
            packed.addfile(info, content)


def unpack(folder: Path) -> None:
    """Put back what was packed; does nothing if the folder isn't packed.

    Raises:
        UsageError: The packed file is damaged, holds what it should not, or the folder
            can't be written.
    """
    bulk = folder / BULK
    try:
        with nodefiles.open_plain(bulk) as file:
            if not _is_first(file, bulk):
                return
            with (
                gzip.GzipFile(fileobj=file) as content,
                tarfile.open(fileobj=_sips(content), mode="r:") as packed,
            ):
                members = list(_checked(packed, bulk))
                _need_end(content)
                for info in members:
                    _put_back(packed, info, folder)
            bulk.unlink()
            sync(folder)
    except (FileNotFoundError, NotADirectoryError):
        if is_packed(folder):
            raise
    except (tarfile.TarError, EOFError, ValueError, zlib.error, BadGzipFile) as bad:
        raise UsageError(
            f"{bulk} is damaged: {bad}; restore it from a copy, or run the test again"
        ) from None
    except OSError as problem:
        raise UsageError(
            f"cannot unpack {bulk}: {problem.strerror or problem}; copy the run to a "
            "place of yours first"
        ) from None


class _Sips:
    """A file that gives a little at a time: a tar file's header may be terabytes."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if size > SIP_BYTES_MAX:
            raise tarfile.ReadError(f"a header is {size:,} bytes long")
        return self._file.read(size)


def _sips(file: gzip.GzipFile) -> IO[bytes]:
    return cast("IO[bytes]", _Sips(file))  # all that is asked of it


def _is_first(file: BinaryIO, bulk: Path) -> bool:
    """Wait for whoever unpacks the file now; whether that is left to be done."""
    with contextlib.suppress(OSError):  # of a place without locks
        fcntl.flock(file, fcntl.LOCK_EX)
    return os.path.samestat(os.fstat(file.fileno()), os.lstat(bulk))


def _checked(packed: tarfile.TarFile, bulk: Path) -> Iterator[tarfile.TarInfo]:
    """The members, each once it was found to be harmless."""
    total_bytes = 0
    room_bytes = shutil.disk_usage(bulk.parent).free - ROOM_BYTES
    for count, info in enumerate(packed):
        total_bytes += info.size
        parts = Path(info.name).parts
        if count >= FILES_MAX or total_bytes > BYTES_MAX:
            raise UsageError(f"{bulk} unfolds to too much, so it is not unpacked")
        if total_bytes > room_bytes:
            raise UsageError(
                f"{bulk} unfolds to more than the disk has room for: make room, or "
                "copy the run elsewhere first"
            )
        if not (info.isreg() or info.isdir()) or not parts or parts[0] in STAYS:
            raise UsageError(f"{bulk} holds {info.name!r:.200}, which no run packs")
        if ".." in parts or Path(info.name).is_absolute():
            raise UsageError(f"{bulk} holds {info.name!r:.200}, outside of its folder")
        yield info


def _need_end(content: gzip.GzipFile) -> None:
    """Read the rest, as the checksum of all comes last.

    Without it a flipped bit would be another value in the history, and a verdict.
    """
    if len(content.read(SIP_BYTES_MAX)) == SIP_BYTES_MAX:
        raise tarfile.ReadError("it goes on after its end")


def _put_back(packed: tarfile.TarFile, info: tarfile.TarInfo, folder: Path) -> None:
    target = folder / info.name
    for outer in reversed(target.relative_to(folder).parents[:-1]):
        place = folder / outer
        if place.is_symlink():
            raise UsageError(f"{place} is a link, so nothing is unpacked through it")
        place.mkdir(exist_ok=True)
    if info.isdir():
        if target.is_symlink():
            raise UsageError(f"{target} is a link, so nothing is unpacked through it")
        target.mkdir(exist_ok=True)
        return
    content = packed.extractfile(info)
    assert content is not None
    nodefiles.clear(target)
    mode = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with content, open(os.open(target, mode, 0o644), "wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)


def sync(folder: Path) -> None:
    """See that the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
