"""Two-phase commit with one rule broken, eight times.

Sections are those of Bernstein, Hadzilacos and Goodman 1987.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reference_impls import shards
from reference_impls.atomic_commit import ABORT, NO
from reference_impls.mutants import Mutant, power_amid, told_first
from reference_impls.override import override
from reference_impls.two_phase_commit import TwoPhaseCommit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reference_impls.actor import Effect
    from reference_impls.atomic_commit import Coordinated, Part


class DecideBeforeLog(TwoPhaseCommit):
    """Tells its decision, and logs it some time later (7.4: before it is sent).

    A coordinator that crashes in between aborts what others have committed.
    """

    LOG_DELAY_MS = 100.0

    @override
    def persist_decision(self, coordinated: Coordinated) -> None:
        """Leave the decision to a log that is written later."""
        self.set_timer(f"log {coordinated.id}", self.LOG_DELAY_MS)

    @override
    def on_timer(self, name: str, transaction: str) -> None:
        """Write the decision whose timer this is."""
        if name == "log":
            super().persist_decision(self.coordinated[transaction])
        else:
            super().on_timer(name, transaction)


class VoteBeforeLog(TwoPhaseCommit):
    """Votes yes, and logs it once it knows the decision (7.4: before it votes).

    A participant that crashes in between has lost its part of a committed transaction.
    """

    @override
    def persist_vote(self, part: Part) -> None:
        """Log a no at once, and a yes later."""
        if part.vote == NO:
            super().persist_vote(part)

    @override
    def learn(self, part: Part, decision: str, by: str) -> None:
        """Log the vote at last."""
        if part.decision is None and part.vote is not None:
            super().persist_vote(part)
        super().learn(part, decision, by)


class DecideBeforeFsync(TwoPhaseCommit):
    """Tells its decision before that is durable (7.4: before it is sent).

    When the power fails, a coordinator aborts what others have committed.
    """

    @override
    def take_effects(self) -> list[Effect]:
        return told_first(super().take_effects(), lambda x: x["record"] == "decide")


class VoteBeforeFsync(TwoPhaseCommit):
    """Votes yes before its part of the transaction is durable (7.4).

    When the power fails, it has lost its part of a committed transaction. A coordinator
    that takes part in its own transaction may even have its decision on disk before its
    vote: back again, it reads itself as prepared, has nobody to ask, and blocks (AC5).
    """

    @override
    def take_effects(self) -> list[Effect]:
        return told_first(super().take_effects(), lambda x: x["record"] == "vote")


class PreparedTimeoutAborts(TwoPhaseCommit):
    """A participant that voted yes aborts when it hears nothing (7.4: it must ask).

    It has given up that right: the others may commit.
    """

    @override
    def on_decision_timeout(self, part: Part) -> None:
        """Abort at once."""
        self.learn(part, ABORT, self.node)


class CommitOnMajority(TwoPhaseCommit):
    """Commits when most participants have voted yes (7.2, AC3: when all have)."""

    @override
    def may_commit(self, coordinated: Coordinated) -> bool:
        """True when more than half of the participants voted yes."""
        return len(coordinated.results) * 2 > len(coordinated.participants)

    @override
    def on_all_yes(self, coordinated: Coordinated) -> None:
        """Commit; the client gets its own operations where results are missing."""
        parts = shards.split(coordinated.txn, self.servers)
        coordinated.results = {**parts, **coordinated.results}
        super().on_all_yes(coordinated)


class UnlockAtPrepare(TwoPhaseCommit):
    """Lets its locks go with its vote (3.1 and 7.1: strict two-phase locking).

    Others see what may be aborted, and half of what is committed.
    """

    @override
    def after_yes(self, part: Part) -> None:
        """Release the locks, so that those who wait go on."""
        self.free_locks(part)


class AbortKeepsWrites(TwoPhaseCommit):
    """Doesn't undo what an aborted transaction wrote (1.1: it has no effect)."""

    @override
    def undo(self, part: Part) -> None:
        """Forget how to undo the writes, and leave them."""
        self.shard.commit(part.id)


SOURCE = "Bernstein, Hadzilacos and Goodman 1987, "

MUTANTS: Mapping[str, Mutant] = {
    mutant.name: mutant
    for mutant in (
        Mutant(
            "decide-before-log",
            DecideBeforeLog,
            "the decision is sent before it is durable",
            SOURCE + "7.4",
            ("split-decision",),
            "commit",
            nemesis=("kill",),
        ),
        Mutant(
            "vote-before-log",
            VoteBeforeLog,
            "yes is sent before the prepared record is durable",
            SOURCE + "7.4",
            ("commit-without-vote",),
            "commit",
            nemesis=("kill",),
        ),
        Mutant(
            "decide-before-fsync",
            DecideBeforeFsync,
            "the decision is sent before it is durable",
            SOURCE + "7.4",
            ("split-decision",),
            "commit",
            nemesis=("disk", "power"),
            limits=power_amid(),
        ),
        Mutant(
            "vote-before-fsync",
            VoteBeforeFsync,
            "yes is sent before the prepared record is durable",
            SOURCE + "7.4",
            ("commit-without-vote", "split-decision", "blocked-after-heal"),
            "commit",
            nemesis=("power",),
        ),
        Mutant(
            "prepared-timeout-aborts",
            PreparedTimeoutAborts,
            "a prepared participant aborts on its own",
            SOURCE + "7.4",
            ("split-decision",),
            "commit",
            nemesis=("partition", "kill"),
        ),
        Mutant(
            "commit-on-majority",
            CommitOnMajority,
            "commits without every yes",
            SOURCE + "7.2, AC3",
            ("commit-despite-no",),
            "commit",
        ),
        Mutant(
            "unlock-at-prepare",
            UnlockAtPrepare,
            "locks are released before the decision",
            SOURCE + "7.1 and 3.1",
            ("wrong-total",),
            "bank",
            nemesis=("partition",),
        ),
        Mutant(
            "abort-keeps-writes",
            AbortKeepsWrites,
            "an aborted transaction's writes are not undone",
            SOURCE + "1.1",
            ("wrong-total",),
            "bank",
        ),
    )
}
