"""Money moves between accounts, and none may appear, vanish or be owed.

All the money starts in the first account. A transfer moves a random amount between two
accounts, and aborts if an account would fall below zero. A read sees all accounts at
once. Promise: every read adds up to the total, with no account below zero (`bank`).
That needs transactions that are atomic and isolated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import registry
from harness.errors import UsageError
from harness.options import Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.workload import Workload
from harness.workload.generator import (
    Generator,
    Invocation,
    from_function,
    phases,
    until_ok,
)
from workloads.transactional import TxnCodec, once_per_thread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WireCodec, WorkloadFactory
    from workloads.transactional import MicroOp

MONEY = Whole(1, 10**12)

OPTIONS = (
    Option("accounts", "8", "number of accounts", Whole(2, 1000)),
    Option("total", "100", "money in all", MONEY),
    Option("transfer_max", "5", "largest transfer", MONEY),
)


class _Translation:
    def __init__(self, accounts: list[str]) -> None:
        self._accounts = accounts

    def to_txn(self, op: Op) -> list[MicroOp]:
        match op.f:
            case "open":
                first, *rest = self._accounts
                zeros: list[MicroOp] = [["w", account, 0] for account in rest]
                return [["w", first, op.value], *zeros]
            case "transfer":
                value = op.value
                return [
                    ["add", value["from"], -value["amount"]],
                    ["add", value["to"], value["amount"]],
                ]
            case _:
                return [["r", account, None] for account in self._accounts]

    def to_value(self, op: Op, done: Sequence[MicroOp]) -> Any:
        if op.f != "read":
            return op.value
        return {account: balance for _, account, balance in done}


class Bank(Workload):
    """The workload that this module describes."""

    name = "bank"
    requires = frozenset({"bank"})
    idempotent: frozenset[str] = frozenset({"read"})

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.name, OPTIONS, options)
        self.accounts = [f"account-{i}" for i in range(given["accounts"])]
        self.total: int = given["total"]
        self.transfer_max: int = given["transfer_max"]
        if self.transfer_max > self.total:
            raise UsageError(
                f"bank: transfer_max={self.transfer_max} is more than there is: "
                f"total={self.total}"
            )
        self.codec: WireCodec = TxnCodec(_Translation(self.accounts))

    @override
    def generator(self, concurrency: int) -> Generator:
        """Opens the accounts until that succeeds; then transfers and reads."""

        def draw(random: Random) -> Invocation:
            if random.random() < 0.4:
                return Invocation("read")
            source, target = random.sample(self.accounts, 2)
            amount = random.randint(1, self.transfer_max)
            return Invocation(
                "transfer", {"from": source, "to": target, "amount": amount}
            )

        opening = from_function(lambda _: Invocation("open", self.total))
        return phases(until_ok(opening), from_function(draw))

    @override
    def final_generator(self, concurrency: int) -> Generator:
        """Every thread reads all accounts."""
        return once_per_thread(lambda: [Invocation("read")], concurrency)

    @override
    def checkers(self) -> dict[str, Checker]:
        """`bank`, with the total that every read must add up to."""
        factory = registry.find("checker", "bank").factory
        return {"bank": factory({"total-amount": str(self.total)})}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "bank",
    "transfers between accounts and reads of all; judged by the total",
    Bank,
    OPTIONS,
)
