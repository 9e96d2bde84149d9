"""A small space-time picture of an anomaly: its operations, faults and forced order.

One row per process, one bar per operation from invocation to completion, faults as
bands below, the witness graph's arrows between bars. Drawn as SVG without scripts, so
it prints and needs no JavaScript.

The time axis is compressed: operations in conflict are often milliseconds long and
seconds apart. Moments keep their order, and the gap between two neighbouring moments
grows with the logarithm of the time between them, or as the labels need.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from harness.report import figures
from harness.report.story import call_text, effect, lasted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.report.folder import Call, Fault, RunFolder
    from harness.report.story import AnomalyStory, Edge

CALLS_SHOWN_MAX = 24
FAULTS_SHOWN_MAX = 6

WIDTH = 1080
LABEL_WIDTH = 128
ROW_HEIGHT = 66
BAR_HEIGHT = 24
FAULT_HEIGHT = 20
MARGIN = 16
CHAR_WIDTH = 6.7

KINDS = ("realtime", "process", "wr", "ww", "rw")
_ALIASES = {
    "reads-from": "wr",
    "reads from": "wr",
    "session": "process",
    "program-order": "process",
    "version": "ww",
    "anti-dependency": "rw",
    "must-precede": "rw",
}


@dataclass(frozen=True)
class _Bar:
    """Where an operation is drawn: left and right end, top of its row."""

    call: Call
    position: int
    left: float
    right: float
    top: float

    @property
    def bottom(self) -> float:
        return self.top + BAR_HEIGHT

    @property
    def middle(self) -> float:
        return self.top + BAR_HEIGHT / 2


class _Arrow(NamedTuple):
    """An edge: its line, which passes behind bars, and its number, which does not."""

    line: Markup
    badge: Markup


class _Axis:
    """Maps moments (ns) to x; piecewise linear between the moments it was made of."""

    def __init__(self, moments: list[float], xs: list[float]) -> None:
        self.moments = moments
        self.xs = xs

    def __call__(self, ns: float) -> float:
        if ns <= self.moments[0]:
            return self.xs[0]
        for i in range(1, len(self.moments)):
            if ns <= self.moments[i]:
                a, b = self.moments[i - 1], self.moments[i]
                share = (ns - a) / (b - a)
                return self.xs[i - 1] + share * (self.xs[i] - self.xs[i - 1])
        return self.xs[-1]


def picture(folder: RunFolder, anomaly: AnomalyStory, number: int) -> Markup:
    """The anomaly as an <svg> element; empty when it has no operations."""
    positions = anomaly.calls[:CALLS_SHOWN_MAX]
    if not positions:
        return Markup("")
    calls = {position: folder.calls[position] for position in positions}
    rows = _rows(calls.values())
    faults = _faults_during(folder, list(calls.values()))
    axis = _axis(list(calls.values()), rows, faults)
    bars = {
        position: _bar(call, position, axis, rows) for position, call in calls.items()
    }
    edges = [e for e in anomaly.edges if e.source in bars and e.target in bars]
    arrows = [_arrow(e, n, bars, number) for n, e in enumerate(edges, 1)]
    rows_bottom = MARGIN + ROW_HEIGHT * len(rows)
    height = rows_bottom + 26 + FAULT_HEIGHT * len(faults) + MARGIN
    width = max(WIDTH, axis.xs[-1] + MARGIN)
    title = f"Space-time picture of anomaly {number + 1}: {anomaly.name}"
    parts = [
        _defs(number),
        *(_row(name, row, width) for name, row in rows.items()),
        *(_fault(f, i, axis, rows_bottom, folder.end_ns) for i, f in enumerate(faults)),
        *_ticks(axis, rows_bottom, calls.values()),
        *(arrow.line for arrow in arrows),
        *(_draw_bar(bar, axis.xs[-1]) for bar in bars.values()),
        *(arrow.badge for arrow in arrows),
    ]
    return Markup(
        '<svg class="spacetime" role="img" aria-label="{}" viewBox="0 0 {} {}" '
        'width="{}" height="{}">{}</svg>'
    ).format(
        title,
        round(width),
        round(height),
        round(width),
        round(height),
        Markup("").join(parts),
    )


def edge_class(kind: str) -> str:
    """The CSS class that colours and dashes an arrow of this kind."""
    kind = _ALIASES.get(kind.lower(), kind.lower())
    return f"edge-{kind}" if kind in KINDS else "edge-other"


# Layout


def _row_name(call: Call) -> str:
    node = f" \N{RIGHTWARDS ARROW} {call.node}" if call.node else ""
    return figures.clip(figures.visible(f"process {call.invoke.process}{node}"), 19)


def _rows(calls: Iterable[Call]) -> dict[str, int]:
    names = dict.fromkeys(_row_name(call) for call in calls)
    return {name: row for row, name in enumerate(names)}


def _faults_during(folder: RunFolder, calls: list[Call]) -> list[Fault]:
    start = min(call.invoke.time for call in calls)
    end = max((call.done or call.invoke).time for call in calls)
    hit = [
        fault
        for fault in folder.faults
        if fault.start_ns <= end
        and fault.start_ns + lasted(fault, folder.end_ns) >= start
    ]
    return hit[:FAULTS_SHOWN_MAX]


def _axis(calls: list[Call], rows: dict[str, int], faults: list[Fault]) -> _Axis:
    """Place every moment left to right; a bar is as wide as its label at least."""
    events = [(call.invoke.time, 1, call) for call in calls]
    events += [(call.done.time, 0, call) for call in calls if call.done is not None]
    first, last = min(e[0] for e in events), max(e[0] for e in events)
    edges = [t for f in faults for t in (f.start_ns, f.end_ns) if t is not None]
    moments = sorted(
        [*events, *((t, 2, None) for t in edges if first < t < last)],
        key=lambda moment: moment[:2],
    )
    room = [0.0] * len(rows)  # where each row is free again
    times, xs = [float(first)], [LABEL_WIDTH + 24.0]
    for time, what, call in moments:
        x = xs[-1] + _gap(time - times[-1])
        if call is not None:
            row = rows[_row_name(call)]
            x = max(x, room[row])
            room[row] = x + (_label_width(call) if what == 1 else 14)
        if time > times[-1]:
            times.append(time)
            xs.append(x)
        else:
            xs[-1] = max(xs[-1], x)
    return _stretch(times, xs, max([xs[-1] + 40, *room]))


def _label(call: Call) -> str:
    return f"{call.invoke.index}  {call_text(call, 28)}"


def _label_width(call: Call) -> float:
    return len(_label(call)) * CHAR_WIDTH + 16


def _gap(ns: float) -> float:
    """Pixels between two moments: 0 for none, then logarithmic from 18."""
    return 0.0 if ns <= 0 else min(110.0, 18 + 14 * math.log10(1 + ns / 2e5))


def _stretch(times: list[float], xs: list[float], needed: float) -> _Axis:
    """Use the whole width when there is room; append the open end of the picture."""
    left = xs[0]
    available = WIDTH - MARGIN
    if needed < available:
        factor = (available - left - 60) / max(needed - left - 40, 1)
        xs = [left + (x - left) * min(factor, 4) for x in xs]
        needed = max(available, xs[-1] + 40)
    return _Axis([*times, times[-1] + 1e6], [*xs, needed])


def _bar(call: Call, position: int, axis: _Axis, rows: dict[str, int]) -> _Bar:
    left = axis(call.invoke.time)
    right = axis.xs[-1] if call.done is None else axis(call.done.time)
    top = MARGIN + 6 + ROW_HEIGHT * rows[_row_name(call)]
    return _Bar(call, position, left, max(right, left + _label_width(call)), top)


# Drawing


def _defs(number: int) -> Markup:
    """Arrow heads, one per kind: not every browser lets them inherit a colour."""
    markers = Markup("").join(
        Markup(
            '<marker id="head-{0}-{1}" class="{1}" viewBox="0 0 8 8" refX="7" refY="4" '
            'markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0 8 4 0 8z"/></marker>'
        ).format(number, css)
        for css in [*(f"edge-{kind}" for kind in KINDS), "edge-other"]
    )
    return Markup("<defs>{}</defs>").format(markers)


def _row(name: str, row: int, width: float) -> Markup:
    middle = MARGIN + 6 + ROW_HEIGHT * row + BAR_HEIGHT / 2
    return Markup(
        '<line class="row" x1="{}" x2="{}" y1="{}" y2="{}"/>'
        '<text class="row-name" x="{}" y="{}">{}</text>'
    ).format(
        LABEL_WIDTH, round(width - MARGIN), middle, middle,
        LABEL_WIDTH - 8, middle + 4, name,
    )  # fmt: skip


def _draw_bar(bar: _Bar, right_end: float) -> Markup:
    call, outcome = bar.call, bar.call.outcome
    tail = Markup("")
    if outcome == "info":
        tail = Markup('<line class="tail" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
            round(bar.right), round(right_end), bar.middle, bar.middle
        )
    return Markup(
        '<g class="call {}"><title>{}</title>{}'
        '<rect x="{:.1f}" y="{}" width="{:.1f}" height="{}" rx="4"/>'
        '<text x="{:.1f}" y="{}"><tspan class="op">{}</tspan> {}</text></g>'
    ).format(
        outcome, _said_of(call), tail,
        bar.left, bar.top, bar.right - bar.left, BAR_HEIGHT,
        bar.left + 8, bar.middle + 4, call.invoke.index, call_text(call, 28),
    )  # fmt: skip


def _said_of(call: Call) -> str:
    """The operation in a sentence, for the pointer that rests on it."""
    said = f"op {call.invoke.index}: {call_text(call, 200)}: {call.outcome}"
    if call.done is not None:
        took = figures.duration(call.done.time - call.invoke.time)
        said += f", invoked at {figures.moment(call.invoke.time)}, took {took}"
    if call.error is not None:
        said += f", {figures.plain(call.error, 200)}"
    return said


def _fault(
    fault: Fault, lane: int, axis: _Axis, rows_bottom: float, end_ns: float
) -> Markup:
    end = fault.start_ns + lasted(fault, end_ns)
    left = LABEL_WIDTH if fault.start_ns < axis.moments[0] else axis(fault.start_ns)
    right = max(axis(end), left + 6)
    top = rows_bottom + 26 + FAULT_HEIGHT * lane
    span = f"{figures.moment(fault.start_ns)} to {figures.moment(end)}"
    said = f"{fault.title} ({span})"
    return Markup(
        '<g class="fault fault-{}"><title>{}</title>'
        '<rect class="veil" x="{:.1f}" y="{}" width="{:.1f}" height="{}"/>'
        '<rect class="band" x="{:.1f}" y="{}" width="{:.1f}" height="{}" rx="3"/>'
        '<text class="row-name" x="{}" y="{}">{}</text>'
        '<text x="{:.1f}" y="{}">{}</text></g>'
    ).format(
        fault_class(fault.kind),
        said,
        left,
        MARGIN,
        right - left,
        rows_bottom - MARGIN,
        left,
        top,
        right - left,
        FAULT_HEIGHT - 4,
        LABEL_WIDTH - 8,
        top + 12,
        figures.clip(fault.kind, 18),
        left + 6,
        top + 12,
        _fitting(fault, right - left, axis.xs[-1] - left),
    )


def _fitting(fault: Fault, inside: float, until_end: float) -> str:
    """The fault's title, as long as there is room for it."""
    text = fault.title + ("" if effect(fault) != "no-effect" else " (no effect)")
    return figures.clip(text, max(4, int(max(inside, until_end) / CHAR_WIDTH) - 2))


