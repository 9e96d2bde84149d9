"""A cluster of cores that is moved by hand, and copied whole: the oracle of Space.

It shares no code with `harness.campaign.exhaustive`, merges nothing and remembers
nothing. Every way through it is a sequence of choices.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from reference_impls.actor import (
    CancelTimer,
    Now,
    Observe,
    Persist,
    Received,
    Reply,
    Send,
    SetTimer,
    TimerFired,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from reference_impls.actor import Effect, Event

Choice = tuple[Any, ...]
"""("deliver", message, copied), ("fire", node, timer), ("invoke", node), ("crash",
node); and in the end before which record of that turn the node crashes, or None."""


def plain(value: object) -> Any:
    """As it would come back from a file or a network."""
    return msgspec.json.decode(msgspec.json.encode(value))


@dataclass
class Server:
    """A node: its core and what a world keeps for it."""

    core: Any
    clock_ns: int = 1_000_000_000
    disk: list[Any] = field(default_factory=list)
    timers: dict[str, tuple[int, int]] = field(default_factory=dict)
    seen: list[Any] = field(default_factory=list)


class NaiveCluster:
    """The whole cluster; `take` makes a choice, `choices` are those that there are."""

    def __init__(
        self,
        system: Any,
        nodes: Sequence[str],
        requests: Sequence[Mapping[str, object]],
        *,
        crashes: int,
        copies: int,
    ) -> None:
        self.system = system
        self.names = list(nodes)
        self.requests = requests
        self.crashes_left, self.copies_left = crashes, copies
        self.flying: list[tuple[str, str, str]] = []
        self.events: list[tuple[str, int, str]] = []  # of clients, in their order
        self.servers = {name: Server(self.core(name)) for name in nodes}
        for name in nodes:
            self.start(name)

    def core(self, name: str) -> Any:
        return self.system.build(name, [n for n in self.names if n != name])

    def copied(self) -> NaiveCluster:
        system, requests = self.system, self.requests
        return copy.deepcopy(self, {id(system): system, id(requests): requests})

    # Choices

    def choices(self) -> Iterator[Choice]:
        for whole in self.whole_choices():
            yield (*whole, None)
            if whole[0] != "crash" and self.crashes_left:
                trial = self.copied()
                effects = trial.effects_of(whole)
                records = sum(isinstance(effect, Persist) for effect in effects)
                yield from ((*whole, lost) for lost in range(records))

    def whole_choices(self) -> Iterator[Choice]:
        for message in sorted(set(self.flying)):
            yield "deliver", message, False
            if self.copies_left:
                yield "deliver", message, True
        asked = sum(kind == "asked" for kind, _, _ in self.events)
        for name, server in self.servers.items():
            if asked < len(self.requests):
                yield "invoke", name
            for timer, (earliest, _) in server.timers.items():
                if all(earliest <= latest for _, latest in server.timers.values()):
                    yield "fire", name, timer
            if self.crashes_left:
                yield "crash", name

    def take(self, choice: Choice) -> None:
        *whole, lost = choice
        if whole[0] == "crash":
            self.crashes_left -= 1
            self.restart(whole[1])
            return
        name = whole[1][1] if whole[0] == "deliver" else whole[1]
        effects = self.effects_of(tuple(whole))
        if lost is None:
            self.carry_out(name, effects)
            return
        self.crashes_left -= 1
        at = [i for i, effect in enumerate(effects) if isinstance(effect, Persist)]
        self.carry_out(name, effects[: at[lost]])
        self.restart(name)

    # A node's turn

    def effects_of(self, whole: Choice) -> list[Effect]:
        """Let a node do what is chosen; its timers and its clock change at once."""
        if whole[0] == "deliver":
            src, name, text = whole[1]
            if whole[2]:
                self.copies_left -= 1
            else:
                self.flying.remove(whole[1])
            now = self.now(name)
            return self.turn(name, Received(src, json.loads(text), now))
        name = whole[1]
        server = self.servers[name]
        if whole[0] == "invoke":
            op = sum(kind == "asked" for kind, _, _ in self.events)
            self.events.append(("asked", op, name))
            body = plain(self.requests[op])
            return self.turn(name, Received(f"c{op}", body, self.now(name), op))
        earliest, _ = server.timers.pop(whole[2])
        server.clock_ns = max(server.clock_ns, earliest)
        return self.turn(name, TimerFired(whole[2], self.now(name)))

    def turn(self, name: str, event: Event) -> list[Effect]:
        return self.finish(name, list(self.servers[name].core.step(event)))

    def finish(self, name: str, effects: list[Effect]) -> list[Effect]:
        """Note timers, and fire those of 0 ms until there is none."""
        server, done = self.servers[name], 0
        at_once: list[str] = []
        while True:
            for effect in effects[done:]:
                if isinstance(effect, SetTimer | CancelTimer):
                    server.timers.pop(effect.name, None)
                    at_once = [timer for timer in at_once if timer != effect.name]
                if isinstance(effect, SetTimer) and effect.max_ms == 0:
                    at_once.append(effect.name)
                elif isinstance(effect, SetTimer):
                    server.timers[effect.name] = (
                        server.clock_ns + int(effect.min_ms * 1e6),
                        server.clock_ns + int(effect.max_ms * 1e6),
                    )
            done = len(effects)
            if not at_once:
                return effects
            fired = TimerFired(at_once.pop(0), self.now(name))
            effects += server.core.step(fired)

    def now(self, name: str) -> Now:
        clock_ns = self.servers[name].clock_ns
        return Now(clock_ns, clock_ns)

    def carry_out(self, name: str, effects: Sequence[Effect]) -> None:
        server = self.servers[name]
        for effect in effects:
            match effect:
                case Persist(record, replaces):
                    server.disk = [*([] if replaces else server.disk), plain(record)]
                case Send(dest, body):
                    text = json.dumps(plain(body))
                    self.flying.append((name, dest, text))
                case Reply(request, body):
                    op = request.channel
                    assert isinstance(op, int)
                    if ("answered", op) not in {(k, o) for k, o, _ in self.events}:
                        self.events.append(("answered", op, json.dumps(plain(body))))
                case Observe(kind, fields):
                    server.seen.append([kind, plain(fields)])
                case _:
                    pass

    def start(self, name: str) -> None:
        server = self.servers[name]
        effects = list(server.core.start(copy.deepcopy(server.disk)))
        self.carry_out(name, self.finish(name, effects))

    def restart(self, name: str) -> None:
        before = self.servers[name]
        seen = [*before.seen, ["restarted", {}]]
        clock_ns = before.clock_ns + 1_000_000
        self.servers[name] = Server(self.core(name), clock_ns, before.disk, {}, seen)
        self.start(name)

    # What can be seen of it

    def signature(self) -> tuple[str, Counter[tuple[str, str, str]]]:
        """All but the messages on their way, as text; and these."""
        servers = {
            name: [server.seen, server.disk, server.timers, server.clock_ns]
            for name, server in self.servers.items()
        }
        calls = order_of_calls(self.events)
        left = [self.crashes_left, self.copies_left]
        return json.dumps([servers, calls, left]), Counter(self.flying)


def order_of_calls(events: Sequence[tuple[str, int, str]]) -> Any:
    """Who asked whom, what came of it, and what was answered before what was asked."""
    asked = {op: what for kind, op, what in events if kind == "asked"}
    answered = {op: what for kind, op, what in events if kind == "answered"}
    before = [
        [first, then]
        for at, (kind, first, _) in enumerate(events)
        if kind == "answered"
        for later, then, _ in events[at:]
        if later == "asked"
    ]
    return [sorted(asked.items()), sorted(answered.items()), sorted(before)]


def every_way(cluster: NaiveCluster, depth: int) -> Iterator[NaiveCluster]:
    """The cluster after each sequence of up to `depth` choices."""
    yield cluster
    if depth:
        for choice in cluster.choices():
            further = cluster.copied()
            further.take(choice)
            yield from every_way(further, depth - 1)
