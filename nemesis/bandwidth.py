"""Narrow links: frames that don't fit wait in a queue, and are lost when it is full.

Heartbeats wait behind bulk data, so small messages suffer from large ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.registry import Plugin
from nemesis.links import Amount, LinkFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.faults.nemesis import NemesisFactory

AMOUNT = Amount("bandwidth_kbit_s", 20.0, 2000.0, 1e7, "delayed", " kbit/s")


def bandwidth(options: Mapping[str, str]) -> LinkFault:
    """A nemesis of this kind.

    Raises:
        UsageError: An option is unknown, or can't have that value.
    """
    return LinkFault("bandwidth", AMOUNT, options)


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "bandwidth", "make links narrow", bandwidth, AMOUNT.options
)
