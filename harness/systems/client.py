"""Clients: what carries an operation to one node and brings its outcome back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from harness.history import Op
    from harness.worlds.places import NodePlace


class Client(Protocol):
    """Talks to one node on behalf of one logical process at a time.

    The interpreter opens a client before a process' first operation, and closes it and
    opens a new one after `info`. It gives each call a time limit and cancels the call
    when that has passed, so a client may hang but must stand being cancelled.
    """

    async def open(self, place: NodePlace) -> None:
        """Connect. Must not affect the state of the system under test.

        Raises:
            Exception: The operation at hand is then a definite `fail`: it never left.
        """
        ...

    async def invoke(self, op: Op) -> Op:
        """Carry out `op` and return its completion (`op.ok(...)` and so on).

        Raises:
            NodeReply: The node answered with an error; definite decides fail or info.
            Timeout: Nobody knows; info.
            Exception: Anything else is info too, counted, with its traceback kept.
        """
        ...

    async def close(self) -> None:
        """Let go of the connection; must not raise."""
        ...
