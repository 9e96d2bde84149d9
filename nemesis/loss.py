"""Lossy links: frames vanish at random.

TCP sends them again, so a node notices pauses. The simulator's links carry whole
messages, and these are gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.registry import Plugin
from nemesis.links import Amount, LinkFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.faults.nemesis import NemesisFactory

AMOUNT = Amount("loss", 0.02, 0.6, 1.0, "lost")


def loss(options: Mapping[str, str]) -> LinkFault:
    """A nemesis of this kind.

    Raises:
        UsageError: An option is unknown, or can't have that value.
    """
    return LinkFault("loss", AMOUNT, options)


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "loss", "lose frames at random", loss, AMOUNT.options
)
