"""Whether a majority of a cluster is left, or would be.

A majority is kept if some node runs and can exchange messages, both ways, with so many
others that run that they are more than half of all nodes together. A leader or
coordinator needs no more than that, and can't do with less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from harness.worlds.network import Link


@dataclass(frozen=True)
class Standing:
    """What the strikes in force have left of a cluster.

    Attributes:
        nodes: All nodes.
        up: Those that run, and aren't paused.
        cut: The links over which nothing gets through.
    """

    nodes: Sequence[str]
    up: Collection[str]
    cut: Collection[Link] = ()

    def has_majority(self, without: Collection[str] = ()) -> bool:
        """Whether a majority is left, were the nodes `without` down, too."""
        left = [n for n in self.nodes if n in self.up and n not in without]
        return any(2 * self._reached(node, left) > len(self.nodes) for node in left)

    def _reached(self, node: str, left: Sequence[str]) -> int:
        """How many of `left` exchange messages with `node`, itself counted."""
        return sum(
            other == node
            or ((node, other) not in self.cut and (other, node) not in self.cut)
            for other in left
        )

    def spare(self, order: Sequence[str]) -> list[str]:
        """Those of `order`, as far as a majority is left without them.

        Earlier ones come first. Nodes that aren't up are left out.
        """
        out: list[str] = []
        for node in order:
            if node in self.up and self.has_majority([*out, node]):
                out.append(node)
        return out

    def breaking(self, order: Sequence[str]) -> list[str]:
        """The first of `order` that are up, as few as leave no majority; else none."""
        out: list[str] = []
        for node in order:
            if not self.has_majority(out):
                break
            if node in self.up:
                out.append(node)
        return [] if self.has_majority(out) else out
