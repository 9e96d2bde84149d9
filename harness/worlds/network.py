"""The network between nodes, as faults see it: directed links with rules.

Two rungs implement `Network`: `harness.worlds.os.switch` (namespaces and a userspace
Ethernet switch: every frame is ours) and `harness.worlds.os.proxy` (a TCP proxy per
directed link, for machines where namespaces can't be had).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.worlds.capabilities import LinkField
    from harness.worlds.places import NodePlace

Link = tuple[str, str]
"""(from node, to node)"""


@dataclass(frozen=True)
class LinkRule:
    """The treatment of the traffic of a directed link; the default is a healthy link.

    Probabilities are per frame on the switch rung. The proxy rung knows `cut`,
    `delay_ms`, `jitter_ms` and `bandwidth_kbit_s` only (`Network.capabilities`).
    """

    cut: bool = False
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    bandwidth_kbit_s: float | None = None

    def overlaps(self, other: LinkRule) -> bool:
        """Whether both rules change the same field of a link."""
        return any(
            field.default not in (getattr(self, field.name), getattr(other, field.name))
            for field in fields(LinkRule)
        )


def merge(rules: Iterable[LinkRule]) -> LinkRule:
    """The rule of a link that several faults act on at once.

    Any cut counts, and the lowest bandwidth; delays add up, and probabilities combine
    as independent chances.
    """
    rules = list(rules)
    limits = (rule.bandwidth_kbit_s for rule in rules)
    return LinkRule(
        cut=any(rule.cut for rule in rules),
        delay_ms=sum(rule.delay_ms for rule in rules),
        jitter_ms=sum(rule.jitter_ms for rule in rules),
        loss=either(rule.loss for rule in rules),
        duplicate=either(rule.duplicate for rule in rules),
        reorder=either(rule.reorder for rule in rules),
        corrupt=either(rule.corrupt for rule in rules),
        bandwidth_kbit_s=min((x for x in limits if x is not None), default=None),
    )


def either(chances: Iterable[float]) -> float:
    """The chance that at least one of several independent events happens."""
    any_of_them = 0.0
    for chance in chances:
        any_of_them = 1 - (1 - any_of_them) * (1 - chance)
    return any_of_them


@dataclass(frozen=True)
class LinkCounters:
    """Counts of what a link did since the run began.

    They count frames on the switch rung, chunks of bytes and connects on the proxy
    rung, messages in the simulator.
    """

    forwarded: int = 0
    cut: int = 0
    lost: int = 0
    delayed: int = 0
    duplicated: int = 0
    reordered: int = 0
    corrupted: int = 0


class Network(Protocol):
    """Nodes' addresses, and the rules of the links between them.

    Each method raises HarnessError if the process that carries the traffic has died;
    `close` does so if nobody had noticed yet.
    """

    rung: str
    capabilities: frozenset[LinkField]
    """The fields of LinkRule that this rung can put in force."""
    places: Mapping[str, NodePlace]

    async def set_rules(self, rules: Mapping[Link, LinkRule]) -> None:
        """Replace all rules at once; a link that isn't named is healthy.

        Returns once the rules are in force. Traffic between the controller and the
        nodes is never subject to rules.
        """
        ...

    async def counters(self) -> Mapping[Link, LinkCounters]:
        """Counts of what each directed link did since the run began."""
        ...

    async def close(self) -> None:
        """Stop carrying traffic and release everything."""
        ...
