"""AWDIT, the peer for weak isolation, run on the same histories if it is installed.

AWDIT (Moldrup, Wuensche and Pavlogiannis 2025; Rust, MIT) decides read committed, read
atomic and causal consistency. No registry has it, so it is not built here: it takes
part if a program called `awdit` is on PATH.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from harness.bench.children import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from harness.history import Op

NAME = "AWDIT"

LEVELS = ("read-committed", "read-atomic", "causal")
"""The models that it decides."""

MISSING = "not installed"

INITIAL = 0
"""The initial value of every key in AWDIT's files."""

_SAYS_YES = "Consistent."


def program() -> str | None:
    """The path of the program; None if it isn't installed."""
    return shutil.which("awdit")


def write(ops: Iterable[Op], path: Path) -> None:
    """Write a history of registers for AWDIT: committed transactions, by session.

    There must be no crashed transaction, as its writes may have been read.

    Raises:
        BenchError: There is a crashed transaction.
    """
    sessions: dict[int | str, list[list[list[Any]]]] = {}
    keys: set[int] = set()
    for op in ops:
        if op.type == "info":
            raise BenchError(f"{NAME} knows nothing of transactions that crashed")
        if op.type == "ok":
            sessions.setdefault(op.process, []).append(op.value)
            keys.update(key for _, key, _ in op.value)
    first: list[list[list[Any]]] = [[["w", key, INITIAL] for key in sorted(keys)]]
    with path.open("w", encoding="ascii") as file:
        number = 0
        for session, transactions in enumerate([first, *sessions.values()]):
            for transaction in transactions:
                for f, key, value in transaction:
                    told = INITIAL if value is None else value
                    file.write(f"{f}({key},{told},{session},{number})\n")
                number += 1


def command(level: str, path: str) -> list[str]:
    """The command that checks a file.

    Raises:
        BenchError: AWDIT isn't installed.
    """
    found = program()
    if found is None:
        raise BenchError(f"{NAME} is {MISSING}")
    return [found, "check", "--isolation", level, path]


def verdict(out: str) -> str:
    """The verdict in its output."""
    return "valid" if _SAYS_YES in out else "invalid"
