"""Which nodes a fault is for.

Targets are drawn from the plan's seed when the plan is made, as names of nodes. What
nobody knows before is looked up when the fault strikes:

    leader          the node that leads
    observer        the nodes of the event that set the fault off
    keep-majority   nodes without which a majority is left, of those that are named
    break-majority  as few nodes as leave no majority, in the order named

The last two know what other strikes hold down, paused or cut off. They may name nodes
in their order of choice (`{keep-majority: [n3, leader]}`), or else mean all nodes. If
there is no such node now, the strike is tried again and may be skipped (`Skip`).

The words one, minority, majority and all, of which drawing makes names, are those of
jepsen.nemesis.combined; the others are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from harness.errors import UsageError
from harness.faults.fault import Fault, Skip
from harness.options import Names
from harness.registry import Option, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from harness.data import Json
    from harness.faults.fault import NodeNames, Target
    from harness.faults.quorum import Standing
    from harness.worlds.events import Where

LEADER = "leader"

OBSERVER = "observer"
"""The target that means the nodes at which the event happened that set a fault off: a
node, or the sender and the receiver of a message."""

KEEP = "keep-majority"
BREAK = "break-majority"

TARGETS = ("one", "minority", "majority", "all", LEADER)
"""Words for sets of nodes that plans draw from unless told otherwise."""

WORDS = (*TARGETS, KEEP, BREAK)
"""All words for sets of nodes that plans may draw from."""

EVENTS_OPTION = Option(
    "events",
    "",
    "kinds of Observe that all faults wait for, such as voted, to strike the node that "
    "observed it; without any, some faults wait for moments that the system names",
    Names("events"),
)

KEEP_LEADER_CHANCE = 0.3
"""How often one of the nodes drawn for `keep-majority` is whoever leads then."""


class Reigned(Protocol):
    """A cluster that can be asked who leads it, and what is left of it."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes."""
        ...

    def standing(self) -> Standing:
        """What the strikes in force have left of it."""
        ...

    async def leader(self) -> str | None:
        """The node that says it leads; None if no node does."""
        ...

    def seems_to_lead(self) -> tuple[str, str]:
        """A node that may lead though none says so, and why it may be that one.

        Raises:
            Skip: There is no such node now.
        """
        ...


