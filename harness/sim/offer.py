"""What the simulator can do: to links, to processes, and to their clocks."""

from __future__ import annotations

from harness.sim.network import SimNetwork
from harness.worlds.capabilities import CLOCKS, Capabilities, Offer

OFFER = Offer(
    "the simulator",
    Capabilities(
        SimNetwork.capabilities, frozenset({"kill", "pause"}), frozenset(CLOCKS)
    ),
)
