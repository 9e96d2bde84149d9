"""The linearizability checker: did every key behave like one object?

Linearizability (Herlihy and Wing 1990): each operation seems to take effect at one
instant between its invocation and its completion. It is local, so each independent key
is checked by itself. Where values tell who wrote them, a polynomial algorithm decides:
zones for registers, and one for each of the other kinds of object; where they repeat,
and for all other models, search (`checkers.linearizability`).

Choices:
- A history without a read or the like is linearizable, but shows nothing: it is
  UNKNOWN, where other checkers say valid. Pending ones are part of what is judged,
  though they contradict nothing; where there are no others, a remark says so.
- One anomaly per broken key: a conflict in its shortest prefix that has no order. Of
  many broken keys those that broke first are explained.
- Zones, which decide our own workloads, take all keys at once. Other keys are decided
  one after the other, or, where they are long, shared among `processes`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from checkers.linearizability.budget import Budget, LimitExceeded
from checkers.linearizability.calls import client_positions, partition
from checkers.linearizability.containers import blind_functions
from checkers.linearizability.deciders import ZONES
from checkers.linearizability.explain import Explainer, with_initial
from checkers.linearizability.handover import WHEN, is_installed
from checkers.linearizability.judge import AUTO, INSISTENCE, Judge, Judged
from checkers.linearizability.models import find_model, model_name, parse_value
from checkers.linearizability.processes import how_many, in_processes
from checkers.linearizability.specification import show
from checkers.linearizability.words import either
from harness.errors import UsageError
from harness.history import NO_COMPLETION, HistoryError
from harness.history.columns import INFO
from harness.host.collector import collector_paused
from harness.options import Checked, Flag, OneOf
from harness.registry import Option, Plugin, settings
from harness.verdict import NOTHING_TO_JUDGE, Anomaly, CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from checkers.linearizability.specification import Model
    from harness.history import History

EXPLAINED_MAX = 20
"""Broken keys that get an explanation; the others are counted."""

NOTHING_TO_DO = {
    "algorithm": "none",
    "keys": 0,
    "which": "every key",
    "why": "nothing that depends on the state succeeded or is pending",
}
"""The plan for a history that shows nothing."""

LISTED_MAX = 10
"""Keys named in a sentence before it says "and so on"."""


@dataclass
class Findings:
    """What a check has found so far.

    Attributes:
        explainer: Explains this history.
        explained: One anomaly for each of the EXPLAINED_MAX keys that broke first, and
            when that was: the position of the return that ends the shortest
            impossible prefix.
        valid, broken: Keys that are decided.
        undecided: Key -> how far it was shown linearizable, as a clause.
        proved: What was shown of some of these; JSON-able.
        limit: Which limit ended the check, as a clause.
        algorithms: How many keys each algorithm decided.
        configurations: How many the search explored.
        calls: How many client operations there are, failed ones included.
        plan: (algorithm, why) -> the keys that it is for.
    """

    explainer: Explainer
    explained: list[tuple[int, Anomaly]] = field(default_factory=list)
    valid: list[Hashable] = field(default_factory=list)
    broken: list[Hashable] = field(default_factory=list)
    undecided: dict[Hashable, str] = field(default_factory=dict)
    proved: list[dict[str, Any]] = field(default_factory=list)
    limit: str = ""
    algorithms: Counter[str] = field(default_factory=Counter)
    configurations: int = 0
    calls: int = 0
    plan: dict[tuple[str, str], list[Hashable]] = field(default_factory=dict)

    def take(self, judged: Iterable[Judged], budget: Budget) -> None:
        """Take note of what came of keys, and explain those that broke first."""
        broken = []
        for one in judged:
            self.note(one)
            if one.broken is not None:
                broken.append(one.broken)
        for each in sorted(broken, key=lambda each: each.broke):
            if self.is_early(each.broke):
                self.explain((each.broke, self.explainer.explain(each, budget)))

    def note(self, judged: Judged) -> None:
        """Take note of what came of a key."""
        key, choice = judged.key, judged.choice
        if choice is not None:
            self.plan.setdefault((choice.algorithm, choice.why), []).append(key)
        self.configurations += judged.configurations
        self.limit = judged.limit or self.limit
        if judged.linearizable is None:
            self.undecided[key] = judged.undecided
            if judged.proved is not None:
                self.proved.append(judged.proved.as_json(key))
            return
        assert choice is not None
        self.algorithms[choice.algorithm] += 1
        (self.valid if judged.linearizable else self.broken).append(key)

    def is_early(self, broke: int) -> bool:
        """Whether a key that broke then is among the first to be explained."""
        return len(self.explained) < EXPLAINED_MAX or broke < self.explained[-1][0]

    def explain(self, *more: tuple[int, Anomaly]) -> None:
        """Take note of explanations, and forget those of the keys that broke last."""
        everything = sorted([*self.explained, *more], key=lambda found: found[0])
        self.explained = everything[:EXPLAINED_MAX]

    def add(self, part: Findings) -> None:
        """Take over what was found about other keys."""
        self.explain(*part.explained)
        self.valid += part.valid
        self.broken += part.broken
        self.undecided |= part.undecided
        self.proved += part.proved
        self.limit = self.limit or part.limit
        self.algorithms += part.algorithms
        self.configurations += part.configurations
        for how, keys in part.plan.items():
            self.plan.setdefault(how, []).extend(keys)

    def __getstate__(self) -> dict[str, Any]:
        """All but the explainer, which holds the history, for another process."""
        return self.__dict__ | {"explainer": None}

    def plan_lines(self) -> list[dict[str, Any]]:
        """Which algorithm for which keys, and why; JSON-able."""
        return [
            {
                "algorithm": algorithm,
                "keys": len(keys),
                "which": name_keys(keys),
                "why": why,
            }
            for (algorithm, why), keys in self.plan.items()
        ]

    def verdict(self) -> Verdict:
        """INVALID as soon as one key is broken; a key left open is UNKNOWN."""
        if self.broken:
            return Verdict.INVALID
        return Verdict.UNKNOWN if self.undecided or self.limit else Verdict.VALID

    def stats(self) -> dict[str, Any]:
        """Figures for the report."""
        return {
            "calls": self.calls,
            "keys": len(self.valid) + len(self.broken) + len(self.undecided),
            "keys_broken": len(self.broken),
            **({"keys_explained": len(self.explained)} if self.broken else {}),
            "algorithms": dict(+self.algorithms),
            "configurations": self.configurations,
            **({"proved": self.proved} if self.proved else {}),
        }

    def reason(self, limits: Limits) -> str:
        """Why keys are undecided, what was proved all the same, and what to try."""
        if not self.undecided and not self.limit:
            return ""
        parts = [self.limit or "not all keys could be decided"]
        if self.valid:
            parts.append(f"linearizable: {name_keys(self.valid)}")
        parts += [
            f"{name_keys([key])}: {clause}"
            for key, clause in list(self.undecided.items())[:LISTED_MAX]
        ]
        if len(self.undecided) > LISTED_MAX:
            parts.append(f"{len(self.undecided) - LISTED_MAX} more keys are undecided")
        if self.limit:
            parts.append(f"to decide it, try {what_to_try(limits)}")
        return "; ".join(parts)


def what_to_try(limits: Limits) -> str:
    """What may help where a search met its limits, as a choice."""
    words = []
    if limits.time_s is not None:
        words.append("a longer --time-limit")
    if limits.memory_mb is not None:
        words.append("a larger --memory-limit")
    if not is_installed():
        words.append("pip install 'splitbrain[fast]'")
    words.append("a test with fewer clients at once on a key, or no value twice")
    return either(words)


def name_keys(keys: list[Hashable]) -> str:
    """Keys for a sentence: "key 1", "keys 1, 2", "12 keys"."""
    if keys == [None]:
        return "the only object"
    if len(keys) > LISTED_MAX:
        return f"{len(keys)} keys"
    return f"key{'s' * (len(keys) > 1)} {', '.join(map(show, keys))}"


class LinearizableChecker:
    """Judges a history against a sequential model, key by key.

    Args:
        model: What one object may do.
        algorithm: One of INSISTENCE; "auto" is the fastest that fits.
        compiled: When numba searches; see `handover`.
        explain_plan: Put the plan into the figures.
    """

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
        findings = Findings(Explainer(history, self.model))
        untried = ""
        try:
            if not self.shows_something(history):
                pending = self.pending_looks(history)
                if not pending:
                    partition(history, self.model)  # still refuses what is malformed
                    return self.nothing_shown(history)
                untried = (
                    "no read or other operation that depends on the state is known "
                    f"to have succeeded ({pending} ended in info, or never): nothing "
                    "could have contradicted the others"
                )
            with collector_paused():
                self.decide(history, budget, findings)
        except LimitExceeded as limit:
            findings.limit = str(limit)
        except HistoryError as problem:
            raise HistoryError(f"{history.source}: {problem}") from None
        stats = {"model": self.model.name, "seconds": round(budget.seconds(), 3)}
        plan = {"plan": findings.plan_lines()} if self.explain_plan else {}
        return CheckResult(
            findings.verdict(),
            tuple(with_initial([anomaly for _, anomaly in findings.explained])),
            not_models=("linearizable",) if findings.broken else (),
            reason=findings.reason(limits),
            stats=stats | findings.stats() | plan,
            remarks=(untried,) if untried else (),
            untried=untried,
        )

    def shows_something(self, history: History) -> bool:
        """Whether some operation succeeded that could have contradicted the others.

        Writes alone can't: any order of them will do.
        """
        blind = self.blind
        return any(
            op.type == "ok"
            and (op.f not in blind or isinstance(op.value, bool | list | tuple))
            and op.is_client
            for op in history
        )

    @property
    def blind(self) -> frozenset[str]:
        """The functions that don't depend on the state."""
        return self.model.writes | self.model.appends | blind_functions(self.model)

    def pending_looks(self, history: History) -> int:
        """How many operations depend on the state and nobody saw return."""
        events = history.columns
        invoked, completed = client_positions(history)
        pending = (completed == NO_COMPLETION) | (events.type[completed] == INFO)
        calls = np.bincount(events.f[invoked[pending]], minlength=len(events.functions))
        blind = np.array([f in self.blind for f in events.functions], np.bool_)
        return int(calls[~blind].sum())

    def nothing_shown(self, history: History) -> CheckResult:
        """The result for a history that no object could have failed."""
        calls = len(client_positions(history)[0])
        return CheckResult(
            Verdict.UNKNOWN,
            reason=f"{NOTHING_TO_JUDGE}: among {calls} client operations no read or "
            "other operation that depends on the state succeeded or is pending",
            stats={"model": self.model.name, "calls": calls}
            | ({"plan": [NOTHING_TO_DO]} if self.explain_plan else {}),
        )

    def decide(self, history: History, budget: Budget, findings: Findings) -> None:
        """All keys that one pass can decide, then each of the others by itself."""
        judge = Judge(self.model, self.algorithm, self.compiled, budget)
        positions = client_positions(history)
        findings.calls = len(positions[0])
        swept, left = judge.sweep(history, positions)
        findings.take(swept, budget)
        if left is not None and not left:
            return
        if self.algorithm == ZONES.name:
            why = "zones can't decide it (values repeat, or cas)"
            findings.undecided.update(dict.fromkeys(left or {None}, why))
            return
        # Short histories first: one hard key must not keep the others undecided.
        keys = sorted(
            partition(history, self.model, left, budget).items(),
            key=lambda item: len(item[1]),
        )
        count = how_many([len(calls) for _, calls in keys], budget.limits)
        shared = judge.table_of([calls for _, calls in keys])

        def share(n: int, into: Findings) -> Findings:
            for key, calls in keys[n::count]:
                into.take([judge.judge(key, calls, shared)], budget)
            return into

        if count == 1:
            share(0, findings)
            return
        for part in in_processes(
            lambda n: share(n, Findings(findings.explainer)), count
        ):
            findings.add(part)


def initial_text(text: str) -> str:
    """`text`, which is a value or nothing. Raises UsageError where it is neither."""
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
