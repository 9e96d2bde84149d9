"""Half-open connections: one end gets a TCP reset, the other never hears of it.

The amount is the chance that a frame with data does that to its connection, at the end
of its sender. The other end waits on a connection that nobody speaks on any more, as
after a crash of the peer (RFC 9293, 3.5.1), while the sender has long made a new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.registry import Plugin
from nemesis.links import Amount, LinkFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.faults.nemesis import NemesisFactory

AMOUNT = Amount("half_open", 0.01, 1.0, 1.0, "resets", also=("connects",))


def half_open(options: Mapping[str, str]) -> LinkFault:
    """A nemesis of this kind.

    Raises:
        UsageError: An option is unknown, or can't have that value.
    """
    return LinkFault("half-open", AMOUNT, options)


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "half-open",
    "reset the sending end of connections and leave the other end open",
    half_open,
    AMOUNT.options,
)
