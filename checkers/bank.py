"""A bank: all money is there in every read, and no account owes (Jepsen's `bank`).

Each read is judged by itself and by the accounts of the first, so what is wrong with it
stays wrong.
"""

from __future__ import annotations

import math
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from checkers.functions import READS, Functions
from checkers.tallies import (
    Answers,
    bad_op,
    completed,
    from_node,
    invocation,
    object_of,
    verdict_of,
)
from checkers.values import element, kind
from harness.options import Flag, Names, Whole
from harness.registry import Option, Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from harness.history import History, Op
    from harness.verdict import CheckerFactory

FUNCTIONS = Functions(
    "the bank checker",
    {
        "read": (*READS, "balances"),
        "transfer": ("transfer", "move"),
        "open": ("open",),
    },
    against=dict.fromkeys(
        ("deposit", "withdraw", "withdrawal", "mint", "burn"),
        "money must neither come nor go",
    ),
)

WRONG_TOTAL = "wrong-total"

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
    """Judges every read of all accounts.

    A read may leave accounts out, so the option `accounts` is the surest way to tell
    which there are.
    """

    final_on_prefix = frozenset(
        {"wrong-total", "negative-value", "nil-balance", "unexpected-key"}
    )

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings("the bank checker", OPTIONS, options)
        self._may_owe: bool = given["negative-balances"]
        self._accounts: set[str] = set(given["accounts"])
        self._total: int = given["total-amount"]

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: linear.

        Raises:
            HistoryError: A read of neither map nor list, or balances that are no
                numbers; or see `Functions.of`.
        """
        known = FUNCTIONS.of(history)
        accounts_of: dict[Hashable, set[str]] = {}
        forms: dict[Hashable, str] = {}
        totals: dict[Hashable, Answers] = defaultdict(Answers)
        wrong: list[tuple[Op, str, str, int | Fraction]] = []
        reads = 0
        for op in completed(history, known, "read"):
            reads += 1
            form = forms.setdefault(object_of(op), kind(op.value))
            if form != kind(op.value):
                problem = f"read of {op.value!r:.60}, {kind(op.value)}, but the first "
                raise bad_op(history, op, problem + f"read gave {form}")
            balances = _balances(history, op)
            accounts = self._accounts or accounts_of.setdefault(
                object_of(op), set(map(str, balances))
            )
            if self._accounts and not isinstance(op.value, dict):
                # In a list, accounts have places, and the option names them in order.
                accounts = set(map(str, range(len(self._accounts))))
            strangers = [name for name in balances if str(name) not in accounts]
            total = _total(balances)
            totals[object_of(op)].note(op.node, total)
            name, why = self._wrong(balances, total, strangers)
            if name:
                wrong.append((op, name, why, total))
        anomalies = []
        for op, name, why, total in wrong:
            begun = invocation(history, op).index
            sentence = f"Process {op.process} read all accounts{from_node(op)}, and "
            sentence += why
            if name == WRONG_TOTAL:
                sentence += totals[object_of(op)].beside(op.node, total)
            anomalies.append(
                Anomaly(name, (begun, op.index), f"{sentence}.", key=op.key)
            )
        return verdict_of(
            anomalies,
            {"reads": reads},
            judged=reads,
            empty="no read succeeded",
            known=known,
        )

    def _wrong(
        self,
        balances: Mapping[Any, int | Fraction | None],
        total: int | Fraction,
        strangers: list[Any],
    ) -> tuple[str, str]:
        """What is wrong with a read.

        Returns:
            The name of the anomaly, and a clause; two empty texts if nothing is wrong.
        """
        if strangers:
            told = f"found accounts that nobody has: {strangers!r:.200}"
            return "unexpected-key", told
        missing = [name for name, balance in balances.items() if balance is None]
        if missing:
            return "nil-balance", f"found no balance for {missing!r:.200}"
        if total != self._total:
            return WRONG_TOTAL, f"found {total} in all where {self._total} must be"
        owing = {
            name: str(b) for name, b in balances.items() if b is not None and b < 0
        }
        if owing and not self._may_owe:
            return "negative-value", f"found an account below zero: {owing!r:.200}"
        return "", ""


def _total(balances: Mapping[Any, int | Fraction | None]) -> int | Fraction:
    return sum(balance or 0 for balance in balances.values())


def _balances(history: History, read: Op) -> dict[Any, int | Fraction | None]:
    """The accounts that a read found; nil where it found an account without a balance.

    Older tests read a list of balances, in which an account is named by its place, or a
    list of [account balance].

    Raises:
        HistoryError: It is none of that, or holds what can't be added up.
    """
    told = read.value
    if isinstance(told, list | tuple):
        is_pairs = all(isinstance(one, list | tuple) and len(one) == 2 for one in told)
        told = {element(a): b for a, b in told} if is_pairs else dict(enumerate(told))
    if not isinstance(told, dict):
        raise bad_op(
            history, read, f"read of {told!r:.60}, neither map nor list of balances"
        )
    found: dict[Any, int | Fraction | None] = {}
    for name, balance in told.items():
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
