"""Times a cluster of the reference system in its world: up, and up again after a kill.

The world is built as `harness.run.execution` builds it, and the clock starts before
that: the set-up of namespaces, links, switch and warden is part of the time. Clocks
that count from boot (`time.monotonic`) agree across forks and namespaces.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import TYPE_CHECKING, Any

import uvloop

from harness.errors import HarnessError
from harness.faults.cluster import Cluster
from harness.run.assembling import assemble
from harness.run.spec import TestSpec
from harness.worlds.os.namespaces import in_netns, run_isolated
from harness.worlds.os.switch import SwitchNetwork
from harness.worlds.os.warden import Warden
from harness.worlds.os.world import NODE_PORT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SYSTEM = "raft"
ANSWER = "answer.json"
WARM_UP_ROUNDS = 50
ANSWER_LIMIT_S = 2.0


def measure(folder: Path, kills: int) -> dict[str, Any]:
    """Seconds until five nodes serve, and until one serves again after each kill.

    Raises:
        HarnessError: The world can't be set up, or a node doesn't serve.
    """
    spec = TestSpec(system=SYSTEM)
    system = assemble(spec).system
    begun = time.monotonic()

    def main() -> int:
        network = SwitchNetwork.create(spec.node_names, folder, port=NODE_PORT, seed=0)
        warden = Warden.fork(network.netns_fds, folder)
        cluster = Cluster(system, network, warden, warden, lambda *_: None)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            answer = runner.run(live(cluster, begun, kills))
        (folder / ANSWER).write_text(json.dumps(answer), encoding="utf-8")
        return 0

    return isolated(main, folder)


async def live(cluster: Cluster, begun: float, kills: int) -> dict[str, Any]:
    """A cluster's life from start to end; `begun` on the monotonic clock."""
    try:
        await cluster.start()
        ready_s = time.monotonic() - begun
        again_s = []
        for n in range(kills):
            node = cluster.nodes[n % len(cluster.nodes)]
            again_s.append(await kill_and_restart(cluster, node))
    finally:
        await cluster.processes.close()
        await cluster.network.close()
    return {"ready_s": ready_s, "again_s": again_s}


async def kill_and_restart(cluster: Cluster, node: str) -> float:
    """Seconds from `kill -9` until the node serves again.

    Raises:
        HarnessError: The node doesn't serve.
    """
    killed = time.monotonic()
    await cluster.kill([node])
    outcome = await cluster.restart([node])
    if "served_after_ms" not in outcome[node]:
        raise HarnessError(f"{node} did not come back after kill -9")
    return time.monotonic() - killed


def measure_round_trips(folder: Path, rounds: int) -> dict[str, Any]:
    """Microseconds of each of some round trips between two nodes.

    Raises:
        HarnessError: The world can't be set up.
    """

    def main() -> int:
        network = SwitchNetwork.create(["n1", "n2"], folder, port=NODE_PORT, seed=0)
        near, far = (datagram_socket(network, node) for node in ("n1", "n2"))
        trips = [round_trip_us(near, far) for _ in range(WARM_UP_ROUNDS + rounds)]
        answer = {"us": trips[WARM_UP_ROUNDS:]}
        (folder / ANSWER).write_text(json.dumps(answer), encoding="utf-8")
        return 0

    return isolated(main, folder)


def datagram_socket(network: SwitchNetwork, node: str) -> socket.socket:
    """A datagram socket in the namespace of a node, bound to its address."""
    with in_netns(network.netns_fds[node]):
        end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listen = network.places[node].listen
    end.bind((listen.host, listen.port))
    end.settimeout(ANSWER_LIMIT_S)
    return end


def round_trip_us(near: socket.socket, far: socket.socket) -> float:
    """Microseconds of a round trip; both ends are here, so only the way takes time."""
    begun = time.perf_counter_ns()
    near.sendto(b"?", far.getsockname())
    far.recv(16)
    far.sendto(b"!", near.getsockname())
    near.recv(16)
    return (time.perf_counter_ns() - begun) / 1000


def isolated(main: Callable[[], int], folder: Path) -> dict[str, Any]:
    """Run `main` in namespaces, and read the answer that it leaves in `folder`.

    Raises:
        HarnessError: `main` failed.
    """
    if run_isolated(main):
        raise HarnessError("what runs in the namespaces failed; see above")
    answer: dict[str, Any] = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
    return answer
