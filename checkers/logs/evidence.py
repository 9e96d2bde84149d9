"""The breaches of a log's rules, each by the name that Jepsen gives to it.

A step is a transaction of a client; a record is a message as a step sent or polled it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Hashable

    from checkers.logs.steps import Record, Step


@dataclass(frozen=True, slots=True)
class InconsistentOffset:
    """An offset holds one message.

    Attributes:
        key, offset: This one holds several.
        messages: Which; sorted.
    """

    name: ClassVar[str] = "inconsistent-offsets"
    key: Hashable
    offset: int
    messages: tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A message is at one offset.

    Attributes:
        key, message: This one, sent once, is at several.
        offsets: Which, in order.
    """

    name: ClassVar[str] = "duplicate"
    key: Hashable
    message: Hashable
    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GarbageRead:
    """Only what somebody sent is polled; `reader` polled something else."""

    name: ClassVar[str] = "garbage-read"
    key: Hashable
    message: Hashable
    reader: Step


@dataclass(frozen=True, slots=True)
class AbortedRead:
    """What `writer` failed to send is not polled; `reader` polled it."""

    name: ClassVar[str] = "G1a"
    key: Hashable
    message: Hashable
    reader: Step
    writer: Step


@dataclass(frozen=True, slots=True)
class PrecommittedRead:
    """A transaction does not poll what it sent itself; `step` polled `record`."""

    name: ClassVar[str] = "precommitted-read"
    step: Step
    record: Record


@dataclass(frozen=True, slots=True)
class LostWrite:
    """What lies before something that was polled is polled, too.

    Attributes:
        key, message: Nobody polled it.
        writer: Who sent it.
        reader, seen: Who polled something that lies behind it, and what.
    """

    name: ClassVar[str] = "lost-write"
    key: Hashable
    message: Hashable
    writer: Step
    reader: Step
    seen: Hashable


@dataclass(frozen=True, slots=True)
class Unseen:
    """What was acknowledged is polled in the end; this, of `writer`, was not."""

    name: ClassVar[str] = "unseen"
    key: Hashable
    message: Hashable
    writer: Step


@dataclass(frozen=True, slots=True)
class Inside:
    """Successive records of a key in one transaction are successive in the log.

    Attributes:
        step: The transaction.
        kind: What it did.
        a, b: The records.
        is_skip: Others lie between them; else they are in the wrong order.
    """

    step: Step
    kind: Literal["poll", "send"]
    a: Record
    b: Record
    is_skip: bool

    @property
    def name(self) -> str:
        """What is skipped or out of order: polls or sends in (`int`) a transaction."""
        if self.is_skip:
            return f"int-{self.kind}-skip"
        return f"int-nonmonotonic-{self.kind}"


@dataclass(frozen=True, slots=True)
class BetweenPolls:
    """A client goes on polling a log right after what it polled last.

    Attributes:
        before, a: Its last poll of the log, and the last record of that.
        step, b: Its next one, and the first record of that.
        is_skip: Others lie between them; else it went back.
    """

    before: Step
    a: Record
    step: Step
    b: Record
    is_skip: bool

    @property
    def name(self) -> str:
        """Whether the client skipped, or went back."""
        return "poll-skip" if self.is_skip else "nonmonotonic-poll"


@dataclass(frozen=True, slots=True)
class BetweenSends:
    """What a client sends to a log lies behind all that it sent there before.

    Attributes:
        before, a: A transaction, and the last record of it.
        step, b: A later one, and the first record of that, which lies before the other.
    """

    name: ClassVar[str] = "nonmonotonic-send"
    before: Step
    a: Record
    step: Step
    b: Record


Breach = (
    InconsistentOffset
    | Duplicate
    | GarbageRead
    | AbortedRead
    | PrecommittedRead
    | LostWrite
    | Unseen
    | Inside
    | BetweenPolls
    | BetweenSends
)
