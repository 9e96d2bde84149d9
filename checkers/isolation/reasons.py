"""Why one transaction comes before another, as typed data: the edges of witnesses.

A `Link` leads from a source to a target, both rows of `Transactions`. The classes of
`Why` say what it rests on; what they call source and target are those of their link.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from msgspec import Struct

from checkers.isolation.graph import Kind

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from checkers.isolation.walks import Step

Deed = Literal["append", "write"]
"""What a transaction does to a key, in lists and in registers."""


class InSession(Struct, frozen=True):
    """The same process ran the one before the other."""


class InRealTime(Struct, frozen=True):
    """The one had returned when the other was invoked."""


class Observed(Struct, frozen=True):
    """The target observed what the source appended or wrote."""

    deed: Deed
    value: Hashable
    key: Hashable


class Precedence(Struct, frozen=True):
    """Two values of a register in order, and the source of that order.

    Attributes:
        low, high: The values.
        source: A name in `telling.SOURCES`; empty if it was found by elimination.
    """

    low: Hashable
    high: Hashable
    source: str


class Missed(Struct, frozen=True):
    """The source did not observe what the target appended or wrote.

    Attributes:
        deed, value, key: What the target did.
        order: For registers, why that value came after the one that was read.
    """

    deed: Deed
    value: Hashable
    key: Hashable
    order: Precedence | None = None


class MissedUpdate(Struct, frozen=True):
    """The source did not observe the target's update of a key that both updated."""

    deed: Deed


class AppendedAfter(Struct, frozen=True):
    """The target's element stands behind the source's.

    Attributes:
        element, key: What the target appended.
        earlier: What the source did before that.
        is_eliminated: Whether no list shows this order, but the other one would close a
            cycle.
    """

    element: Hashable
    key: Hashable
    earlier: Hashable = None
    is_eliminated: bool = False


class Replaced(Struct, frozen=True):
    """The target replaced what the source wrote to a register."""

    key: Hashable
    order: Precedence


class Seen(Struct, frozen=True):
    """How a reader has seen what another transaction did; see `weak.Axiom`.

    Attributes:
        reader, writer: Their rows.
        how: A name in `telling.SEEN`.
    """

    reader: int
    writer: int
    how: str


class StandsAfter(Struct, frozen=True):
    """The target's element stands behind that of the source, which failed."""

    element: Hashable
    dirt: Hashable
    key: Hashable


class HadReturned(Struct, frozen=True):
    """The source had returned before the target was invoked."""


class ReadNil(Struct, frozen=True):
    """The source read the initial state of a key."""

    key: Hashable


class Demanded(Struct, frozen=True):
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


class Overwritten(Struct, frozen=True):
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


class Link(Struct, frozen=True):
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
