"""A checker's verdict, with figures on how many acknowledged changes were read again.

A verdict on a write rests on the reads that follow it. A write that no read of the same
object followed may have been lost, whatever the verdict says. So the figures of a run
say how many changes were looked at again, and a remark warns if too few were.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from harness.override import override
from harness.verdict import Checker, final_on_prefix, presumed

if TYPE_CHECKING:
    from collections.abc import Collection

    from harness.history import History
    from harness.verdict import CheckResult, Limits

SHARE_MIN: Final = 0.9
"""Part of the acknowledged changes below which a remark warns."""


@dataclass(frozen=True)
class LookedAt(Checker):
    """Another checker's verdict, with figures on how many changes it rests on.

    Attributes:
        checker: The checker that judges.
        changes: Functions (`Op.f`) that change an object.
        looks: Functions whose success shows an object's state.
    """

    checker: Checker
    changes: Collection[str]
    looks: Collection[str]

    @property
    def presume_end(self) -> Collection[str]:
        """The anomalies that the inner checker finds by what never came."""
        return presumed(self.checker)

    @property
    def final_on_prefix(self) -> Collection[str]:
        """The anomalies by which the inner checker convicts a prefix."""
        return final_on_prefix(self.checker)

    @override
    def check(self, history: History, limits: Limits) -> CheckResult:
        """The inner checker's result with these figures; 0.3 us an event for them."""
        result = self.checker.check(history, limits)
        acknowledged, again = self.count(history)
        figures = {"acknowledged": acknowledged, "looked_at_again": again}
        result = replace(result, stats={**result.stats, **figures})
        if again >= acknowledged * SHARE_MIN:
            return result
        remark = (
            f"of {acknowledged:,} acknowledged changes only {again:,} "
            f"({again / acknowledged:.0%}) were followed by a look at the same object: "
            "whether the others were lost, nobody saw"
        )
        return replace(result, remarks=(*result.remarks, remark))

    def count(self, history: History) -> tuple[int, int]:
        """Count the changes that were acknowledged, and those looked at again.

        A look counts if it began after the acknowledgement, and succeeded.

        Returns:
            Acknowledged changes, and how many of them were looked at again.
        """
        began: dict[Any, int] = {}
        acknowledged: dict[Any, list[int]] = {}
        last_look: dict[Any, int] = {}
        for at, op in enumerate(history):
            if op.type == "invoke":
                began[op.process] = at
            elif op.type == "ok":
                if op.f in self.changes:
                    acknowledged.setdefault(op.key, []).append(at)
                if op.f in self.looks:
                    look = max(last_look.get(op.key, 0), began.get(op.process, at))
                    last_look[op.key] = look
        return sum(map(len, acknowledged.values())), sum(
            bisect_left(times, last_look.get(key, 0))
            for key, times in acknowledged.items()
        )
