"""Primary-order broadcast: one order of messages, the same at every node.

The properties of Zab (Junqueira, Reed and Serafini 2011, section 3), over the sequences
that nodes delivered. A delivered item is [epoch, counter, message].

- integrity: only what was broadcast is delivered, and no message twice;
- total order: if a node delivers a before b, a node that delivers b delivers a before;
- agreement: of two nodes, one delivers all that the other does;
- local primary order: within an epoch, in the order in which its primary broadcast;
- global primary order: messages of an earlier epoch before those of a later one;
- primary integrity: a primary has delivered all that anybody delivers of earlier
  epochs before it broadcasts.

and the rules of Zab that they rest on, whose breach comes before any harm:

- an epoch begins, and later its primary broadcasts, with a quorum's consent (V, l.2.1
  and l.2.2);
- it begins with a history as recent as any of that quorum (l.1.2);
- a node forgets no epoch that it accepted (f.1.2).

Two consequences for clients are judged, too: what was acknowledged is never lost, and a
message that was broadcast after another was acknowledged comes after it.

Two kinds of history are understood:

- the `broadcast` workload's: `broadcast` (ok: delivered at the node asked) and pages of
  sequences (`delivered`). Total order and agreement both hold if and only if all
  sequences are prefixes of the longest: no n-th item differs from another one.
- what nodes observed: `delivered`, `new_epoch`, `synchronizing`, `became_leader`,
  `recovered`. A node begins anew at some point of its sequence after a restart or a
  snapshot, so only neighbours are known: an item must have the same predecessor and
  successor everywhere.

A message is lost if its sender was told that it is delivered and the whole sequences
read after the last broadcast lack it. A node that is merely behind is counted.

What was delivered stays delivered, where it was. So all anomalies but a lost message,
which may yet be read, are final; a message that was delivered before anybody broadcast
it is wrong even if somebody does later.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from checkers.broadcast.observed import OBSERVED, read_observed
from checkers.broadcast.rules import of_observed, of_sequences
from checkers.broadcast.sequences import read_sequences
from checkers.broadcast.telling import tell
from checkers.findings import PROMISES_EXAMPLES_MAX, collect, conclude
from checkers.functions import Functions
from harness.registry import Plugin, settings
from harness.verdict import nothing_to_judge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checkers.broadcast.observed import Observed
    from checkers.broadcast.sequences import Sequences
    from harness.history import History
    from harness.verdict import CheckResult, Limits

FUNCTIONS = Functions(
    "the total_order checker",
    {"broadcast": ("broadcast",), "delivered": ("delivered",)},
    observed="what nodes observe of their deliveries",
)


class TotalOrderChecker:
    """Judges the order in which nodes delivered messages."""

    observes = True
    final_on_prefix = frozenset(
        {
            "delivery-changed",
            "local-primary-order",
            "global-primary-order",
            "duplicate-delivery",
            "order-disagreement",
            "agreement-broken",
            "message-never-broadcast",
            "failed-message-delivered",
            "delivered-before-broadcast",
            "broadcast-order",
            "two-primaries",
            "epoch-went-back",
            "primary-integrity",
            "no-quorum",
            "older-history",
        }
    )

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Linear in the items, so `limits` is not needed.

        Raises:
            HistoryError: See `read_sequences`; or a message that a client read is of a
                kind that nobody broadcast; or see `Functions.of`.
        """
        has_observed = any(op.f in OBSERVED and not op.is_client for op in history)
        known = FUNCTIONS.of(history, has_observed=has_observed)
        sequences, observed = read_sequences(history, known), read_observed(history)
        found = chain(of_sequences(history, sequences), of_observed(observed))
        findings = collect(found, PROMISES_EXAMPLES_MAX)
        return known.weighed(
            conclude(
                findings.counts,
                [tell(history, breach) for breach in findings.examples],
                statistics(sequences, observed),
                reason=unjudged(sequences, observed),
            )
        )


def statistics(sequences: Sequences, observed: Observed) -> dict[str, Any]:
    """Figures for the report."""
    whole = sequences.whole()
    longest = max(map(len, whole.values()), default=0)
    behind = {n: longest - len(m) for n, m in sorted(whole.items()) if len(m) < longest}
    return {
        "broadcasts": len(sequences.broadcasts),
        "acknowledged": sum(b.outcome == "ok" for b in sequences.broadcasts.values()),
        "sequences_read": len(sequences.places),
        "delivered_most": max(map(len, sequences.places.values()), default=0),
        "behind_at_end": behind,
        "deliveries_observed": sum(map(len, observed.runs)),
        "epochs_led": len({primary.epoch for primary in observed.primaries}),
    }


def unjudged(sequences: Sequences, observed: Observed) -> str:
    """Why the history is not enough for a verdict; empty when it is."""
    read = any(sequences.places.values())
    if not read and not observed.runs:
        return nothing_to_judge("no node delivered any message")
    acknowledged = any(b.outcome == "ok" for b in sequences.broadcasts.values())
    if acknowledged and not sequences.whole():
        return (
            "no node's whole sequence was read after the last broadcast, so nobody "
            "knows whether acknowledged messages were lost"
        )
    return ""


def build(options: Mapping[str, str]) -> TotalOrderChecker:
    """The checker. Raises UsageError for any option, as it has none."""
    settings("the total_order checker", (), options)
    return TotalOrderChecker()


PLUGIN = Plugin(
    "total_order",
    "every node delivers the same messages in one order, by primary and epoch (Zab)",
    build,
    aliases=("total-order",),
)
