"""Scenario files: commands to a few cores, and the full trace of what they did.

A file holds blocks: commands, a line `----`, what is expected, an empty line. A line
that begins with `#` before the commands is kept. All blocks of a file share one
cluster, in which nothing happens by itself: no message arrives and no timer fires
unless told to.

    nodes NAME ... [OPTION=VALUE ...]       start a new cluster
    given NODE WORD=VALUE ...               restart with such a disk
    timeout NODE TIMER                      fire a timer, set or not
    deliver SRC DEST [TYPE]                 deliver the oldest message, of any type or
                                            of this one
    settle                                  deliver all messages, in order, and close
                                            batches, until nothing is left
    drop SRC DEST                           lose all messages under way between two
                                            nodes
    isolate NODE / heal [NODE ...]          begin / stop to lose all messages to and
                                            from a node
    request NODE CLIENT TYPE [KEY=VALUE ...]
                                            retry=c1#5 stands for a session's number
    advance MS                              move everyone's clock on
    restart NODE                            crash, and come back with what was durable
    show NODE [WORD ...]                    show the node's state

The trace shows what is persisted, sent, replied and observed, in order; timers are left
out. A protocol's `Vocabulary` says how its nodes, disks and messages are written, and
which commands it has beside these. With `SCENARIOS_REWRITE=1 pytest ...` the files are
rewritten with what happened, to be reviewed as a diff.
"""

from __future__ import annotations

