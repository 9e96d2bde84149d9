"""Advice of another checker, if the one that was asked can't judge a history."""

from __future__ import annotations

import contextlib
import itertools
import re
from typing import TYPE_CHECKING, Any

from harness.history import HistoryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.history import History

_JUDGES = (
    ({"txn"}, "append", "transactions over lists", "--checker list-append"),
    ({"txn"}, "w", "transactions over registers", "--checker rw-register"),
    ({"txn"}, "id", "transactions of atomic commit", "--checker atomic_commit"),
    ({"acquire", "release"}, "", "a lock's", "--checker linearizable --model mutex"),
    ({"enqueue", "dequeue"}, "", "a queue's",
     "--checker linearizable --model fifo-queue, or --checker total-queue"),
    ({"push", "pop"}, "", "a stack's", "--checker linearizable --model stack"),
    ({"generate"}, "", "a source of ids'", "--checker unique-ids"),
    ({"transfer"}, "", "a bank's", "--checker bank"),
    ({"propose"}, "", "those of consensus", "--checker consensus"),
    ({"broadcast"}, "", "those of a broadcast", "--checker total_order"),
    ({"add", "read"}, "list", "a set's", "--checker set, or --checker set-full"),
    ({"add", "read"}, "number", "a counter's", "--checker counter"),
    ({"cas"}, "", "a compare-and-set register's",
     "--checker linearizable --model cas-register"),
    ({"write", "read"}, "", "a register's", "--checker linearizable"),
)  # fmt: skip
"""(names of operations, contents of values, what these operations are, checker)."""


_OPS_LOOKED_AT_MAX = 10_000


def advice(history: History, checker_name: str, model: str = "") -> str:
    """Advice for a history whose operations the checker can't judge.

    It is empty if there is none, or if the advised checker is the one that was asked.
    """
    functions: set[str] = set()
    values: set[str] = set()
    with contextlib.suppress(HistoryError):  # reading an op may show that it is damaged
        for op in itertools.islice(history, _OPS_LOOKED_AT_MAX):
            if op.is_client:
                functions.add(op.f)
                values.update(_holds(op.f, op.value))
    for needed, held, what, who in _JUDGES:
        if needed <= functions and (not held or held in values):
            asked = re.escape(f"--checker {checker_name}")
            if re.search(rf"{asked}($|,| --model {re.escape(model)}\b)", who):
                return ""
            return f"; these operations look like {what}: try {who}"
    return ""


def _holds(f: str, value: Any) -> Iterator[str]:
    if f == "txn" and isinstance(value, dict):
        yield from ("id",) if "id" in value else ()
    elif f == "txn" and isinstance(value, list):
        yield from (str(m[0]) for m in value if isinstance(m, list) and m)
    elif f == "read" and value is not None:
        yield "list" if isinstance(value, list) else "number"
