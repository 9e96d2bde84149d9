"""The linearizability checker: did every key behave like one object?

Linearizability (Herlihy and Wing 1990): each operation seems to take effect at one
instant between its invocation and its completion. It is local, so each independent key
is checked by itself. If values tell who wrote them, a polynomial algorithm decides:
zones for registers, and one for each of the other kinds of object. If values repeat,
and for all other models, it is search (`checkers.linearizability`).

Choices:
- A history in which no operation depends on the state is linearizable, but shows
  nothing: it is UNKNOWN, where other checkers say valid. Pending operations that depend
  on the state are judged, though they contradict nothing. If there are no others, a
  remark says so.
- What is not linearizable stays so, whatever follows: a linear order of a history,
  without what was invoked after a prefix, is one of the prefix (Herlihy and Wing 1990,
  3.3), in which open operations may have taken effect or not. So all anomalies convict
  a run that goes on. A search that a limit ends convicts nobody.
- There is one anomaly per broken key: a conflict in its shortest prefix that has no
  order. Of many broken keys those that broke first are explained.
- Zones, which decide our own workloads, take all keys at once. Many short keys are
  tried all at once (`together`). Other keys are decided one after the other, or, if
  they are long, shared among `processes`, or among other machines (`Limits.helpers`).
"""

from __future__ import annotations

