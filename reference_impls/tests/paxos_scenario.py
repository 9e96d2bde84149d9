"""Scenario files of Paxos and Multi-Paxos: as in `scenario`, with these differences.

    show NODE [KEY]         Paxos: what the server holds of that instance;
                            Multi-Paxos: role, ballot, and its slots
    advance MS              ballots may be clock readings, so this one moves them too

Ballots are written round.server, proposals ballot:value, entries origin:command. There
is no `given`: what an acceptor holds comes from messages. Each protocol's files have a
folder of their own in `scenarios`, named like it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reference_impls import multi_paxos, paxos
from reference_impls.actor import Effect, Observe, Persist, Reply, settings
from reference_impls.paxos import is_ballot
from reference_impls.tests.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

PROTOCOLS: Mapping[str, ModuleType] = {"paxos": paxos, "multi_paxos": multi_paxos}
SCENARIOS = Path(__file__).parent / "scenarios"
FILES = sorted(path for name in PROTOCOLS for path in (SCENARIOS / name).glob("*.txt"))


class PaxosScenario(Scenario):
    """The cluster of one file.

    Args:
        protocol: The module of the protocol.
        mutant: A core to build in place of the protocol's own.
    """

    cores: dict[str, Any]  # of either protocol, where the base class has Rafts

    def __init__(self, protocol: ModuleType, mutant: type[Any] | None) -> None:
        super().__init__()
        self.protocol = protocol
        self.changed = {} if mutant is None else {"core": mutant}

    def do_nodes(self, *arguments: str) -> None:
        names = [a for a in arguments if "=" not in a]
        given = dict(a.split("=") for a in arguments if "=" in a)
        self.options = settings(self.protocol.OPTIONS, given)
        self.on_the_way.clear()
        self.isolated.clear()
        self.disks = {name: [] for name in names}
        for name in names:
            self.do_restart(name)

    def do_restart(self, name: str) -> None:
        self.batches.discard(name)
        peers = [peer for peer in self.disks if peer != name]
        core = self.protocol.build(name, peers, self.options, **self.changed)
        self.cores[name] = core
        self.carry_out(name, core.start(json.loads(json.dumps(self.disks[name]))))

    def do_show(self, name: str, key: str = "") -> None:
        core = self.cores[name]
        if isinstance(core, paxos.Paxos):
            instance = core.instances[json.loads(key)]
            held = {
                "promised": instance.promised,
                "accepted": instance.accepted,
                "learned": instance.learned,
            }
        else:
            slots = [core.chosen.get(slot) for slot in core.chosen]
            held = {
                "role": core.role,
                "ballot": core.ballot_num,
                "decided": core.decisions[1:],
                "undecided": [(s, p.entry) for s, p in core.accepted.items()],
                "beyond_a_gap": slots,
            }
        self.trace.append(f"{name} {show(held)}")

    def carry_out(self, name: str, effects: list[Effect]) -> None:
        """As in the base class, in terms that it can show."""
        for effect in effects:
            match effect:
                case Persist(record):
                    self.disks[name].append(record)
                    self.trace.append(f"{name} persist {show(record)}")
                case Reply(request, body):
                    self.trace.append(f"{name} => {request.src} {show(body)}")
                case Observe(kind, fields):
                    self.trace.append(f"{name} observe {kind} {show(fields)}")
                case _:
                    super().carry_out(name, [effect])

    def send(self, src: str, dest: str, body: dict[str, Any]) -> None:
        lost = {src, dest} & self.isolated
        mark = "-x" if lost else "->"
        self.trace.append(f"{src} {mark} {dest} {show(body)}")
        if not lost:
            self.on_the_way.append(((src, dest), json.loads(json.dumps(body))))


def show(body: Mapping[str, Any]) -> str:
    """`type` bare, then name=value."""
    words = [body["type"]] if "type" in body else []
    rest = {k: v for k, v in body.items() if k not in {"type", "hash"}}
    return " ".join(words + [f"{k}={show_value(v)}" for k, v in rest.items()])


def show_value(value: Any) -> str:
    """Ballots, proposals, entries and commands in short, all else as it is."""
    if is_ballot(value):
        return f"{value[0]}.{value[1]}"
    if isinstance(value, list | tuple):
        if len(value) == 2 and is_ballot(value[0]):
            return f"{show_value(value[0])}:{show_value(value[1])}"
        return "[" + " ".join(map(show_value, value)) + "]"
    if isinstance(value, dict):
        return "(" + show(value) + ")"
    return str(value)


def replay(path: Path, mutant: type[Any] | None = None) -> str:
    """The text of a scenario file with the traces that happen."""
    scenario = PaxosScenario(PROTOCOLS[path.parent.name], mutant)
    blocks = []
    for block in path.read_text().strip().split("\n\n"):
        head = block.split("\n----")[0].splitlines()
        trace = scenario.run(line for line in head if not line.startswith("#"))
        if any(not line.startswith("#") for line in head):
            head = [*head, "----", *trace]
        blocks.append("\n".join(head))
    return "\n\n".join(blocks) + "\n"
