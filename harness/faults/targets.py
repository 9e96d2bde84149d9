"""Which nodes a fault is for.

Targets are drawn from the plan's seed when the plan is made; only `leader` is looked up
when the fault strikes, as nobody knows it before. The words one, minority, majority and
all are those of jepsen.nemesis.combined; leader is ours. A target may also be a list of
node names, as in a hand-written plan, or `observer`: the node whose event set the fault
off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from harness.errors import UsageError
from harness.faults.fault import Fault
from harness.registry import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from harness.data import Json
    from harness.faults.fault import NodeNames
    from harness.worlds.events import Where

TARGETS = ("one", "minority", "majority", "all", "leader")
"""Words for sets of nodes that a fault may strike."""

OBSERVER = "observer"
"""The target that means the node whose event triggered the fault; of a message both."""


class Led(Protocol):
    """A cluster that can be asked who leads it."""

    async def leader(self) -> str | None:
        """The node that says it leads; None if no node does."""
        ...

    def seems_to_lead(self) -> tuple[str, str]:
        """A node that may lead though none says so, and why it may be that one."""
        ...


def minority_size(count: int) -> int:
    """The largest number of nodes out of `count` that is no majority; at least 1."""
    return max(1, (count - 1) // 2)


def draw_target(random: Random, word: str, nodes: Sequence[str]) -> str | list[str]:
    """Draw the nodes for a target word; `leader` stays, for the strike to resolve."""
    if word == "leader":
        return word
    sizes = {
        "one": 1,
        "minority": minority_size(len(nodes)),
        "majority": len(nodes) // 2 + 1,
        "all": len(nodes),
    }
    return sorted(random.sample(list(nodes), sizes[word]), key=list(nodes).index)


def for_observer(fault: Fault) -> Fault:
    """The fault aimed at the node that observes its event; unchanged without target."""
    if "target" not in fault.params:
        return fault
    return Fault(fault.kind, {**fault.params, "target": OBSERVER})


def aim(fault: Fault, where: Where) -> Fault:
    """The fault with its `observer` target replaced by the nodes of the event.

    If the event never came there are none. The leader takes their place, as it has a
    part in most events.
    """
    if fault.params.get("target") != OBSERVER:
        return fault
    target: Json = list(where) or "leader"
    return Fault(fault.kind, {**fault.params, "target": target})


async def resolve_target(
    target: str | Sequence[str], cluster: Led
) -> tuple[NodeNames, str]:
    """The nodes meant by a fault's target, and a word about how they were chosen.

    If no node says that it leads, `leader` means the node that seems to.
    """
    if target != "leader":
        return tuple(target), ""
    leader = await cluster.leader()
    if leader is None:
        guessed, why = cluster.seems_to_lead()
        return (guessed,), why
    return (leader,), "leader"


def who(nodes: NodeNames, why: str) -> str:
    """Text for titles: "leader n3", or "n1 (answers changes soonest)"."""
    names = " ".join(nodes)
    return f"{why} {names}".strip() if why in {"", "leader"} else f"{names} ({why})"


def aimed(why: str) -> dict[str, str]:
    """Evidence of how a target was chosen; empty if the plan named it."""
    if not why:
        return {}
    return {"target": "says that it leads" if why == "leader" else why}


def validate_target(kind: str, target: object, nodes: Sequence[str]) -> None:
    """Check a hand-written target.

    Raises:
        UsageError: The target is neither "leader", "observer" nor a list of known
            nodes.
    """
    if target in ("leader", OBSERVER):
        return
    if not isinstance(target, list | tuple) or not target:
        raise UsageError(
            f"plan: {kind}: target must be 'leader', 'observer' or a list of nodes, "
            f"not {target!r:.60}"
        )
    for name in target:
        if name not in nodes:
            raise UsageError(
                f"plan: {kind}: there is no node {name!r:.60}"
                f"{nearest(str(name), nodes)} (nodes: {', '.join(nodes)})"
            )
        if target.count(name) > 1:
            raise UsageError(f"plan: {kind}: names {name} twice")
