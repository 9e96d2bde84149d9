"""Sharded participants: who owns a key, locks, and undoing what was aborted.

A transaction touches the shards of several nodes (`split`). On each it runs under
strict two-phase locking (Bernstein, Hadzilacos and Goodman 1987, chapter 3): it gets
all its locks there before it does anything, shared ones for what it only reads, and
keeps every one of them until the decision is known. All schedules are then strict and
conflict serializable. Their serial order agrees with real time, as no lock is released
before the decision is made.

Updates are in place: `prepare` changes the data, under exclusive locks, and keeps the
values from before; `abort` puts them back. The log holds the operations, which serve as
redo and undo records: replayed in the log's order, they yield again what they wrote and
what they overwrote.

Deadlock (3.5): with `wait_die` an older transaction waits for a younger one, and a
younger one dies rather than wait for an older one, so no circle of waits can form
(Rosenkrantz, Stearns and Lewis 1978). With `timeout` all wait, and a transaction that
waits too long is aborted.

Choices: a transaction asks for all its locks on a shard in one go. Claims are served in
order of arrival: a claim waits behind every earlier claim that it conflicts with, held
or waiting, so that readers can't keep a writer waiting for ever. A read-only
participant keeps its locks after its vote, though it is usual to release them: they
would be free before other participants of the same transaction had theirs, and that
isn't two-phase.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reference_impls import transactions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from reference_impls.transactions import MicroOp

Key = int | str

HELD = "held"
WAITS = "waits"
DIES = "dies"

WAIT_DIE = "wait_die"
TIMEOUT = "timeout"


# --- who owns what ---------------------------------------------------------------


def owner(key: Key, servers: Sequence[str]) -> str:
    """The server that owns `key`: CRC-32 of its JSON, modulo the number of servers.

    `servers` must be in the same order everywhere.
    """
    return servers[zlib.crc32(json.dumps(key).encode()) % len(servers)]


def split(txn: Sequence[MicroOp], servers: Sequence[str]) -> dict[str, list[MicroOp]]:
    """Each participant's part of the transaction, in the transaction's order."""
    parts: dict[str, list[MicroOp]] = {}
    for micro in txn:
        parts.setdefault(owner(micro[1], servers), []).append(micro)
    return parts


def merge(
    txn: Sequence[MicroOp],
    results: Mapping[str, Sequence[MicroOp]],
    servers: Sequence[str],
) -> list[MicroOp]:
    """The transaction with the results of its parts filled in: undoes `split`."""
    parts = {participant: iter(part) for participant, part in results.items()}
    return [next(parts[owner(micro[1], servers)]) for micro in txn]


# --- locks -----------------------------------------------------------------------


@dataclass(slots=True)
class Claim:
    """The locks that a transaction needs on one shard, all of them or none.

    Attributes:
        age: The transaction's age, the same on all shards; smaller is older.
        arrival: The claim's place in the order of arrival on this shard.
    """

    transaction: str
    age: tuple[int, str]
    exclusive: frozenset[Key]
    shared: frozenset[Key]
    arrival: int = 0
    held: bool = False

    def conflicts(self, other: Claim) -> bool:
        """True if both claim a key that at least one of them changes."""
        return bool(
            self.exclusive & other.exclusive
            or self.exclusive & other.shared
            or self.shared & other.exclusive
        )


class LockTable:
    """All claims on a shard, those that are held and those that wait.

    Args:
        wait_die: Whether a claim dies rather than wait for an older one.
    """

    def __init__(self, *, wait_die: bool) -> None:
        self.wait_die = wait_die
        self.claims: dict[str, Claim] = {}
        self.queues: dict[Key, list[Claim]] = {}  # in order of arrival
        self.arrivals = 0

    def request(self, claim: Claim) -> str:
        """Ask for the claim's locks.

        Returns:
            HELD if it has them at once; WAITS until a `release` names it; DIES if it
            would have to wait for an older claim, and then leaves no trace.
        """
        rivals = list(self.rivals(claim))
        if self.wait_die and any(rival.age < claim.age for rival in rivals):
            return DIES
        self.seize(claim)
        claim.held = not rivals
        return HELD if claim.held else WAITS

    def seize(self, claim: Claim) -> None:
        """Take the locks unconditionally."""
        self.arrivals += 1
        claim.arrival = self.arrivals
        claim.held = True
        self.claims[claim.transaction] = claim
        for key in claim.exclusive | claim.shared:
            self.queues.setdefault(key, []).append(claim)

    def release(self, transaction: str) -> list[str]:
        """Drop a claim.

        Returns:
            The transactions that hold their locks now, in order of arrival.
        """
        claim = self.claims.pop(transaction, None)
        if claim is None:
            return []
        waiting: dict[str, Claim] = {}
        for key in claim.exclusive | claim.shared:
            queue = self.queues[key]
            queue.remove(claim)
            waiting |= {c.transaction: c for c in queue if not c.held}
            if not queue:
                del self.queues[key]
        ready = []
        for other in sorted(waiting.values(), key=lambda c: c.arrival):
            if not any(self.rivals(other)):
                other.held = True
                ready.append(other.transaction)
        return ready

    def rivals(self, claim: Claim) -> Iterator[Claim]:
        """The earlier claims that conflict with this one; some come more than once."""
        for key in claim.exclusive | claim.shared:
            for other in self.queues.get(key, ()):
                if other is claim:
                    break
                if other.conflicts(claim):
                    yield other


# --- a participant's store -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Before:
    """What a key held before a transaction wrote to it."""

    key: Key
    existed: bool
    value: Any


class Shard:
    """The part of the data that a participant owns.

    Args:
        deadlock: WAIT_DIE or TIMEOUT.
    """

    def __init__(self, deadlock: str) -> None:
        self.data: dict[Key, Any] = {}
        self.locks = LockTable(wait_die=deadlock == WAIT_DIE)
        self.undo: dict[str, list[Before]] = {}  # of prepared transactions

    def lock(self, transaction: str, stamp: int, part: Sequence[MicroOp]) -> str:
        """Ask for the locks that `part` needs: HELD, WAITS or DIES."""
        return self.locks.request(claim_for(transaction, stamp, part))

    def prepare(self, transaction: str, part: Sequence[MicroOp]) -> list[MicroOp]:
        """Do the part's operations, so that `abort` can undo them.

        Returns:
            The part with results filled in.

        Raises:
            AbortError: It can't be done; nothing has changed.
        """
        done, writes = transactions.evaluate(self.data, part)
        self.undo[transaction] = [
            Before(key, key in self.data, self.data.get(key)) for key in writes
        ]
        self.data.update(writes)
        return done

    def prepare_again(
        self, transaction: str, stamp: int, part: Sequence[MicroOp]
    ) -> list[MicroOp]:
        """Take back the locks after a crash, and do the part again."""
        self.locks.seize(claim_for(transaction, stamp, part))
        return self.prepare(transaction, part)

    def commit(self, transaction: str) -> None:
        """Keep what the transaction wrote, if it was prepared here."""
        self.undo.pop(transaction, None)

    def abort(self, transaction: str) -> None:
        """Put back what the transaction overwrote, if it was prepared here."""
        for before in self.undo.pop(transaction, ()):
            if before.existed:
                self.data[before.key] = before.value
            else:
                del self.data[before.key]

    def release(self, transaction: str) -> list[str]:
        """Release all locks of a transaction.

        Returns:
            The transactions that hold their locks now, in order of arrival.
        """
        return self.locks.release(transaction)


def claim_for(transaction: str, stamp: int, part: Sequence[MicroOp]) -> Claim:
    """A claim of exclusive locks on what the part changes, shared ones on the rest."""
    exclusive = frozenset(key for f, key, _ in part if f != "r")
    shared = frozenset(key for _, key, _ in part) - exclusive
    return Claim(transaction, (stamp, transaction), exclusive, shared)