import json
from collections import deque
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reference_impls.actor import (
    Effect,
    Now,
    Observe,
    Persist,
    Received,
    Record,
    Reply,
    Send,
    SetTimer,
    TimerFired,
    settings,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType

SCENARIOS = Path(__file__).parent / "scenarios"

Link = tuple[str, str]


class Vocabulary:
    """What the scenarios of a protocol may say, and how their traces read.

    A method `do_NAME(scenario, ...)` adds a command.

    Args:
        protocol: The protocol's module.
    """

    starts_in_silence = False
    """Whether the trace leaves out what nodes do when a cluster starts."""

    def __init__(self, protocol: ModuleType) -> None:
        self.protocol = protocol

    # --- nodes -------------------------------------------------------------------

    def disk(self, given: Mapping[str, str]) -> list[Record]:
        """The records that `given` describes."""
        raise NotImplementedError

    def node(self, core: Any, *words: str) -> str:
        """What `show` prints of a node's state."""
        raise NotImplementedError

    def before_restart(self, scenario: Scenario, name: str) -> None:
        """Do what else ends with a node's life."""

    def after_restart(
        self, scenario: Scenario, name: str, recovered: list[Record]
    ) -> None:
        """Do what else begins with a node's next life."""

    # --- traces ------------------------------------------------------------------

    def record(self, record: Record, *, replaces: bool) -> str | None:
        """How a record is shown; None if it isn't."""
        return f"{'persist anew' if replaces else 'persist'} {self.show(record)}"

    def carried(self, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The part of a message that is shown; None if it isn't."""
        return body

    def show(self, said: Mapping[str, Any]) -> str:
        """The type as a bare value, then name=value for all other fields."""
        rest = [f"{k}={self.value(v)}" for k, v in said.items() if k != "type"]
        return " ".join(([said["type"]] if "type" in said else []) + rest)

    def value(self, value: Any) -> str:
        """A value: objects in brackets, lists as JSON, all else as `str` has it."""
        if isinstance(value, dict):
            return f"({self.show(value)})"
        return json.dumps(value) if isinstance(value, list | tuple) else str(value)


class Scenario:
    """The cluster of one file.

    Args:
        words: The protocol's vocabulary.
        core: A core to build in place of the protocol's own: a mutant.
    """

    def __init__(self, words: Vocabulary, core: type[Any] | None = None) -> None:
        self.words = words
        self.core = {} if core is None else {"core": core}
        self.cores: dict[str, Any] = {}
        self.disks: dict[str, list[Record]] = {}
        self.options: dict[str, str] = {}
        self.on_the_way: deque[tuple[Link, dict[str, Any]]] = deque()
        self.isolated: set[str] = set()
        self.batches: set[str] = set()
        self.now = Now(0, 0)
        self.trace: list[str] = []

    def run(self, commands: Iterable[str]) -> list[str]:
        """Carry out commands and return the trace."""
        self.trace = []
        for command in commands:
            name, *arguments = command.split()
            do = getattr(self, f"do_{name}", None)
            do = do or partial(getattr(self.words, f"do_{name}"), self)
            do(*arguments)
        return self.trace

    # --- commands ----------------------------------------------------------------

    def do_nodes(self, *arguments: str) -> None:
        names = [a for a in arguments if "=" not in a]
        given = dict(a.split("=") for a in arguments if "=" in a)
        self.options = settings(self.words.protocol.OPTIONS, given)
        self.on_the_way.clear()
        self.isolated.clear()
        self.disks = {name: [] for name in names}
        for name in names:
            self.do_restart(name)
        if self.words.starts_in_silence:
            self.trace.clear()

    def do_given(self, name: str, *arguments: str) -> None:
        self.disks[name] = self.words.disk(dict(a.split("=") for a in arguments))
        self.do_restart(name)

    def do_restart(self, name: str) -> None:
        self.words.before_restart(self, name)
        self.batches.discard(name)
        peers = [peer for peer in self.disks if peer != name]
        core = self.words.protocol.build(name, peers, self.options, **self.core)
        self.cores[name] = core
        recovered = json.loads(json.dumps(self.disks[name]))
        self.carry_out(name, core.start(recovered))
        self.words.after_restart(self, name, recovered)

    def do_timeout(self, name: str, *timer: str) -> None:
        self.step(name, TimerFired(" ".join(timer), self.now))

    def do_deliver(self, src: str, dest: str, kind: str | None = None) -> None:
        for i, (link, body) in enumerate(self.on_the_way):
            if link == (src, dest) and kind in {None, self.kind(body)}:
                del self.on_the_way[i]
                self.step(dest, Received(src, body, self.now))
                return
        self.trace.append(f"nothing to deliver from {src} to {dest}")

    def kind(self, body: Mapping[str, Any]) -> str | None:
        """The type by which `deliver` finds a message."""
        carried = self.words.carried(body)
        return None if carried is None else str(carried["type"])

    def do_settle(self) -> None:
        while self.on_the_way or self.batches:
            if self.on_the_way:
                (src, dest), body = self.on_the_way.popleft()
                self.step(dest, Received(src, body, self.now))
            else:
                self.step(min(self.batches), TimerFired("batch", self.now))

    def do_drop(self, src: str, dest: str) -> None:
        kept = [m for m in self.on_the_way if m[0] not in {(src, dest), (dest, src)}]
        self.on_the_way = deque(kept)

    def do_isolate(self, name: str) -> None:
        self.isolated.add(name)
        self.on_the_way = deque(m for m in self.on_the_way if name not in m[0])

    def do_heal(self, *names: str) -> None:
        self.isolated -= set(names or self.isolated)

    def do_request(self, name: str, client: str, kind: str, *arguments: str) -> None:
        body: dict[str, Any] = {"type": kind}
        body |= {k: as_value(v) for k, v in (a.split("=") for a in arguments)}
        self.step(name, Received(client, body, self.now))

    def do_advance(self, milliseconds: str) -> None:
        later = self.now.mono_ns + int(milliseconds) * 1_000_000
        self.now = Now(later, later)

    def do_show(self, name: str, *words: str) -> None:
        self.trace.append(f"{name} {self.words.node(self.cores[name], *words)}")

    # --- effects -----------------------------------------------------------------

    def step(self, name: str, event: Received | TimerFired) -> None:
        if isinstance(event, TimerFired) and event.name == "batch":
            self.batches.discard(name)
        self.carry_out(name, self.cores[name].step(event))

    def carry_out(self, name: str, effects: list[Effect]) -> None:
        show = self.words.show
        for effect in effects:
            match effect:
                case Persist(record, replaces):
                    self.persist(name, record, replaces=replaces)
                case Send(dest, body):
                    self.send(name, dest, dict(body))
                case Reply(request, body):
                    self.trace.append(f"{name} => {request.src} {show(body)}")
                case Observe(kind, fields):
                    self.trace.append(f"{name} observe {kind} {show(fields)}")
                case SetTimer("batch"):
                    self.batches.add(name)
                case _:
                    pass

    def persist(self, name: str, record: Record, *, replaces: bool) -> None:
        if replaces:
            self.disks[name].clear()
        self.disks[name].append(record)
        shown = self.words.record(record, replaces=replaces)
        if shown is not None:
            self.trace.append(f"{name} {shown}")

    def send(self, src: str, dest: str, body: dict[str, Any]) -> None:
        lost = {src, dest} & self.isolated
        carried = self.words.carried(body)
        if carried is not None:
            mark = "-x" if lost else "->"
            self.trace.append(f"{src} {mark} {dest} {self.words.show(carried)}")
        if not lost:
            self.on_the_way.append(((src, dest), json.loads(json.dumps(body))))


def as_value(text: str) -> Any:
    """The value of an argument: a JSON list, a session (c1#5), a number, or text."""
    if text.startswith("["):
        return json.loads(text)
    client, mark, seq = text.partition("#")
    if mark:
        return {"client": client, "seq": int(seq)}
    return int(text) if text.lstrip("-").isdigit() else text


def replay(name: str, words: Vocabulary, core: type[Any] | None = None) -> str:
    """The text of a scenario file with the traces that happen.

    Args:
        name: The file's name below SCENARIOS, without `.txt`.
        words: The vocabulary of its protocol.
        core: A core to build in place of the protocol's own: a mutant.
    """
    scenario = Scenario(words, core)
    blocks = []
    for block in (SCENARIOS / f"{name}.txt").read_text().strip().split("\n\n"):
        head = block.split("\n----")[0].splitlines()
        trace = scenario.run(line for line in head if not line.startswith("#"))
        if any(not line.startswith("#") for line in head):
            head = [*head, "----", *trace]
        blocks.append("\n".join(head))
    return "\n\n".join(blocks) + "\n"
