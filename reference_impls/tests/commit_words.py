"""How the scenarios of two-phase and three-phase commit are written.

    txn NODE ID MICRO ...   a client asks for a transaction; a micro-operation is
                            written f:key:value, or f:key
    timeout NODE TIMER [ID] fire a timer, most of which belong to a transaction
    crash NODE              the node says and hears nothing until `restart NODE`
    forget NODE RECORD      as if records of that kind had not become durable
    show NODE               every transaction's state here, and what the keys hold

Of three nodes, n1 owns the fig, n2 the plum and the lime, n3 the melon. A node's
messages to itself are part of the step that sends them, and don't show. Each protocol's
files have a folder of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reference_impls import three_phase_commit, two_phase_commit
from reference_impls.actor import Received, TimerFired
from reference_impls.tests.scenario import Vocabulary, as_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reference_impls.actor import Record
    from reference_impls.tests.scenario import Scenario

HEAD = ("type", "record", "id")
"""Fields that are shown first, as bare values."""

LEFT_OUT = {"participants", "coordinator", "stamp", "code", "role"}
"""Fields that are the same in every message, or clear from the sender."""


class CommitWords(Vocabulary):
    """The vocabulary of both protocols."""

    starts_in_silence = True

    def do_crash(self, scenario: Scenario, name: str) -> None:
        scenario.do_isolate(name)

    def do_forget(self, scenario: Scenario, name: str, kind: str) -> None:
        kept = [r for r in scenario.disks[name] if r["record"] != kind]
        scenario.disks[name] = kept

    def do_txn(self, scenario: Scenario, name: str, txn: str, *micros: str) -> None:
        body = {"type": "txn", "id": txn, "txn": list(map(parse_micro, micros))}
        scenario.step(name, Received("client", body, scenario.now))

    def before_restart(self, scenario: Scenario, name: str) -> None:
        scenario.isolated.discard(name)

    def after_restart(
        self, scenario: Scenario, name: str, recovered: list[Record]
    ) -> None:
        """Let a node with records go on where it stopped."""
        if recovered:
            scenario.step(name, TimerFired("resume", scenario.now))

    def node(self, core: Any, *words: str) -> str:
        account = core.account(list(core.known))
        led = {f"{k}(coordinator)": v for k, v in account["coordinated"].items()}
        states = self.show({**led, **account["decisions"]})
        return f"{states} data={core.shard.data}"

    def record(self, record: Record, *, replaces: bool) -> str | None:
        if record["record"] == "life":
            return None
        return super().record(record, replaces=replaces)

    def show(self, said: Mapping[str, Any]) -> str:
        """Kind and id as bare values, then the fields in which such messages differ."""
        words = [str(said[name]) for name in HEAD if name in said]
        rest = {
            name: value
            for name, value in said.items()
            if name not in LEFT_OUT and name not in HEAD and value not in ("", [], None)
        }
        return " ".join(words + [f"{k}={self.value(v)}" for k, v in rest.items()])

    def value(self, value: Any) -> str:
        """A value; micro-operations are written as in a command."""
        if isinstance(value, list) and all(isinstance(micro, list) for micro in value):
            return " ".join(
                ":".join(str(part) for part in micro if part is not None)
                for micro in value
            )
        return str(value)


def parse_micro(text: str) -> list[Any]:
    """The micro-operation of f:key:value or f:key."""
    f, key, *value = text.split(":")
    return [f, key, as_value(value[0]) if value else None]


TWO_PHASE = CommitWords(two_phase_commit)
THREE_PHASE = CommitWords(three_phase_commit)
