"""What all faults of links share: a rule on the links of some nodes, for a while.

Each kind (`delay`, `loss`, `duplicate`, `reorder`, `corrupt`, `bandwidth`, `mtu`,
`reset`, `half-open`) sets one number of `LinkRule`, to an amount that is drawn with the
plan. The rule is put on the links between the target and all other nodes, both ways
unless the fault has a direction. Several faults may be in force on a link at once, of
one kind too; the link then suffers all of them.

Evidence: the number of frames that the links report to have delayed, lost, and so on. A
fault that met no traffic did not bite.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.faults.drawing import log_uniform
from harness.faults.fault import Fault, Skip, Strike, require_number, require_params
from harness.faults.nemesis import Nemesis
from harness.faults.targets import (
    TARGETS,
    WORDS,
    aimed,
    draw_target,
    resolve_target,
    validate_target,
    who,
)
from harness.options import Number, OrNone, Whole, Words
from harness.override import override
from harness.registry import Option, settings
from harness.worlds.capabilities import Capabilities
from harness.worlds.network import LinkRule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.data import Json
    from harness.faults.force import Grip
    from harness.worlds.capabilities import LinkField
    from harness.worlds.network import Link


DIRECTIONS = ("both", "outwards", "inwards", "between")
"""Which traffic of its target a fault concerns: all, what it sends, what it is sent, or
what its nodes send each other."""

TARGETS_OPTION = Option(
    "targets",
    "+".join(TARGETS),
    "sets of nodes whose links to draw from",
    Words(WORDS),
)

DIRECTION_OPTION = Option(
    "directions",
    "both",
    "directions to draw from: all traffic of the target, what it sends, what it is "
    "sent, what its nodes send each other",
    Words(DIRECTIONS),
)


EVIDENCE = {
    "resets": "connections_reset",
    "connects": "connections_begun",
}
"""What counters of things other than frames are called in evidence."""


@dataclass(frozen=True)
class Amount:
    """A number of `LinkRule` that a kind of fault sets.

    Attributes:
        field: The number's name in `LinkRule`.
        low: Least amount that is drawn.
        high: Largest amount that is drawn, if the option `max` doesn't say otherwise.
            Every order of magnitude between the two is equally likely.
        limit: Largest amount that makes sense in a hand-written plan.
        counter: The counter of `LinkCounters` that shows its effect.
        unit: What a title shows after the number.
        share_of_jitter: With delays: how much they vary, as a part of the delay.
        whole: Whether amounts are whole numbers.
        also: Counters that are shown beside `counter`.
    """

    field: LinkField
    low: float
    high: float
    limit: float
    counter: str
    unit: str = ""
    share_of_jitter: float = 0.0
    whole: bool = False
    also: tuple[str, ...] = ()

    @property
    def kind(self) -> Number | Whole:
        """The amounts that a plan may give: from 0.001, as plans hold 3 decimals."""
        return Whole(1, int(self.limit)) if self.whole else Number(0.001, self.limit)

    @property
    def options(self) -> tuple[Option, ...]:
        """The options of the kind of fault that sets this number."""
        return (
            TARGETS_OPTION,
            Option(
                "max",
                "",
                f"largest {self.field} to draw; {self.high:g} if empty",
                OrNone(self.kind),
                amount=self.high,
            ),
            DIRECTION_OPTION,
        )


class Linked(Nemesis, ABC):
    """A nemesis whose faults are for the links of a target, in a direction.

    Args:
        options: Its options, with those of TARGETS_OPTION and DIRECTION_OPTION.
        given: What the user gave; `given` keeps all settings that come of it.

    Attributes:
        params: Parameters that its faults have beside target and direction.
    """

    params: tuple[str, ...]

    def __init__(
        self, kind: str, options: tuple[Option, ...], given: Mapping[str, str]
    ) -> None:
        self.kind = kind
        self.given = settings(kind, options, given)
        self.targets: tuple[str, ...] = self.given["targets"]
        self.directions: tuple[str, ...] = self.given["directions"]

    @override
    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random target and direction, and what else the kind draws."""
        target = draw_target(random, random.choice(self.targets), nodes)
        params = {"target": target, **self.draw_params(random)}
        return Fault(self.kind, params | draw_direction(random, self.directions))

    @abstractmethod
    def draw_params(self, random: Random) -> dict[str, Json]:
        """Parameters beside target and direction."""

    @override
    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """Require a target and the kind's own parameters; a direction may be given."""
        require_params(fault, ("target", *self.params, "direction"))
        validate_target(self.kind, fault.params.get("target"), nodes)
        self.validate_params(fault)
        validate_direction(fault)

    @abstractmethod
    def validate_params(self, fault: Fault) -> None:
        """Raise UsageError if parameters beside target and direction make no sense."""


