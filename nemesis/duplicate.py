"""Links that deliver twice.

TCP drops the copies. In the simulator a message comes again, a little later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.registry import Plugin
from nemesis.links import Amount, LinkFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.faults.nemesis import NemesisFactory

AMOUNT = Amount("duplicate", 0.05, 0.8, 1.0, "duplicated")


def duplicate(options: Mapping[str, str]) -> LinkFault:
    """A nemesis of this kind.

    Raises:
        UsageError: An option is unknown, or can't have that value.
    """
    return LinkFault("duplicate", AMOUNT, options)


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "duplicate", "deliver frames twice", duplicate, AMOUNT.options
)
