"""What a world is to a run: where nodes live, and what time it is there.

There are two. `harness.worlds.os` has real processes, links and clocks;
`harness.worlds.sim` has simulated ones on virtual time. The controller, the cluster and
everything above them see only this.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from harness.data import Json
    from harness.worlds.clocks import Clocks
    from harness.worlds.network import Network
    from harness.worlds.processes import Limits, Processes


@dataclass(frozen=True)
class Setting:
    """What a world is set up for.

    Attributes:
        nodes: The nodes' names.
        folder: The run folder, where nodes live and what happens is recorded.
        seed: Whatever the world draws comes from it.
        limits: How much of the disk nodes may take.
    """

    nodes: Sequence[str]
    folder: Path
    seed: int
    limits: Limits


@dataclass(frozen=True)
class TrueTime:
    """The clocks that are right, whatever a nemesis does to those of the nodes.

    They agree with the event loop's, and their readings are nanoseconds.
    """

    monotonic_ns: Callable[[], int] = time.monotonic_ns
    wall_ns: Callable[[], int] = time.time_ns


class Watcher(Protocol):
    """Counts nodes' Observe events, for the triggers of plans."""

    def sightings(self, kind: str, node: str | None) -> int:
        """How many events of `kind` were seen so far, at `node` or anywhere (None)."""
        ...

    async def poll(self) -> None:
        """Keep the count up to date until cancelled."""
        ...


class Conducted(Protocol):
    """What is carried out in a world, once it stands: a run's controller.

    Attributes:
        ended: How it ended: "complete", "interrupted", "failed".
    """

    ended: str

    def note(
        self, kind: str, nodes: Sequence[str], title: str, evidence: Mapping[str, Json]
    ) -> None:
        """Record what the world has to say beside faults."""
        ...

    async def conduct(self) -> None:
        """All of it, from starting the nodes to taking the world down."""
        ...


class World(Protocol):
    """Everything below the controller, set up and ready for nodes to be started."""

    @property
    def network(self) -> Network:
        """The links between nodes."""
        ...

    @property
    def processes(self) -> Processes:
        """The nodes."""
        ...

    @property
    def clocks(self) -> Clocks:
        """The clocks of the nodes."""
        ...

    @property
    def watcher(self) -> Watcher:
        """What the nodes observe."""
        ...

    @property
    def time(self) -> TrueTime:
        """What time it is."""
        ...

    def on_interrupt(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the loop when somebody wants the run to end."""
        ...

    async def watch_over(self) -> NoReturn:
        """Wait until a part of the world dies, which none should.

        Raises:
            HarnessError: One did; says which.
        """
        ...

    async def close(self) -> None:
        """Take everything down and wait until it is gone.

        Raises:
            HarnessError: A part of it had failed unnoticed.
        """
        ...
