"""The capabilities of the os world on this machine, with each of its networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.worlds.capabilities import (
    ACTS,
    CLOCKS,
    DISK_ACTS,
    LINK_FIELDS,
    Capabilities,
    Offer,
)
from harness.worlds.os import vdso
from harness.worlds.os.disk import mounting, plain
from harness.worlds.os.proxy import ProxyNetwork
from harness.worlds.os.router import NO_CONNECTIONS, RouterNetwork

if TYPE_CHECKING:
    from harness.worlds.capabilities import DiskAct

NOTHING: frozenset[DiskAct] = frozenset()
LINKS = {each.rung: each.capabilities for each in (ProxyNetwork, RouterNetwork)}
NO_RESETS = dict.fromkeys(("reset", "half_open"), NO_CONNECTIONS)


def offer(rung: str, asked: Capabilities) -> Offer:
    """The capabilities on the "switch", "proxy" or "router" network.

    Forks to find out about clocks and disks, but only if `asked` has them.
    """
    why_no_clocks = vdso.why_not() if asked.clocks else "nobody asked for clock faults"
    disks, why_no_disks = _disks() if asked.disks else (NOTHING, "nobody asked")
    return Offer(
        f"the {rung} network",
        Capabilities(
            LINKS.get(rung, LINK_FIELDS),
            ACTS,
            frozenset(() if why_no_clocks else CLOCKS),
            disks,
        ),
        {
            "clocks": why_no_clocks,
            "disks": why_no_disks,
            **(NO_RESETS if rung == RouterNetwork.rung else {}),
        },
    )


def _disks() -> tuple[frozenset[DiskAct], str]:
    """What can be done to disks here, and why no more."""
    why_no_fuse = mounting.why_no_disks()
    if not why_no_fuse:
        return DISK_ACTS, ""
    left: frozenset[DiskAct] = frozenset({"decay"})
    less = "damage to files of nodes that are down (rot)"
    if not plain.why_no_tmpfs():
        left |= {"full"}
        less = f"a disk that is full (disk.modes=enospc) and {less}"
    return left, f"{why_no_fuse}. Without it there is less: {less}"
