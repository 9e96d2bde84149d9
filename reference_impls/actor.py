"""The sans-IO vocabulary: what a protocol core hears, and what it wants done.

A core is a deterministic state machine without clock, randomness, sockets or files.
`start(recovered)` gives its first effects, `step(event)` those that an event causes. A
world carries them out: `reference_impls.runtime` on a real machine, a simulator in
virtual time.

The duties of a world:

1. Effects are carried out in order, across steps too. A `Send`, `Reply` or `Observe`
   that comes after a `Persist`, in the same step or a later one, leaves only once that
   record is durable. One before it may leave at once: a leader replicates while its
   disk works.
2. Records come back from a restart in the order in which they were persisted, whole or
   not at all; only those that were not yet durable may be missing, and only at the end.
3. Messages may be lost, delayed, duplicated and reordered, but not altered. A request
   of a client is delivered at most once.
4. A timer fires once, after a time drawn evenly between its bounds, unless it is set
   again or cancelled first. With bounds of 0 it fires when all that has already arrived
   was delivered: this is how a core learns that a batch is complete. It may fire up to
   `patience_ms` later, unless it is set again without that.
5. Timers and `Now` follow the node's own clocks, which may be wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, dataclass_transform, runtime_checkable

from reference_impls.override import override

Body = Mapping[str, Any]
"""The body of a message: JSON-able, with its kind under "type"."""

Record = Mapping[str, Any]
"""A record that a core keeps on disk: JSON-able."""

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(made: type[T]) -> type[T]:
    """Make a class one of values that nobody changes: a frozen dataclass, but for this.

    That nobody changes them, type checkers see to alone. Python would, too, but makes a
    frozen object in four times the time, and each message makes several.
    """
    return dataclass(slots=True, unsafe_hash=True)(made)


# --- events ----------------------------------------------------------------------


@value
class Now:
    """The node's own clocks as read when the event was delivered, in nanoseconds."""

    wall_ns: int
    mono_ns: int


@value
class Received:
    """A message from a peer or a client.

    Attributes:
        src: Who sent it: the name of a peer, else of a client.
        body: What it says. Anyone may have written it: a core checks before it trusts.
        now: Read after the message had arrived, so never older than the message.
        channel: The way back to a client; only the world uses it.
    """

    src: str
    body: Body
    now: Now
    channel: object = field(default=None, repr=False, compare=False)


@value
class TimerFired:
    """The timer of that name ran out."""

    name: str
    now: Now


Event = Received | TimerFired


# --- effects ---------------------------------------------------------------------


@value
class Persist:
    """Make this record durable, after all earlier ones.

    Attributes:
        record: What to keep.
        replaces: This record says all that the earlier ones said, so a world may forget
            them in the same stroke that makes this one durable. It need not.
    """

    record: Record
    replaces: bool = False


@value
class Send:
    """Send to a peer; it may get lost."""

    dest: str
    body: Body


@value
class Reply:
    """Answer a client's request; the world adds `in_reply_to`."""

    request: Received
    body: Body


@value
class SetTimer:
    """(Re)start a timer, to fire between `min_ms` and `max_ms` from now.

    Attributes:
        name: Of the timer.
        min_ms, max_ms: The bounds; both 0 for a batch, see the duties.
        patience_ms: How much longer a batch may grow. A world whose steps take no time
            gains nothing by that, and need not wait.
    """

    name: str
    min_ms: float
    max_ms: float
    patience_ms: float = 0.0


@value
class CancelTimer:
    """Stop a timer; harmless when it isn't running."""

    name: str


@value
class Observe:
    """A named event of the protocol, for invariant checkers and for triggers."""

    kind: str
    fields: Mapping[str, Any]


Effect = Persist | Send | Reply | SetTimer | CancelTimer | Observe


# --- actors ----------------------------------------------------------------------


class Actor(Protocol):
    """A protocol core: one node's state machine."""

    def start(self, recovered: Sequence[Record]) -> list[Effect]:
        """Begin, or begin again, from what an earlier life had persisted.

        Called once, before any step.
        """
        ...

    def step(self, event: Event) -> list[Effect]:
        """React to one event. Raises nothing, whatever a message says."""
        ...

    def status(self) -> dict[str, Any]:
        """The node's role, term, leader and so on, for people and tests."""
        ...


