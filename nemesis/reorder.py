"""Links on which frames overtake each other.

TCP restores the order, at the price of pauses. In the simulator messages come in the
wrong order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.registry import Plugin
from nemesis.links import Amount, LinkFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.faults.nemesis import NemesisFactory

AMOUNT = Amount("reorder", 0.05, 0.8, 1.0, "reordered")


def reorder(options: Mapping[str, str]) -> LinkFault:
    """A nemesis of this kind.

    Raises:
        UsageError: An option is unknown, or can't have that value.
    """
    return LinkFault("reorder", AMOUNT, options)


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "reorder", "let frames overtake each other", reorder, AMOUNT.options
)
