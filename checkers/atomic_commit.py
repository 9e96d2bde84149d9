"""Atomic commit: do all decide alike, for good, and for a reason?

The promises AC1 to AC5 of Bernstein, Hadzilacos and Goodman (1987, chapter 7.2):

- AC1  All that reach a decision reach the same one. Clients count: a transaction that
       was answered ok has been committed, one that failed for sure was aborted.
- AC2  Nobody reverses a decision. Nor does anybody forget one that it has told.
- AC3  Commit only if all participants voted yes.
- AC4  If all voted yes and nothing failed, commit. A history doesn't show what failed,
       so this is judged only when told that nothing did (`failures=none`); otherwise
       transactions that all voted for and that still aborted are counted.
- AC5  Once failures are repaired for long enough, all decide. Judged on the last
       `decisions` of each node after the last transaction, unless `final=unhealed`.

Two kinds of history are understood, also mixed: the operations of the `commit` workload
(`txn`, and `decisions` answered with a node's own account) and what nodes observed of
themselves (`voted`, `decided`, `in_doubt`, `resolved`; of 3PC, `precommitted` and
`recovered`). Nothing is assumed about the order of different nodes' events. The latter
also show whether a rule of 3PC is kept, whose breach comes before a split: who is over
the barrier stays there in all its lives, until it decides or is brought back (7.5).

A statement that a decision exists is evidence for ever, so a split is found even when
one side is later "repaired". What is undecided at some moment is no anomaly before the
last reading: blocking is 2PC's nature. How many were in doubt and for how long is
counted.

So AC1 to AC3 and the barrier are broken for good. But who is blocked may decide later,
and a vote that nobody has told of yet may be told: a commit without a vote is not
final, nor is an abort that seems needless.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from checkers.commit.accounts import gather, is_observation
from checkers.commit.rules import is_needless, judge
from checkers.commit.telling import tell
from checkers.findings import PROMISES_EXAMPLES_MAX, collect, conclude, enumerate_names
from checkers.functions import Functions
from harness.options import OneOf
from harness.registry import Option, Plugin, settings
from harness.verdict import nothing_to_judge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checkers.commit.accounts import Accounts
    from harness.history import History
    from harness.verdict import CheckResult, Limits

FUNCTIONS = Functions(
    "the atomic_commit checker",
    {"txn": ("txn",), "decisions": ("decisions",)},
    observed="what participants observe",
)


class AtomicCommitChecker:
    """Judges AC1 to AC5.

    Args:
        healed: The last accounts were taken after all was repaired for long enough.
        no_failures: Nothing failed while the history was made.
    """

    observes = True
    final_on_prefix = frozenset(
        {
            "split-decision",
            "client-misled",
            "decision-reversed",
            "decision-forgotten",
            "commit-despite-no",
            "forgot-precommit",
        }
    )

    def __init__(self, *, healed: bool = True, no_failures: bool = False) -> None:
        self.healed = healed
        self.no_failures = no_failures

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Linear, so `limits` is not needed.

        Raises:
            HistoryError: See `gather`, and `Functions.of`.
        """
        has_observed = any(is_observation(op) for op in history)
        known = FUNCTIONS.of(history, has_observed=has_observed)
        accounts = gather(history, known)
        found = judge(
            history, accounts, no_failures=self.no_failures, healed=self.healed
        )
        findings = collect(found, PROMISES_EXAMPLES_MAX)
        return known.weighed(
            conclude(
                findings.counts,
                [tell(breach) for breach in findings.examples],
                statistics(accounts),
                reason=self.unjudged(accounts),
            )
        )

    def unjudged(self, accounts: Accounts) -> str:
        """Why the history is not enough for a verdict; empty when it is."""
        if not any(t.decisions for t in accounts.transactions.values()):
            count = len(accounts.transactions)
            return nothing_to_judge(
                f"no node told of a decision on any of {count} transactions"
            )
        silent = sorted(accounts.nodes - accounts.heard)
        if self.healed and silent:
            return (
                f"{enumerate_names(silent)} never told after the last transaction what "
                "was decided, so nobody knows whether all decided (AC5)"
            )
        return ""


def statistics(accounts: Accounts) -> dict[str, Any]:
    """Figures for the report."""
    outcomes: Counter[str] = Counter()
    for transaction in accounts.transactions.values():
        words = {s.word for s in transaction.decisions}
        outcomes["split" if len(words) > 1 else words.pop() if words else "open"] += 1
    stats: dict[str, Any] = {
        "transactions": len(accounts.transactions),
        "outcomes": dict(outcomes),
        "accounts": accounts.answered,
    }
    if accounts.doubts_seen or accounts.waits_ms:
        stats["in_doubt"] = accounts.doubts_seen
        stats["in_doubt_at_end"] = len(accounts.doubts)
        stats["longest_in_doubt_ms"] = round(max(accounts.waits_ms, default=0.0), 1)
    needless = sum(map(is_needless, accounts.transactions.values()))
    return stats | {"aborted_despite_all_yes": needless}


OPTIONS = (
    Option(
        "final",
        "healed",
        "whether the last decisions were read after all failures were repaired for "
        "long enough, so that whoever is undecided then is blocked",
        OneOf("healed", "unhealed"),
    ),
    Option(
        "failures",
        "possible",
        "whether anything failed; if nothing did, a transaction that all voted for "
        "must have been committed",
        OneOf("possible", "none"),
    ),
)


def build(options: Mapping[str, str]) -> AtomicCommitChecker:
    """The checker from its options. Raises UsageError for what it doesn't know."""
    given = settings("the atomic_commit checker", OPTIONS, options)
    return AtomicCommitChecker(
        healed=given["final"] == "healed", no_failures=given["failures"] == "none"
    )


PLUGIN = Plugin(
    "atomic_commit",
    "all decide alike, for good, only on unanimous votes, and in the end (AC1 to AC5)",
    build,
    OPTIONS,
    aliases=("atomic-commit",),
)
