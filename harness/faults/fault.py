"""Faults as data: plans hold them, nemeses draw them, reports name them.

A fault is a kind and its parameters, nothing more: `partition` with a shape, `kill`
with a target, `clock` with a mode. It can be written to YAML and read back, which makes
a run replayable and shrinkable. A strike is what came of a fault; it is data too, and
stands in faults.jsonl.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.errors import SplitbrainError, UsageError
from harness.registry import nearest

if TYPE_CHECKING:
    from harness.data import Json
    from harness.options import Number, Whole

NodeNames = tuple[str, ...]

Target = str | NodeNames | Mapping[str, NodeNames]
"""A word, names of nodes, or a word about named nodes."""


@dataclass(frozen=True)
class Fault:
    """One way to break the cluster; `params` differ by kind.

    The accessors rely on the types of `params`: `Nemesis.draw` has made them, or
    `Nemesis.validate` has let them pass.
    """

    kind: str
    params: Mapping[str, Json] = field(default_factory=dict)

    def as_data(self) -> dict[str, Json]:
        """The fault as it stands in plan.yaml."""
        return {"kind": self.kind, **self.params}

    @property
    def knobs(self) -> tuple[str, ...]:
        """What campaigns count apart within a kind, by the words among its parameters.

        `disk` with {"mode": "eio", "torn": true, "target": "leader", "files": "*"} has
        the knobs "mode eio", "torn" and "target leader", and `clock` with {"clock":
        "wall"} has "wall". Numbers, names of nodes and the glob for all files are none.
        Of a target such as {"keep-majority": ["n3"]}, it is the word.
        """
        found = []
        for name, value in self.params.items():
            if value is True:
                found.append(name)
            elif isinstance(value, str) and value not in {"", "*"}:
                found.append(value if name == self.kind else f"{name} {value}")
            elif isinstance(value, Mapping):
                found += [f"{name} {word}" for word in value]
        return tuple(found)

    def number(self, name: str, default: float | None = None) -> float:
        """A parameter that is a number; `default` if it isn't given."""
        value = self.params.get(name, default)
        assert isinstance(value, int | float)
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A parameter that is a text; `default` if it isn't given."""
        value = self.params.get(name, default)
        assert isinstance(value, str)
        return value

    def names(self, name: str) -> NodeNames:
        """A parameter that is a list of nodes."""
        return _names(self.params[name])

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        """A parameter that is a list of pairs of texts."""
        value = self.params[name]
        assert isinstance(value, Sequence)
        return tuple((str(one), str(other)) for one, other in map(_pair, value))

    @property
    def target(self) -> Target:
        """Which nodes it is for (`harness.faults.targets`)."""
        target = self.params["target"]
        if isinstance(target, str):
            return target
        if isinstance(target, Mapping):
            return {word: _names(nodes) for word, nodes in target.items()}
        return self.names("target")


def _names(value: Json) -> NodeNames:
    assert isinstance(value, Sequence)
    return tuple(str(node) for node in value)


def _pair(value: Json) -> Sequence[Json]:
    assert isinstance(value, Sequence)
    return value


@dataclass(frozen=True)
class Strike:
    """The outcome of a fault: first of its application, at the end of its healing.

    Attributes:
        fault: The fault as it struck, with its observer named if it was for one.
        title: For people: "isolate leader n3: n3 | n1 n2 n4 n5".
        nodes: The nodes concerned.
        evidence: Proof so far; `heal` adds to it.
        bit: True if there is proof of an effect, False if there was none, None if only
            healing will tell (dropped frames are counted at the end).
        knobs: Knob -> whether it bit, where that differs from `bit`, or the parameters
            don't name it: `{"torn": False}` if the power was cut and nothing was torn.
    """

    fault: Fault
    title: str
    nodes: NodeNames
    evidence: Mapping[str, Json] = field(default_factory=dict)
    bit: bool | None = None
    knobs: Mapping[str, bool | None] = field(default_factory=dict)

    def proven(
        self,
        evidence: Mapping[str, Json],
        *,
        bit: bool | None,
        knobs: Mapping[str, bool | None] | None = None,
    ) -> Strike:
        """The strike with more evidence, and the conclusions from all of it."""
        return replace(
            self,
            evidence={**self.evidence, **evidence},
            bit=bit,
            knobs={**self.knobs, **(knobs or {})},
        )

    @property
    def all_knobs(self) -> dict[str, bool | None]:
        """Every knob -> whether it bit; those of the fault bit as the strike did."""
        return {**dict.fromkeys(self.fault.knobs, self.bit), **self.knobs}


class Skip(SplitbrainError):  # noqa: N818 - it is an answer, no failure of ours
    """There is nothing to strike now: raised by `Nemesis.strike`, before it acts.

    The strike may make sense a moment later, when another fault has been healed or a
    new leader is known, so the conductor tries again; if that never helps, it reports
    the step as skipped.

    Args:
        reason: Why not, for people: "every node of the target is already down".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


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
        UsageError: The parameter is missing, is no number, or is out of bounds.
    """
    value = fault.params.get(name)
    if not kind.admits(value):
        raise UsageError(
            f"plan: {fault.kind}: {name} must be {kind.told}, not {value!r:.60}"
        )
