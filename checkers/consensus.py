"""Consensus: one value per instance is learned, for ever, and it was proposed.

The promises of Paxos Made Simple (Lamport 2001, section 2.1), per key, each key being
an instance of its own:

- agreement: no two different values are learned;
- validity: what is learned was proposed, before it was learned, and not by a proposal
  that its client was told had failed for sure;
- integrity: a node doesn't change its mind;
- learned implies chosen: a majority accepted the value at one ballot.

Two kinds of history are understood, also mixed: the operations of the `consensus`
workload (`propose`, whose answer is the chosen value, and `learn`), and what nodes
observed of themselves (`promised`, `accepted`, `learned`, `chosen`; `applied` says that
the entry at an index, an instance of its own, is known by its hash). The latter also
show whether two rules of the protocol are kept, whose breach comes before disagreement:

- an acceptor keeps its promises, through restarts (P1a): having promised a ballot it
  neither promises nor accepts a lower one;
- a ballot belongs to one proposer, which proposes one value at it (P2c's premise).

Choices: a majority is counted among the acceptors that the observations show, which
may be fewer than there are. So a majority that is too small may pass, but none is
blamed wrongly. A node's answer that it has not learned (null) is never an anomaly:
learning may be forgotten, being chosen is not. An instance on which nobody ever learns
anything is no breach either (FLP); such stalemates are counted.

What was learned stays learned, and a value that a client was told before anybody
proposed it is wrong even if it is proposed later. So all is final, but for what was
learned before a majority has told that it accepted: the others may tell so later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checkers.findings import PROMISES_EXAMPLES_MAX, collect, conclude
from checkers.functions import Functions
from checkers.paxos.instances import Instances, is_observation, take_call
from checkers.paxos.rules import of_acceptor, of_instances
from checkers.paxos.telling import tell
from harness.registry import Plugin, settings
from harness.verdict import nothing_to_judge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from checkers.functions import Known
    from checkers.paxos.evidence import Breach
    from harness.history import History
    from harness.verdict import CheckResult, Limits

FUNCTIONS = Functions(
    "the consensus checker",
    {"propose": ("propose",), "learn": ("learn",)},
    observed="what acceptors and learners observe",
)


class ConsensusChecker:
    """Judges every instance of consensus in a history."""

    observes = True
    final_on_prefix = frozenset(
        {
            "broken-promise",
            "forgot-accepted",
            "ballot-of-two-values",
            "changed-its-mind",
            "disagreement",
            "failed-proposal-chosen",
            "learned-before-proposed",
            "value-never-proposed",
        }
    )

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Linear, so `limits` is not needed.

        Raises:
            HistoryError: A client was told a value of a kind that nobody proposed; or
                see `Functions.of`.
        """
        has_observed = any(is_observation(op) for op in history)
        known = FUNCTIONS.of(history, has_observed=has_observed)
        instances = Instances()
        found = breaches(history, known, instances)
        findings = collect(found, PROMISES_EXAMPLES_MAX)
        return known.weighed(
            conclude(
                findings.counts,
                [tell(breach) for breach in findings.examples],
                statistics(instances),
                reason=unjudged(instances),
            )
        )


def breaches(history: History, known: Known, instances: Instances) -> Iterator[Breach]:
    """All that is wrong; the instances take note of what clients and nodes did."""
    for op in history:
        if op.is_client:
            take_call(instances, history, known, op)
        elif is_observation(op):
            yield from of_acceptor(instances, op)
    yield from of_instances(history, instances)


def statistics(found: Instances) -> dict[str, Any]:
    """Figures for the report."""
    instances = found.by_key.values()
    return {
        "instances": len(instances),
        "learned": sum(bool(i.learned) for i in instances),
        "stalemates": sum(bool(i.proposals) and not i.learned for i in instances),
        "proposals": sum(len(p) for i in instances for p in i.proposals.values()),
        "acceptors_observed": len(found.acceptors),
    }


def unjudged(instances: Instances) -> str:
    """Why the history is not enough for a verdict; empty when it is."""
    if any(instance.learned for instance in instances.by_key.values()):
        return ""
    count = len(instances.by_key)
    return nothing_to_judge(f"nobody learned a value of any of {count} instances")


def build(options: Mapping[str, str]) -> ConsensusChecker:
    """The checker. Raises UsageError for any option, as it has none."""
    settings("the consensus checker", (), options)
    return ConsensusChecker()


PLUGIN = Plugin(
    "consensus",
    "one value per instance is learned, which was proposed and chosen, and for ever",
    build,
)
