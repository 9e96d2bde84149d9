"""What is examined: the nodes, their clients, and what was seen of them so far.

The parts of an examination are functions that take a `Subject`. It asks nodes for them
and writes down what they found.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any

from harness.adapter import looking
from harness.adapter.asking import TRY_AGAIN, Asker
from harness.adapter.marks import SERVES_S, Marks
from harness.adapter.nodes import POLL_S, Nodes, StopHereError
from harness.adapter.patterns import Slots, fill
from harness.adapter.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from harness.adapter.asking import Answer, Client
    from harness.adapter.conversations import Service
    from harness.adapter.findings import Notebook
    from harness.systems.launch import LaunchSystem
    from harness.worlds.world import World

ATTEMPTS = 3


class Subject:
    """A cluster of the node.

    Args:
        world: Where the nodes live.
        system: How they are started.
        services: The services to examine, by name.
        at_once: Those whose changes have to show at once.
        notes: Where findings go.
        folder: The folder that the nodes live in.
        patience_s: How long clients wait for an answer.

    Attributes:
        names: All nodes.
        first: The one that is asked where one is enough.
        marks: Leaves changes that can be looked for; None if no service has any.
        given: Id -> the node that gave it out, if ids are what nodes give.
        was_here: What was in the working folder before there were nodes.
        elsewhere: Files of nodes that lie outside their data folders.
    """

    def __init__(
        self,
        world: World,
        system: LaunchSystem,
        services: Mapping[str, Service],
        at_once: Collection[str],
        notes: Notebook,
        folder: Path,
        patience_s: float,
    ) -> None:
        self.world = world
        self.services = services
        self.at_once = at_once
        self.notes = notes
        self.nodes = Nodes(world, system, notes, folder)
        self.names = self.nodes.names
        self.first = self.names[0]
        self.asker = Asker(self.nodes.places, notes, self.nodes.tail, patience_s)
        self.given: dict[str, str] = {}
        self.was_here = looking.listed_here()
        self.elsewhere: list[str] = []
        self.marks: Marks | None = None
        self._patience_s = patience_s
        self._numbers = itertools.count(1000)
        for name, service in services.items():
            if service.mark is not None and self.marks is None:
                self.marks = Marks(
                    name, service.mark, self.asker, self.slots, self.client
                )

    def slots(self) -> Slots:
        """Values that no other conversation has."""
        number = next(self._numbers)
        return {"key": number, "name": f"name-{number}", "mark": number}

    def request(self) -> dict[str, Any]:
        """A request that a right node serves, on an object of its own."""
        service = next(iter(self.services.values()))
        filled: dict[str, Any] = fill(service.talk[0].ask, self.slots())
        return filled

    async def client(self, node: str) -> Client:
        """A client of a node; one that has exited by itself is started again.

        Raises:
            StopHereError: It accepts no connections any more.
        """
        end_s = time.monotonic() + self._patience_s
        while True:
            try:
                return await self.asker.client(node)
            except (OSError, TimeoutError) as problem:
                if time.monotonic() > end_s:
                    seen = f"no connection: {problem}{self.nodes.log(node)}"
                    did = f"connected; {self.nodes.what}"
                    self.breaks("several", node, did, seen)
                    raise StopHereError from problem
            await asyncio.sleep(POLL_S)
            if not self.nodes.runs(node):
                await self.nodes.serve_again([node])

    async def open(self, client: Client) -> Client:
        """The client, or another of its node if its connection is gone."""
        if client.tap.closed or self.notes.broken("stays-open"):
            client.tap.close()
            return await self.client(client.place.name)
        return client

    async def serves(self, node: str, rule: str) -> bool:
        """Wait until a node serves, and note it if it doesn't."""
        end_s, silent = time.monotonic() + SERVES_S, 0
        while True:
            client = await self.client(node)
            answer = await self.asker.ask(client, self.request())
            client.tap.close()
            is_flawed = answer.body is not None and self.notes.broken("code")
            if is_flawed or not (answer.is_open or answer.code in TRY_AGAIN):
                return True
            silent = silent + 1 if answer.body is None else 0
            if time.monotonic() > end_s or silent >= ATTEMPTS:
                break
            await asyncio.sleep(POLL_S)
        if answer.body is None:
            seen = f"{answer.seen}, {ATTEMPTS} times{self.nodes.log(node)}"
            self.breaks(rule, node, answer.did, seen)
        else:
            seen = f"{answer.seen}\nfor {SERVES_S:g} s"
            self.breaks("serves", node, answer.did, seen)
        return False

    def seen(self, answer: Answer) -> str:
        """What came of a request, with the end of the log if nothing did."""
        tail = "" if answer.body is not None else self.nodes.log(answer.node)
        return f"{answer.seen}{tail}"

    def keep(self, *names: str, told: str = "") -> None:
        """Note that nodes kept these rules; `told` adds a figure."""
        for name in names:
            self.notes.keeps(RULES[name], told)

    def breaks(
        self,
        name: str,
        node: str,
        did: str,
        seen: str,
        *,
        advice: str = "",
        says: str = "",
        harmless: bool = False,
    ) -> None:
        """Note that a node broke a rule; `says` are other words of WIRE.md about it."""
        self.notes.breaks(
            RULES[name], node, did, seen, advice=advice, says=says, harmless=harmless
        )
