"""The proxy rung: a TCP proxy per directed link, for machines without namespaces.

Nodes listen on ports of 127.0.0.1, and reach each other through relays (`relay`). One
process and one event loop carry all links.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

from harness.worlds.os.ports import BlockNetwork, claim_block
from harness.worlds.os.relay import FIELDS, Relay, listening
from harness.worlds.os.sidecar import OrderSocket, Sidecar
from harness.worlds.os.sightings import Sightings
from harness.worlds.places import Endpoint, make_place

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.worlds.events import Passed
    from harness.worlds.os.helper import Desk

_HOST = "127.0.0.1"


class ProxyNetwork(BlockNetwork):
    """The network of the proxy rung; nodes share the controller's namespace."""

    rung = "proxy"
    capabilities = FIELDS

    @classmethod
    def create(
        cls,
        nodes: Sequence[str],
        run_dir: Path,
        *,
        seed: int,
        messages: Sequence[Passed] = (),
    ) -> ProxyNetwork:
        """Choose ports and start the proxies, which count `messages` as they pass.

        It forks, so call it before there is any thread or event loop. It needs a
        descriptor per directed link, and some per connection.

        Raises:
            UsageError: Too many nodes.
            HarnessError: No free ports.
        """
        block = claim_block(len(nodes))
        targets = block.endpoints(nodes)
        links = list(itertools.permutations(nodes, 2))
        listeners = {link: listening(_HOST) for link in links}
        doors = {
            link: Endpoint(_HOST, listener.getsockname()[1])
            for link, listener in listeners.items()
        }
        sightings = Sightings(messages, links)
        sidecar = Sidecar(
            "proxy",
            links,
            cls.capabilities,
            lambda desk: asyncio.run(
                carry(Relay(listeners, targets, seed, sightings), desk)
            ),
        )
        for listener in listeners.values():
            listener.close()
        places = {
            name: make_place(
                name,
                targets,
                {b: door for (a, b), door in doors.items() if a == name},
                run_dir,
            )
            for name in nodes
        }
        return cls(places, sidecar, sightings, block)


async def carry(relay: Relay, desk: Desk) -> None:
    """Carry traffic until the order to stop; runs in the proxy process.

    Raises:
        RuntimeError: The relay failed.
    """
    ended = await relay.open()
    orders = OrderSocket(desk, relay)

    def serve() -> None:
        if not orders.serve():
            relay.end()

    asyncio.get_running_loop().add_reader(orders.fileno(), serve)
    await ended
