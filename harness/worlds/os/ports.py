"""Finds TCP ports on 127.0.0.1 that stay free for the nodes of one run.

A node binds its port itself, and again after each kill, so we can't hold the port for
it meanwhile. But others are unlikely to take it: the ports lie below those that the
kernel hands out for outgoing connections, they were free when we looked, and every run
claims a whole block by listening on the block's first port, so two runs never share
one.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError, UsageError
from harness.override import override
from harness.worlds.os.sidecar import CarriedNetwork
from harness.worlds.places import Endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.worlds.os.sidecar import Sidecar
    from harness.worlds.os.sightings import Sightings
    from harness.worlds.places import NodePlace

_HOST = "127.0.0.1"
_BLOCK = 256
_LOWEST = 10_240
_EPHEMERAL_FROM_DEFAULT = 32_768


@dataclass(frozen=True)
class Block:
    """Ports for nodes; ours until `claim` is closed."""

    ports: list[int]
    claim: socket.socket

    def endpoints(self, nodes: Sequence[str]) -> dict[str, Endpoint]:
        """Node -> where it listens."""
        ports = zip(nodes, self.ports, strict=True)
        return {name: Endpoint(_HOST, port) for name, port in ports}


class BlockNetwork(CarriedNetwork):
    """A network of nodes that share the controller's namespace, on ports of a block."""

    def __init__(
        self,
        places: Mapping[str, NodePlace],
        sidecar: Sidecar,
        sightings: Sightings,
        block: Block,
    ) -> None:
        super().__init__(places, {}, sidecar, sightings)
        self._block = block

    @override
    async def close(self) -> None:
        self._block.claim.close()
        await super().close()


def claim_block(count: int) -> Block:
    """Claim `count` free ports.

    Raises:
        UsageError: A block has fewer ports.
        HarnessError: No block has that many free ports.
    """
    if count >= _BLOCK:
        raise UsageError(f"{count} nodes are too many: at most {_BLOCK - 1}")
    starts = range(_LOWEST, max(_ephemeral_from(), 2 * _LOWEST) - _BLOCK, _BLOCK)
    # Runs that start at the same time begin their search in different places.
    first = os.getpid() % len(starts)
    for start in (*starts[first:], *starts[:first]):
        claim = _listen(start)
        if claim is None:
            continue
        free = [port for port in range(start + 1, start + _BLOCK) if _is_free(port)]
        if len(free) >= count:
            return Block(free[:count], claim)
        claim.close()
    raise HarnessError(f"no {count} neighbouring TCP ports are free on {_HOST}")


def _listen(port: int) -> socket.socket | None:
    """A socket that listens on the port; None if it is taken."""
    claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        claim.bind((_HOST, port))
        claim.listen(1)
    except OSError:
        claim.close()
        return None
    return claim


def _is_free(port: int) -> bool:
    # No SO_REUSEADDR, so that a port with connections of an earlier run is refused.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _ephemeral_from() -> int:
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    except OSError:
        return _EPHEMERAL_FROM_DEFAULT
    return int(text.split()[0])
