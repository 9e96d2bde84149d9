"""Zab with one rule broken, eight times.

Steps are those of Junqueira, Reed and Serafini 2011, section V: l.x.y is a leader's,
f.x.y a follower's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reference_impls.mutants import Mutant, power_amid, told_first, with_part
from reference_impls.override import override
from reference_impls.zab import Zab
from reference_impls.zab.broadcast import Broadcast
from reference_impls.zab.delivery import Delivery
from reference_impls.zab.disk import Disk
from reference_impls.zab.looking import Looking
from reference_impls.zab.synchronization import Synchronization

if TYPE_CHECKING:
    from reference_impls.actor import Effect, Event
    from reference_impls.zab.messages import Txn, Zxid

LOST = (
    *("primary-integrity", "order-disagreement", "lost-message"),
    *("stale-read", "lost-write"),
)
"""Anomalies of transactions that get lost after they were delivered or answered."""

PAPER = "Junqueira, Reed and Serafini 2011, V"


class CommitWithoutQuorum(Broadcast):
    """Commits on the leader's own acknowledgement (l.3.2)."""

    @override
    def quorum_acked(self) -> Zxid:
        """The last zxid that the leader itself holds."""
        return self.disk.history.last_zxid


class EpochNotDurable(Disk):
    """Forgets in a crash which epochs it promised and adopted (f.1.2, f.2.1)."""

    @override
    def persist_epochs(self, *, replaces: bool = False, **history: Any) -> None:
        """Make the history durable, and no more."""
        self.out.persist(history, replaces=replaces)


class ElectionIgnoresZxid(Looking):
    """The highest id wins, whatever its history lacks (l.1.2)."""

    @override
    def recency(self, epoch: int, zxid: Zxid) -> tuple[Any, ...]:
        """Nothing, so that all histories are equally recent."""
        return ()


class ServesBeforeSync(Synchronization):
    """Leads as soon as a quorum promised, before any adopted its history (l.2.2)."""

    @override
    def may_broadcast(self) -> bool:
        return True


class KeepsUncommittedSuffix(Delivery):
    """Keeps transactions that the new leader's history lacks (f.2.1, TRUNC)."""

    @override
    def truncate(self, zxid: Zxid) -> None:
        """Keep the whole history."""


class AckBeforeFsync(Zab):
    """Acknowledges proposals before they are durable (f.3.1, l.3.2).

    Both sides do: a leader counts itself as an acknowledgement. When the power fails, a
    quorum may have forgotten what was committed.
    """

    @override
    def step(self, event: Event) -> list[Effect]:
        return told_first(super().step(event), lambda x: "accepted_epoch" not in x)


class EpochBeforeFsync(Zab):
    """Promises and adopts epochs before they are durable (f.1.2, f.2.1).

    When the power fails, a node may promise the same epoch to another leader.
    """

    @override
    def step(self, event: Event) -> list[Effect]:
        return told_first(super().step(event), lambda x: "accepted_epoch" in x)


class OutOfOrderCommit(Delivery):
    """Delivers the latest of what is committed first (f.3.2)."""

    @override
    def deliverable(self, zxid: Zxid) -> list[Txn]:
        """The transactions, the last first."""
        return super().deliverable(zxid)[::-1]


MUTANTS = {
    mutant.name: mutant
    for mutant in (
        Mutant(
            "commit-without-quorum",
            with_part(Zab, CommitWithoutQuorum),
            "a transaction is committed once a quorum acknowledged it",
            f"{PAPER}, l.3.2",
            LOST,
            "register",
            nemesis=("partition",),
        ),
        Mutant(
            "epoch-not-durable",
            with_part(Zab, EpochNotDurable),
            "promised and adopted epochs survive a crash",
            f"{PAPER}, f.1.2 and f.2.1",
            ("epoch-went-back", "two-primaries"),
            "broadcast",
            nemesis=("kill", "partition"),
        ),
        Mutant(
            "election-ignores-zxid",
            with_part(Zab, ElectionIgnoresZxid),
            "an epoch begins with the most recent history of a quorum",
            f"{PAPER}, l.1.2",
            ("older-history", *LOST),
            "register",
            nemesis=("kill", "partition"),
        ),
        Mutant(
            "serves-before-sync",
            with_part(Zab, ServesBeforeSync),
            "the leader serves once a quorum acknowledged NEWLEADER",
            f"{PAPER}, l.2.2",
            ("no-quorum", *LOST),
            "broadcast",
            nemesis=("partition", "kill"),
        ),
        Mutant(
            "keeps-uncommitted-suffix",
            with_part(Zab, KeepsUncommittedSuffix),
            "a follower gives up what the leader's history lacks",
            f"{PAPER}, f.2.1; Medeiros 2012, 4.2",
            ("agreement-broken", *LOST),
            "broadcast",
            nemesis=("partition",),
        ),
        Mutant(
            "zab-ack-before-fsync",
            AckBeforeFsync,
            "a proposal is durable before it is acknowledged",
            f"{PAPER}, f.3.1",
            LOST,
            "register",
            nemesis=("power",),
        ),
        Mutant(
            "epoch-before-fsync",
            EpochBeforeFsync,
            "epochs are durable before they are promised and adopted",
            f"{PAPER}, f.1.2 and f.2.1",
            ("epoch-went-back", "two-primaries", *LOST),
            "broadcast",
            nemesis=("disk", "kill", "power"),
            limits={**power_amid("new_epoch"), "kill.targets": "leader"},
        ),
        Mutant(
            "out-of-order-commit",
            with_part(Zab, OutOfOrderCommit),
            "transactions are delivered in the order of their zxids",
            f"{PAPER}, f.3.2",
            ("local-primary-order", "order-disagreement", "broadcast-order"),
            "broadcast",
        ),
    )
}
"""By name."""
