"""The capabilities of the simulator: of links, of processes, and of their clocks."""

from __future__ import annotations

from harness.worlds.capabilities import CLOCKS, Capabilities, Offer
from harness.worlds.sim.network import SimNetwork

OFFER = Offer(
    "the simulator",
    Capabilities(
        SimNetwork.capabilities, frozenset({"kill", "pause"}), frozenset(CLOCKS)
    ),
)
