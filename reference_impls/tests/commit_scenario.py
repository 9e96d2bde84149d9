"""Scenario files of two-phase and three-phase commit: as in `scenario`, but for these.

    txn NODE ID MICRO ...   a client asks for a transaction; a micro-operation is
                            written f:key:value, or f:key
    timeout NODE TIMER [ID] fire a timer, most of which belong to a transaction
    crash NODE              it says and hears nothing until `restart NODE`
    forget NODE RECORD      records of that kind had not become durable
    show NODE               every transaction's state here, and what the keys hold

Of three nodes, n1 owns the fig, n2 the plum and the lime, n3 the melon. A node's
messages to itself are part of the step that sends them, and don't show. Each protocol's
files have a folder of their own in `scenarios`, named like it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reference_impls import three_phase_commit, two_phase_commit
from reference_impls.actor import (
    Effect,
    Observe,
    Persist,
    Received,
    Reply,
    Send,
    TimerFired,
    settings,
)
from reference_impls.tests.scenario import Scenario, as_value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

PROTOCOLS: Mapping[str, ModuleType] = {
    "two_phase_commit": two_phase_commit,
    "three_phase_commit": three_phase_commit,
}
SCENARIOS = Path(__file__).parent / "scenarios"
FILES = sorted(path for name in PROTOCOLS for path in (SCENARIOS / name).glob("*.txt"))

LEFT_OUT = {"type", "participants", "coordinator", "stamp", "code", "role"}
"""The same in every message, or clear from who sends it."""


class CommitScenario(Scenario):
    """The cluster of one file.

    Args:
        protocol: The module of the protocol.
        mutant: A core to build in place of the protocol's own.
    """

    cores: dict[str, Any]

    def __init__(self, protocol: ModuleType, mutant: type[Any] | None) -> None:
        super().__init__()
        self.protocol = protocol
        self.mutant = mutant

    def do_nodes(self, *arguments: str) -> None:
        names = [a for a in arguments if "=" not in a]
        given = dict(a.split("=") for a in arguments if "=" in a)
        self.options = settings(self.protocol.OPTIONS, given)
        self.on_the_way.clear()
        self.isolated.clear()
        self.disks = {name: [] for name in names}
        for name in names:
            self.do_restart(name)
        self.trace.clear()

    def do_restart(self, name: str) -> None:
        self.isolated.discard(name)
        peers = [peer for peer in self.disks if peer != name]
        core = self.protocol.build(name, peers, self.options, self.mutant)
        self.cores[name] = core
        recovered = json.loads(json.dumps(self.disks[name]))
        self.carry_out(name, core.start(recovered))
        if recovered:
            self.step(name, TimerFired("resume", self.now))

    def do_crash(self, name: str) -> None:
        self.do_isolate(name)

    def do_forget(self, name: str, kind: str) -> None:
        kept = [r for r in self.disks[name] if r["record"] != kind]
        self.disks[name] = kept

    def do_txn(self, name: str, transaction: str, *micros: str) -> None:
        txn = [parse_micro(micro) for micro in micros]
        body = {"type": "txn", "id": transaction, "txn": txn}
        self.step(name, Received("client", body, self.now))

    def do_timeout(self, name: str, *timer: str) -> None:
        self.step(name, TimerFired(" ".join(timer), self.now))

    def do_show(self, name: str) -> None:
        core = self.cores[name]
        account = core.account(list(core.known))
        states = {f"{k}": v for k, v in account["decisions"].items()}
        led = {f"{k}(coordinator)": v for k, v in account["coordinated"].items()}
        self.trace.append(f"{name} {show({**led, **states})} data={core.shard.data}")

    def carry_out(self, name: str, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Persist(record):
                    self.disks[name].append(record)
                    if record["record"] != "life":
                        self.trace.append(f"{name} persist {show(record)}")
                case Send(dest, body):
                    self.send(name, dest, dict(body))
                case Reply(request, body):
                    self.trace.append(f"{name} => {request.src} {show(body)}")
                case Observe(kind, fields):
                    self.trace.append(f"{name} observe {kind} {show(fields)}")
                case _:
                    pass

    def send(self, src: str, dest: str, body: dict[str, Any]) -> None:
        lost = {src, dest} & self.isolated
        mark = "-x" if lost else "->"
        self.trace.append(f"{src} {mark} {dest} {show(body)}")
        if not lost:
            self.on_the_way.append(((src, dest), json.loads(json.dumps(body))))


def parse_micro(text: str) -> list[Any]:
    """f:key:value or f:key."""
    f, key, *value = text.split(":")
    return [f, key, as_value(value[0]) if value else None]


def show(body: Mapping[str, Any]) -> str:
    """Kind and id bare, then what tells this message from others like it."""
    words = [str(body[name]) for name in ("type", "record", "id") if name in body]
    rest = {
        name: value
        for name, value in body.items()
        if name not in LEFT_OUT | {"record", "id"} and value not in ("", [], None)
    }
    return " ".join(words + [f"{k}={show_value(v)}" for k, v in rest.items()])


def show_value(value: Any) -> str:
    """Micro-operations as in a command."""
    if isinstance(value, list) and all(isinstance(micro, list) for micro in value):
        return " ".join(
            ":".join(str(part) for part in micro if part is not None) for micro in value
        )
    return str(value)


def replay(path: Path, mutant: type[Any] | None = None) -> str:
    """The text of a scenario file with the traces that happen."""
    scenario = CommitScenario(PROTOCOLS[path.parent.name], mutant)
    blocks = []
    for block in path.read_text().strip().split("\n\n"):
        head = block.split("\n----")[0].splitlines()
        trace = scenario.run(line for line in head if not line.startswith("#"))
        if any(not line.startswith("#") for line in head):
            head = [*head, "----", *trace]
        blocks.append("\n".join(head))
    return "\n\n".join(blocks) + "\n"
