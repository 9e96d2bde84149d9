"""How Zab's scenarios are written; its files stand in `scenarios/zab`.

    given NODE accepted=E current=E [history=1.1,1.2,2.1]
                            restart with such epochs, and a write for each zxid
    show NODE               state, phase, epochs, leader, delivered and the history

Messages of a session are shown by what they carry; the frames around them are left out,
and so are heartbeats.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from reference_impls import zab
from reference_impls.tests.scenario import Vocabulary
from reference_impls.zab.messages import Txn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reference_impls.actor import Record
    from reference_impls.tests.scenario import Scenario


class ZabWords(Vocabulary):
    """The vocabulary of Zab."""

    def disk(self, given: Mapping[str, str]) -> list[Record]:
        zxids = [z.split(".") for z in given.get("history", "").split(",") if z]
        epochs = {name: int(given[name]) for name in ("accepted", "current")}
        return [
            {
                "accepted_epoch": epochs["accepted"],
                "current_epoch": epochs["current"],
                "txns": [[int(e), int(c), write(f"{e}.{c}")] for e, c in zxids],
            }
        ]

    def node(self, core: Any, *words: str) -> str:
        return (
            f"{core.state} {core.phase} accepted={core.accepted_epoch} "
            f"current={core.current_epoch} leader={core.leader} "
            f"delivered={as_text(core.delivered)} "
            f"history=[{' '.join(as_text(t) for t in core.history.txns)}]"
        )

    def before_restart(self, scenario: Scenario, name: str) -> None:
        """Lose the messages that the node had sent."""
        kept = [m for m in scenario.on_the_way if m[0][0] != name]
        scenario.on_the_way = deque(kept)

    def record(self, record: Record, *, replaces: bool) -> str | None:
        return super().record(record, replaces=False)

    def carried(self, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The body of a frame, None for a heartbeat; other messages as they are."""
        return body["body"] if body["type"] == "frame" else body

    def show(self, said: Mapping[str, Any]) -> str:
        return super().show({name: self.short(name, said[name]) for name in said})

    def value(self, value: Any) -> str:
        """A value; a command is shown with all its fields."""
        if isinstance(value, dict):
            return f"({super().show(value)})"
        return super().value(value)

    def short(self, name: str, value: Any) -> Any:
        """Zxids, transactions and votes in short, as their field says what they are."""
        if name == "txns":
            return f"[{', '.join(transaction(Txn(*t)) for t in value)}]"
        if name == "vote":
            return f"{value[2]}({value[0]},{as_text(value[1])})"
        if name == "parts":
            return len(value)
        if name in {"promised", "acked"} and isinstance(value, list):
            return f"[{' '.join(value)}]"
        return as_text(value) if isinstance(value, list | tuple) else value


def write(value: str) -> dict[str, Any]:
    """A command of the key-value store."""
    return {"type": "write", "key": "x", "value": value}


def as_text(zxid: Any) -> str:
    """A zxid as text: 2.1 for the first transaction of epoch 2."""
    return f"{zxid[0]}.{zxid[1]}"


def transaction(txn: Txn) -> str:
    """A transaction as zxid:value, or zxid:type if its command has no value."""
    command = txn.command
    what = command.get("value", command["type"])
    return f"{as_text(txn)}:{what}"


ZAB = ZabWords(zab)
