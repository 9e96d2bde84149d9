"""How much of what a system acknowledged was looked at again.

A verdict on a write rests on the reads that follow it. One that nobody followed by a
read of the same object may have been lost, whatever the verdict says. So the figures of
a run say how many there were, and a remark says so where they are many.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from harness.verdict import presumed

if TYPE_CHECKING:
    from collections.abc import Collection

    from harness.history import History
    from harness.verdict import Checker, CheckResult, Limits

SHARE_MIN: Final = 0.9
"""Of the acknowledged changes, the part that must have been looked at again."""


@dataclass(frozen=True)
class LookedAt:
    """A checker of objects, and beside its verdict what that rests on.

    Attributes:
        checker: Judges.
        changes: Functions that change an object.
        looks: Functions whose success tells of an object's state.
    """

    checker: Checker
    changes: Collection[str]
    looks: Collection[str]

    @property
    def presume_end(self) -> Collection[str]:
        """See `Presuming`."""
        return presumed(self.checker)

    def check(self, history: History, limits: Limits) -> CheckResult:
        """See `Checker.check`. Costs 0.3 us more for each event."""
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
        """How many changes were acknowledged, and how many of these looked at again.

        A look counts if it began after the acknowledgement, and succeeded.
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
