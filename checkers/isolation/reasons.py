"""Why one transaction comes before another, as typed data: the edges of witnesses.

A `Link` leads from a source to a target, both rows of `Transactions`. The classes of
`Why` say what it rests on; what they call source and target are those of their link.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from checkers.isolation.graph import Kind

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from checkers.isolation.walks import Step

Deed = Literal["append", "write"]
"""What a transaction does to a key, in lists and in registers."""


@dataclass(frozen=True)
class InSession:
    """The same process ran the one before the other."""


@dataclass(frozen=True)
class InRealTime:
    """The one had returned when the other was invoked."""


@dataclass(frozen=True)
class Observed:
    """The target observed what the source appended or wrote."""

    deed: Deed
    value: Hashable
    key: Hashable


@dataclass(frozen=True)
class Precedence:
    """Two values of a register in order, and the source of that order.

    Attributes:
        low, high: The values.
        source: One of `registers.Source`; empty if it was found by elimination.
    """

    low: Hashable
    high: Hashable
    source: str


@dataclass(frozen=True)
class Missed:
    """The source did not observe what the target appended or wrote.

    Attributes:
        deed, value, key: What that is.
        order: Of registers, why the value came after the one that was read.
    """

    deed: Deed
    value: Hashable
    key: Hashable
    order: Precedence | None = None


@dataclass(frozen=True)
class MissedUpdate:
    """The source did not observe the target's update of a key that both updated."""

    deed: Deed


@dataclass(frozen=True)
class AppendedAfter:
    """The target's element stands behind the source's.

    Attributes:
        element, key: What the target appended.
        earlier: What the source did before that.
        is_eliminated: No list shows it, but the other order would close a cycle.
    """

    element: Hashable
    key: Hashable
    earlier: Hashable = None
    is_eliminated: bool = False


@dataclass(frozen=True)
class Replaced:
    """The target replaced what the source wrote to a register."""

    key: Hashable
    order: Precedence


@dataclass(frozen=True)
class Seen:
    """How a reader has seen what another transaction did; see `weak.Axiom`.

    Attributes:
        reader, writer: Their rows.
        how: A name in `telling.SEEN`.
    """

    reader: int
    writer: int
    how: str


@dataclass(frozen=True)
class StandsAfter:
    """The target's element stands behind that of the source, which failed."""

    element: Hashable
    dirt: Hashable
    key: Hashable


@dataclass(frozen=True)
class HadReturned:
    """The source had returned before the target was invoked."""


@dataclass(frozen=True)
class ReadNil:
    """The source read the initial state of a key."""

    key: Hashable


@dataclass(frozen=True)
class Demanded:
    """A session guarantee demands that one version comes before another.

    Attributes:
        low, high: The values.
        row: The transaction of which it is demanded; NOTHING if of none.
        rule: A name in `telling.DEMANDED`.
    """

    low: Hashable
    high: Hashable
    row: int
    rule: str


@dataclass(frozen=True)
class Overwritten:
    """A reader had seen the source's version of a key, and yet read the target's.

    Attributes:
        seen: How it had seen the first one.
        overwritten, read: The values of both.
        key: The key.
    """

    seen: Seen
    overwritten: Hashable
    read: Hashable
    key: Hashable


Why = (
    InSession
    | InRealTime
    | Observed
    | Missed
    | MissedUpdate
    | AppendedAfter
    | Replaced
    | StandsAfter
    | HadReturned
    | ReadNil
    | Seen
    | Demanded
    | Overwritten
    | str
)
"""Why one transaction comes before another; a clause, where another family says so."""


@dataclass(frozen=True)
class Link:
    """One edge of a cycle.

    Attributes:
        source, target: Rows.
        kind: The name of its `graph.Kind`.
        why: Why the one comes before the other.
    """

    source: int
    target: int
    kind: str
    why: Why


class Explains(Protocol):
    """Who inferred a dependency, and can say why."""

    def reason(self, source: int, target: int, kind: Kind, via: int) -> Why:
        """Why `source` comes before `target`."""
        ...


def linked(inference: Explains, steps: Iterable[Step]) -> list[Link]:
    """The steps of a cycle with their reasons."""
    return [link(inference, step) for step in steps]


def link(inference: Explains, step: Step) -> Link:
    """One step with its reason."""
    why: Why
    if step.kind == Kind.PROCESS:
        why = InSession()
    elif step.kind == Kind.REALTIME:
        why = InRealTime()
    else:
        why = inference.reason(step.source, step.target, step.kind, step.via)
    return Link(step.source, step.target, step.kind.name.lower(), why)
