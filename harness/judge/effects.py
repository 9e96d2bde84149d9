"""What happened to clients and to the leader while each fault was in force.

Told afterwards, from the history and faults.jsonl: nothing is measured while faults
strike, so that no fault waits for its measurement.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from harness.run.records import StrikeRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.history import History
    from harness.run.lifecycle import Life


class Clients:
    """The operations of a history by their times, to be asked about spans of it.

    Attributes:
        end_ns: The time of the last event; 0 if there is none.
    """

    def __init__(self, history: History) -> None:
        calls = list(history.calls())
        good = [done.time for _, done in calls if done and done.type == "ok"]
        begun = sorted(
            (begun.time, done is not None and done.type == "ok")
            for begun, done in calls
        )
        self._ok_ns = sorted(good)
        self._begun_ns = [time for time, _ in begun]
        # `_good[i]`: how many of the first i operations succeeded.
        self._good = [0, *accumulate(ok for _, ok in begun)]
        self.end_ns = max(((done or begun).time for begun, done in calls), default=0)

    def begun(self, start_ns: float, end_ns: float) -> tuple[int, int]:
        """How many operations began in a span of time, and how many of them succeeded.

        Cost: logarithmic in the history.
        """
        first = bisect_left(self._begun_ns, start_ns)
        after = max(first, bisect_right(self._begun_ns, end_ns))
        return after - first, self._good[after] - self._good[first]

    def longest_gap_ns(self, start_ns: float, end_ns: float) -> float:
        """The longest part of a span in which no operation completed with ok.

        Cost: linear in the operations that did.
        """
        first = bisect_left(self._ok_ns, start_ns)
        after = bisect_right(self._ok_ns, end_ns)
        marks = [start_ns, *self._ok_ns[first:after], max(start_ns, end_ns)]
        return max(later - earlier for earlier, later in pairwise(marks))


def strikes(lives: Sequence[Life], history: History | None) -> list[StrikeRecord]:
    """What happened during each fault that was applied, in their order."""
    found: list[StrikeRecord] = []
    if not any(life.start for life in lives):
        return found
    clients = None if history is None else Clients(history)
    for life in lives:
        if life.start is None:
            continue
        start_ns = life.start.time
        over = life.end or life.failed
        last_ns = 0 if clients is None else clients.end_ns
        end_ns = max(start_ns, last_ns if over is None else over.time)
        record = StrikeRecord(
            id=life.start.id,
            kind=life.kind,
            effect=life.effect,
            start_s=round(start_ns / 1e9, 6),
            end_s=round(end_ns / 1e9, 6),
            in_flight=life.start.in_flight,
        )
        if clients is not None:
            record.ops, record.ok = clients.begun(start_ns, end_ns)
            gap_ns = clients.longest_gap_ns(start_ns, end_ns)
            record.longest_gap_s = round(gap_ns / 1e9, 6)
        if life.leader_start is not None:
            record.leader_before = life.leader_start.leader
        if life.leader_end is not None:
            record.leader_after = life.leader_end.leader
        found.append(record)
    return found
