"""The history of a node: the transactions that it accepted, in the order of zxids.

Both papers rest on one fact about histories: two that hold the same transaction are
alike up to there, since an epoch has one primary, its proposals arrive in order, and it
begins with a history that a quorum adopted whole (Junqueira, Reed and Serafini 2011,
claims 1 and 2). So the place where two histories part is found by zxids alone.

The oldest transactions may have gone into a snapshot of what they amount to: `base` is
the last of them.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from reference_impls.zab.messages import ZERO, Txn, Zxid

if TYPE_CHECKING:
    from collections.abc import Iterable


class History:
    """A snapshot's zxid, and the transactions since."""

    def __init__(self) -> None:
        self.base = ZERO
        self.txns: list[Txn] = []

    @property
    def last_zxid(self) -> Zxid:
        """The zxid of the last transaction."""
        return self.txns[-1].zxid if self.txns else self.base

    def extend(self, txns: Iterable[Txn]) -> None:
        """Accept more."""
        self.txns.extend(txns)

    def last_up_to(self, zxid: Zxid) -> Zxid:
        """The last zxid here that is no later than `zxid`, which isn't before base."""
        count = self.count_up_to(zxid)
        return self.txns[count - 1].zxid if count else self.base

    def after(self, zxid: Zxid) -> list[Txn]:
        """The transactions after `zxid`."""
        return self.txns[self.count_up_to(zxid) :]

    def between(self, after: Zxid, last: Zxid) -> list[Txn]:
        """The transactions after `after`, up to `last` inclusive."""
        return self.txns[self.count_up_to(after) : self.count_up_to(last)]

    def truncate(self, zxid: Zxid) -> list[Txn]:
        """Give up the transactions after `zxid`, and return them."""
        lost = self.after(zxid)
        del self.txns[len(self.txns) - len(lost) :]
        return lost

    def begin_at(self, base: Zxid) -> None:
        """Put a snapshot up to `base` in place of everything."""
        self.base = base
        self.txns.clear()

    def forget(self, zxid: Zxid) -> None:
        """Give up what a snapshot up to `zxid` covers."""
        del self.txns[: self.count_up_to(zxid)]
        self.base = max(self.base, zxid)

    def count_up_to(self, zxid: Zxid) -> int:
        """How many transactions since base are no later than `zxid`."""
        # A transaction is its zxid and a command, so it compares to the next zxid by
        # the zxids alone: of two tuples that begin alike, the shorter one comes first.
        return bisect_left(self.txns, (zxid.epoch, zxid.counter + 1))
