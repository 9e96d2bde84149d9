"""Files that nodes need on their hosts: uploaded once, known by their content.

An upload is a file or a folder. On the host it lies in a folder called after its
content, under its own name; words of a node's command that name it, or something in
it, are given that path.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BYTES_MAX = 2 << 30
FILES_MAX = 20_000
DIGEST_CHARS = 24
SYSTEM_FOLDERS = ("/bin", "/etc", "/lib", "/lib64", "/opt", "/sbin", "/usr")
"""Programs in these are the machine's own, so hosts have theirs."""

_ROOT = Path(__file__).parents[3]
_FOLDERS = (
    "harness/host",
    "harness/worlds",
    "harness/systems/programs",
    "reference_impls",
)


@dataclass(frozen=True)
class Upload:
    """A file or a folder, and what tells it from others.

    Attributes:
        path: Where it is here.
        digest: Of its names, modes and content.
    """

    path: Path
    digest: str

    def files(self) -> Iterator[tuple[str, Path]]:
        """The name of each of its files below the folder on the host, and the file."""
        return _files(self.path)

    def there(self, store: str, named: Path) -> str | None:
        """Where `named` is on the host; None if it is no part of this."""
        try:
            inner = named.relative_to(self.path)
        except ValueError:
            return None
        return os.path.normpath(f"{store}/{self.digest}/{self.path.name}/{inner}")


@cache
def upload(path: Path) -> Upload:
    """The upload of a file or folder.

    Raises:
        UsageError: There is none, it can't be read, or it is too large.
    """
    path = path.resolve()
    if not path.exists():
        raise UsageError(f"--upload {path}: there is no such file or folder")
    found, size = hashlib.sha256(), 0
    try:
        for number, (name, file) in enumerate(_files(path)):
            mode = file.stat().st_mode & 0o777
            found.update(f"{name}\0{mode:o}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as opened:
                while chunk := opened.read(1 << 20):
                    found.update(chunk)
                    size += len(chunk)
            if size > BYTES_MAX or number >= FILES_MAX:
                most = f"{BYTES_MAX >> 30} GiB and {FILES_MAX:,} files"
                raise UsageError(f"--upload {path}: it takes up to {most}")
    except OSError as problem:
        raise UsageError(f"--upload {path}: {problem}") from problem
    return Upload(path, found.hexdigest()[:DIGEST_CHARS])


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield path.name, path
        return
    for at, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            file = Path(at, name)
            if file.is_file():
                yield str(path.name / file.relative_to(path)), file


def is_program_to_upload(word: str) -> bool:
    """Whether a command's word is a program here that hosts hardly have."""
    path = Path(word)
    return (
        path.is_absolute()
        and path.is_file()
        and os.access(path, os.X_OK)
        and not any(path.is_relative_to(folder) for folder in SYSTEM_FOLDERS)
        and not is_python(word)
    )


def is_python(word: str) -> bool:
    """Whether a word is a Python: hosts have one of their own."""
    name = Path(word).name
    return name.rstrip("0123456789.") == "python" and word != ""


def named_in(words: Sequence[str], cwd: Path | None) -> Iterator[Path]:
    """What the words of a command name: the files and folders, as absolute paths."""
    for word in words:
        for text in (word, word.partition("=")[2]):
            if text and "\0" not in text:
                yield Path(os.path.abspath(os.path.join(cwd or Path.cwd(), text)))


@cache
def code() -> tuple[str, bytes]:
    """Our own code for hosts, as a tar file, and its digest.

    It is what the agent, the keeper, the reference nodes and the programs beside nodes
    of others are made of. What imports more than the standard library is of no use
    there, unless the host has it.
    """
    alone = ("__init__", "errors", "override", "systems/__init__")
    files = [_ROOT / "harness" / f"{name}.py" for name in alone]
    for folder in _FOLDERS:
        for path in sorted((_ROOT / folder).rglob("*")):
            kept = path.suffix in {".py", ".bin"} and "tests" not in path.parts
            if kept and path.is_file():
                files.append(path)
    packed, digest = io.BytesIO(), hashlib.sha256()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as archive:
        for path in files:
            data, name = path.read_bytes(), str(path.relative_to(_ROOT))
            digest.update(f"{name}\0{len(data)}\0".encode() + data)
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return digest.hexdigest()[:DIGEST_CHARS], packed.getvalue()
