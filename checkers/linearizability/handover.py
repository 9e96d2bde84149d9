"""Chooses between the search in Python and the compiled one.

Python begins, since most searches are over before numba could be imported. One that
turns out to be hard starts again, compiled, once it has taken about as long as getting
the compiled one ready takes. Calls that never return are better searched in Python,
which learns (`learning`), than compiled.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from checkers.linearizability.budget import Patience
from checkers.linearizability.calls import NEVER, KeyCalls
from checkers.linearizability.outcome import NODES_PER_BUDGET_CHECK
from checkers.linearizability.search import search
from harness.override import override

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkers.linearizability.budget import Budget
    from checkers.linearizability.calls import Call
    from checkers.linearizability.outcome import Outcome
    from checkers.linearizability.specification import Model
    from checkers.linearizability.transitions import Transitions

PLAIN: Final = "search"
COMPILED: Final = "compiled search"

WHEN: Final = ("auto", "always", "never")
"""When a search is compiled."""

KERNEL: Final = "checkers.linearizability.kernel"

HANDED_OVER: Final = "handed over to the compiled search"


class UntilHard(Patience):
    """A budget that also ends after so many configurations."""

    def __init__(self, budget: Budget, configurations: int) -> None:
        self._budget = budget
        self._left = configurations

    @override
    def exceeded(self) -> str:
        # The search calls this once per so many nodes.
        self._left -= NODES_PER_BUDGET_CHECK
        return self._budget.exceeded() or (HANDED_OVER if self._left <= 0 else "")


def search_fast(
    calls: Sequence[Call],
    model: Model,
    budget: Budget,
    compiled: str = "auto",
    shared: Transitions | None = None,
) -> tuple[Outcome, str]:
    """Search, and name the search that answered: PLAIN or COMPILED.

    Args:
        calls: All calls on one object.
        model: What it may do.
        budget: When to give up.
        compiled: One of `WHEN`. Even with "always", Python searches if the model has
            too many states, too many calls are open at once, or there is no numba.
        shared: As in `search`.
    """
    if compiled == "never" or not is_installed():
        return search(calls, model, budget, shared=shared), PLAIN
    if compiled == "auto":
        if has_crashed(calls):
            return search(calls, model, budget, shared=shared), PLAIN
        patience = UntilHard(budget, handover_after())
        outcome = search(calls, model, patience, shared=shared)
        if outcome.limit != HANDED_OVER:
            return outcome, PLAIN
    from checkers.linearizability.fast import FastSearch

    fast = FastSearch.prepare(calls, model, shared)
    if fast is None:
        return search(calls, model, budget, shared=shared), PLAIN
    return fast.run(budget), COMPILED


def has_crashed(calls: Sequence[Call]) -> bool:
    """Whether some of the calls never return."""
    if isinstance(calls, KeyCalls):
        return calls.crashed > 0
    return any(call.returned == NEVER for call in calls)


@cache
def is_installed() -> bool:
    """Whether there is numba to compile with; importing it may still fail."""
    return importlib.util.find_spec("numba") is not None


def handover_after() -> int:
    """Configurations that Python explores first.

    They take about as long as the compiled search takes to get ready: nothing if it has
    run before, a second to load it, seven if it was never compiled.
    """
    if KERNEL in sys.modules:
        return 2_000
    return 200_000 if is_kept() else 1_500_000


@cache
def is_kept() -> bool:
    """Whether the compiled search was compiled before, and kept."""
    folder = Path(__file__).parent / "__pycache__"
    return any(folder.glob("kernel.advance-*.nbi"))