def fault_class(kind: str) -> str:
    """The CSS class suffix for a kind of fault; "other" for kinds unknown here."""
    head = kind.lower().split("-")[0].split("_")[0].split(" ")[0]
    return FAULT_CLASSES.get(head, "other")


FAULT_CLASSES = {
    **dict.fromkeys(("partition", "network", "link", "delay", "loss"), "network"),
    **dict.fromkeys(
        ("duplicate", "reorder", "corrupt", "bandwidth", "slow"), "network"
    ),
    **dict.fromkeys(("kill", "crash", "restart", "node"), "kill"),
    **dict.fromkeys(("pause", "stop", "freeze"), "pause"),
    **dict.fromkeys(("clock", "skew", "time"), "clock"),
    **dict.fromkeys(("disk", "fsync", "power", "file"), "disk"),
}


def _ticks(axis: _Axis, rows_bottom: float, calls: Iterable[Call]) -> list[Markup]:
    """Times under the rows, at moments that leave room for them."""
    out: list[Markup] = []
    free_from = 0.0
    for ns in sorted({call.invoke.time for call in calls}):
        x = axis(ns)
        if x < free_from:
            continue
        free_from = x + 84
        out.append(
            Markup(
                '<line class="tick" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>'
                '<text class="time" x="{0:.1f}" y="{3}">{4}</text>'
            ).format(x, MARGIN, rows_bottom + 6, rows_bottom + 18, figures.moment(ns))
        )
    return out


