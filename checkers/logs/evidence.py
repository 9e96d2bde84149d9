"""The breaches of a log's rules, each by the name that Jepsen gives to it.

A step is a transaction of a client; a record is a message as a step sent or polled it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

    from checkers.logs.steps import Record, Step


class InconsistentOffset(NamedTuple):
    """An offset holds one message.

    Attributes:
        key, offset: This one holds several.
        messages: Which; sorted.
    """

    key: Hashable
    offset: int
    messages: tuple[Hashable, ...]
    name: str = "inconsistent-offsets"


class Duplicate(NamedTuple):
    """A message is at one offset.

    Attributes:
        key, message: This one, sent once, is at several.
        offsets: Which, in order.
    """

    key: Hashable
    message: Hashable
    offsets: tuple[int, ...]
    name: str = "duplicate"


class GarbageRead(NamedTuple):
    """Only what somebody sent is polled; `reader` polled something else."""

    key: Hashable
    message: Hashable
    reader: Step
    name: str = "garbage-read"


class AbortedRead(NamedTuple):
    """What `writer` failed to send is not polled; `reader` polled it."""

    key: Hashable
    message: Hashable
    reader: Step
    writer: Step
    name: str = "G1a"


class PrecommittedRead(NamedTuple):
    """A transaction does not poll what it sent itself; `step` polled `record`."""

    step: Step
    record: Record
    name: str = "precommitted-read"


class LostWrite(NamedTuple):
    """What lies before something that was polled is polled, too.

    Attributes:
        key, message: Nobody polled it.
        writer: Who sent it.
        reader, seen: Who polled something that lies behind it, and what.
    """

    key: Hashable
    message: Hashable
    writer: Step
    reader: Step
    seen: Hashable
    name: str = "lost-write"


class Unseen(NamedTuple):
    """What was acknowledged is polled in the end; this, of `writer`, was not."""

    key: Hashable
    message: Hashable
    writer: Step
    name: str = "unseen"


class Inside(NamedTuple):
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


class BetweenPolls(NamedTuple):
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


class BetweenSends(NamedTuple):
    """What a client sends to a log lies behind all that it sent there before.

    Attributes:
        before, a: A transaction, and the last record of it.
        step, b: A later one, and the first record of that, which lies before the other.
    """

    before: Step
    a: Record
    step: Step
    b: Record
    name: str = "nonmonotonic-send"


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
