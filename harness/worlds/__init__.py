"""Worlds as a run, the cluster and nemeses know them: their interfaces and data.

    capabilities.py  Capabilities, Offer: what can be done to nodes, and where
    world.py         World, TrueTime, Watcher: everything below the controller
    events.py        Event, Observed, Logged, Passed: what triggers wait for
    logs.py          LogPatterns: what matches in nodes' logs, in bounded time
    searches.py      in_time: a search for a pattern that ends, whatever the pattern
    network.py       Network, LinkRule, LinkCounters, merge: directed links, with rules
    processes.py     Processes, Exit, Limits: node processes
    clocks.py        Clocks, ClockLine, ClockSetting, ClockReading: what nodes read
    disks.py         Disks, Loss, DiskRule, Damage: what is durable, and what isn't
    places.py        NodePlace, Endpoint, Launch: where nodes live, what starts them
    operator.py      Operator: where running nodes are, and commands that harm them
    os/, sim/        the two worlds

There are two worlds, `os` (real processes, links and clocks) and `sim` (simulated ones
in virtual time). Neither knows the other; what both need is here. The module `offer` of
each says what it can do.
"""

from harness.worlds.capabilities import Capabilities, Offer
from harness.worlds.clocks import ClockLine, ClockReading, Clocks, ClockSetting
from harness.worlds.events import Event, Logged, Observed
from harness.worlds.network import Link, LinkCounters, LinkRule, Network
from harness.worlds.processes import Exit, Limits, Processes
from harness.worlds.world import Conducted, TrueTime, Watcher, World

__all__ = [
    "Capabilities",
    "ClockLine",
    "ClockReading",
    "ClockSetting",
    "Clocks",
    "Conducted",
    "Event",
    "Exit",
    "Limits",
    "Link",
    "LinkCounters",
    "LinkRule",
    "Logged",
    "Network",
    "Observed",
    "Offer",
    "Processes",
    "TrueTime",
    "Watcher",
    "World",
]
