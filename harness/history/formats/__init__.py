"""Histories in and out: JSON, Jepsen's EDN and log, and the files of other tools.

`load` takes any of them, gzipped or not, or a run folder, and tells the format from the
content. Every fault of a file is one `HistoryError` of one line that names the file,
the line if there is one, and the reason.

    source.py        a file as bytes: opened, unpacked and cut into whole lines
    jsonl.py         our own format, and JSON of others; json_values.py cuts the latter
    lean.py          ops that stay in a file of our own format
    edn.py           EDN, Clojure's notation: text in, values out
    jepsen_edn.py    Jepsen's history.edn; jepsen_lines.py reads its tidy lines
    jepsen_log.py    Jepsen's log and history.txt
    etcd.py          etcd's robustness tests
    dbcop.py         DBCop
    plume.py         Plume, PolySI, IsoVista and AWDIT
    cobra.py         Cobra
    foreign.py       files that are known and can't be read
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from harness.errors import UsageError
from harness.history import History, HistoryError
from harness.history.formats import (
    cobra,
    etcd,
    foreign,
    jepsen_edn,
    jepsen_log,
    jsonl,
    plume,
)
from harness.history.formats.jsonl import HistoryFollower, HistoryWriter
from harness.history.formats.source import STANDARD_INPUT, Source
from harness.host import packing, thinning
from harness.registry import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from harness.history import Op

__all__ = [
    "FORMATS",
    "WRITABLE_FORMATS",
    "HistoryFollower",
    "HistoryWriter",
    "dump",
    "load",
    "path_of",
]

FORMATS = ["auto", "jsonl", "edn", "jepsen-log", "plume", "cobra"]

_WRITERS: dict[str, Callable[[Iterable[Op]], Iterator[bytes]]] = {
    "jsonl": jsonl.write,
    "edn": jepsen_edn.write,
    "txt": jepsen_log.write,
}
WRITABLE_FORMATS = list(_WRITERS)

_RUN_FOLDER_SIGN = "test.yaml"
_RUN_FOLDER_FILES = ("history.jsonl", "history.edn")
_SIGNS = [
    (
        "jsonl",
        re.compile(rb'[\s\x1e]*+(?:\[[\s\[]*+)?\{\s*+"(?:[^"\\]|\\.){0,99}"\s*+:'),
    ),
    ("plume", plume.SIGN),
    ("cobra", cobra.SIGN),
    ("edn", re.compile(rb"(?:[\s,]|;[^\n]*\n)*+[{\[(#]")),
]


def path_of(text: str) -> Path:
    """The path of a command line's word; `-` is standard input."""
    return STANDARD_INPUT if text == "-" else Path(text)


def load(
    path: Path,
    format: str = "auto",  # noqa: A002  # the word on the command line
    *,
    independent: bool | None = None,
    strict: bool | None = None,
    tolerate_torn_tail: bool = False,
    lean: bool = False,
) -> History:
    """The history in a file or run folder.

    Args:
        path: A file, perhaps gzipped, or a folder that holds a `history.jsonl` (ours),
            a `history.edn` (Jepsen's), a file per session (Cobra's), or a folder per
            client (etcd's). `path_of` gives that of standard input.
        format: One of `FORMATS`; "auto" goes by the content.
        independent: Split `[key value]` of Jepsen's independent keys; None does so if
            the values can be nothing else.
        strict: Refuse events that don't pair up, and JSON that isn't as we write it.
            None does so for files in our own run folders only.
        tolerate_torn_tail: Leave out a torn last line (jsonl only), as a controller
            that was killed may leave one.
        lean: Save memory if possible, for a caller that looks at values in turn: `ops`
            may be `LeanOps`.

    Raises:
        HistoryError: Names file, line and reason.
        UsageError: There is no such format.
    """
    if format not in FORMATS:
        raise UsageError(
            f"there is no history format {format!r}{nearest(format, FORMATS)} "
            f"(known: {', '.join(FORMATS)})"
        )
    path = _history_file(path)
    if (history := _of_many_files(path, format)) is not None:
        return history
    if strict is None:
        strict = _is_our_own(path)
    with Source(path) as source:
        if format == "auto":
            format = _detect(source)  # noqa: A001  # see above
        if format == "jsonl":
            return jsonl.read(
                source,
                strict=strict,
                independent=independent,
                lean=lean,
                tolerate_torn_tail=tolerate_torn_tail,
            )
        if format == "edn":
            return jepsen_edn.read(source, strict=strict, independent=independent)
        if format == "jepsen-log":
            return jepsen_log.read(source, strict=strict, independent=independent)
        if format == "cobra":
            return cobra.read(source.name, [source])
        return plume.read(source)


def _of_many_files(path: Path, wanted: str) -> History | None:
    """The history of a folder with a file per session or client; None for others."""
    if wanted in {"auto", "cobra"} and (logs := cobra.logs_of(path)):
        with contextlib.ExitStack() as stack:
            sources = (stack.enter_context(Source(log)) for log in logs)
            return cobra.read(str(path), sources)
    if wanted in {"auto", "jsonl"} and (files := etcd.files_of(path)):
        return etcd.read_files(path, files)
    return None


def dump(history: Iterable[Op], path: Path, format: str = "jsonl") -> None:  # noqa: A002  # as in load
    """Write a history to a file, gzipped if its name ends in .gz.

    Raises:
        HistoryError: An op can't be expressed, or the file can't be written.
        UsageError: The format can't be written.
    """
    if format not in _WRITERS:
        raise UsageError(
            f"histories can't be written as {format!r}"
            f"{nearest(format, _WRITERS)} (only as: {', '.join(_WRITERS)})"
        )
    try:
        with _create(path) as file:
            for line in _WRITERS[format](history):
                file.write(line)
    except OSError as problem:
        raise HistoryError(f"cannot write {path}: {problem.strerror}") from None


def _create(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return gzip.open(path, "wb", compresslevel=6)  # type: ignore[return-value]  # writes alike
    return path.open("wb")


def _history_file(path: Path) -> Path:
    # To os.path an impossible name is no folder; pathlib raises.
    if not os.path.isdir(path):
        return path
    thinning.refuse(path)
    packing.unpack(path)
    for name in _RUN_FOLDER_FILES:
        if (path / name).is_file():
            return path / name
    if cobra.logs_of(path) or etcd.files_of(path):
        return path
    if what := foreign.by_files(path):
        raise HistoryError(f"{path}: {what}")
    raise HistoryError(
        f"{path}: a folder without a {' or '.join(_RUN_FOLDER_FILES)}: no run folder"
    )


def _is_our_own(path: Path) -> bool:
    """Whether a file is the history of one of our run folders."""
    sign = os.path.join(os.path.dirname(path), _RUN_FOLDER_SIGN)
    return path.name == _RUN_FOLDER_FILES[0] and os.path.isfile(sign)


def _detect(source: Source) -> str:
    """The format that the content looks like; that of an empty file is "edn"."""
    head = source.head[: 1 << 16]
    if not head.strip():
        return "edn"
    if what := foreign.by_first_bytes(head, source.name):
        raise HistoryError(f"{source.name}: {what}")
    if jepsen_log.looks_so(head.decode(errors="replace")):
        return "jepsen-log"
    for name, sign in _SIGNS:
        if sign.match(head):
            return name
    raise HistoryError(
        f"{source.name}: not a history in any format known here "
        f"({', '.join(FORMATS[1:])}); it begins with {head[:24]!r}"
    )