class LinkFault(Linked):
    """A nemesis of one kind of link fault."""

    background = True

    def __init__(self, kind: str, amount: Amount, options: Mapping[str, str]) -> None:
        super().__init__(kind, amount.options, options)
        self.params = (amount.field,)
        self.amount = amount
        self.needs = Capabilities(network=frozenset({amount.field}))
        if amount.share_of_jitter:
            self.needs |= Capabilities(network=frozenset({"jitter_ms"}))
        most = self.given["max"]
        self.high: float = amount.high if most is None else most

    @override
    def draw_params(self, random: Random) -> dict[str, Json]:
        """A random amount."""
        low = min(self.amount.low, self.high)
        amount = log_uniform(random, low, self.high)
        return {
            self.amount.field: round(amount) if self.amount.whole else round(amount, 3)
        }

    @override
    def validate_params(self, fault: Fault) -> None:
        """Require an amount."""
        require_number(fault, self.amount.field, self.amount.kind)

    @override
    async def strike(self, fault: Fault, cluster: Grip) -> Strike:
        """Put the rule on the target's links; evidence comes with healing."""
        nodes, why = await resolve_target(fault.target, cluster)
        amount = fault.number(self.amount.field)
        rule: dict[str, float] = {self.amount.field: amount}
        if self.amount.share_of_jitter:
            rule["jitter_ms"] = amount * self.amount.share_of_jitter
        links = links_of(nodes, cluster.nodes, fault)
        await cluster.shape_links(dict.fromkeys(links, LinkRule(**rule)))  # type: ignore[arg-type]  # `Amount` names numbers only
        title = f"{self.kind} {amount:g}{self.amount.unit}: links of {who(nodes, why)}"
        return Strike(
            fault,
            title + told_direction(fault),
            nodes,
            {"rule": rule, "links": len(links), **aimed(why)},
        )

    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Take the rule away and count what it did."""
        counters = await cluster.mend_links()
        names = (self.amount.counter, *self.amount.also)
        counts = {name: getattr(counters, name) for name in names}
        return strike.proven(
            {EVIDENCE.get(name, f"frames_{name}"): n for name, n in counts.items()},
            bit=counts[self.amount.counter] > 0,
        )


def links_of(
    target: Sequence[str], nodes: Sequence[str], fault: Fault
) -> tuple[Link, ...]:
    """The links of the target's nodes, in the direction of the fault.

    Raises:
        Skip: There are none: the target is a single node, and has none between.
    """
    direction = fault.text("direction", DIRECTIONS[0])

    def concerns(a: str, b: str) -> bool:
        match direction:
            case "outwards":
                return a in target
            case "inwards":
                return b in target
            case "between":
                return a in target and b in target
            case _:
                return a in target or b in target

    links = tuple(x for x in itertools.permutations(nodes, 2) if concerns(*x))
    if not links:
        raise Skip(f"there is no link between {' '.join(target)} and itself")
    return links


def draw_direction(random: Random, directions: Sequence[str]) -> dict[str, str]:
    """The parameter for one of the directions; no parameter means both.

    A single direction costs no choice, so that plans stay what they were.
    """
    word = directions[0] if len(directions) == 1 else random.choice(directions)
    return {} if word == DIRECTIONS[0] else {"direction": word}


def validate_direction(fault: Fault) -> None:
    """Check the direction of a hand-written fault, if it has one.

    Raises:
        UsageError: There is no such direction.
    """
    word = fault.params.get("direction", DIRECTIONS[0])
    if word not in DIRECTIONS:
        raise UsageError(
            f"plan: {fault.kind}: direction must be one of {', '.join(DIRECTIONS)}, "
            f"not {word!r:.60}"
        )


def told_direction(fault: Fault) -> str:
    """The end of a title: ", outwards"; empty for both directions."""
    word = fault.text("direction", DIRECTIONS[0])
    return "" if word == DIRECTIONS[0] else f", {word}"
