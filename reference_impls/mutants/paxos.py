"""Paxos with one rule broken, nine times.

Sections are those of Lamport 2001, "Paxos Made Simple".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reference_impls.mutants import Mutant, power_amid, told_first
from reference_impls.override import override
from reference_impls.paxos import NO_BALLOT, Ballot, Paxos

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reference_impls.actor import Effect, Now
    from reference_impls.paxos import Attempt, Instance


class PromiseNotDurable(Paxos):
    """A restarted acceptor forgets its promise (2.5: it remembers its responses).

    It then accepts below a ballot whose proposer counts on it.
    """

    @override
    def persist_promised(self, instance: Instance) -> None:
        """Keep the promise in memory only."""


class AcceptedNotDurable(Paxos):
    """A restarted acceptor forgets what it accepted, not its promise (2.5).

    A later proposer hears of no value where one was chosen.
    """

    @override
    def persist_accepted(self, instance: Instance) -> None:
        """Make the ballot durable, and not the value."""
        self.persist({"key": instance.key, "promised": instance.promised})


class PromiseBeforeFsync(Paxos):
    """An acceptor promises before its promise is durable (2.5).

    When the power fails, it accepts below a ballot whose proposer counts on it.
    """

    @override
    def take_effects(self) -> list[Effect]:
        return told_first(super().take_effects(), lambda x: "promised" in x)


class AcceptedBeforeFsync(Paxos):
    """An acceptor tells what it accepted before that is durable (2.5).

    When the power fails, a majority may have forgotten the value that was chosen.
    """

    @override
    def take_effects(self) -> list[Effect]:
        return told_first(super().take_effects(), lambda x: "accepted" in x)


class AcceptIgnoresPromise(Paxos):
    """An acceptor accepts below its promise (2.2, P1a).

    A slow proposer's value is chosen after that of a faster one.
    """

    @override
    def may_accept(self, instance: Instance, ballot: Ballot) -> bool:
        """Accept whatever comes."""
        return True


class KeepsOwnValue(Paxos):
    """A proposer ignores what the acceptors had accepted (2.2, P2c)."""

    @override
    def propose(self, instance: Instance, attempt: Attempt) -> None:
        """Propose the server's own value if it has one, else what the rule demands."""
        if any(waiting.value is not None for waiting in instance.waiting):
            attempt.promises = dict.fromkeys(attempt.promises)
        super().propose(instance, attempt)


class PromiseEqualId(Paxos):
    """An acceptor answers a prepare equal to the promised id, from another proposer.

    It takes the round for the whole id (2.2, phase 1(b): greater than any that it has
    responded to), so two proposers of one round both have a majority's promises.
    """

    @override
    def may_promise(self, instance: Instance, ballot: Ballot) -> bool:
        """Compare by the round, so that ballots equal to the promised one pass, too."""
        return ballot.round >= instance.promised.round


class LearnFromMinority(Paxos):
    """A learner takes what one acceptor accepted for chosen (2.1: a majority)."""

    @override
    def is_chosen(self, acceptors: set[str]) -> bool:
        """Take one acceptor for a majority."""
        return True


class TimestampWithoutId(Paxos):
    """Ballots are clock readings only, without the server's id (2.2: disjoint sets).

    Two proposers of one millisecond share a ballot, and an acceptor can't tell the
    second's prepare from the first's heard twice: it answers both.
    """

    @override
    def next_ballot(self, instance: Instance, now: Now) -> Ballot:
        """A ballot out of the clock alone."""
        return Ballot(super().next_ballot(instance, now).round, NO_BALLOT.server)

    @override
    def may_promise(self, instance: Instance, ballot: Ballot) -> bool:
        """Answer an equal ballot, which seems to come from the same proposer again."""
        return ballot >= instance.promised


LONG_IN_USE = {"consensus.proposals_per_key": "200"}
"""So that instances are still proposed to when nodes are back from a loss of power."""

DISAGREEMENT = ("disagreement", "changed-its-mind")

SOURCE = "Lamport 2001, Paxos Made Simple, "


def mutant(
    name: str,
    core: type[Any],
    rule: str,
    section: str,
    nemesis: tuple[str, ...],
    *anomalies: str,
    options: Mapping[str, str] | None = None,
    limits: Mapping[str, str] | None = None,
) -> tuple[str, Mutant]:
    """An entry of `MUTANTS`; `anomalies` are those that show before a disagreement."""
    return name, Mutant(
        name,
        core,
        rule,
        SOURCE + section,
        (*anomalies, *DISAGREEMENT),
        "consensus",
        options or {},
        nemesis,
        limits or {},
    )


MUTANTS: Mapping[str, Mutant] = dict(
    [
        mutant(
            "promise-not-durable",
            PromiseNotDurable,
            "a restarted acceptor forgets its promise",
            "2.5",
            ("kill", "partition"),
            "broken-promise",
        ),
        mutant(
            "accepted-not-durable",
            AcceptedNotDurable,
            "a restarted acceptor forgets what it accepted",
            "2.5",
            ("kill", "partition"),
            "forgot-accepted",
        ),
        mutant(
            "promise-before-fsync",
            PromiseBeforeFsync,
            "a promise leaves before it is durable",
            "2.5",
            ("disk", "power"),
            "broken-promise",
            options=LONG_IN_USE,
            limits=power_amid(),
        ),
        mutant(
            "accepted-before-fsync",
            AcceptedBeforeFsync,
            "what was accepted is told before it is durable",
            "2.5",
            ("disk", "power"),
            "forgot-accepted",
            options=LONG_IN_USE,
            limits=power_amid(),
        ),
        mutant(
            "accept-ignores-promise",
            AcceptIgnoresPromise,
            "accepts below its promise",
            "2.2, P1a",
            ("partition", "pause"),
            "broken-promise",
        ),
        mutant(
            "keeps-own-value",
            KeepsOwnValue,
            "the proposer ignores the highest accepted value",
            "2.2, P2c",
            ("partition",),
        ),
        mutant(
            "promise-equal-id",
            PromiseEqualId,
            "answers a prepare equal to the promised id from another proposer",
            "2.2, phase 1(b)",
            ("partition", "pause"),
            "broken-promise",
        ),
        mutant(
            "learn-from-minority",
            LearnFromMinority,
            "a value is learned without a majority",
            "2.1 and 2.3",
            ("partition",),
            "learned-not-chosen",
        ),
        mutant(
            "timestamp-without-id",
            TimestampWithoutId,
            "ballots are clock readings only, no server id",
            "2.2",
            ("partition",),
            "ballot-of-two-values",
            options={"ballots": "timestamp"},
        ),
    ]
)
