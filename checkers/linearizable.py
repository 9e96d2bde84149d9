"""The linearizability checker: did every key behave like one object?

Linearizability (Herlihy and Wing 1990): each operation seems to take effect at one
instant between its invocation and its completion. It is local, so each independent key
is checked by itself. Registers whose written values are all different are decided by
zones, everything else by search (`checkers.linearizability`).

Choices:
- A history without one successful operation to judge is linearizable, but shows
  nothing. Workloads ask for UNKNOWN then (`vacuous="unknown"`); `splitbrain check`,
  which is asked about the history alone, says valid, as other checkers do, and remarks
  on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checkers.linearizability.budget import Budget
from checkers.linearizability.calls import partition
from checkers.linearizability.models import MODELS
from checkers.linearizability.search import search
from harness.history import HistoryError
from harness.registry import Option, Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checkers.linearizability.models import Model
    from harness.history import History


ALGORITHMS = ("auto", "zones", "search")


class LinearizableChecker:
    """Judges a history against a sequential model, key by key.

    Args:
        model: What one object may do.
        algorithm: "auto", or "zones" or "search" to insist on one.
        vacuous: The verdict on a history without a single successful operation.
    """

    def __init__(
        self,
        model: Model,
        *,
        algorithm: str = "auto",
        vacuous: Verdict = Verdict.UNKNOWN,
    ) -> None:
        assert algorithm in ALGORITHMS, algorithm
        self.model = model
        self.algorithm = algorithm
        self.vacuous = vacuous

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`; a malformed one is UNKNOWN, with the reason in one line."""
        budget = Budget(limits)
        try:
            keys = partition(history, self.model)
        except HistoryError as problem:
            return CheckResult(Verdict.UNKNOWN, reason=f"{history.source}: {problem}")
        anomalies = []
        configurations = 0
        for key, calls in keys.items():
            outcome = search(calls, self.model, budget)
            configurations += outcome.configurations
            if outcome.linearizable is None:
                return CheckResult(Verdict.UNKNOWN, reason=outcome.limit)
            if not outcome.linearizable:
                assert outcome.stuck is not None
                call = calls[outcome.stuck]
                anomalies.append(
                    Anomaly(
                        "nonlinearizable",
                        (call.position,),
                        f"no order of the operations lets process "
                        f"{history[call.position].process} have "
                        f"{self.model.describe(call.operation)}",
                        key=key,
                    )
                )
        stats: dict[str, Any] = {"configurations": configurations}
        verdict = Verdict.INVALID if anomalies else Verdict.VALID
        return CheckResult(verdict, tuple(anomalies), stats=stats)


def build(options: Mapping[str, str]) -> LinearizableChecker:
    """The checker from its options.

    Raises:
        UsageError: An unknown option or model, or an initial value that can't be read.
    """
    given = settings("the linearizable checker", OPTIONS, options)
    spec = MODELS[given["model"]]
    return LinearizableChecker(
        spec.build(given["initial"]),
        algorithm=given["algorithm"],
        vacuous=Verdict.parse(given["vacuous"]),
    )


OPTIONS = (
    Option("model", "cas-register", "what one object may do", choices=tuple(MODELS)),
    Option("initial", "", 'the first state, as JSON or EDN; empty: nil, or "" for kv'),
    Option(
        "algorithm",
        "auto",
        "zones where all written values differ, else search; or insist on one",
        choices=ALGORITHMS,
    ),
    Option(
        "vacuous",
        "valid",
        "the verdict when no operation succeeded, so that nothing was shown",
        choices=("valid", "unknown"),
    ),
)

PLUGIN = Plugin(
    "linearizable",
    "every key behaves like one object whose operations take effect at once",
    build,
    OPTIONS,
    aliases=("linearizability",),
)