import functools
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from checkers.linearizability import looks, orders
from checkers.linearizability.budget import Budget, LimitExceeded
from checkers.linearizability.calls import client_positions, partition
from checkers.linearizability.explain import Explainer, with_initial
from checkers.linearizability.handover import WHEN
from checkers.linearizability.judge import AUTO, INSISTENCE, Judge
from checkers.linearizability.ledger import Ledger
from checkers.linearizability.models import find_model, model_name, parse_value
from checkers.linearizability.processes import how_many, in_processes
from checkers.linearizability.specification import freeze
from checkers.linearizability.telling import ANOMALIES
from harness.errors import UsageError
from harness.history import HistoryError
from harness.host.collector import collector_paused
from harness.options import Checked, Flag, OneOf
from harness.registry import Option, Plugin, settings
from harness.verdict import (
    CheckResult,
    Limits,
    Orders,
    Verdict,
    nothing_to_judge,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence

    from checkers.linearizability.accesses import Column
    from checkers.linearizability.calls import KeyCalls
    from checkers.linearizability.judge import Common
    from checkers.linearizability.specification import Model
    from harness.history import History

ALONE_S = 5.0
"""How long keys are judged before the others are given to helpers."""
RETURN_SHARE = 0.1
"""The part of the time left that is for the way there and back."""
SHARES_EACH = 4
"""Shares for each helper; with one, all would wait for whoever has the hard keys."""

NOTHING_TO_DO = {
    "algorithm": "none",
    "keys": 0,
    "which": "every key",
    "why": "nothing that depends on the state succeeded or is pending",
}
"""The plan for a history that shows nothing."""


class LinearizableChecker:
    """Judges a history against a sequential model, key by key.

    Args:
        model: What one object may do.
        algorithm: One of INSISTENCE; "auto" is the fastest that fits.
        compiled: When numba searches; see `handover`.
        explain_plan: Put the plan into the figures.
    """

    final_on_prefix = ANOMALIES

    def __init__(
        self,
        model: Model,
        *,
        algorithm: str = AUTO,
        explain_plan: bool = False,
        compiled: str = "auto",
    ) -> None:
        assert algorithm in INSISTENCE, algorithm
        assert compiled in WHEN, compiled
        self.model = model
        self.compiled = compiled
        self.explain_plan = explain_plan
        self.algorithm = algorithm

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`.

        Raises:
            HistoryError: It holds operations that the model does not have.
        """
        budget = Budget(limits)
        positions = client_positions(history)
        ledger = Ledger(
            Explainer(history, self.model), self.explain_plan, calls=len(positions[0])
        )
        untried = ""
        try:
            if not looks.some_succeeded(history, self.model):
                pending = looks.pending(history, self.model, positions)
                if not pending:
                    partition(history, self.model)  # still refuses what is malformed
                    return self.nothing_shown(ledger.calls)
                untried = (
                    "no read or other operation that depends on the state is known "
                    f"to have succeeded ({pending} ended in info, or never): nothing "
                    "could have contradicted the others"
                )
            with collector_paused():
                self.decide(history, positions, budget, ledger)
        except LimitExceeded as limit:
            ledger.limit = str(limit)
        except HistoryError as problem:
            raise HistoryError(f"{history.source}: {problem}") from None
        stats = {"model": self.model.name, "seconds": round(budget.seconds(), 3)}
        plan = {"plan": ledger.plan_lines()} if self.explain_plan else {}
        return CheckResult(
            ledger.verdict(),
            tuple(with_initial(ledger.explained.examples)),
            not_models=("linearizable",) if ledger.broken else (),
            reason=ledger.reason(limits),
            stats=stats | ledger.stats() | plan,
            remarks=(untried,) if untried else (),
            untried=untried,
        )

    def orders(
        self, history: History, keys: Collection[Any] | None, limits: Limits
    ) -> Iterator[Orders]:
        """Orders of some keys, or of all, the shortest keys first.

        Raises:
            HistoryError: The history holds operations that the model does not have.
        """
        budget = Budget(limits)
        wanted = set(map(freeze, keys)) if keys and self.model.by_key else None
        try:
            found = partition(history, self.model, wanted, budget)
        except LimitExceeded as limit:
            raise HistoryError(f"{history.source}: {limit}") from None
        for calls in sorted(found.values(), key=len):
            if len(calls):
                key = history[calls[0].position].key if self.model.by_key else None
                yield orders.shown(key, calls, self.model, budget)

    def nothing_shown(self, calls: int) -> CheckResult:
        """The result for a history that no object could have failed."""
        return CheckResult(
            Verdict.UNKNOWN,
            reason=nothing_to_judge(
                f"among {calls} client operations no read or other operation that "
                "depends on the state succeeded or is pending"
            ),
            stats={"model": self.model.name, "calls": calls}
            | ({"plan": [NOTHING_TO_DO]} if self.explain_plan else {}),
        )

    def decide(
        self,
        history: History,
        positions: tuple[Column, Column],
        budget: Budget,
        ledger: Ledger,
    ) -> None:
        """Zones for all keys that they can decide, then what the others need.

        Many short keys are tried together. Those that are left are decided one by one,
        the shortest first: one hard key must not keep the others undecided.
        """
        judge = Judge(
            self.model, self.algorithm, self.compiled, budget, self.explain_plan
        )
        judged, left = judge.sweep(history, positions)
        ledger.take(judged, budget)
        if left is not None and not left:
            return
        keys = partition(history, self.model, left, budget)
        common = judge.common(keys)
        for choice, settled in judge.settled(keys, common):
            ledger.take_settled(choice, settled)
        todo = [item for item in keys.items() if not common.settles(item[1])]
        todo.sort(key=lambda item: len(item[1]))
        if budget.limits.helpers is not None and budget.limits.memory_mb is None:
            self.share_out(history, todo, judge, common, ledger)
            return
        count = how_many([len(calls) for _, calls in todo], budget.limits)

        def share(n: int, part: Ledger) -> Ledger:
            for key, calls in todo[n::count]:
                part.take([judge.judge(key, calls, common)], budget)
            return part

        if count == 1:
            share(0, ledger)
            return
        for part in in_processes(lambda n: share(n, ledger.empty()), count):
            ledger.add(part)

    def share_out(
        self,
        history: History,
        todo: Sequence[tuple[Hashable, KeyCalls]],
        judge: Judge,
        common: Common,
        ledger: Ledger,
    ) -> None:
        """Judge keys, and give those to helpers that are not done soon.

        It would take longer to send the history than to decide most keys.
        """
        budget, helpers = judge.budget, judge.budget.limits.helpers
        assert helpers is not None
        time_s = budget.limits.time_s
        alone_s = ALONE_S if time_s is None else min(ALONE_S, time_s - budget.seconds())
        trying, left = replace(judge, budget=Budget(Limits(alone_s))), []
        for key, calls in todo:
            judged = trying.judge(key, calls, common)
            if judged.limit:
                left.append(key)
            else:
                ledger.take([judged], budget)
        until_s = None
        if time_s is not None:
            left_s = (time_s - budget.seconds()) * (1 - RETURN_SHARE)
            until_s = time.time() + left_s
        count = min(len(left), SHARES_EACH * helpers.count)
        shares = [left[n::count] for n in range(count)]
        work = functools.partial(self.part, until_s=until_s)
        for part in helpers.each(work, history, shares) if shares else ():
            ledger.add(part)

    def part(
        self, history: History, keys: Sequence[Hashable], until_s: float | None
    ) -> Ledger:
        """What comes of some of the keys, whichever machine has the history.

        Args:
            history: What happened.
            keys: Those to judge.
            until_s: When to give up, as a time of day, which all machines agree on.
        """
        left_s = None if until_s is None else max(0.0, until_s - time.time())
        budget = Budget(Limits(left_s))
        ledger = Ledger(Explainer(history, self.model), self.explain_plan)
        judge = Judge(
            self.model, self.algorithm, self.compiled, budget, self.explain_plan
        )
        try:
            found = partition(history, self.model, set(keys), budget)
        except LimitExceeded as limit:
            ledger.limit = str(limit)
            return ledger
        common = judge.common(found)
        for choice, settled in judge.settled(found, common):
            ledger.take_settled(choice, settled)
        for key, calls in found.items():
            if not common.settles(calls):
                ledger.take([judge.judge(key, calls, common)], budget)
        return ledger


def initial_text(text: str) -> str:
    """`text`, which is a value or empty. Raises UsageError if it is neither."""
    if text:
        parse_value(text)
    return text


def build(options: Mapping[str, str]) -> LinearizableChecker:
    """The checker from its options.

    Raises:
        UsageError: An unknown option or model, or an initial value that can't be read.
    """
    given = settings("the linearizable checker", OPTIONS, options)
    try:
        model = find_model(given["model"], given["initial"])
    except UsageError as bad:
        where = f"the linearizable checker: model={given['model']}"
        raise UsageError(f"{where}: {bad}") from None
    return LinearizableChecker(
        model,
        algorithm=given["algorithm"],
        explain_plan=given["explain-plan"],
        compiled=given["compiled"],
    )


OPTIONS = (
    Option(
        "model",
        "cas-register",
        "what one object may do: a model, or your own as module:Class or file.py:Class",
        Checked("the name of a model, or yours", model_name),
    ),
    Option(
        "initial",
        "",
        'the first state, as JSON or EDN; by default nil, "" for kv, 0, or empty',
        Checked("JSON or EDN that suits the model, or nothing", initial_text, 10_000),
    ),
    Option(
        "algorithm",
        "auto",
        "the fastest that knows the model and tells values apart; or insist on one",
        OneOf(*INSISTENCE),
    ),
    Option(
        "explain-plan",
        "false",
        "say which algorithm decided which keys, and why",
        Flag(),
    ),
    Option(
        "compiled",
        "auto",
        "let numba search (splitbrain[fast]); auto: once a search turns out to be hard",
        OneOf(*WHEN),
    ),
)

PLUGIN = Plugin(
    "linearizable",
    "every key behaves like one object whose operations take effect at once",
    build,
    OPTIONS,
    aliases=("linearizability",),
)
