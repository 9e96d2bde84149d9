"""What the simulator can do: to links, to processes, their clocks and their disks."""

from __future__ import annotations

from harness.worlds.capabilities import (
    ACTS,
    CLOCKS,
    DISK_ACTS,
    Capabilities,
    Offer,
)
from harness.worlds.sim.network import SimNetwork

OFFER = Offer(
    "the simulator",
    Capabilities(
        SimNetwork.capabilities,
        ACTS - {"limit"},
        frozenset(CLOCKS),
        DISK_ACTS,
    ),
    {
        "half_open": "its links carry messages, so what is left of a connection can't "
        "be told from one that was reset (use reset)",
        "limit": "simulated nodes have neither descriptors nor memory of their own "
        "(use --world os)",
    },
)
