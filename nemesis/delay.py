"""Slow links: every frame comes late, each by another time.

TCP keeps the order of its bytes. A delay beyond a protocol's timeouts looks like a
failure of the node at the other end, but is none, so failure detectors are wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.registry import Plugin
from nemesis.links import Amount, LinkFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.faults.nemesis import NemesisFactory

AMOUNT = Amount(
    "delay_ms", 5.0, 1000.0, 60_000.0, "delayed", " ms", share_of_jitter=0.5
)


def delay(options: Mapping[str, str]) -> LinkFault:
    """A nemesis of this kind.

    Raises:
        UsageError: An option is unknown, or can't have that value.
    """
    return LinkFault("delay", AMOUNT, options)


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "delay", "make links slow, by up to a second", delay, AMOUNT.options
)
