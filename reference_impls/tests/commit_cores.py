"""One commit core between puppets: what the paper tests of both protocols share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from reference_impls.actor import (
    Effect,
    Now,
    Observe,
    Persist,
    Received,
    Reply,
    Send,
    SetTimer,
    TimerFired,
    settings,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

MS = 1_000_000

FIG, PLUM, MELON = ["w", "fig", 1], ["w", "plum", 2], ["w", "melon", 3]
"""Writes to keys of n1, n2 and n3."""


class Puppet:
    """A core called n1, n2 or n3 of three, and all that it has done.

    Args:
        protocol: The module of the protocol.
        name: The core's name.
        disk: What an earlier life had made durable.
        options: Options with other values than the default.
    """

    def __init__(
        self,
        protocol: ModuleType,
        name: str = "n1",
        disk: Sequence[Any] = (),
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.protocol = protocol
        self.name = name
        self.given = options or {}
        complete = settings(protocol.OPTIONS, self.given)
        peers = [peer for peer in ("n1", "n2", "n3") if peer != name]
        self.core = protocol.build(name, peers, complete)
        self.disk: list[Any] = list(disk)
        self.at_ms = 0
        self.effects: list[Effect] = []
        self.do(self.core.start(json.loads(json.dumps(self.disk))))
        if disk:
            self.fire("resume")

    def do(self, effects: list[Effect]) -> list[Effect]:
        """Note what the core did; it becomes durable at once."""
        self.effects = effects
        self.disk += [e.record for e in effects if isinstance(e, Persist)]
        return effects

    def hear(self, src: str, kind: str, **fields: Any) -> list[Effect]:
        """Hand the core a message from a peer or a client; what it does about it."""
        now = Now(self.at_ms * MS, self.at_ms * MS)
        return self.do(self.core.step(Received(src, {"type": kind, **fields}, now)))

    def fire(self, timer: str) -> list[Effect]:
        """Let a timer run out; what the core does about it."""
        now = Now(self.at_ms * MS, self.at_ms * MS)
        return self.do(self.core.step(TimerFired(timer, now)))

    def restart(self) -> Puppet:
        """The next life, with what is durable."""
        return Puppet(self.protocol, self.name, self.disk, self.given)

    # --- as coordinator ----------------------------------------------------------

    def begin(self, *txn: list[Any], name: str = "t1") -> list[Effect]:
        """A client asks for a transaction."""
        return self.hear("client", "txn", id=name, txn=[list(micro) for micro in txn])

    def yes(self, src: str, *results: list[Any], name: str = "t1") -> list[Effect]:
        """A participant votes yes."""
        body = {"results": [list(r) for r in results], "code": 0, "text": ""}
        return self.hear(src, "vote", id=name, vote="yes", **body)

    def no(self, src: str, code: int = 14, name: str = "t1") -> list[Effect]:
        """A participant votes no."""
        body = {"results": [], "code": code, "text": "because"}
        return self.hear(src, "vote", id=name, vote="no", **body)

    # --- as participant ----------------------------------------------------------

    def ask_vote(
        self,
        *txn: list[Any],
        name: str = "t1",
        src: str = "n1",
        stamp: int = 1,
        others: tuple[str, ...] = (),
    ) -> list[Effect]:
        """A coordinator asks for this node's vote."""
        return self.hear(
            src,
            "vote_request",
            id=name,
            participants=sorted({self.name, *others}),
            stamp=stamp,
            txn=[list(micro) for micro in txn],
        )

    def tell(
        self, decision: str, src: str = "n1", name: str = "t1", coordinator: str = "n1"
    ) -> list[Effect]:
        """Somebody tells the decision."""
        fields = {"id": name, "coordinator": coordinator, "decision": decision}
        return self.hear(src, "decision", **fields)

    def inquire(self, src: str, coordinator: str, *others: str) -> list[Effect]:
        """A participant in doubt asks."""
        participants = sorted({src, *others})
        return self.hear(
            src, "inquire", id="t1", coordinator=coordinator, participants=participants
        )

    def state(self, name: str = "t1") -> str:
        """This participant's state."""
        return str(self.core.account([name])["decisions"][name])


def sent(effects: list[Effect], kind: str) -> list[tuple[str, Any]]:
    """(destination, body) of the messages of a kind."""
    return [
        (e.dest, e.body)
        for e in effects
        if isinstance(e, Send) and e.body["type"] == kind
    ]


def told(effects: list[Effect]) -> dict[str, str]:
    """Destination -> the decision that it was told."""
    return {dest: body["decision"] for dest, body in sent(effects, "decision")}


def replies(effects: list[Effect]) -> list[dict[str, Any]]:
    """The bodies of the answers to clients."""
    return [dict(e.body) for e in effects if isinstance(e, Reply)]


def observed(effects: list[Effect]) -> list[str]:
    """The kinds of the observations."""
    return [e.kind for e in effects if isinstance(e, Observe)]


def timers(effects: list[Effect]) -> dict[str, float]:
    """The timers that were set -> their shortest time, milliseconds."""
    return {e.name: e.min_ms for e in effects if isinstance(e, SetTimer)}


def is_persisted_before(effects: list[Effect], record: str, kind: str) -> bool:
    """True if a `record` is persisted before any message or reply of `kind`."""
    for effect in effects:
        if isinstance(effect, Persist) and effect.record["record"] == record:
            return True
        if isinstance(effect, Send | Reply) and effect.body["type"] == kind:
            return False
    return False
