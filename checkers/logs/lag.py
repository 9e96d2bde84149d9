"""How far polls lag behind their logs, in time (Jepsen's `realtime-lag`).

From the moment that somebody is told of an offset, what lies below is not the end of
the log. A client that begins to poll later, and has by its end seen no further than
that, lags: by the time from that moment to the begin of its poll, at least. So a poll
that finds nothing new lags by nothing where nothing new is there.

A client's place in a log is the highest offset that it polled since the log was
assigned to it; before the first poll it is the beginning. Who subscribes may be given
no log at all, so only what it polled since then counts. An assignment of unknown
outcome leaves nothing certain, and so does one that seeks to the beginning.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from checkers.logs.steps import by_key
from checkers.tallies import began

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from checkers.logs.steps import Record, Step, Steps
    from harness.history import History

NOTHING = -1
"""The place in a log of a client that has polled none of it."""

TOLD_MAX = 20
"""Keys and processes told of, those that lag most first."""


class Lag(NamedTuple):
    """How far one poll was behind one log, by its end.

    Attributes:
        op: The poll.
        process: Who polled.
        key: The log.
        begun_ns: When the poll began.
        lag_ns: How long by then more had been there than it saw.
    """

    op: int
    process: int | str
    key: Hashable
    begun_ns: int
    lag_ns: int


@dataclass
class _Growth:
    """When a log was first known to reach an offset: both grow."""

    offsets: list[int] = field(default_factory=list)
    times_ns: list[int] = field(default_factory=list)

    def note(self, offset: int, time_ns: int) -> None:
        """Somebody was told of an offset."""
        if not self.offsets or offset > self.offsets[-1]:
            self.offsets.append(offset)
            self.times_ns.append(time_ns)

    def passed_ns(self, offset: int) -> int | None:
        """When `offset` was known not to be the last one, if it ever was."""
        at = bisect_left(self.offsets, offset + 1)
        return self.times_ns[at] if at < len(self.offsets) else None


def find_lags(history: History, steps: Steps) -> list[Lag]:
    """The lag of every ok poll on each log of its client, in order of completion.

    None in a history without times. Cost: n log n, and linear in polls times the logs
    of a client.
    """
    ended = sorted(steps.all, key=lambda step: step.op.index)
    if any(step.op.time < 0 for step in ended):
        return []
    logs: dict[Hashable, _Growth] = defaultdict(_Growth)
    for step in ended:
        for record in _told(step):
            if record.offset is not None:
                logs[record.key].note(record.offset, step.op.time)
    places: dict[int | str, dict[Hashable, int]] = defaultdict(dict)
    lags: list[Lag] = []
    for step in ended:
        place = places[step.op.process]
        if step.assigned is not None:
            places[step.op.process] = _assigned(step, place)
        elif step.outcome == "ok" and step.role != "send":
            _poll(place, step)
            lags += _lags_of(history, step, place, logs)
    return lags


def _told(step: Step) -> Iterable[Record]:
    """What is there for certain when a step ends; a poller sees what is there."""
    return [*step.sends, *step.polls] if step.outcome == "ok" else step.polls


def _assigned(step: Step, place: dict[Hashable, int]) -> dict[Hashable, int]:
    """A client's places after an assignment."""
    assert step.assigned is not None
    if step.outcome == "fail":
        return place
    if step.outcome != "ok" or step.role == "subscribe":
        return {}
    if step.rewinds:
        return dict.fromkeys(step.assigned, NOTHING)
    return {key: place.get(key, NOTHING) for key in step.assigned}


def _poll(place: dict[Hashable, int], step: Step) -> None:
    for key, records in by_key(step.polls).items():
        offsets = [record.offset for record in records if record.offset is not None]
        place[key] = max([place.get(key, NOTHING), *offsets])


def _lags_of(
    history: History,
    step: Step,
    place: dict[Hashable, int],
    logs: dict[Hashable, _Growth],
) -> Iterator[Lag]:
    begun = began(history, step.op)
    if begun < 0:
        return  # nobody knows when it began
    begun_ns = history[begun].time
    for key, offset in place.items():
        passed_ns = logs[key].passed_ns(offset)
        lag_ns = 0 if passed_ns is None else max(0, begun_ns - passed_ns)
        yield Lag(step.op.index, step.op.process, key, begun_ns, lag_ns)


def figures(lags: Sequence[Lag]) -> dict[str, Any]:
    """The worst lags, and how far behind the last poll of each client and log was.

    In seconds; empty where no poll was ever judged.
    """
    if not lags:
        return {}
    last = {(lag.process, lag.key): lag for lag in lags}
    return {
        "worst": _told_of(_worst(lags)),
        "at_last_poll": _told_of(_worst(last.values())),
        "by_key": _worst_by(lags, lambda lag: lag.key),
        "by_process": _worst_by(lags, lambda lag: lag.process),
    }


def _worst(lags: Iterable[Lag]) -> Lag:
    return max(lags, key=lambda lag: lag.lag_ns)


def _told_of(lag: Lag) -> dict[str, Any]:
    return {
        "lag_s": _seconds(lag.lag_ns),
        "op": lag.op,
        "process": lag.process,
        "key": lag.key,
        "time_s": _seconds(lag.begun_ns),
    }


def _worst_by(lags: Iterable[Lag], part: Callable[[Lag], Hashable]) -> dict[str, float]:
    """The worst lag of each part, those that lag most first."""
    worst: dict[Hashable, int] = {}
    for lag in lags:
        name = part(lag)
        worst[name] = max(worst.get(name, 0), lag.lag_ns)
    ranked = sorted(worst.items(), key=lambda pair: -pair[1])[:TOLD_MAX]
    return {str(name): _seconds(lag_ns) for name, lag_ns in ranked}


def _seconds(ns: int) -> float:
    return round(ns / 1e9, 6)
