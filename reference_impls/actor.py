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
   was delivered: this is how a core learns that a batch is complete.
5. Timers and `Now` follow the node's own clocks, which may be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

Body = Mapping[str, Any]
"""The body of a message: JSON-able, with its kind under "type"."""

Record = Mapping[str, Any]
"""What a core keeps on disk: JSON-able."""


# --- events ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Now:
    """The node's own clocks as read when the event was delivered, in nanoseconds."""

    wall_ns: int
    mono_ns: int


@dataclass(frozen=True, slots=True)
class Received:
    """A message from a peer or a client.

    Attributes:
        src: Who sent it: the name of a peer, else of a client.
        body: What it says. Anyone may have written it: a core checks before it trusts.
        now: Read after the message had arrived, so never older than the message.
        channel: The way back to a client; the world's own affair.
    """

    src: str
    body: Body
    now: Now
    channel: object = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The timer of that name ran out."""

    name: str
    now: Now


Event = Received | TimerFired


# --- effects ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Persist:
    """Make this record durable, after all earlier ones.

    Attributes:
        record: What to keep.
        replaces: This record says all that the earlier ones said, so a world may forget
            them in the same stroke that makes this one durable. It need not.
    """

    record: Record
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class Send:
    """Send to a peer; it may get lost."""

    dest: str
    body: Body


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a client's request; the world adds `in_reply_to`."""

    request: Received
    body: Body


@dataclass(frozen=True, slots=True)
class SetTimer:
    """(Re)start a timer, to fire between `min_ms` and `max_ms` from now."""

    name: str
    min_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Stop a timer; harmless when it isn't running."""

    name: str


@dataclass(frozen=True, slots=True)
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
        """Where the node stands, for people and tests: role, term, leader, ..."""
        ...


@runtime_checkable
class Inspectable(Actor, Protocol):
    """A core that can tell what its disk holds, to whoever judges that after a run."""

    def on_disk(self) -> list[Observe]:
        """All that `start` took back, as observations. Asked before any step."""
        ...


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a protocol, documented as data; values are given as text.

    An option without `choices` whose default is a number takes numbers only.
    """

    name: str
    default: str
    meaning: str
    choices: tuple[str, ...] = ()


def settings(options: Sequence[Option], given: Mapping[str, str]) -> dict[str, str]:
    """Defaults overlaid with what was given.

    Raises:
        ValueError: An option that isn't there, or a value that it can't take.
    """
    known = {option.name: option for option in options}
    for name, value in given.items():
        option = known.get(name)
        if option is None:
            raise ValueError(f"no option {name!r} (there are: {', '.join(known)})")
        if option.choices and value not in option.choices:
            choices = ", ".join(option.choices)
            raise ValueError(f"{name}={value} is not possible (choose from: {choices})")
        if not option.choices and is_number(option.default) and not is_number(value):
            raise ValueError(f"{name}={value} is not possible: it takes a number >= 0")
    return {option.name: given.get(option.name, option.default) for option in options}


def is_number(text: str) -> bool:
    """True for a finite number that isn't negative."""
    try:
        return 0 <= float(text) < float("inf")
    except ValueError:
        return False


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
INDEFINITE = frozenset({TIMEOUT, CRASH})
"""Maelstrom's codes. After an indefinite one the request may still take effect."""


def error(code: int, text: str) -> dict[str, Any]:
    """An error body."""
    return {"type": "error", "code": code, "text": text}