def _arrow(edge: Edge, order: int, bars: dict[int, _Bar], number: int) -> _Arrow:
    source, target = bars[edge.source], bars[edge.target]
    css = edge_class(edge.kind)
    x1, x2 = _anchors(source, target, css)
    if source.top == target.top:
        y1 = y2 = source.bottom
        bend1 = bend2 = 30.0
    else:
        down = source.top < target.top
        y1, y2 = (source.bottom, target.top) if down else (source.top, target.bottom)
        bend1 = (y2 - y1) * 0.6
        bend2 = -bend1
    share = (0.5, 0.36, 0.64)[order % 3]  # so that numbers do not cover each other
    at_x = _bezier(share, x1, x1, x2, x2)
    at_y = _bezier(share, y1, y1 + bend1, y2 + bend2, y2)
    start, end = f"{x1:.1f} {y1:.1f}", f"{x2:.1f} {y2:.1f}"
    path = f"M{start}C{x1:.1f} {y1 + bend1:.1f} {x2:.1f} {y2 + bend2:.1f} {end}"
    said = f"{order}. {edge.kind}: {edge.reason}" if edge.reason else edge.kind
    line = Markup(
        '<g class="edge {}"><title>{}</title>'
        '<path d="{}" marker-end="url(#head-{}-{})"/></g>'
    ).format(css, said, path, number, css)
    badge = Markup(
        '<g class="edge {}"><title>{}</title><circle cx="{:.1f}" cy="{:.1f}" r="8.5"/>'
        '<text x="{:.1f}" y="{:.1f}">{}</text></g>'
    ).format(css, said, at_x, at_y, at_x, at_y + 3.8, order)
    return _Arrow(line, badge)


def _anchors(source: _Bar, target: _Bar, css: str) -> tuple[float, float]:
    """Where an arrow leaves and arrives: orders in time run from end to start."""
    if css in {"edge-realtime", "edge-process"}:
        return source.right - 3, target.left + 3
    ahead = source.left <= target.left
    leaves, arrives = (0.7, 0.3) if ahead else (0.3, 0.7)
    return (
        source.left + leaves * (source.right - source.left),
        target.left + arrives * (target.right - target.left),
    )


def _bezier(t: float, a: float, b: float, c: float, d: float) -> float:
    """One coordinate of a cubic Bezier curve."""
    u = 1 - t
    return u**3 * a + 3 * u * u * t * b + 3 * u * t * t * c + t**3 * d
