"""Pauses: SIGSTOP to node processes, like a long garbage collection or a frozen VM.

A paused node keeps its connections and its memory. When it wakes it believes that no
time has passed, and that breaks leases and failure detectors. Evidence: the state
letter of every process of the node, read back from /proc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.faults.fault import Skip
from harness.override import override
from harness.registry import Plugin
from harness.worlds.capabilities import Capabilities
from nemesis.nodes import OPTIONS, NodeFault

if TYPE_CHECKING:
    from harness.data import Json
    from harness.faults.fault import Fault, NodeNames, Strike
    from harness.faults.force import Grip
    from harness.faults.nemesis import NemesisFactory


class Pause(NodeFault):
    """Stops nodes and lets them go on."""

    kind = "pause"
    needs = Capabilities(processes=frozenset({"pause"}))

    @override
    async def do(
        self, fault: Fault, nodes: NodeNames, cluster: Grip
    ) -> tuple[dict[str, Json], bool]:
        """Stop `nodes`; bites when every process reads back as stopped.

        Raises:
            Skip: None of them runs.
        """
        states = await cluster.pause(nodes)
        if not any(states.values()):
            raise Skip(f"nothing to pause: {' and '.join(nodes)} down")
        stopped = [all(s == "T" for s in of.values()) for of in states.values() if of]
        return {"states": states}, bool(stopped) and all(stopped)

    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Let the paused nodes go on."""
        await cluster.resume(strike.nodes)
        return strike


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "pause",
    "SIGSTOP nodes and resume them: one, minority, majority, all, leader",
    Pause,
    OPTIONS,
)
