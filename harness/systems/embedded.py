"""The part that embedded stores share: one process of ours, with files of a library.

They are the controls of the fault `power`: told not to sync, they lose what was
acknowledged; told to sync, they do not; and no `kill` ever shows the difference.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.systems import cells
from harness.systems.wire_system import WireSystem, environment
from harness.worlds.places import Launch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.worlds.places import NodePlace


class Embedded(WireSystem):
    """A `System` of one node; lacks `name`.

    Args:
        program: The module of its node, in harness.systems.programs.
        arguments: What the program is told beside the environment of WIRE.md.
    """

    faults = frozenset({"clock", "disk", "kill", "pause", "power"})
    """Not `rot`: without a replica, nobody gives back what decays."""
    services = cells.SERVICES
    usual_nodes = 1

    def __init__(self, program: str, arguments: Sequence[str]) -> None:
        super().__init__()
        self._program = program
        self._arguments = arguments

    def check_nodes(self, nodes: Sequence[str]) -> None:
        """Raises UsageError unless there is one node: they would share nothing."""
        if len(nodes) > 1:
            raise UsageError(
                f"{self.name} is one process with files of its own, and can't have "
                f"{len(nodes)} nodes (--nodes 1)"
            )

    def launch(self, place: NodePlace) -> Launch:
        """The command of the node program, in this interpreter."""
        module = f"harness.systems.programs.{self._program}"
        return Launch(
            [sys.executable, "-P", "-m", module, *self._arguments],
            {**environment(place), "PYTHONUNBUFFERED": "1"},
        )
