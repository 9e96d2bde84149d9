"""Delivery: the history, as far as it is committed, becomes the service's state.

After a crash, the transactions since the last snapshot are delivered again, once the
node follows or leads again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reference_impls.zab import service
from reference_impls.zab.messages import ZERO, Txn, Zxid, txns_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reference_impls.actor import Record
    from reference_impls.core import Outbox
    from reference_impls.zab.disk import Disk
    from reference_impls.zab.options import Settings
    from reference_impls.zab.requests import Requests


@dataclass(eq=False)
class Delivery:
    """The service, and the last transaction in it."""

    out: Outbox
    settings: Settings  # how much history is kept
    disk: Disk
    requests: Requests  # those that wait for a transaction

    delivered: Zxid = ZERO
    service: service.Service = field(default_factory=service.Service)

    def deliver_up_to(self, zxid: Zxid) -> None:
        """Deliver everything up to `zxid`."""
        txns = self.deliverable(zxid)
        self.delivered = max(self.delivered, zxid)
        for txn in txns:
            self.deliver(txn)
        self.compact()

    def deliverable(self, zxid: Zxid) -> list[Txn]:
        """The transactions up to `zxid` that aren't delivered yet, in order (f.3.2)."""
        return self.disk.history.between(self.delivered, zxid)

    def deliver(self, txn: Txn) -> None:
        """Hand a transaction to the service, and answer requests that wait for it."""
        reply = self.service.apply(*txn)
        what = "message" if txn.command["type"] == "broadcast" else "command"
        self.out.observe(
            "delivered",
            epoch=txn.epoch,
            counter=txn.counter,
            **{what: txn.command.get("message", txn.command)},
        )
        for request in self.requests.waiting.pop(txn.zxid, ()):
            if service.changes_nothing(request.command):
                reply = self.service.answer(request.command)
            self.requests.answer(request, reply)

    def compact(self) -> None:
        """Put a snapshot in place of what was delivered, once there is much of it.

        The later half stays in memory, to bring followers level that missed a little.
        """
        history, kept = self.disk.history, self.settings.snapshot_txns
        count = history.count_up_to(self.delivered)
        if not kept or count < 2 * kept:
            return
        self.disk.persist_epochs(
            replaces=True,
            snapshot=self.delivered,
            parts=[*self.service.parts()],
            txns=history.after(self.delivered),
        )
        history.forget(history.txns[count - kept - 1].zxid)

    # --- another history in place of this one --------------------------------------

    def install(self, record: Record) -> None:
        """Take back what was persisted, or take over what the leader sent."""
        self.disk.recover_epochs(record)
        if "snapshot" in record:
            self.install_snapshot(Zxid(*record["snapshot"]), record["parts"])
        if "truncate" in record:
            self.truncate(Zxid(*record["truncate"]))
        self.disk.history.extend(txns_of(record.get("txns", ())))

    def install_snapshot(self, zxid: Zxid, parts: Sequence[Mapping[str, Any]]) -> None:
        """Put the state up to `zxid` in place of everything."""
        self.disk.history.begin_at(zxid)
        self.delivered = zxid
        self.service = service.Service()
        for part in parts:
            self.service.add_part(part)

    def truncate(self, zxid: Zxid) -> None:
        """Drop what the leader's history lacks; what is delivered never goes (f.2.1).

        TRUNC of Medeiros 2012, 4.2.
        """
        assert zxid >= self.delivered, (
            f"the leader lacks what follows {zxid}, but up to {self.delivered} is "
            "delivered"
        )
        lost = self.disk.history.truncate(zxid)
        if lost:
            first, last = lost[0].zxid, lost[-1].zxid
            self.out.observe("truncated", first=first, last=last)
