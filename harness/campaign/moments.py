"""What came just before each strike of a run, read from its folder.

The controller records how far nodes' files had been written when a strike was asked for
(`Written`), which costs nothing to speak of. Here the lines before that place are read:
what nodes observed of themselves or, of nodes that observe nothing, what they logged.
Messages are in no record; whoever knows them brings them (`traffic`).
Only the last `TAIL_BYTES` before each strike are looked at. So this is a function of
the folder, and a run that nobody asks about pays for nothing.

Observations have the time of their node's monotonic clock, from which its known offset
is taken. Of lines in a log only the last one has a time, by when the file was changed;
how many lines of its shape came since is known from the strikes before.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from harness.errors import UsageError
from harness.faults.retrigger import AGO_S_MAX, Before, Sighting
from harness.host import nodefiles
from harness.systems.wire import CONTROL_NAME
from harness.worlds import logs
from harness.worlds.events import Logged, Observed, Passed
from harness.worlds.world import Written  # noqa: TC001  # for msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.campaign.traffic import Message
    from harness.run.store import RunFolder

TAIL_BYTES = 128 << 10
"""How much of a node's file is read before each strike: some hundred lines."""

CLOCK_S_MAX = 0.02
"""How wrong a node's clock may be that tells when its events came."""

WORDS_MAX = 12
"""Words of a line that its shape has."""
WORD_CHARS_MAX = 40
SHAPE_CHARS_MAX = 300
VALUE = r"\S+"
TYPE = '"type":"{}"'
"""What a message of a type has in its bytes, as reference systems write JSON."""
COUNT_MAX = 20
"""A trigger by the log counts at most so many lines: more are never quite as many."""

OURS = re.compile(rf"\b({re.escape(CONTROL_NAME)}|status|clock)\b")
"""Lines that tell of a question of ours. Nodes are asked who leads just before a
strike, which is no event of theirs."""

LOG_CUT = b"[splitbrain: "
"""What the line begins with that stands in a log in the place of its middle."""


class _Line(msgspec.Struct):
    """An observation; the rest of its fields are passed over."""

    kind: str
    mono_ns: int


class _ClockLine(msgspec.Struct):
    """A line of clocks.jsonl."""

    time: float
    node: str
    mono_offset_ms: float = 0.0


class _Anchor(NamedTuple):
    """A moment at which it is known how far files were written."""

    at_s: float
    written: Mapping[str, Written]


def before_strikes(
    folder: RunFolder, messages: Sequence[Message] = ()
) -> dict[int, Before]:
    """Number of a step -> what came shortly before it began.

    A folder of an earlier version, or of a run that was cut short, tells less or
    nothing. Cost: about a millisecond for each node and strike.

    Args:
        folder: The run's.
        messages: Those of the run in their order, where they are known.

    Raises:
        UsageError: run.json or faults.jsonl is damaged.
    """
    run = folder.run()
    if run is None:
        return {}
    anchors = [_Anchor(0.0, run.written_at_start)]
    observed = _Observations(folder, run.start_mono_ns)
    out: dict[int, Before] = {}
    asked_s = 0.0
    for line in folder.faults():
        if line.written is None:
            continue
        now = _Anchor(line.time / 1e9, line.written)
        if line.event == "asked" and type(line.id) is int:
            found = [
                *observed.before(now),
                *_logged(folder, anchors, now),
                *_passed(messages, now.at_s),
            ]
            # A watch begins no sooner than the step before.
            found = [each for each in found if each.at_s > asked_s]
            out[line.id] = Before(now.at_s, found)
            asked_s = now.at_s
        anchors.append(now)
    return out


class _Observations:
    """The observations of a run's nodes.

    Args:
        folder: The run's.
        start_mono_ns: Where clocks stood as its time began; None if unknown.
    """

    def __init__(self, folder: RunFolder, start_mono_ns: int | None) -> None:
        self._path = folder.path / "nodes"
        self._start_mono_ns = start_mono_ns
        self._decoder = msgspec.json.Decoder(_Line)
        self._offsets: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for line in folder.read_lines("clocks.jsonl"):
            try:
                clock = msgspec.convert(line, _ClockLine)
            except msgspec.ValidationError:
                continue
            self._offsets[clock.node].append((clock.time, clock.mono_offset_ms * 1e6))

    def before(self, now: _Anchor) -> Iterator[Sighting]:
        """The last event of each kind, at each node and at any."""
        if self._start_mono_ns is None:
            return
        times: dict[Observed, list[float]] = defaultdict(list)
        begins = {}  # node -> from when on all its events are known
        for node, written in now.written.items():
            path = self._path / node / "observe.jsonl"
            tail = _tail(path, written.observed)
            events = list(self._events(node, tail))
            # What was written before this moment came before it. If the node's clock
            # says otherwise, nobody knows when.
            if not events or max(events)[0] > now.at_s + CLOCK_S_MAX:
                continue
            whole = len(tail) == written.observed
            begins[node] = 0.0 if whole else events[0][0]
            for at_s, kind in events:
                for event in (Observed(kind, node), Observed(kind)):
                    times[event].append(min(at_s, now.at_s))
        all_known_s = max(begins.values(), default=0.0)
        for event, all_s in times.items():
            known_s = all_known_s if event.node is None else begins[event.node]
            seen_s = sorted(at_s for at_s in all_s if at_s >= known_s)
            if seen_s and now.at_s - seen_s[-1] <= AGO_S_MAX:
                yield Sighting(
                    event,
                    at_s=seen_s[-1],
                    since_s=seen_s[-2] if len(seen_s) > 1 else known_s,
                    interval_s=(now.at_s - known_s) / len(seen_s),
                )

    def _events(self, node: str, tail: bytes) -> Iterator[tuple[float, str]]:
        """(time, kind) of the events in a part of the file, since the run began."""
        assert self._start_mono_ns is not None
        offsets = self._offsets[node]
        for line in tail.split(b"\n"):
            try:
                event = self._decoder.decode(line)
            except (ValueError, RecursionError):
                continue  # torn at the tail's begin, or of a node that writes anything
            raw_ns = event.mono_ns - self._start_mono_ns
            known = bisect_right(offsets, (raw_ns, float("inf")))
            at_s = (raw_ns - (offsets[known - 1][1] if known else 0.0)) / 1e9
            if at_s >= 0.0:
                yield at_s, event.kind