def minority_size(count: int) -> int:
    """The largest number of nodes out of `count` that is no majority; at least 1."""
    return max(1, (count - 1) // 2)


def draw_target(random: Random, word: str, nodes: Sequence[str]) -> Json:
    """Draw the nodes for a target word; `leader` stays, for the strike to resolve."""
    if word == LEADER:
        return word
    if word == BREAK:
        return {word: random.sample(list(nodes), len(nodes))}
    if word == KEEP:
        size = random.randint(1, minority_size(len(nodes)))
        order = random.sample(list(nodes), size)
        if random.random() < KEEP_LEADER_CHANCE:
            order[0] = LEADER
        return {word: order}
    sizes = {
        "one": 1,
        "minority": minority_size(len(nodes)),
        "majority": len(nodes) // 2 + 1,
        "all": len(nodes),
    }
    return sorted(random.sample(list(nodes), sizes[word]), key=list(nodes).index)


def word_for(target: Json, nodes: Sequence[str]) -> str:
    """The word of TARGETS that draws sets like this one; empty if none does."""
    if target == LEADER:
        return LEADER
    if not isinstance(target, list | tuple):
        return ""
    size, count = len(target), len(nodes)
    if size in {1, count}:
        return "one" if size == 1 else "all"
    return "minority" if size <= minority_size(count) else "majority"


def for_target(fault: Fault, target: Json) -> Fault:
    """The fault aimed at `target`; unchanged if it has none, or chooses by majority."""
    own = fault.params.get("target")
    if own is None or own in (KEEP, BREAK) or isinstance(own, Mapping):
        return fault
    return Fault(fault.kind, {**fault.params, "target": target})


def for_observer(fault: Fault) -> Fault:
    """The fault aimed at the node that observes its event; unchanged without target.

    A fault that is to keep a majority still does.
    """
    target = fault.params.get("target")
    if target is None:
        return fault
    keeps = isinstance(target, Mapping) and KEEP in target
    aimed: Json = {KEEP: [OBSERVER]} if keeps else OBSERVER
    return Fault(fault.kind, {**fault.params, "target": aimed})


def waits_for_observer(fault: Fault) -> bool:
    """Whether the fault's target names the observer of an event."""
    target = fault.params.get("target")
    if isinstance(target, Mapping):
        return any(isinstance(v, list) and OBSERVER in v for v in target.values())
    return target == OBSERVER


def aim(fault: Fault, where: Where) -> Fault:
    """The fault with the observer in its target replaced by the nodes of the event.

    If the event never came there are none. The leader takes their place, as it has a
    part in most events.
    """
    if not waits_for_observer(fault):
        return fault
    target = fault.target
    nodes: list[Json] = list(where) or [LEADER]
    aimed: Json = list(where) or LEADER
    if isinstance(target, Mapping):
        aimed = {
            word: [n for name in names for n in (nodes if name == OBSERVER else [name])]
            for word, names in target.items()
        }
    return Fault(fault.kind, {**fault.params, "target": aimed})


async def resolve_target(target: Target, cluster: Reigned) -> tuple[NodeNames, str]:
    """The nodes meant by a fault's target, and a word about how they were chosen.

    If no node says that it leads, `leader` means the node that seems to.

    Raises:
        Skip: There is no such node now.
    """
    if target == LEADER:
        return await _leader(cluster)
    if target in (KEEP, BREAK):
        return _by_majority(str(target), cluster.nodes, cluster.standing())
    if isinstance(target, Mapping):
        [(word, names)] = target.items()
        order: list[str] = []
        for name in names:
            nodes = (await _leader(cluster))[0] if name == LEADER else (name,)
            order += [node for node in nodes if node not in order]
        return _by_majority(word, order, cluster.standing())
    assert not isinstance(target, str)
    return target, ""


async def _leader(cluster: Reigned) -> tuple[NodeNames, str]:
    leader = await cluster.leader()
    if leader is None:
        guessed, why = cluster.seems_to_lead()
        return (guessed,), why
    return (leader,), LEADER


def _by_majority(
    word: str, order: Sequence[str], standing: Standing
) -> tuple[NodeNames, str]:
    up = f"{len(standing.up)} of {len(standing.nodes)} nodes are up"
    if word == KEEP:
        spare = standing.spare(order)
        if not spare:
            raise Skip(f"no majority would be left without {' or '.join(order)}: {up}")
        return tuple(spare), "keeps a majority"
    if not standing.has_majority():
        raise Skip(f"there is no majority to break: {up}")
    broken = standing.breaking(order)
    if not broken:
        raise Skip(f"a majority would be left without {' and '.join(order)}: {up}")
    return tuple(broken), "breaks the majority"


def who(nodes: NodeNames, why: str) -> str:
    """Text for titles: "leader n3", or "n1 (answers changes soonest)"."""
    names = " ".join(nodes)
    return f"{why} {names}".strip() if why in {"", LEADER} else f"{names} ({why})"


def aimed(why: str) -> dict[str, str]:
    """Evidence of how a target was chosen; empty if the plan named it."""
    if not why:
        return {}
    return {"target": "says that it leads" if why == LEADER else why}


def validate_target(kind: str, target: object, nodes: Sequence[str]) -> None:
    """Check a hand-written target.

    Raises:
        UsageError: The target is no word, no list of known nodes, and no word about
            known nodes.
    """
    if isinstance(target, str) and target in {LEADER, OBSERVER, KEEP, BREAK}:
        return
    words: tuple[str, ...] = ()
    if isinstance(target, dict) and len(target) == 1 and set(target) <= {KEEP, BREAK}:
        [target] = target.values()
        words = (LEADER, OBSERVER)
    if not isinstance(target, list | tuple) or not target:
        raise UsageError(
            f"plan: {kind}: target must be '{LEADER}', '{OBSERVER}', '{KEEP}', "
            f"'{BREAK}', a list of nodes, or {{{KEEP}: NODES}} or {{{BREAK}: NODES}}, "
            f"not {target!r:.60}"
        )
    for name in target:
        if name not in (*words, *nodes):
            raise UsageError(
                f"plan: {kind}: there is no node {name!r:.60}"
                f"{nearest(str(name), nodes)} (nodes: {', '.join(nodes)})"
            )
        if target.count(name) > 1:
            raise UsageError(f"plan: {kind}: names {name} twice")
