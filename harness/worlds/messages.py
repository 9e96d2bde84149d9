"""The record of each message between nodes, for whoever asks for it (`--messages`).

A line of `messages.jsonl` is written when a message arrives or is known to be lost:

    {"mono_ns": 1000249171517, "from": "n1", "to": "n2", "type": "request_vote",
     "took_ns": 11200000, "lost": ""}

`mono_ns` is the true monotonic time at which it was sent, `took_ns` how long it was on
its way until that was known, and `lost` says what took it; it is empty for a message
that arrived. After MESSAGES_MAX lines, one of a `full` that is true ends the record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

MESSAGES = "messages.jsonl"
MESSAGES_MAX = 500_000
TYPE_CHARS_MAX = 64

_encode = msgspec.json.Encoder().encode


class _Body(msgspec.Struct):
    type: Any = None


class _Message(msgspec.Struct):
    """Reference nodes send bodies, and those of Maelstrom messages with one."""

    type: Any = None
    body: _Body | None = None


_decode = msgspec.json.Decoder(_Message).decode


class MessageLog:
    """Writes the record of a run; the file is made with the first message.

    If it can't be written, it ends there: whatever else the run records fails, too.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._left = MESSAGES_MAX

    def note(
        self, mono_ns: int, link: tuple[str, str], data: bytes, took_ns: int, lost: str
    ) -> None:
        """Note what became of a message that was sent at `mono_ns`."""
        if self._left < 0:
            return
        self._left -= 1
        line = {
            "mono_ns": mono_ns,
            "from": link[0],
            "to": link[1],
            "type": type_of(data),
            "took_ns": took_ns,
            "lost": lost,
        }
        if self._left < 0:
            line = {"mono_ns": mono_ns, "full": True}
        try:
            if self._file is None:
                self._file = self._path.open("ab")
            self._file.write(_encode(line) + b"\n")
        except OSError:
            self._left = -1

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._left = -1
        if self._file is not None:
            try:
                self._file.close()
            except OSError:
                return  # the disk is full


def type_of(data: bytes) -> str:
    """The type that a message names; empty if it names none."""
    try:
        message = _decode(data)
    except (ValueError, RecursionError):
        return ""
    found = message.type if message.body is None else message.body.type
    return found[:TYPE_CHARS_MAX] if isinstance(found, str) else ""
