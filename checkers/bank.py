"""A bank: all money is there in every read, and no account owes (Jepsen's `bank`)."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from checkers.tallies import bad_op, completed, invocation, object_of, verdict_of
from harness.options import Flag, Names, Whole
from harness.registry import Option, Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from harness.history import History, Op
    from harness.verdict import CheckerFactory

TOTAL = Whole(-(10**15), 10**15)

OPTIONS = (
    Option("total-amount", "100", "what all accounts add up to", TOTAL),
    Option("negative-balances", "false", "accounts may owe", Flag()),
    Option(
        "accounts",
        "",
        "all accounts, with commas; those of the first read if none",
        Names("accounts", chars_max=100_000),
    ),
)


class BankChecker:
    """A read may leave accounts out, so which there are is best told by an option."""

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings("the bank checker", OPTIONS, options)
        self._may_owe: bool = given["negative-balances"]
        self._accounts: set[str] = set(given["accounts"])
        self._total: int = given["total-amount"]

    def check(self, history: History, limits: Limits) -> CheckResult:
        """See `Checker.check`. Cost: linear.

        Raises:
            HistoryError: A read of no map, or balances that are no numbers.
        """
        accounts_of: dict[Hashable, set[str]] = {}
        anomalies, reads = [], 0
        for op in completed(history, "read"):
            reads += 1
            balances = _balances(history, op)
            accounts = self._accounts or accounts_of.setdefault(
                object_of(op), set(map(str, balances))
            )
            strangers = [name for name in balances if str(name) not in accounts]
            name, why = self._wrong(balances, strangers)
            if name:
                begun = invocation(history, op).index
                sentence = f"Process {op.process} read all accounts, and {why}."
                anomalies.append(Anomaly(name, (begun, op.index), sentence, key=op.key))
        return verdict_of(
            anomalies,
            {"reads": reads},
            judged=reads,
            empty="no read succeeded",
        )

    def _wrong(
        self, balances: Mapping[Any, int | Fraction | None], strangers: list[Any]
    ) -> tuple[str, str]:
        """(name of what is wrong, sentence), or two empty texts."""
        if strangers:
            told = f"found accounts that nobody has: {strangers!r:.200}"
            return "unexpected-key", told
        missing = [name for name, balance in balances.items() if balance is None]
        if missing:
            return "nil-balance", f"found no balance for {missing!r:.200}"
        total = sum(balance or 0 for balance in balances.values())
        if total != self._total:
            return "wrong-total", f"found {total} in all where {self._total} must be"
        owing = {
            name: str(b) for name, b in balances.items() if b is not None and b < 0
        }
        if owing and not self._may_owe:
            return "negative-value", f"found an account below zero: {owing!r:.200}"
        return "", ""


def _balances(history: History, read: Op) -> dict[Any, int | Fraction | None]:
    """The accounts that a read found; nil where it found an account without a balance.

    Raises:
        HistoryError: It is no map, or holds what can't be added up.
    """
    if not isinstance(read.value, dict):
        raise bad_op(history, read, f"read of {read.value!r:.60}, no map of balances")
    found: dict[Any, int | Fraction | None] = {}
    for name, balance in read.value.items():
        if balance is None or type(balance) is int:
            found[name] = balance
        elif type(balance) in {float, Decimal, Fraction} and math.isfinite(balance):
            found[name] = Fraction(balance)
        else:
            problem = (
                f"read {balance!r:.60} of account {name!r:.60}, which is no number"
            )
            raise bad_op(history, read, problem)
    return found


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "bank", "every read of all accounts adds up, and none owes", BankChecker, OPTIONS
)