def _passed(messages: Sequence[Message], now_s: float) -> Iterator[Sighting]:
    """The last message of each type, on each link and on any."""
    times: dict[Passed, list[float]] = defaultdict(list)
    known = messages[: bisect_right(messages, now_s, key=lambda each: each.at_s)]
    for message in known:
        pattern = TYPE.format(re.escape(message.type))
        times[Passed(pattern)].append(message.at_s)
        on_link = Passed(pattern, message.sender, message.receiver)
        times[on_link].append(message.at_s)
    for event, seen_s in times.items():
        if now_s - seen_s[-1] <= AGO_S_MAX:
            yield Sighting(
                event,
                at_s=seen_s[-1],
                since_s=seen_s[-2] if len(seen_s) > 1 else 0.0,
                interval_s=now_s / len(seen_s),
            )


def _logged(
    folder: RunFolder, anchors: Sequence[_Anchor], now: _Anchor
) -> Iterator[Sighting]:
    """The last line of each node's log, if the node observes nothing."""
    for node, written in now.written.items():
        length, ago_ms = written.logged, written.logged_ago_ms
        if written.observed or length is None or ago_ms is None:
            continue
        at_s = now.at_s - max(0.0, ago_ms) / 1e3
        since_s, since = _last_before(anchors, node, at_s)
        if ago_ms > AGO_S_MAX * 1e3 or since is None or length <= since:
            continue
        tail = _tail(folder.path / "nodes" / node / "log", length)
        last = _lines(tail)[-1]
        pattern = "" if OURS.search(last) else shape(last)
        if not pattern or length - since > len(tail) or LOG_CUT in tail:
            continue
        known_s = _time_of(anchors, node, length - len(tail))
        count = _matches(pattern, tail[-(length - since) :])
        if 1 <= count <= COUNT_MAX:
            interval_s = (now.at_s - known_s) / _matches(pattern, tail)
            yield Sighting(Logged(pattern, node), at_s, since_s, interval_s, count)


def _last_before(
    anchors: Sequence[_Anchor], node: str, at_s: float
) -> tuple[float, int | None]:
    """The last moment before `at_s`, and how long the node's log was then."""
    for anchor in reversed(anchors):
        if anchor.at_s < at_s and node in anchor.written:
            return anchor.at_s, anchor.written[node].logged
    return 0.0, None


def _lines(tail: bytes) -> list[str]:
    lines = tail.decode("utf-8", "replace").split("\n")
    return [line[: logs.LINE_CHARS_MAX] for line in lines if line] or [""]


def _matches(pattern: str, tail: bytes) -> int:
    regex = re.compile(pattern)
    return sum(regex.search(line) is not None for line in _lines(tail))


def _time_of(anchors: Iterable[_Anchor], node: str, place: int) -> float:
    """The first moment at which that place of a node's log had been written."""
    for anchor in anchors:
        written = anchor.written.get(node)
        if written is not None and (written.logged or 0) >= place:
            return anchor.at_s
    return 0.0


def shape(line: str) -> str:
    r"""A regular expression for lines that differ from this one in their values.

    Words with a digit in them are values, as log parsers take them (He et al. 2017,
    "Drain: An Online Log Parsing Approach with Fixed Depth Tree"); so are those that
    are longer than words are. Empty if nothing else is left.

    >>> shape("12:00:01.5 elected in term 7")
    '\\S+\\s+elected\\s+in\\s+term\\s+\\S+'
    """
    words = line.split()[:WORDS_MAX]
    parts = [
        VALUE
        if len(word) > WORD_CHARS_MAX or re.search(r"\d", word)
        else re.escape(word)
        for word in words
    ]
    pattern = r"\s+".join(parts)
    if set(parts) <= {VALUE} or len(pattern) > SHAPE_CHARS_MAX:
        return ""
    try:
        logs.compiled(pattern)
    except UsageError:
        return ""
    return pattern


def _tail(path: Path, end: int) -> bytes:
    """The last TAIL_BYTES of a file before byte `end`; empty if it isn't so long."""
    if end <= 0:
        return b""
    begin = max(0, end - TAIL_BYTES)
    try:
        with nodefiles.open_plain(path) as file:
            if os.fstat(file.fileno()).st_size < end:
                return b""
            file.seek(begin)
            return file.read(end - begin)
    except OSError:
        return b""
