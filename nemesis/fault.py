"""Faults as data: what a plan holds, what a nemesis draws, what a report names.

A fault is a kind and its parameters, nothing more: `partition` with a shape, `kill`
with a target, `clock` with a mode. It can be written to YAML and read back, which is
what makes a run replayable and shrinkable. Targets are drawn when the plan is made,
from its seed; only `leader` is looked up when the fault strikes, as nobody knows it
before.

Target words are those of jepsen.nemesis.combined: one, minority, majority, all; ours
besides: leader. A target may also be a list of node names, as in a hand-written plan,
or `observer`: the node whose event set the fault off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from harness.errors import UsageError
from harness.registry import nearest

if TYPE_CHECKING:
    from random import Random

    from harness.cluster import Cluster
    from harness.options import Number, Whole

TARGETS = ("one", "minority", "majority", "all", "leader")
"""Words for sets of nodes that a fault may strike."""

OBSERVER = "observer"
"""A target known when the fault strikes: the node whose Observe event triggered it."""

NodeNames = tuple[str, ...]


@dataclass(frozen=True)
class Fault:
    """One way to break the cluster; `params` are JSON-able and differ by kind."""

    kind: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        """The fault as it stands in plan.yaml."""
        return {"kind": self.kind, **self.params}


@dataclass(frozen=True)
class Strike:
    """What happened when a fault was applied.

    Attributes:
        title: For people: "isolate leader n3: n3 | n1 n2 n4 n5".
        nodes: The nodes concerned.
        evidence: Proof so far; `heal` adds to it.
        bit: True when the proof is complete, False when there was no effect, None when
            only healing will tell (frames dropped are counted at the end).
    """

    title: str
    nodes: NodeNames
    evidence: Mapping[str, Any] = field(default_factory=dict)
    bit: bool | None = None


class Nemesis(Protocol):
    """One kind of fault: draws faults for plans, applies them, heals them.

    One nemesis has at most one fault in force at a time. One with a true attribute
    `background` makes other faults worse rather than do harm by itself.
    """

    kind: str
    needs: frozenset[str]
    """What it needs of a world beyond the system's own word: "cut", "clocks", ..."""

    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random fault of this kind; the same for the same state of `random`."""
        ...

    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """Raise UsageError when a hand-written fault makes no sense."""
        ...

    async def strike(self, fault: Fault, cluster: Cluster) -> Strike:
        """Apply `fault` and say what happened."""
        ...

    async def heal(self, cluster: Cluster) -> Strike | None:
        """End the fault in force with the evidence it left; None when there is none.

        Idempotent: the run heals everything at its end, whatever the plan did.
        """
        ...


@runtime_checkable
class Lingering(Protocol):
    """A nemesis whose faults are felt for a while after their healing."""

    def lingers_s(self, fault: Fault, lasted_s: float) -> float:
        """How long that is for a fault that was in force for `lasted_s`."""
        ...

    async def settle(self, cluster: Cluster) -> None:
        """Wait until nothing is felt any more of faults that were healed."""
        ...


NemesisFactory = Callable[[Mapping[str, str]], Nemesis]
"""Builds a nemesis from its options; raises UsageError for those it does not know."""


def minority_size(count: int) -> int:
    """The largest number of nodes out of `count` that is no majority; at least 1."""
    return max(1, (count - 1) // 2)


def draw_target(random: Random, word: str, nodes: Sequence[str]) -> str | list[str]:
    """Resolve a target word to nodes, but for `leader`, which is left to the strike."""
    if word == "leader":
        return word
    sizes = {
        "one": 1,
        "minority": minority_size(len(nodes)),
        "majority": len(nodes) // 2 + 1,
        "all": len(nodes),
    }
    return sorted(random.sample(list(nodes), sizes[word]), key=list(nodes).index)


def aim(fault: Fault, observer: str | None) -> Fault:
    """The fault with its observer named.

    Where the event never came, the leader stands in: it has a part in most events.
    """
    if fault.params.get("target") != OBSERVER:
        return fault
    target = "leader" if observer is None else [observer]
    return Fault(fault.kind, {**fault.params, "target": target})


async def resolve_target(
    target: str | Sequence[str], cluster: Cluster
) -> tuple[NodeNames, str]:
    """The nodes meant by a fault's target, and a word about how they were chosen.

    Where no node says that it leads, the one that seems to stands in for the leader.
    """
    if target != "leader":
        return tuple(target), ""
    leader = await cluster.leader()
    if leader is None:
        guessed, why = cluster.seems_to_lead()
        return (guessed,), why
    return (leader,), "leader"


def who(nodes: NodeNames, why: str) -> str:
    """For titles: "leader n3", or "n1 (answers changes soonest)"."""
    names = " ".join(nodes)
    return f"{why} {names}".strip() if why in {"", "leader"} else f"{names} ({why})"


def aimed(why: str) -> dict[str, str]:
    """How a target was chosen, for evidence; nothing where the plan named it."""
    if not why:
        return {}
    return {"target": "says that it leads" if why == "leader" else why}


def validate_target(kind: str, target: object, nodes: Sequence[str]) -> None:
    """Check a hand-written target.

    Raises:
        UsageError: It is neither "leader", "observer" nor a list of known nodes.
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


def require_params(fault: Fault, allowed: Sequence[str]) -> None:
    """Refuse parameters that a fault of this kind does not have.

    Raises:
        UsageError: Names the parameter and those that exist.
    """
    for name in fault.params:
        if name not in allowed:
            raise UsageError(
                f"plan: {fault.kind} has no parameter {name!r:.60}"
                f"{nearest(name, allowed)} (it has: {', '.join(allowed)})"
            )


def require_number(fault: Fault, name: str, kind: Number | Whole) -> None:
    """Check a number of a hand-written fault.

    Raises:
        UsageError: It is not there, is no number, or is out of bounds.
    """
    value = fault.params.get(name)
    if not kind.admits(value):
        raise UsageError(
            f"plan: {fault.kind}: {name} must be {kind.told}, not {value!r:.60}"
        )
