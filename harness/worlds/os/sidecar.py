"""The process that carries a network's traffic, and the orders that it takes.

Both networks carry in a process of its own (`helper`), which knows two orders:
`SetRules` and `AskCounters`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from harness.errors import HarnessError
from harness.override import override
from harness.worlds.network import Link, LinkCounters, LinkRule, Network
from harness.worlds.os.helper import Desk, Helper

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from harness.worlds.events import Passed, Where
    from harness.worlds.os.sightings import Sightings
    from harness.worlds.places import NodePlace

_Counts = list[tuple[str, str, LinkCounters]]


class SetRules(msgspec.Struct, tag="set_rules"):
    """The order to replace all rules; links that it doesn't name are healthy."""

    rules: list[tuple[str, str, LinkRule]]


class AskCounters(msgspec.Struct, tag="ask_counters"):
    """The order to tell what each link has done so far."""


Order = SetRules | AskCounters


class Carrier(Protocol):
    """The work of a sidecar; called between two pieces of traffic, never during one."""

    def set_rules(self, rules: Mapping[Link, LinkRule]) -> None:
        """Put the rules in force before returning."""
        ...

    def counters(self) -> Mapping[Link, LinkCounters]:
        """Counts of what each directed link did since the run began."""
        ...


class OrderSocket:
    """Where orders come from; readable when `serve` has work."""

    def __init__(self, desk: Desk, carrier: Carrier) -> None:
        self._desk = desk
        self._carrier = carrier
        self._decode = msgspec.json.Decoder(Order).decode

    def fileno(self) -> int:
        """For select and its kin."""
        return self._desk.fileno()

    def serve(self) -> bool:
        """Carry out one order and answer it; False when it is time to end."""
        body = self._desk.take()
        if body is None:
            return False
        order: Order = self._decode(body)
        match order:
            case SetRules(rules):
                self._carrier.set_rules({(a, b): rule for a, b, rule in rules})
                self._desk.answer()
            case AskCounters():
                counters = self._carrier.counters()
                self._desk.answer([(a, b, told) for (a, b), told in counters.items()])
        return True


class Sidecar:
    """The controller's side of a network's process.

    Args:
        name: The sidecar's name in errors: "switch", "proxy".
        links: All directed links.
        capabilities: The fields of LinkRule that it can put in force.
        serve: Runs in the new process until its desk says stop.
    """

    def __init__(
        self,
        name: str,
        links: Collection[Link],
        capabilities: frozenset[str],
        serve: Callable[[Desk], None],
    ) -> None:
        self._links = frozenset(links)
        self._refused = frozenset(LinkRule.__dataclass_fields__) - capabilities
        self._helper = Helper(name, name, serve)
        self.pid = self._helper.pid

    async def set_rules(self, rules: Mapping[Link, LinkRule]) -> None:
        """Replace all rules; returns once they are in force.

        Raises:
            HarnessError: The sidecar has died, or can't put a rule in force.
        """
        for link, rule in rules.items():
            self._check(link, rule)
        order = SetRules([(a, b, rule) for (a, b), rule in rules.items()])
        await self._helper.tell(order)

    async def counters(self) -> dict[Link, LinkCounters]:
        """Counts of what each directed link did since the run began.

        Raises:
            HarnessError: The sidecar has died.
        """
        counts = await self._helper.ask(AskCounters(), _Counts)
        return {(a, b): count for a, b, count in counts}

    async def close(self) -> None:
        """Stop the process and wait until it is gone. A second call does nothing.

        Raises:
            HarnessError: The sidecar had died, and nobody had noticed yet.
        """
        await self._helper.close()

    def _check(self, link: Link, rule: LinkRule) -> None:
        if link not in self._links:
            raise HarnessError(f"there is no link {link[0]} -> {link[1]}")
        healthy = LinkRule()
        for field in self._refused:
            if getattr(rule, field) != getattr(healthy, field):
                raise HarnessError(
                    f"the {self._helper.name} can't do {field} on a link"
                )


class CarriedNetwork(Network):
    """A `Network` whose traffic a sidecar carries; a rung adds how it is set up.

    Attributes:
        netns_fds: Node -> its network namespace, for the warden that spawns the node;
            empty if nodes share the controller's.
        carrier_pid: The process of the sidecar.
    """

    def __init__(
        self,
        places: Mapping[str, NodePlace],
        netns_fds: Mapping[str, int],
        sidecar: Sidecar,
        sightings: Sightings,
    ) -> None:
        self.places = places
        self.netns_fds = netns_fds
        self.carrier_pid = sidecar.pid
        self._sidecar = sidecar
        self._sightings = sightings

    @override
    async def set_rules(self, rules: Mapping[Link, LinkRule]) -> None:
        await self._sidecar.set_rules(rules)

    @override
    async def counters(self) -> Mapping[Link, LinkCounters]:
        return await self._sidecar.counters()

    @override
    def passed(self, message: Passed) -> Mapping[Where, int]:
        return self._sightings.passed(message)

    @override
    async def close(self) -> None:
        await self._sidecar.close()
