"""A bank: all money is there in every read, and no account owes (Jepsen's `bank`)."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from checkers.tallies import completed, invocation, object_of, verdict_of
from harness.errors import UsageError
from harness.registry import Option, Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from harness.history import History
    from harness.verdict import CheckerFactory

OPTIONS = (
    Option("total-amount", "100", "what all accounts add up to"),
    Option("negative-balances", "false", "accounts may owe", ("true", "false")),
    Option(
        "accounts", "", "all accounts, with commas; those of the first read if none"
    ),
)


class BankChecker:
    """A read may leave accounts out, so which there are is best told by an option."""

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings("the bank checker", OPTIONS, options)
        self._may_owe = given["negative-balances"] == "true"
        names = [name.strip() for name in given["accounts"].split(",")]
        self._accounts = {name for name in names if name}
        try:
            self._total = int(given["total-amount"])
        except ValueError:
            raise UsageError(
                f"the bank checker: total-amount={given['total-amount']}: "
                "a whole number"
            ) from None

    def check(self, history: History, limits: Limits) -> CheckResult:
        """See `Checker.check`. Cost: linear."""
        accounts_of: dict[Hashable, set[str]] = {}
        anomalies, reads = [], 0
        for op in completed(history, "read"):
            reads += 1
            if not isinstance(op.value, dict):
                wrong = "malformed-read", f"got {op.value!r:.60}, no map of balances"
            else:
                accounts = self._accounts or accounts_of.setdefault(
                    object_of(op), set(map(str, op.value))
                )
                strangers = [name for name in op.value if str(name) not in accounts]
                wrong = self._wrong(op.value, strangers)
            if wrong[0]:
                name, why = wrong
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
        self, balances: Mapping[Any, Any], strangers: list[Any]
    ) -> tuple[str, str]:
        """(name of what is wrong, sentence), or two empty texts."""
        if strangers:
            return "unexpected-key", f"found accounts that nobody has: {strangers}"
        missing = [name for name, balance in balances.items() if balance is None]
        if missing:
            return "nil-balance", f"found no balance for {missing}"
        try:
            total = sum(map(_number, balances.values()))
        except ValueError:
            return "malformed-read", f"found balances that are no numbers: {balances}"
        if total != self._total:
            return "wrong-total", f"found {total} in all where {self._total} must be"
        if not self._may_owe and min(balances.values(), default=0) < 0:
            return "negative-value", f"found an account below zero: {dict(balances)}"
        return "", ""


def _number(balance: Any) -> int | Fraction:
    """A balance that adds up exactly. Raises ValueError for what is no number."""
    if type(balance) is int:
        return balance
    if type(balance) in {float, Decimal, Fraction} and math.isfinite(balance):
        return Fraction(balance)
    raise ValueError(balance)


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "bank", "every read of all accounts adds up, and none owes", BankChecker, OPTIONS
)
