"""The capabilities of the os world on this machine, with either of its networks."""

from __future__ import annotations

from harness.worlds.capabilities import (
    ACTS,
    CLOCKS,
    DISK_ACTS,
    LINK_FIELDS,
    Capabilities,
    Offer,
)
from harness.worlds.os import vdso
from harness.worlds.os.disk.mounting import why_no_disks
from harness.worlds.os.proxy import ProxyNetwork


def offer(rung: str, asked: Capabilities) -> Offer:
    """The capabilities on the "switch" or the "proxy" network.

    Forks to find out about clocks and disks, but only if `asked` has them.
    """
    why_no_clocks = vdso.why_not() if asked.clocks else "nobody asked for clock faults"
    why_no_disk = why_no_disks() if asked.disks else "nobody asked for disk faults"
    return Offer(
        f"the {rung} network",
        Capabilities(
            ProxyNetwork.capabilities if rung == ProxyNetwork.rung else LINK_FIELDS,
            ACTS,
            frozenset(() if why_no_clocks else CLOCKS),
            frozenset(() if why_no_disk else DISK_ACTS),
        ),
        {"clocks": why_no_clocks, "disks": why_no_disk},
    )
