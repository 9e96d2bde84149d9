"""Zab with one rule broken, seven times.

Steps are those of Junqueira, Reed and Serafini 2011, section V: l.x.y is a leader's,
f.x.y a follower's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reference_impls.actor import Persist
from reference_impls.mutants import Mutant
from reference_impls.zab import Zab

if TYPE_CHECKING:
    from reference_impls.actor import Record
    from reference_impls.zab.messages import Txn, Zxid

LOST = (
    *("primary-integrity", "order-disagreement", "lost-message"),
    *("stale-read", "lost-write"),
)
"""What becomes of transactions that were delivered, or answered."""

PAPER = "Junqueira, Reed and Serafini 2011, V"


class CommitWithoutQuorum(Zab):
    """Commits on the leader's own acknowledgement (l.3.2)."""

    def quorum_acked(self) -> Zxid:
        """What the leader itself holds."""
        return self.history.last_zxid


class EpochNotDurable(Zab):
    """Forgets in a crash which epochs it promised and adopted (f.1.2, f.2.1)."""

    def persist_epochs(self, *, replaces: bool = False, **history: Any) -> None:
        """The history only."""
        self.effects.append(Persist(history, replaces))


class ElectionIgnoresZxid(Zab):
    """The highest id wins, whatever its history lacks (l.1.2)."""

    def recency(self, epoch: int, zxid: Zxid) -> tuple[Any, ...]:
        """All are alike."""
        return ()


class ServesBeforeSync(Zab):
    """Leads as soon as a quorum promised, before any adopted its history (l.2.2)."""

    def may_broadcast(self) -> bool:
        """At once."""
        return True


class KeepsUncommittedSuffix(Zab):
    """Keeps transactions that the new leader's history lacks (f.2.1, TRUNC)."""

    def truncate(self, zxid: Zxid) -> None:
        """Keep it all."""


class AckBeforeFsync(Zab):
    """Acknowledges proposals from memory, and makes them durable at the next tick.

    Both sides do: a leader counts itself as an acknowledgement (f.3.1, l.3.2).
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.unwritten: list[Record] = []

    def persist(self, record: Record, *, replaces: bool = False) -> None:
        """Later."""
        assert not replaces, "only `persist_epochs` replaces"
        self.unwritten.append(record)

    def persist_epochs(self, *, replaces: bool = False, **history: Any) -> None:
        """In order."""
        self.write()
        super().persist_epochs(replaces=replaces, **history)

    def on_tick(self) -> None:
        """Now is later."""
        self.write()
        super().on_tick()

    def write(self) -> None:
        """Make durable what was acknowledged."""
        self.effects += [Persist(record) for record in self.unwritten]
        self.unwritten.clear()


class OutOfOrderCommit(Zab):
    """Delivers the latest of what is committed first (f.3.2)."""

    def deliverable(self, zxid: Zxid) -> list[Txn]:
        """The last first."""
        return super().deliverable(zxid)[::-1]


MUTANTS = {
    mutant.name: mutant
    for mutant in (
        Mutant(
            "commit-without-quorum",
            CommitWithoutQuorum,
            "a transaction is committed once a quorum acknowledged it",
            f"{PAPER}, l.3.2",
            LOST,
            "register",
            nemesis=("partition",),
        ),
        Mutant(
            "epoch-not-durable",
            EpochNotDurable,
            "promised and adopted epochs survive a crash",
            f"{PAPER}, f.1.2 and f.2.1",
            ("epoch-went-back", "two-primaries"),
            "broadcast",
            nemesis=("kill", "partition"),
        ),
        Mutant(
            "election-ignores-zxid",
            ElectionIgnoresZxid,
            "an epoch begins with the most recent history of a quorum",
            f"{PAPER}, l.1.2",
            ("older-history", *LOST),
            "register",
            nemesis=("kill", "partition"),
        ),
        Mutant(
            "serves-before-sync",
            ServesBeforeSync,
            "the leader serves once a quorum acknowledged NEWLEADER",
            f"{PAPER}, l.2.2",
            ("no-quorum", *LOST),
            "broadcast",
            nemesis=("partition", "kill"),
        ),
        Mutant(
            "keeps-uncommitted-suffix",
            KeepsUncommittedSuffix,
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
            nemesis=("kill",),
        ),
        Mutant(
            "out-of-order-commit",
            OutOfOrderCommit,
            "transactions are delivered in the order of their zxids",
            f"{PAPER}, f.3.2",
            ("local-primary-order", "order-disagreement", "broadcast-order"),
            "broadcast",
        ),
    )
}
"""By name."""
