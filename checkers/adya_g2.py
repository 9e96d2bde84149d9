"""Adya's G2 by predicates: of two inserts that exclude each other, one may succeed.

Jepsen's `adya` workload (Adya 1999, 4.2.2). For each key two transactions are tried:
each reads two tables for rows of that key, and inserts one, into one table or the
other, only where it found none. If both succeed, each read before the other wrote: a
cycle of two anti-dependencies, and both are on a predicate, so that locking the rows
that exist doesn't help. Two that have succeeded can't be taken back.

Values are Jepsen's `[key [a-id b-id]]`, of which one id is nil; or `[a-id b-id]` with
the key in the op.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checkers.findings import draw
from checkers.functions import Functions
from checkers.tallies import bad_op, completed, verdict_of
from checkers.values import element
from harness.registry import Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from harness.history import History, Op
    from harness.verdict import CheckerFactory


FUNCTIONS = Functions("the adya-g2 checker", {"insert": ("insert",)})


class AdyaG2Checker:
    """Judges which inserts of the same key succeeded."""

    final_on_prefix = frozenset({"G2"})

    def __init__(self, options: Mapping[str, str]) -> None:
        settings("the adya-g2 checker", (), options)

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: linear.

        Raises:
            HistoryError: An insert without a key and a pair of ids; or see
                `Functions.of`.
        """
        known = FUNCTIONS.of(history)
        inserts: dict[Hashable, list[Op]] = {}
        for op in completed(history, known, "insert"):
            inserts.setdefault(element(_key(history, op)), []).append(op)
        anomalies = [
            _both(_key(history, ops[0]), ops)
            for ops in inserts.values()
            if len(ops) > 1
        ]
        return verdict_of(
            anomalies,
            {"keys": len(inserts), "illegal_keys": len(anomalies)},
            judged=len(inserts),
            empty="no insert succeeded",
            known=known,
        )


def _key(history: History, op: Op) -> Any:
    key, pair = op.key, op.value
    if key is None and isinstance(pair, list | tuple) and len(pair) == 2:
        key, pair = pair
    if key is None or not isinstance(pair, list | tuple) or len(pair) != 2:
        raise bad_op(
            history, op, f"insert of {op.value!r:.60}, which is no [key [a-id b-id]]"
        )
    return key


def _both(key: Any, ops: list[Op]) -> Anomaly:
    a, b = ops[:2]
    return Anomaly(
        "G2",
        tuple(op.index for op in ops),
        f"{len(ops)} inserts for key {key!r} succeeded, by "
        + " and ".join(f"process {op.process} (op {op.index})" for op in ops[:2])
        + ", though each inserts only where it finds no row of the key: each has to "
        "come before the other.",
        witness=draw(
            [
                (a.index, b.index, "rwp", f"op {a.index} found no row of key {key!r}"),
                (b.index, a.index, "rwp", f"op {b.index} found no row of key {key!r}"),
            ]
        ),
        key=key,
    )


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "adya-g2",
    "of two inserts that exclude each other by a predicate, at most one succeeds",
    AdyaG2Checker,
)
