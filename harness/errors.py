"""Errors that say whose fault it is.

`UsageError`: the caller's fault; one clear line, exit status 254.
`NotInstalledError`: a `UsageError`: a program, library or device is not there.
`HarnessError`: our fault; exit status 255, and never a verdict about the system.
`NodeReply`: the node answered with an error, and says whether it is definite.
`Timeout`: nobody knows what happened, so the operation is `info`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

TEMPORARILY_UNAVAILABLE = 11
"""Maelstrom's error code for: nothing was done, try again (no leader, no listener)."""

EXIT_VALID = 0
EXIT_INVALID = 1
EXIT_UNKNOWN = 2
EXIT_USAGE = 254
EXIT_HARNESS = 255


class SplitbrainError(Exception):
    """Base of every error that splitbrain raises on purpose."""


class UsageError(SplitbrainError):
    """Bad input: the message says what, where, and what to do about it."""


class UsageErrors(UsageError):
    """Several at once; each is told in a line of its own."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


class NotInstalledError(UsageError):
    """A program, library or device is not on this machine: says how to get it."""


class HarnessError(SplitbrainError):
    """The harness itself failed; says nothing about the system under test."""


class NodeReply(SplitbrainError):
    """A node answered an operation with an error.

    Args:
        definite: True if the operation certainly did not take effect (`fail`); False
            if it may have, or still may (`info`).
        text: The node's message.
        code: Maelstrom's error code, if the node gave one.
    """

    def __init__(self, *, definite: bool, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.definite = definite
        self.text = text
        self.code = code


class Timeout(SplitbrainError):
    """No answer within the operation's time limit; the operation may still happen."""
