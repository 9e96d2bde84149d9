"""The interface of a world: network, processes and clocks of nodes, and true time.

There are two. `harness.worlds.os` has real processes, links and clocks;
`harness.worlds.sim` has simulated ones on virtual time. The controller, the cluster and
everything above them know worlds by this interface alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from harness.data import Json
    from harness.worlds.capabilities import DiskAct
    from harness.worlds.clocks import Clocks
    from harness.worlds.disks import Disks
    from harness.worlds.events import Logged, NodeEvent, Passed, Where
    from harness.worlds.logs import Found
    from harness.worlds.network import Network
    from harness.worlds.processes import Limits, Processes


CAPTURE = "network.pcap"
"""The file in the run folder with the frames that passed between nodes."""


@dataclass(frozen=True)
class FreshDice:
    """From a moment on, chance in a simulated world takes another course.

    What is data stays: the fault plan, and what clients draw to ask for. So runs that
    differ in their fresh dice alone are the same to the byte up to that moment.

    Attributes:
        mono_ns: When the true monotonic clock shows this.
        seed: What decides from then on, together with the run's seed.
    """

    mono_ns: int
    seed: int


Tap: TypeAlias = "Callable[[int, str, str, bytes], None]"
"""Told of a message that arrives: true monotonic ns, source, destination, content."""


@dataclass(frozen=True)
class Setting:
    """The run that a world is set up for.

    Attributes:
        nodes: The nodes' names.
        folder: The run folder, where nodes live and what happens is recorded.
        seed: Every random choice of the world comes from it.
        limits: How much of the disk nodes may take.
        disks: What is to be done to nodes' disks. Disks that can do it cost time, so
            nodes have them only if something is.
        messages: Messages between nodes that triggers wait for.
        capture: All frames between nodes go to `CAPTURE` in the folder, too.
        records_messages: What becomes of each message between nodes goes to
            `harness.worlds.messages.MESSAGES` in the folder; worlds that carry frames
            don't have that.
        fresh_dice: A moment from which on chance takes another course; simulated worlds
            alone have that.
        tap: Told of each message that arrives; simulated worlds alone have that.
    """

    nodes: Sequence[str]
    folder: Path
    seed: int
    limits: Limits
    disks: frozenset[DiskAct] = frozenset()
    messages: Sequence[Passed] = ()
    capture: bool = False
    records_messages: bool = False
    fresh_dice: FreshDice | None = None
    tap: Tap | None = None


@dataclass(frozen=True)
class TrueTime:
    """The true clocks, which no nemesis skews.

    They agree with the event loop's clock, and their readings are nanoseconds.
    """

    monotonic_ns: Callable[[], int] = time.monotonic_ns
    wall_ns: Callable[[], int] = time.time_ns


@dataclass(frozen=True)
class Written:
    """How far the files of a node had been written at a moment.

    Attributes:
        observed: Bytes of its observations (`nodes/NAME/observe.jsonl`).
        logged: Bytes of its log (`nodes/NAME/log`); None if the world doesn't tell.
        logged_ago_ms: How long ago something was added to the log; None likewise.
    """

    observed: int = 0
    logged: int | None = None
    logged_ago_ms: float | None = None


class Watcher(Protocol):
    """Counts events of nodes, for the triggers of plans.

    Attributes:
        problems: Sentences about events that can't be counted any more.
    """

    problems: list[str]

    def follow(self, events: Iterable[NodeEvent]) -> None:
        """Count these events, from the start of the nodes on.

        Raises:
            UsageError: An event makes no sense: a pattern is no regular expression.
        """
        ...

    def sightings(self, event: NodeEvent) -> Mapping[Where, int]:
        """How often a followed event was seen so far, by where it happened."""
        ...

    def last_logged(self, event: Logged) -> Found | None:
        """The last line that matched a followed pattern; None if none has yet."""
        ...

    def written(self) -> Mapping[str, Written]:
        """Node -> how far its files are written now, so that their lines have a time.

        Cost: two calls of the kernel for each node; nothing is read.
        """
        ...

    async def poll(self) -> None:
        """Keep the count up to date until cancelled."""
        ...

    def write(self) -> None:
        """Have the run folder hold all that nodes have told until now.

        Raises:
            HarnessError: A file can't be written.
        """
        ...


class Conducted(Protocol):
    """A run's controller, as its world knows it: the world sets it to work.

    Attributes:
        ended: How the run ended: "complete", "interrupted" or "failed".
    """

    ended: str

    def note(
        self, kind: str, nodes: Sequence[str], title: str, evidence: Mapping[str, Json]
    ) -> None:
        """Record an event of nodes that the world reports."""
        ...

    async def conduct(self) -> None:
        """Carry out the run, from starting the nodes to taking the world down."""
        ...


class World(Protocol):
    """Everything below the controller, set up and ready for nodes to be started."""

    @property
    def network(self) -> Network:
        """The links between nodes."""
        ...

    @property
    def processes(self) -> Processes:
        """The processes of the nodes."""
        ...

    @property
    def clocks(self) -> Clocks:
        """The clocks of the nodes."""
        ...

    @property
    def disks(self) -> Disks | None:
        """The disks of the nodes; None where nothing can be done to them."""
        ...

    @property
    def watcher(self) -> Watcher:
        """The counter of what the nodes observe."""
        ...

    @property
    def time(self) -> TrueTime:
        """The true clocks."""
        ...

    def on_interrupt(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the loop when the user interrupts the run."""
        ...

    async def watch_over(self) -> NoReturn:
        """Wait, and raise if a part of the world dies before it is closed.

        Raises:
            HarnessError: A part died; says which.
        """
        ...

    async def close(self) -> None:
        """Take everything down and wait until it is gone.

        Raises:
            HarnessError: A part had failed, and nobody had noticed yet.
        """
        ...
