"""A small picture of a witness in text: a lane for each process, bars in order of time.

    process 7 → n3   ├A write 81─┤
    process 19 → n5                 ├B write 83─┤
    process 0 → n1                                 ├C read → 81─┤
    partition        ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
                     2.875 s                            3.001 s

Each operation has a letter, by which the lines below it are told. Moments keep their
order, and not their distances. A bar without an end never returned.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, NamedTuple

from harness.report import figures
from harness.report.witness import who
from harness.visible import visible_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.folder import Call
    from harness.report.witness import Witness

WIDTH = 76
"""Columns, so that it fits a terminal of 80 with some indentation."""

NAME_WIDTH = 17
CALLS_MAX = 12
FAULTS_MAX = 3
LABELS = (26, 20, 15, 11, 8, 5, 0)
"""Longest labels of bars: the first that leaves room for all of them is taken."""


class Marks(NamedTuple):
    """What a picture is drawn with."""

    begin: str
    line: str
    end: str
    open: str
    event: str
    fault: str
    arrow: str


BOXES = Marks("├", "─", "┤", "╌", "●", "▒", "→")
ASCII = Marks("[", "-", "]", ".", "*", "#", "->")


class _Bar(NamedTuple):
    """An operation: its lane, label, and the moments of its begin and end."""

    lane: str
    text: str
    begin: tuple[int, int]
    end: tuple[int, int] | None


def letter(number: int) -> str:
    """The letter of the number-th operation; empty if there are too many."""
    return string.ascii_uppercase[number] if number < CALLS_MAX else ""


def sketch(witness: Witness, marks: Marks = BOXES, width: int = WIDTH) -> list[str]:
    """The picture, in lines; none if there is nothing to draw, or no room for it."""
    calls = witness.blamed[:CALLS_MAX]
    if not calls:
        return []
    has_times = all(call.invoke.time >= 0 for call in witness.calls)
    room = width - NAME_WIDTH - 1
    for chars_max in LABELS:
        bars = [
            _bar(witness, call, letter(n), chars_max, marks, has_times=has_times)
            for n, call in enumerate(calls)
        ]
        places, needed = _places(bars)
        if needed <= room:
            break
    else:
        return []
    stretch = min(room / needed, 2.0)
    places = {moment: int(at * stretch) for moment, at in places.items()}
    lines = _lanes(bars, places, room, marks)
    if has_times:
        lines += _faults(witness, places, room, marks)
        lines.append(_times(places, room))
    return lines


def _bar(
    witness: Witness,
    call: Call,
    name: str,
    chars_max: int,
    marks: Marks,
    *,
    has_times: bool,
) -> _Bar:
    begin = call.invoke.time if has_times else call.invoke.index
    end = None
    if call.done is not None:
        end = call.done.time if has_times else call.done.index
    label = visible_line(witness.text_of(call, max(chars_max, 1)))
    if call.outcome == "fail":
        label += " fail"
    label = figures.clip(label, chars_max) if chars_max else ""
    text = f"{name} {label}".rstrip().replace("→", marks.arrow)
    lane = figures.clip(who(call, witness.roles), NAME_WIDTH)
    # Ends come before begins of the same moment; an event is both at once.
    moment = None if end is None else (end, 0) if end > begin else (begin, 1)
    return _Bar(lane, text, (begin, 1), moment)


def _places(bars: Sequence[_Bar]) -> tuple[dict[tuple[int, int], int], int]:
    """The column of each moment, and how many columns all of it needs."""
    moments = sorted({m for bar in bars for m in (bar.begin, bar.end) if m is not None})
    free: dict[str, int] = {}
    places: dict[tuple[int, int], int] = {}
    at = -1
    for moment in moments:
        at += 1
        for bar in bars:
            if bar.begin == moment:
                at = max(at, free.get(bar.lane, 0))
            elif bar.end == moment:
                at = max(at, places[bar.begin] + len(bar.text) + 1)
        places[moment] = at
        for bar in bars:
            if moment in {bar.begin, bar.end}:
                least = places[bar.begin] + len(bar.text) + 3
                free[bar.lane] = max(free.get(bar.lane, 0), at + 1, least)
    return places, max([at + 1, *free.values()])


def _lanes(
    bars: Sequence[_Bar], places: dict[tuple[int, int], int], room: int, marks: Marks
) -> list[str]:
    lanes: dict[str, list[str]] = {}
    for bar in bars:
        cells = lanes.setdefault(bar.lane, [" "] * room)
        first = places[bar.begin]
        last = room - 1 if bar.end is None else places[bar.end]
        if bar.end == bar.begin:
            drawn = marks.event + bar.text
        elif bar.end is None:
            drawn = marks.begin + bar.text.ljust(last - first, marks.open)
        else:
            filled = bar.text.ljust(last - first - 1, marks.line)
            drawn = f"{marks.begin}{filled}{marks.end}"
        cells[first : first + len(drawn)] = drawn
    return [
        f"{_name(lane, marks)} {''.join(cells[:room])}".rstrip()
        for lane, cells in lanes.items()
    ]


def _name(lane: str, marks: Marks) -> str:
    text = visible_line(lane).replace("→", marks.arrow).replace("\u2026", "...")
    if marks is BOXES:
        text = visible_line(lane)
    return text[:NAME_WIDTH].ljust(NAME_WIDTH)


def _faults(
    witness: Witness, places: dict[tuple[int, int], int], room: int, marks: Marks
) -> list[str]:
    """A band for each fault that was in force meanwhile."""
    lines = []
    for fault in witness.faults[:FAULTS_MAX]:
        end_ns = witness.end_ns if fault.end_ns is None else fault.end_ns
        before = [at for (t, _), at in places.items() if t <= fault.start_ns]
        after = [at for (t, _), at in places.items() if t >= end_ns]
        first, last = max(before, default=0), min(after, default=room - 1)
        band = marks.fault * max(1, last - first + 1)
        name = figures.clip(fault.kind, NAME_WIDTH)
        lines.append(f"{_name(name, marks)} {' ' * first}{band}")
    return lines


def _times(places: dict[tuple[int, int], int], room: int) -> str:
    """The times of the first and the last moment, under their columns."""
    first, last = min(places), max(places)
    begin, end = figures.moment(first[0]), figures.moment(last[0])
    text = begin
    if end != begin:
        at = max(min(places[last], room - len(end)), len(begin) + 1)
        text = begin.ljust(at) + end
    return f"{' ' * NAME_WIDTH} {text}"
