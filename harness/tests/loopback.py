"""Real nodes on loopback, for tests of systems: no namespaces, no faults but kill.

Each node has an address of its own (127.x.y.i; Linux answers to all of them), so that
systems with one address book for all run as they do on the switch rung.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from harness.worlds.places import Endpoint, NodePlace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    from harness.systems.system import System

PORT = 7400
PR_SET_PDEATHSIG = 1


def loopback_places(count: int, directory: Path) -> dict[str, NodePlace]:
    """Places n1.. on addresses that no other test uses, most likely."""
    net = f"127.{random.SystemRandom().randrange(1, 255)}"
    net += f".{random.SystemRandom().randrange(255)}"
    cluster = {f"n{i}": Endpoint(f"{net}.{i}", PORT) for i in range(1, count + 1)}
    places = {}
    for name, listen in cluster.items():
        data_dir = directory / name / "data"
        data_dir.mkdir(parents=True)
        places[name] = NodePlace(
            name=name,
            listen=listen,
            peers={peer: at for peer, at in cluster.items() if peer != name},
            data_dir=data_dir,
            log_path=directory / name / "log",
            cluster=cluster,
        )
    return places


class LoopbackNodes:
    """The processes of a system's nodes."""

    def __init__(self, system: System, places: Mapping[str, NodePlace]) -> None:
        self.system = system
        self.places = places
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    async def start(self, *names: str) -> None:
        """Start the nodes, and wait until they serve."""
        for name in names:
            self._spawn(self.places[name])
        for name in names:
            await self._serves(self.places[name])

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        process = self._processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal, such as SIGSTOP, to the node."""
        os.killpg(self._processes[name].pid, number)

    def log(self, name: str) -> str:
        """What the node has printed."""
        return self.places[name].log_path.read_text(errors="replace")

    def stop(self) -> None:
        """Kill what still runs."""
        for name in list(self._processes):
            self.kill(name)

    async def _serves(self, place: NodePlace) -> None:
        deadline = time.monotonic() + self.system.ready_timeout_s
        while not await self.system.ready(place):
            if time.monotonic() > deadline:
                log = self.log(place.name)
                raise AssertionError(f"{place.name} never served; its log:\n{log}")
            await asyncio.sleep(0.01)

    def _spawn(self, place: NodePlace) -> None:
        launch = self.system.launch(place)
        with place.log_path.open("ab") as log:
            self._processes[place.name] = subprocess.Popen(
                launch.argv,
                env={"PATH": os.defpath, **launch.env},
                cwd=launch.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.asynccontextmanager
async def loopback_nodes(
    system: System, count: int, directory: Path
) -> AsyncIterator[LoopbackNodes]:
    """A running cluster; all of it is killed in the end."""
    nodes = LoopbackNodes(system, loopback_places(count, directory))
    try:
        await nodes.start(*nodes.places)
        yield nodes
    finally:
        nodes.stop()


async def eventually(
    condition: Callable[[], Awaitable[bool]], what: str, within_s: float = 20.0
) -> None:
    """Wait until `condition` holds; fails with `what` when it never does."""
    deadline = time.monotonic() + within_s
    while not await condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what}")
        await asyncio.sleep(0.01)
