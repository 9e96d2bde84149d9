"""Scenario files of Zab: as in `scenario`, with these differences.

    given NODE accepted=E current=E [history=1.1,1.2,2.1]
                            restart with such epochs, and a write for each zxid
    show NODE               state, phase, epochs, leader, delivered and the history

Messages of a session are shown by what they carry; the frames around them are left out,
and so are heartbeats. Files have a folder of their own, `scenarios/zab`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from reference_impls import zab
from reference_impls.actor import Effect, Observe, Persist, Received, settings
from reference_impls.tests.scenario import Scenario, show
from reference_impls.zab.messages import Txn

if TYPE_CHECKING:
    from pathlib import Path

    from reference_impls.zab import Zab


class ZabScenario(Scenario):
    """The cluster of one file.

    Args:
        core: The class under test; a mutant, or Zab itself.
    """

    cores: dict[str, Any]  # of Zab, where the base class has Rafts

    def __init__(self, core: type[Zab]) -> None:
        super().__init__()
        self.zab = core

    def do_nodes(self, *arguments: str) -> None:
        names = [a for a in arguments if "=" not in a]
        given = dict(a.split("=") for a in arguments if "=" in a)
        self.options = settings(zab.OPTIONS, given)
        self.on_the_way.clear()
        self.isolated.clear()
        self.disks = {name: [] for name in names}
        for name in names:
            self.do_restart(name)

    def do_given(self, name: str, *arguments: str) -> None:
        given = dict(a.split("=") for a in arguments)
        zxids = [z.split(".") for z in given.get("history", "").split(",") if z]
        self.disks[name] = [
            {
                "accepted_epoch": int(given["accepted"]),
                "current_epoch": int(given["current"]),
                "txns": [[int(e), int(c), write(f"{e}.{c}")] for e, c in zxids],
            }
        ]
        self.do_restart(name)

    def do_restart(self, name: str) -> None:
        self.batches.discard(name)
        self.on_the_way = type(self.on_the_way)(
            m for m in self.on_the_way if m[0][0] != name
        )
        peers = [peer for peer in self.disks if peer != name]
        core = self.cores[name] = self.zab(name, peers, self.options)
        self.carry_out(name, core.start(json.loads(json.dumps(self.disks[name]))))

    def do_deliver(self, src: str, dest: str, kind: str | None = None) -> None:
        for i, (link, body) in enumerate(self.on_the_way):
            if link == (src, dest) and kind in {None, carried(body)["type"]}:
                del self.on_the_way[i]
                self.step(dest, Received(src, body, self.now))
                return
        self.trace.append(f"nothing to deliver from {src} to {dest}")

    def do_show(self, name: str) -> None:
        core = self.cores[name]
        self.trace.append(
            f"{name} {core.state} {core.phase} accepted={core.accepted_epoch} "
            f"current={core.current_epoch} leader={core.leader} "
            f"delivered={as_text(core.delivered)} "
            f"history=[{' '.join(as_text(t) for t in core.history.txns)}]"
        )

    def carry_out(self, name: str, effects: list[Effect]) -> None:
        """As in the base class, in terms that it can show."""
        for effect in effects:
            match effect:
                case Persist(record):
                    self.disks[name].append(record)
                    self.trace.append(f"{name} persist {show(readable(record))}")
                case Observe(kind, fields):
                    self.trace.append(f"{name} observe {kind} {show(readable(fields))}")
                case _:
                    super().carry_out(name, [effect])

    def send(self, src: str, dest: str, body: dict[str, Any]) -> None:
        lost = {src, dest} & self.isolated
        if body["type"] != "frame" or body["body"] is not None:
            mark = "-x" if lost else "->"
            what = show(readable(carried(body)))
            self.trace.append(f"{src} {mark} {dest} {what}")
        if not lost:
            self.on_the_way.append(((src, dest), json.loads(json.dumps(body))))


def write(value: str) -> dict[str, Any]:
    """A command of the key-value store."""
    return {"type": "write", "key": "x", "value": value}


def carried(body: dict[str, Any]) -> dict[str, Any]:
    """What a frame carries; other messages as they are."""
    if body["type"] != "frame":
        return body
    return body["body"] or {"type": "heartbeat"}


def as_text(zxid: Any) -> str:
    """2.1 for the first transaction of epoch 2."""
    return f"{zxid[0]}.{zxid[1]}"


def readable(fields: Any) -> dict[str, Any]:
    """Zxids, transactions and votes in short."""
    return {name: shorten(name, value) for name, value in fields.items()}


def shorten(name: str, value: Any) -> Any:
    """One of them, as its name tells what it is."""
    if name == "txns":
        return f"[{', '.join(transaction(Txn(*t)) for t in value)}]"
    if name == "vote":
        return f"{value[2]}({value[0]},{as_text(value[1])})"
    if name == "parts":
        return len(value)
    if name in {"promised", "acked"} and isinstance(value, list):
        return f"[{' '.join(value)}]"
    if name in {"request", "reply"}:
        return f"({show(value)})"
    return as_text(value) if isinstance(value, list | tuple) else value


def transaction(txn: Txn) -> str:
    """A transaction with what it does."""
    command = txn.command
    what = command.get("value", command["type"])
    return f"{as_text(txn)}:{what}"


def replay(text: str, core: type[Zab] = zab.Zab) -> str:
    """The text of a scenario file with the traces that `core` gives."""
    scenario = ZabScenario(core)
    blocks = []
    for block in text.strip().split("\n\n"):
        head = block.split("\n----")[0].splitlines()
        trace = scenario.run(line for line in head if not line.startswith("#"))
        if any(not line.startswith("#") for line in head):
            head = [*head, "----", *trace]
        blocks.append("\n".join(head))
    return "\n\n".join(blocks) + "\n"


def replay_file(path: Path, *, rewrite: bool) -> tuple[str, str]:
    """What the file says and what happens; the former becomes the latter on request."""
    expected = path.read_text()
    happened = replay(expected)
    if rewrite:
        path.write_text(happened)
    return (happened if rewrite else expected), happened