@runtime_checkable
class Inspectable(Actor, Protocol):
    """A core that can report what its disk holds, for checkers to judge after a run."""

    def on_disk(self) -> list[Observe]:
        """All that `start` took back, as observations. Asked before any step."""
        ...


# --- options ---------------------------------------------------------------------


class Kind(Protocol):
    """What the value of an option may be."""

    @property
    def told(self) -> str:
        """What the value may be, in words that follow "it takes"."""
        ...

    def parse(self, text: str) -> Any:
        """The value that `text` stands for.

        Raises:
            ValueError: `text` stands for no value of this kind.
        """
        ...


@dataclass(frozen=True, slots=True)
class Whole(Kind):
    """A whole number from `least` to `most`, in plain decimal digits; an int."""

    least: int
    most: int

    @property
    @override
    def told(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    @override
    def parse(self, text: str) -> int:
        if not re.fullmatch("[0-9]{1,15}", text):
            raise ValueError
        if not self.least <= int(text) <= self.most:
            raise ValueError
        return int(text)


@dataclass(frozen=True, slots=True)
class Number(Kind):
    """A number from `least` to `most`, such as 150 or 0.5; a float."""

    least: float
    most: float

    @property
    @override
    def told(self) -> str:
        return f"a number from {self.least:.15g} to {self.most:.15g}"

    @override
    def parse(self, text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{0,15})?(e[-+]?[0-9]{1,3})?", text):
            raise ValueError
        if not self.least <= float(text) <= self.most:
            raise ValueError
        return float(text)


MS = Number(1.0, 86_400_000.0)
"""A time in milliseconds, up to a day. Below 1 ms a node would only fire timers."""
MS_OR_NONE = Number(0.0, MS.most)
COUNT = Whole(1, 1_000_000)


class OneOf(Kind):
    """One of a few words."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    @property
    @override
    def told(self) -> str:
        return f"one of {', '.join(self.choices)}"

    @override
    def parse(self, text: str) -> str:
        if text not in self.choices:
            raise ValueError
        return text


@dataclass(frozen=True, slots=True)
class Flag(Kind):
    """Yes or no; a bool."""

    told: str = "true or false"
    choices: tuple[str, ...] = ("true", "false")

    @override
    def parse(self, text: str) -> bool:
        if text not in self.choices:
            raise ValueError
        return text == "true"


@dataclass(frozen=True, slots=True)
class ServerNames(Kind):
    """Names of servers, or nothing; a tuple."""

    told: str = "names of servers with commas, or nothing"

    @override
    def parse(self, text: str) -> tuple[str, ...]:
        if not re.fullmatch(r"([A-Za-z0-9._-]{1,100}(,(?!$)|$)){0,64}", text):
            raise ValueError
        return tuple(text.split(",")) if text else ()


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a protocol, documented as data; values are given as text."""

    name: str
    default: str
    meaning: str
    kind: Kind


def settings(options: Sequence[Option], given: Mapping[str, str]) -> dict[str, Any]:
    """The values of all options, by name: what was given, else the defaults.

    Raises:
        ValueError: There is no option of that name, or it can't take that value.
    """
    known = {option.name: option for option in options}
    for name in given:
        if name not in known:
            raise ValueError(f"no option {name!r:.60} (there are: {', '.join(known)})")
    out = {}
    for name, option in known.items():
        text = given.get(name, option.default)
        try:
            out[name] = option.kind.parse(text)
        except ValueError:
            raise ValueError(
                f"{name}={text!r:.60} is not possible (it takes {option.kind.told})"
            ) from None
    return out


# --- errors ----------------------------------------------------------------------

TIMEOUT = 0
NODE_NOT_FOUND = 1
NOT_SUPPORTED = 10
TEMPORARILY_UNAVAILABLE = 11
MALFORMED_REQUEST = 12
CRASH = 13
ABORT = 14
KEY_DOES_NOT_EXIST = 20
PRECONDITION_FAILED = 22
NOT_A_MEMBER = 40
INDEFINITE = frozenset({TIMEOUT, CRASH})
"""Maelstrom's codes. After an indefinite one the request may still take effect."""


def error(code: int, text: str) -> dict[str, Any]:
    """An error body."""
    return {"type": "error", "code": code, "text": text}
