"""Links that flip bits.

Checksums reveal a flipped bit and the frame is dropped, so a node notices a loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.registry import Plugin
from nemesis.links import Amount, LinkFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.faults.nemesis import NemesisFactory

AMOUNT = Amount("corrupt", 0.02, 0.4, 1.0, "corrupted")


def corrupt(options: Mapping[str, str]) -> LinkFault:
    """A nemesis of this kind.

    Raises:
        UsageError: An option is unknown, or can't have that value.
    """
    return LinkFault("corrupt", AMOUNT, options)


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "corrupt", "flip bits in frames, which checksums then drop", corrupt, AMOUNT.options
)
