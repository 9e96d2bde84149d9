"""Sequential consistency: is there one order of all operations that all could agree on?

Lamport (1979): the outcome is that of some order of all operations in which those of
each process stand in the process's own order. Unlike linearizability it allows stale
reads, as long as no process can tell: ZooKeeper promises that for reads without `sync`.
It isn't local, so all keys are judged together.

What a verdict means, for `guarantee=sequential`:

- valid: an order was found, and replayed: it explains every read;
- invalid: a session guarantee is broken, or a read is of what nobody wrote, or calls
  are forced into a circle (`checkers.sequence.saturation`), or all orders were tried;
- unknown: none of that within the limits. To decide it is NP-hard (Gibbons and Korach
  1997). The session guarantees hold then, and the reason says so.

With `guarantee=session` only the four session guarantees of Terry et al. (1994) are
judged, key by key, in linear time; sequential consistency implies them.

Choices: values written to a key differ, as in our workloads. Keys where they don't are
left out; what is found on the others is still proof, but valid is not claimed. A write
of unknown outcome that was seen happened after its session's earlier calls, however
late; one that nobody saw is left out.

An order of a whole history, without the calls of later, is one of a prefix, unless a
read of the prefix is of a value that is written later: sequential consistency allows
that. So all anomalies are final but a read of what nobody wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from checkers.findings import PROMISES_EXAMPLES_MAX, collect, conclude, shown
from checkers.linearizability.budget import Budget
from checkers.sequence import calls as reading
from checkers.sequence import order, saturation, versions
from checkers.sequence.evidence import (
    NOT_SEQUENTIAL,
    BrokenGuarantee,
    ForcedCircle,
    NoOrder,
    ReadOfNothing,
)
from checkers.sequence.telling import Teller
from checkers.sequence.versions import BY_NAME
from harness.options import OneOf
from harness.registry import Option, Plugin, settings
from harness.verdict import Limits, nothing_to_judge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from checkers.sequence.calls import Calls
    from checkers.sequence.evidence import Breach
    from harness.history import History
    from harness.verdict import CheckResult

FIRST_DEAD_ENDS_MAX = 300
"""Dead ends of the first search; then a proof that there is no order is tried."""

SEARCH_DEFAULT_S = 30.0
"""How long the search goes on when nobody set a limit: it may be exponential."""

LEFT_OUT_TOLD_MAX = 5
"""Keys named that were left out."""


class SequentialChecker:
    """Judges sequential consistency of registers.

    Args:
        sessions_only: Judge nothing but the session guarantees.
    """

    final_on_prefix = frozenset({*BY_NAME, NOT_SEQUENTIAL, "read-of-failed-write"})

    def __init__(self, *, sessions_only: bool = False) -> None:
        self.sessions_only = sessions_only

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history` within `limits`; see the module for what the verdict means.

        Cost: linear for the session guarantees; then exponential at worst, bounded by
        the time limit or 30 s, but near linear for most histories.

        Raises:
            HistoryError: See `Functions.of`, and `reading.attempts`.
        """
        time_s = SEARCH_DEFAULT_S if limits.time_s is None else limits.time_s
        budget = Budget(Limits(time_s, limits.memory_mb))
        known = reading.FUNCTIONS.of(history)
        calls = reading.gather(history, known)
        findings = collect(of_versions(calls), PROMISES_EXAMPLES_MAX)
        unknown = "" if calls.reads or findings.counts else no_reads(calls)
        decision = Decision()
        if not self.sessions_only and not findings.counts and not unknown:
            decision = decide(calls, budget)
            unknown = decision.unknown
            if decision.breach is not None:
                findings.note(decision.breach)
        stats = {
            "guarantee": "session" if self.sessions_only else "sequential",
            "calls": len(calls.calls),
            "sessions": len(calls.sessions),
            "reads": calls.reads,
            "seconds": round(budget.seconds(), 3),
            **({"repairs": decision.repairs} if decision.repairs else {}),
            **({"decided_by": decision.by} if decision.by else {}),
        }
        teller = Teller(history, calls)
        return known.weighed(
            conclude(
                findings.counts,
                [teller.tell(breach) for breach in findings.examples],
                stats,
                reason=unknown or left_out(calls),
                not_models=("sequential",),
            )
        )


