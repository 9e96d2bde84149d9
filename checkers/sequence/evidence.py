"""The breaches of sequential consistency: what can't be, and which calls show it.

Calls are given by their positions in `Calls.calls`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from checkers.sequence.versions import broken_guarantee

if TYPE_CHECKING:
    from checkers.sequence.calls import Unwritten
    from checkers.sequence.saturation import Forced
    from checkers.sequence.versions import Step

NOT_SEQUENTIAL = "not-sequential"


class ReadOfNothing(NamedTuple):
    """A read is of a version that some write brought about, or of the initial one."""

    read: Unwritten

    @property
    def name(self) -> str:
        """Whether somebody failed to write it, or nobody tried."""
        if self.read.failed is None:
            return "read-of-unwritten-value"
        return "read-of-failed-write"


class BrokenGuarantee(NamedTuple):
    """The session guarantees (Terry et al. 1994): an order of a key's versions fits.

    Attributes:
        circle: Why each version would have to come after the one before it.
    """

    circle: tuple[Step, ...]

    @property
    def name(self) -> str:
        """The guarantee that is broken; see `versions` for which of several."""
        return broken_guarantee(self.circle)


class ForcedCircle(NamedTuple):
    """Sequential consistency (Lamport 1979): no call comes before itself.

    Attributes:
        circle: Each of some calls must come before the next, the last before the first.
    """

    circle: tuple[Forced, ...]
    name: str = NOT_SEQUENTIAL


class NoOrder(NamedTuple):
    """Sequential consistency (Lamport 1979): one order explains all reads.

    Attributes:
        furthest: How many calls can be ordered at best.
        stuck: The calls that are next then.
    """

    furthest: int
    stuck: tuple[int, ...]
    name: str = NOT_SEQUENTIAL


Breach = ReadOfNothing | BrokenGuarantee | ForcedCircle | NoOrder
