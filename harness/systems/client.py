"""Clients: each carries operations to one node and brings their outcomes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from harness.history import Op
    from harness.worlds.places import NodePlace


class Client(Protocol):
    """Talks to one node on behalf of one logical process at a time.

    The interpreter opens a client before a process' first operation, and closes it and
    opens a new one after `info`. Each call has a time limit, after which it is
    cancelled: a client may hang, but must tolerate cancellation.
    """

    async def open(self, place: NodePlace) -> None:
        """Connect to the node at `place`, without effect on the system's state.

        Raises:
            Exception: There is no connection. The operation at hand is a definite
                `fail`, as it never left.
        """
        ...

    async def invoke(self, op: Op) -> Op:
        """Carry out `op` and return its completion (`op.ok(...)` and so on).

        Raises:
            NodeReply: The node answered with an error, which is recorded as `fail` if
                definite, else as `info`.
            Timeout: No answer came; recorded as `info`.
            Exception: The client failed; recorded as `info`, counted, and its traceback
                kept.
        """
        ...

    async def close(self) -> None:
        """Let go of the connection; must not raise."""
        ...
