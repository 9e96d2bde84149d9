"""Connections that break: both ends get a TCP reset in place of data.

The amount is the chance that a frame with data does that to its connection. Nodes can
connect again at once. What was on its way is lost, and neither end knows how much of it
the other has seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.registry import Plugin
from nemesis.links import Amount, LinkFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.faults.nemesis import NemesisFactory

AMOUNT = Amount("reset", 0.01, 1.0, 1.0, "resets", also=("connects",))


def reset(options: Mapping[str, str]) -> LinkFault:
    """A nemesis of this kind.

    Raises:
        UsageError: An option is unknown, or can't have that value.
    """
    return LinkFault("reset", AMOUNT, options)


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "reset",
    "reset connections that are in use, by a forged RST to both ends",
    reset,
    AMOUNT.options,
)