def of_versions(calls: Calls) -> Iterator[Breach]:
    """Reads of nothing, and versions on whose order sessions do not agree."""
    yield from map(ReadOfNothing, calls.unwritten)
    for circle in versions.circles(calls):
        yield BrokenGuarantee(tuple(circle))


def no_reads(calls: Calls) -> str:
    """Why there is nothing to judge where nothing was read."""
    count = len(calls.calls)
    return nothing_to_judge(
        f"among {count} calls that happened none is a read or a cas"
    )


def left_out(calls: Calls) -> str:
    """Why valid can't be claimed for all keys; empty where it can."""
    if not calls.left_out:
        return ""
    keys = ", ".join(map(shown, calls.left_out[:LEFT_OUT_TOLD_MAX]))
    return f"values were written twice, or null was, to key {keys}"


class Decision(NamedTuple):
    """Whether there is one order of all calls that explains every read.

    Attributes:
        by: What decided it, as a clause; empty if nothing did.
        breach: The proof that there is none.
        unknown: Why neither was found, if so.
        repairs: How many wrong guesses were mended.
    """

    by: str = ""
    breach: Breach | None = None
    unknown: str = ""
    repairs: int = 0


def decide(calls: Calls, budget: Budget) -> Decision:
    """Find an order, or a proof that there is none; else say why neither was found.

    First wrong guesses are mended, and then a short search is tried. Where both fail, a
    circle of forced order is a proof; without one, what is forced guides a last search,
    which only the budget ends.
    """
    cheap = versions.writers_before(calls)
    repair = order.Repair(calls, budget, cheap)
    outcome = repair.run()
    if outcome.order is None:
        outcome = order.Search(calls, budget, FIRST_DEAD_ENDS_MAX, cheap).run()
    if outcome.order is None:
        forced = saturation.Saturation(calls, budget)
        if circle := forced.circle():
            breach = ForcedCircle(tuple(circle))
            by = "a circle of forced order"
            return Decision(by, breach, repairs=repair.repairs)
        if not outcome.exhausted:
            outcome = order.Search(calls, budget, None, forced.before()).run()
    return concluded(calls, outcome)._replace(repairs=repair.repairs)


def concluded(calls: Calls, outcome: order.Outcome) -> Decision:
    """What the search has shown; if nothing, why."""
    if outcome.order is not None:
        assert order.explains(calls, outcome.order), "a wrong order was found"
        return Decision("an order that explains all reads")
    if outcome.exhausted:
        stuck = tuple(outcome.stuck)
        return Decision("all orders", NoOrder(outcome.furthest, stuck))
    unknown = (
        "neither an order of all calls nor a proof that there is none was found: "
        f"{outcome.limit}; the session guarantees hold, and the first "
        f"{outcome.furthest} of {len(calls.calls)} calls can be ordered"
    )
    return Decision(unknown=unknown)


OPTIONS = (
    Option(
        "guarantee",
        "sequential",
        "one order of all operations (sequential), or only what each session may rely "
        "on, key by key (session)",
        OneOf("sequential", "session"),
    ),
)


def build(options: Mapping[str, str]) -> SequentialChecker:
    """The checker from its options. Raises UsageError for what it doesn't know."""
    given = settings("the sequential checker", OPTIONS, options)
    return SequentialChecker(sessions_only=given["guarantee"] == "session")


PLUGIN = Plugin(
    "sequential",
    "one order of all operations explains every read, stale ones too, in each session",
    build,
    OPTIONS,
    aliases=("sequential-consistency",),
)
