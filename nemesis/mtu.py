"""Black holes of the MTU: frames above a size vanish, and no ICMP tells the sender.

Short messages and handshakes pass, so a peer seems to be there; a long message never
arrives, and on its connection nothing that follows it does (RFC 2923, 2.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.registry import Plugin
from nemesis.links import Amount, LinkFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.faults.nemesis import NemesisFactory

AMOUNT = Amount("mtu_bytes", 200.0, 1400.0, 65_535.0, "oversized", " bytes", whole=True)


def mtu(options: Mapping[str, str]) -> LinkFault:
    """A nemesis of this kind.

    Raises:
        UsageError: An option is unknown, or can't have that value.
    """
    return LinkFault("mtu", AMOUNT, options)


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "mtu",
    "swallow long frames, as a path with a smaller MTU does that tells nobody",
    mtu,
    AMOUNT.options,
)
