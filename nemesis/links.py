"""What all faults of links share: a rule on the links of some nodes, for a while.

Each kind (`delay`, `loss`, `duplicate`, `reorder`, `corrupt`, `bandwidth`) sets one
number of `LinkRule`, to an amount that is drawn with the plan. The rule is put on the
links between the target and all other nodes, both ways. Several faults may be in force
on a link at once, of one kind too; the link then suffers all of them.

Evidence: the number of frames that the links report to have delayed, lost, and so on. A
fault that met no traffic did not bite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.faults.fault import Fault, Strike, require_number, require_params
from harness.faults.nemesis import Nemesis
from harness.faults.targets import (
    TARGETS,
    aimed,
    draw_target,
    resolve_target,
    validate_target,
    who,
)
from harness.options import Number, OrNone, Words
from harness.override import override
from harness.registry import Option, settings
from harness.worlds.capabilities import Capabilities
from harness.worlds.network import LinkRule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.faults.force import Grip
    from harness.worlds.capabilities import LinkField


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
    """

    field: LinkField
    low: float
    high: float
    limit: float
    counter: str
    unit: str = ""
    share_of_jitter: float = 0.0

    @property
    def kind(self) -> Number:
        """The amounts that a plan may give: from 0.001, as plans hold 3 decimals."""
        return Number(0.001, self.limit)

    @property
    def options(self) -> tuple[Option, ...]:
        """The options of the kind of fault that sets this number."""
        return (
            Option(
                "targets",
                "+".join(TARGETS),
                "sets of nodes whose links to draw from",
                Words(TARGETS),
            ),
            Option(
                "max",
                "",
                f"largest {self.field} to draw; {self.high:g} if empty",
                OrNone(self.kind),
            ),
        )


class LinkFault(Nemesis):
    """A nemesis of one kind of link fault."""

    background = True

    def __init__(self, kind: str, amount: Amount, options: Mapping[str, str]) -> None:
        given = settings(kind, amount.options, options)
        self.kind = kind
        self.amount = amount
        self.needs = Capabilities(network=frozenset({amount.field}))
        if amount.share_of_jitter:
            self.needs |= Capabilities(network=frozenset({"jitter_ms"}))
        self.targets: tuple[str, ...] = given["targets"]
        self.high: float = amount.high if given["max"] is None else given["max"]

    @override
    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random target and amount."""
        target = draw_target(random, random.choice(self.targets), nodes)
        low = min(self.amount.low, self.high)
        amount = low * (self.high / low) ** random.random()
        return Fault(self.kind, {"target": target, self.amount.field: round(amount, 3)})

    @override
    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """Require a target and an amount, and nothing else."""
        require_params(fault, ("target", self.amount.field))
        validate_target(self.kind, fault.params.get("target"), nodes)
        require_number(fault, self.amount.field, self.amount.kind)

    @override
    async def strike(self, fault: Fault, cluster: Grip) -> Strike:
        """Put the rule on the target's links; evidence comes with healing."""
        nodes, why = await resolve_target(fault.target, cluster)
        amount = float(fault.number(self.amount.field))
        rule: dict[str, float] = {self.amount.field: amount}
        if self.amount.share_of_jitter:
            rule["jitter_ms"] = amount * self.amount.share_of_jitter
        links = [
            (a, b)
            for a in cluster.nodes
            for b in cluster.nodes
            if a != b and (a in nodes or b in nodes)
        ]
        await cluster.shape_links(dict.fromkeys(links, LinkRule(**rule)))  # type: ignore[arg-type]  # `Amount` names numbers only
        return Strike(
            fault,
            f"{self.kind} {amount:g}{self.amount.unit}: links of {who(nodes, why)}",
            nodes,
            {"rule": rule, "links": len(links), **aimed(why)},
        )

    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Take the rule away and count what it did."""
        counters = await cluster.mend_links()
        count: int = getattr(counters, self.amount.counter)
        return strike.proven({f"frames_{self.amount.counter}": count}, bit=count > 0)
