"""Histories of transactions for tests: one line each, and simulated databases.

The mini-language: `ax1ry12` is a transaction that appends 1 to x and reads [1, 2] from
y; `wx1rx1` writes and reads a register; a read without digits is nil. Transactions
stand side by side when they are concurrent, on both sides of `;` when the one had
returned before the other was invoked. `!` behind one means that it failed, `?` that
nobody knows; `@3` gives its process, otherwise each has one of its own.
"""

from __future__ import annotations

import re
from typing import Any

from harness.history import History, Op

_MICRO_OP = re.compile(r"([arw])([a-z])(\d*)")
_TRANSACTION = re.compile(r"((?:[arw][a-z]\d*)+)([!?]?)(?:@(\d+))?")


def transactions(text: str, *, lists: bool = True) -> History:
    """The history of one line of the mini-language.

    Args:
        text: The line.
        lists: Whether reads return lists of digits, or one number.
    """
    ops: list[Op] = []
    nobody = 100
    for phase in text.split(";"):
        ends = []
        for word in phase.split():
            match = _TRANSACTION.fullmatch(word)
            assert match is not None, word
            body, mark, process = match.groups()
            nobody += 1
            who = int(process) if process else nobody
            done = [_micro_op(*parts, lists=lists) for parts in _MICRO_OP.findall(body)]
            asked = [[f, k, None if f == "r" else v] for f, k, v in done]
            ops.append(Op(len(ops), len(ops), who, "invoke", "txn", asked))
            kind: Any = {"": "ok", "!": "fail", "?": "info"}[mark]
            ends.append((who, kind, done if kind == "ok" else asked))
        for who, kind, value in ends:
            ops.append(Op(len(ops), len(ops), who, kind, "txn", value))
    return History(ops)


def _micro_op(f: str, key: str, digits: str, *, lists: bool) -> list[Any]:
    if f == "a":
        return ["append", key, int(digits)]
    if f == "r" and lists:
        return ["r", key, [int(digit) for digit in digits] or None]
    return [f, key, int(digits) if digits else None]
