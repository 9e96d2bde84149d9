"""The hostile world of `simulation`, for Zab.

The six properties of primary order atomic broadcast (Junqueira, Reed and Serafini 2011,
section III) are checked on what cores deliver, as it happens. What clients saw must be
linearizable, and once the faults are over, a node must lead again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from reference_impls import zab
from reference_impls.tests.registers import RegisterPlan, RegisterWorld
from reference_impls.tests.simulation import Violation
from reference_impls.zab.election import LEADING


@dataclass
class ZabPlan(RegisterPlan):
    """A `RegisterPlan` at whose end a node must lead, unless it says otherwise."""

    settles: bool = True


class ZabWorld(RegisterWorld[ZabPlan]):
    """The world. `run` raises Violation when Zab broke a promise."""

    protocol = zab

    def __init__(self, seed: int, plan: ZabPlan) -> None:
        self.deliveries = Deliveries()
        super().__init__(seed, plan, self.deliveries)

    def check_settled(self) -> None:
        """Raise Violation if no node leads; clients may still wait for an answer."""
        if not any(map(self.serves, self.nodes)):
            raise Violation("liveness: nobody leads long after the last fault")

    def serves(self, name: str) -> bool:
        """True for a leader with a quorum."""
        core: Any = self.nodes[name].core
        return self.leads(name) and bool(core.has_quorum(lambda f: f.is_up_to_date))

    def leads(self, name: str) -> bool:
        """True for a node that is up and leads, also as a prospective leader."""
        node = self.nodes[name]
        return bool(node.alive and node.core.state == LEADING)


class Deliveries:
    """Section III's properties, over everything that any node delivers.

    The first node to deliver a further transaction fixes `order`; everyone else has to
    deliver the same. A node that restarts or installs a snapshot goes on after the
    transaction that the snapshot ends with.
    """

    def __init__(self) -> None:
        self.order: list[tuple[tuple[int, int], str]] = []
        self.places: dict[tuple[int, int], int] = {(0, 0): -1}
        self.delivered: dict[str, int] = {}  # how many, by node
        self.primaries: dict[int, str] = {}
        self.counts: dict[str, int] = {}

    def observe(self, node: str, kind: str, fields: dict[str, Any]) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        match kind:
            case "recovered":
                self.go_on_after(node, tuple(fields["snapshot_zxid"]))
            case "snapshot_installed":
                self.go_on_after(node, tuple(fields["zxid"]))
            case "became_leader":
                self.begin_epoch(node, fields["term"])
            case "delivered":
                zxid = (fields["epoch"], fields["counter"])
                self.deliver(node, zxid, json.dumps(fields["command"]))
            case _:
                pass

    def go_on_after(self, node: str, zxid: tuple[int, int]) -> None:
        """Note that the node's state holds everything up to `zxid`."""
        if zxid not in self.places:
            raise Violation(f"integrity: {node} has a snapshot of undelivered {zxid}")
        self.delivered[node] = self.places[zxid] + 1

    def begin_epoch(self, node: str, epoch: int) -> None:
        """An epoch has one primary, which delivered all that was before it began."""
        other = self.primaries.setdefault(epoch, node)
        if other != node:
            raise Violation(f"epochs: {other} and {node} are primaries of {epoch}")
        if self.delivered[node] < len(self.order):
            raise Violation(
                f"primary integrity: {node} begins epoch {epoch} and hasn't delivered "
                f"{self.order[-1][0]}"
            )

    def deliver(self, node: str, zxid: tuple[int, int], command: str) -> None:
        """Check the node's next transaction."""
        place = self.delivered[node]
        self.delivered[node] = place + 1
        if place == len(self.order):
            self.extend(node, zxid, command)
        elif self.order[place] != (zxid, command):
            raise Violation(
                f"total order: {node} delivers {zxid} {command} after {place} others, "
                f"where {self.order[place]} was delivered"
            )

    def extend(self, node: str, zxid: tuple[int, int], command: str) -> None:
        """Check a transaction that no node delivered before, and fix its place."""
        last = self.order[-1][0] if self.order else (0, 0)
        if zxid in self.places:
            raise Violation(f"integrity: {node} delivers {zxid} twice")
        if zxid[0] < last[0]:
            raise Violation(
                f"global primary order: {node} delivers {zxid} after {last}"
            )
        if zxid[1] != (last[1] + 1 if zxid[0] == last[0] else 1):
            raise Violation(f"local primary order: {node} delivers {zxid} after {last}")
        self.places[zxid] = len(self.order)
        self.order.append((zxid, command))

    def check_logs(self) -> None:
        """Integrity: what clients asked for once was delivered once."""
        writes = [command for _, command in self.order if '"noop"' not in command]
        if len(writes) != len(set(writes)):
            raise Violation("integrity: a command was delivered twice")
