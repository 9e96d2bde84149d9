"""Scenario files: commands to a few Raft cores, and the full trace of what they did.

A file holds blocks: commands, a line `----`, what is expected, an empty line. A line
that begins with `#` before the commands is kept. All blocks of a file share one
cluster, in which nothing happens by itself: no message arrives and no timer fires
unless told to.

    nodes NAME ... [OPTION=VALUE ...]       start a new cluster
    given NODE term=T [vote=NAME] [log=1,1,4]
                                            restart with such a log: a no-op per term
    timeout NODE TIMER                      fire a timer, set or not
    deliver SRC DEST [TYPE]                 the oldest message on the way, or of a type
    settle                                  deliver all, in order, and close batches,
                                            until quiet
    drop SRC DEST                           lose all on the way between two nodes
    isolate NODE / heal [NODE ...]          lose all to and from a node from now on /
                                            no more
    request NODE CLIENT TYPE [KEY=VALUE ...]
                                            retry=c1#5 stands for a session's number
    advance MS                              time passes on everyone's clock
    restart NODE                            crash, and come back with what was durable
    show NODE                               role, term, leader, commit_index, and the
                                            terms in the log

The trace shows what is persisted, sent, replied and observed, in order; timers are left
out. With `SCENARIOS_REWRITE=1 pytest ...` the files are rewritten with what happened,
to be reviewed as a diff.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

from reference_impls import raft
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
from reference_impls.raft.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from reference_impls.raft import Raft

Link = tuple[str, str]


class Scenario:
    """The cluster of one file.

    Args:
        core: The class under test; a mutant, or Raft itself.
    """

    def __init__(self, core: type[Raft] = raft.Raft) -> None:
        self.core = core
        self.cores: dict[str, Raft] = {}
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
            getattr(self, f"do_{name}")(*arguments)
        return self.trace

    # --- commands ----------------------------------------------------------------

    def do_nodes(self, *arguments: str) -> None:
        names = [a for a in arguments if "=" not in a]
        given = dict(a.split("=") for a in arguments if "=" in a)
        self.options = settings(raft.OPTIONS, given)
        self.on_the_way.clear()
        self.isolated.clear()
        self.disks = {name: [] for name in names}
        for name in names:
            self.do_restart(name)

    def do_given(self, name: str, *arguments: str) -> None:
        given = dict(a.split("=") for a in arguments)
        entries = [(int(term), raft.NOOP) for term in given.get("log", "").split(",")]
        term = {"term": int(given["term"]), "voted_for": given.get("vote")}
        self.disks[name] = [term, {"first": 1, "entries": entries}]
        self.do_restart(name)

    def do_restart(self, name: str) -> None:
        self.batches.discard(name)
        peers = [peer for peer in self.disks if peer != name]
        core = self.cores[name] = self.core(name, peers, self.options)
        recovered = json.loads(json.dumps(self.disks[name]))
        self.carry_out(name, core.start(recovered))

    def do_timeout(self, name: str, timer: str) -> None:
        self.step(name, TimerFired(timer, self.now))

    def do_deliver(self, src: str, dest: str, kind: str | None = None) -> None:
        for i, (link, body) in enumerate(self.on_the_way):
            if link == (src, dest) and kind in {None, body["type"]}:
                del self.on_the_way[i]
                self.step(dest, Received(src, body, self.now))
                return
        self.trace.append(f"nothing to deliver from {src} to {dest}")

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

    def do_show(self, name: str) -> None:
        core = self.cores[name]
        terms = " ".join(str(entry.term) for entry in core.log.since(core.log.base + 1))
        self.trace.append(
            f"{name} {core.role} term={core.current_term} leader={core.leader} "
            f"commit_index={core.commit_index} log=[{terms}]"
        )

    # --- effects -----------------------------------------------------------------

    def step(self, name: str, event: Received | TimerFired) -> None:
        if isinstance(event, TimerFired) and event.name == "batch":
            self.batches.discard(name)
        self.carry_out(name, self.cores[name].step(event))

    def carry_out(self, name: str, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Persist(record, replaces):
                    if replaces:
                        self.disks[name].clear()
                    self.disks[name].append(record)
                    how = "persist anew" if replaces else "persist"
                    self.trace.append(f"{name} {how} {show(record)}")
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

    def send(self, src: str, dest: str, body: dict[str, Any]) -> None:
        lost = {src, dest} & self.isolated
        mark = "-x" if lost else "->"
        self.trace.append(f"{src} {mark} {dest} {show(body)}")
        if not lost:
            self.on_the_way.append(((src, dest), json.loads(json.dumps(body))))


def as_value(text: str) -> Any:
    """A number where it is one; a session's number as an object; lists as JSON."""
    if text.startswith("["):
        return json.loads(text)
    client, mark, seq = text.partition("#")
    if mark:
        return {"client": client, "seq": int(seq)}
    return int(text) if text.lstrip("-").isdigit() else text


def show(body: Mapping[str, Any]) -> str:
    """`type` bare, then name=value; entries as term:command."""
    rest = {k: v for k, v in body.items() if k != "type"}
    words = [body["type"]] if "type" in body else []
    return " ".join(words + [f"{k}={show_value(v)}" for k, v in rest.items()])


def show_value(value: Any) -> str:
    """Entries and commands short, all else as Python or JSON has it."""
    match value:
        case Snapshot(index, term, text):
            return f"({index}:{term} {text})"
        case dict():
            return "(" + show(value) + ")"
        case [[int(), dict()], *_] | []:
            return "[" + ", ".join(f"{t}:{show_value(c)}" for t, c in value) + "]"
        case list() | tuple():
            return json.dumps(value)
        case _:
            return str(value)


def replay(text: str, core: type[Raft] = raft.Raft) -> str:
    """The text of a scenario file with the traces that `core` gives."""
    scenario = Scenario(core)
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
