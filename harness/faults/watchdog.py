"""A supervisor of nodes (`run --watchdog`): what exits by itself is started again.

It does what systemd or an orchestrator would: waits for 0.1 s (RestartSec), then starts
the node again. A node that exits again within 10 s is waited for twice as long, up to
3.2 s, as Kubernetes does in its crash loops.

It leaves nodes alone that a fault holds down, that were killed for good, and whose end
is explained by a fault in force: a node that ended because its disk fails would only
end again, and the heal of that fault starts it.

Each restart is a note "node-restart" in faults.jsonl, with the new pid and how long the
node took to serve. The exit itself has a note of its own (`cluster`), and stays a
finding: a watchdog mends the cluster and not the bug.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.faults.cluster import Cluster, Note

RESTART_AFTER_S = 0.1
RESTART_AFTER_S_MAX = 3.2
AGAIN_WITHIN_S = 10.0
"""An exit this soon after the one before doubles the wait."""


class Watchdog:
    """Starts nodes again that exited by themselves, until it is closed."""

    def __init__(self, cluster: Cluster, note: Note) -> None:
        self._cluster = cluster
        self._note = note
        self._tasks: set[asyncio.Task[None]] = set()
        self._exits: dict[str, tuple[float, float]] = {}
        """node -> (when it exited last, how long was waited then), in seconds."""
        cluster.on_crash = self._crashed

    async def close(self) -> None:
        """Start nothing any more."""
        self._cluster.on_crash = lambda _: None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _crashed(self, node: str) -> None:
        now_s = self._cluster.time.monotonic_ns() / 1e9
        before_s, waited_s = self._exits.get(node, (-AGAIN_WITHIN_S, 0.0))
        after_s = RESTART_AFTER_S
        if waited_s and now_s - before_s < AGAIN_WITHIN_S:
            after_s = min(2 * waited_s, RESTART_AFTER_S_MAX)
        self._exits[node] = now_s, after_s
        task = asyncio.create_task(self._start_again(node, after_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_again(self, node: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if node not in self._cluster.dead() or self._cluster.held_down(node):
            return  # a fault's heal has started it, or will
        started = await self._cluster.restart([node])
        title = f"the watchdog started {node} again"
        self._note("node-restart", [node], title, {node: started.get(node)})
