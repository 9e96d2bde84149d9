"""Recognizes files that can't be read: histories of other tools, or no histories.

Such a file is refused in a line that says what it is and what to do instead. Formats
that can be read have modules of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

_PIPED: Final = "FILE | splitbrain check -"

_MAGIC: Final = (
    (
        b"JEPSEN",
        "Jepsen's binary store; take history.edn, which Jepsen writes beside it, in "
        "the same folder",
    ),
    (b"PK\x03\x04", "a ZIP archive; unpack it, and take the history that is in it"),
    (b"\x28\xb5\x2f\xfd", f"compressed by zstd; try: zstd -dc {_PIPED}"),
    (b"\xfd7zXZ\x00", f"compressed by xz; try: xz -dc {_PIPED}"),
    (b"BZh", f"compressed by bzip2; try: bzip2 -dc {_PIPED}"),
    (b"\xff\xfe", f"text in UTF-16; try: iconv -f UTF-16 -t UTF-8 {_PIPED}"),
    (b"SQLite format 3\x00", "a SQLite database; write a row a line, as JSON or EDN"),
    (b"<!DOCTYPE html", "a web page, perhaps Jepsen's timeline; take history.edn"),
    (b"<html", "a web page, perhaps Jepsen's timeline; take history.edn"),
    (b"\x89PNG", "a picture; take history.edn, which Jepsen writes beside it"),
)
"""First bytes of files -> what such files are."""

_AS_LINES: Final = (
    "write two lines for each, in the order of time: "
    '{"type":"invoke","process":CLIENT,"f":"write","value":1} when it was called, and '
    'the same with "ok", "fail" or "info" (nobody knows) when it returned'
)

_FIELDS: Final = (
    (
        {"valid?"},
        "these are a checker's results; the history stands in history.edn beside it",
    ),
    (
        {"ClientId", "Input", "Call"},
        "these are operations of Porcupine, and not those of etcd's robustness tests; "
        f"what Input and Output mean stands in a model in Go: {_AS_LINES}",
    ),
    (
        {"Request", "Responses"},
        "this is what a watcher saw in etcd's robustness tests; it holds no operations",
    ),
    (
        {"event", "client_id", "op_id"},
        "this is a log of s2-verification, of operations on a stream that hold hashes; "
        f"s2-porcupine judges it. To have it judged here, {_AS_LINES}",
    ),
    (
        {"name", "nodes", "concurrency"},
        "these are a test's options; the history stands in history.edn beside it",
    ),
)
"""Fields of a map that is no operation -> what such a map is."""


_DBCOP_BINARY: Final = (
    "DBCop's binary history; AWDIT makes a text of it that can be read here: awdit "
    "convert -f dbcop -t plume FOLDER FILE"
)


def by_files(folder: Path) -> str:
    """What a folder is, and what to do instead; empty if its files don't tell."""
    if (folder / "history.bincode").is_file():
        return _DBCOP_BINARY
    return ""


def by_first_bytes(head: bytes, name: str) -> str:
    """What a file is, and what to do instead; empty if its first bytes don't tell."""
    if name.endswith(".bincode"):
        return _DBCOP_BINARY
    return next((what for magic, what in _MAGIC if head.startswith(magic)), "")


def named(entry: Any) -> str:
    """What a value that is no operation is; empty if that can't be told."""
    if isinstance(entry, dict):
        for fields, what in _FIELDS:
            if fields <= entry.keys():
                return what
    return ""
