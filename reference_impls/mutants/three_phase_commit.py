"""Three-phase commit with one rule broken, four times.

Sections are those of Bernstein, Hadzilacos and Goodman 1987. As partitions break the
protocol as it is, these are tried with crashes alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reference_impls.atomic_commit import COMMIT
from reference_impls.mutants import Mutant, power_amid, told_first
from reference_impls.override import override
from reference_impls.three_phase_commit import ThreePhaseCommit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reference_impls.actor import Body, Effect
    from reference_impls.atomic_commit import Coordinated, Part


class SkipBarrier(ThreePhaseCommit):
    """Commits as soon as all have voted yes (7.5: when all have crossed the barrier).

    When the coordinator dies, the others are all uncertain, and abort.
    """

    @override
    def on_all_yes(self, coordinated: Coordinated) -> None:
        """Go straight to phase 3."""
        self.decide(coordinated, COMMIT, self.node)


class PreCommitNotDurable(ThreePhaseCommit):
    """A restarted participant forgets that it crossed the barrier (7.5).

    When all participants crash after the coordinator has committed, they agree among
    themselves to abort.
    """

    @override
    def persist_pre_committed(self, part: Part) -> None:
        """Keep in memory only that the barrier was crossed."""


class PreCommitBeforeFsync(ThreePhaseCommit):
    """Acknowledges that it crossed the barrier before that is durable (7.5).

    When the power fails at all participants after the coordinator has committed, they
    agree among themselves to abort.
    """

    @override
    def take_effects(self) -> list[Effect]:
        return told_first(super().take_effects(), lambda x: x["record"] == "pre_commit")


class CommitSentOnce(ThreePhaseCommit):
    """Says once that a transaction is committed (7.2, AC5: until everybody knows).

    A participant that was away then asks in vain.
    """

    @override
    def on_retry(self) -> None:
        """Say nothing again."""
        self.retrying = False

    @override
    def on_inquire(self, src: str, body: Body) -> None:
        """Tell of aborts only."""
        known = (self.coordinated.get(body["id"]), self.parts.get(body["id"]))
        if all(each is None or each.decision != COMMIT for each in known):
            super().on_inquire(src, body)


SOURCE = "Bernstein, Hadzilacos and Goodman 1987, "

MUTANTS: Mapping[str, Mutant] = {
    mutant.name: mutant
    for mutant in (
        Mutant(
            "skip-barrier",
            SkipBarrier,
            "commits straight after canCommit",
            SOURCE + "7.5",
            ("split-decision",),
            "commit",
            nemesis=("kill",),
        ),
        Mutant(
            "precommit-not-durable",
            PreCommitNotDurable,
            "a restarted participant forgets preCommit",
            SOURCE + "7.5",
            ("forgot-precommit", "split-decision"),
            "commit",
            nemesis=("kill",),
        ),
        Mutant(
            "precommit-before-fsync",
            PreCommitBeforeFsync,
            "preCommit is acknowledged before it is durable",
            SOURCE + "7.5",
            ("forgot-precommit", "split-decision"),
            "commit",
            nemesis=("disk", "power"),
            limits=power_amid("precommitted"),
        ),
        Mutant(
            "commit-sent-once",
            CommitSentOnce,
            "the commit decision is not retried",
            SOURCE + "7.2, AC5",
            ("blocked-after-heal",),
            "commit",
            nemesis=("kill",),
        ),
    )
}
