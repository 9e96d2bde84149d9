"""The network between hosts: rules of links, handed to the agents that carry them out.

A rule is put in force where it has to be: by nftables on the host of the node that is
to hear less, by relays on the host of the node that connects. So each host is told all
rules, and takes those that are its business.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.override import override
from harness.worlds.network import LinkCounters, LinkRule, Network

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.worlds.capabilities import LinkField
    from harness.worlds.events import Passed, Where
    from harness.worlds.network import Link as Between
    from harness.worlds.places import NodePlace
    from harness.worlds.ssh.link import Link


class SshNetwork(Network):
    """Implements `harness.worlds.network.Network`.

    Args:
        rung: Its name.
        able: The fields of LinkRule that can be put in force.
        places: Where nodes are.
        links: The agents.
    """

    def __init__(
        self,
        rung: str,
        able: frozenset[LinkField],
        places: Mapping[str, NodePlace],
        links: Iterable[Link],
    ) -> None:
        self.rung = rung
        self.capabilities = able
        self.places = places
        self._links = list(links)

    @override
    async def set_rules(self, rules: Mapping[Between, LinkRule]) -> None:
        healthy = asdict(LinkRule())
        told = []
        for (a, b), rule in rules.items():
            changed = {k: v for k, v in asdict(rule).items() if v != healthy[k]}
            for field in changed:
                if field not in self.capabilities:
                    raise HarnessError(f"the {self.rung} network can't do {field}")
            told.append([a, b, changed])
        await asyncio.gather(
            *(link.call("set_rules", rules=told) for link in self._links)
        )

    @override
    async def counters(self) -> Mapping[Between, LinkCounters]:
        answers = await asyncio.gather(*(link.call("counters") for link in self._links))
        sums: dict[Between, Counter[str]] = {
            (a, b): Counter() for a in self.places for b in self.places if a != b
        }
        for a, b, counts in (line for answer in answers for line in answer):
            sums[a, b].update(counts)
        names = [field.name for field in fields(LinkCounters)]
        return {
            between: LinkCounters(**{name: total[name] for name in names})
            for between, total in sums.items()
        }

    @override
    def passed(self, message: Passed) -> Mapping[Where, int]:
        return {}

    @override
    async def close(self) -> None:
        """Do nothing: agents heal their hosts when they end."""
