"""A small space-time picture of a witness: operations, events, faults, forced order.

It has one row per process or node, one bar per operation from invocation to completion,
a pill for each event that a node observed, faults as bands below, and the witness
graph's arrows between bars. It is SVG without scripts, so it prints and needs no
JavaScript.

The time axis is compressed: operations in conflict are often milliseconds long and
seconds apart. Moments keep their order, and the gap between two neighbouring moments
grows with the logarithm of the time between them, or as the labels need. If a history
has no times, positions in it take their place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from harness.report import figures
from harness.report.folder import mapping
from harness.report.story import lasted
from harness.report.witness import LOST, MESSAGE, who, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.report.folder import Call, Fault
    from harness.report.witness import Edge, Witness

CALLS_SHOWN_MAX = 24
"""Operations of the anomaly itself that are drawn; those around it come on top."""

FAULTS_SHOWN_MAX = 6
BREAK_SHARE, BREAK_SCALE = 0.2, 5.0
"""An axis has a mark where more than that share of the time is drawn on a scale that
many times smaller than the largest."""

WIDTH = 1080
LABEL_WIDTH = 128
SCALE_MIN = 0.7
"""Smallest scale of a picture that is too wide for its page; it has to be legible."""
ROW_HEIGHT = 66
BAR_HEIGHT = 24
FAULT_HEIGHT = 20
LINE_HEIGHT = 17
MARGIN = 16
CHAR_WIDTH = 6.9
LABEL_CHARS_MAX = 28
BADGE_WIDTH = 18
BADGE_SHARES = (0.5, 0.4, 0.6, 0.32, 0.68, 0.24, 0.76, 0.16, 0.84)
"""Places along an arrow for its number, best first."""


KINDS = ("realtime", "process", "wr", "ww", "rw", "conflict", MESSAGE, LOST)
_ALIASES = {
    "reads-from": "wr",
    "reads from": "wr",
    "session": "process",
    "program-order": "process",
    "version": "ww",
    "anti-dependency": "rw",
    "must-precede": "rw",
    "contradicts": "conflict",
}


@dataclass(frozen=True)
class _Span:
    """A call as it is to be drawn: its row, its moments, its label.

    Attributes:
        position: The call's position in the witness.
        start, end: Moments, in ns; `end` is None if the call never returned.
        text: The label of the bar.
    """

    call: Call
    position: int
    row: str
    start: float
    end: float | None
    text: str

    @property
    def width(self) -> float:
        """Pixels that the label needs."""
        number = 0 if self.call.is_event else len(f"{self.call.number} ")
        return (number + len(self.text)) * CHAR_WIDTH + 18


@dataclass(frozen=True)
class _Bar:
    """The place of an operation in the picture: left and right end, top of its row."""

    span: _Span
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


def picture(witness: Witness, number: int = 0, *, with_legend: bool = False) -> Markup:
    """The witness as an <svg> element; empty if it has no operations.

    Args:
        witness: The witness to draw.
        number: Tells the pictures of one page apart.
        with_legend: Whether labels that did not fit into the bars are written below. A
            page has a table of operations instead.
    """
    spans = _spans(witness)
    if not spans:
        return Markup("")
    has_times = _has_times(witness)
    faults = witness.faults[:FAULTS_SHOWN_MAX] if has_times else ()
    rows = {name: row for row, name in enumerate(dict.fromkeys(s.row for s in spans))}
    axis = _axis(spans, rows, faults)
    bars = {span.position: _bar(span, axis, rows) for span in spans}
    taken: list[tuple[float, float]] = []
    arrows = [
        _arrow(edge, order, bars, taken, number)
        for order, edge in enumerate(witness.edges, 1)
        if edge.source in bars and edge.target in bars
    ]
    rows_bottom = MARGIN + ROW_HEIGHT * len(rows)
    height = rows_bottom + (26 + MARGIN if has_times else 0)
    height += FAULT_HEIGHT * len(faults)
    width = max(WIDTH, axis.xs[-1] + MARGIN)
    legend: list[Markup] = []
    if with_legend:
        legend = _legend(witness, bars.values(), width, height)
        height += LINE_HEIGHT * len(legend) + MARGIN * bool(legend)
    title = f"Space-time picture of anomaly {number + 1}: {witness.name}"
    end_ns = witness.end_ns
    parts = [
        _defs(number),
        *(_row(name, row, width) for name, row in rows.items()),
        *(_fault(f, i, axis, rows_bottom, end_ns) for i, f in enumerate(faults)),
        *(_ticks(axis, rows_bottom, spans) if has_times else ()),
        *(_breaks(axis, rows_bottom) if has_times else ()),
        *(arrow.line for arrow in arrows),
        *(_draw_bar(bar, witness, axis.xs[-1]) for bar in bars.values()),
        *(arrow.badge for arrow in arrows),
        *legend,
    ]
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" class="spacetime" role="img" '
        'aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}" '
        'style="max-width:100%;min-width:{}px">{}</svg>'
    ).format(
        title,
        round(width),
        round(height),
        round(width),
        round(height),
        round(width * SCALE_MIN),
        Markup("").join(parts),
    )


def as_svg(witness: Witness, number: int = 0) -> str:
    """The picture as the text of an SVG file, light or dark as its reader prefers."""
    assets = resources.files("harness.report.assets")
    css = [(assets / n).read_text("utf-8") for n in ("palette.css", "witness.css")]
    style = Markup(f"<style>{''.join(css)} svg {{ background: var(--card) }}</style>")  # noqa: S704  # our own files
    drawn = str(picture(witness, number, with_legend=True))
    return drawn.replace("<defs>", f"{style}<defs>", 1)


def edge_class(kind: str) -> str:
    """The CSS class that colours and dashes an arrow of this kind."""
    kind = _ALIASES.get(kind.lower(), kind.lower())
    return f"edge-{kind}" if kind in KINDS else "edge-other"


# Layout


def _has_times(witness: Witness) -> bool:
    return all(call.invoke.time >= 0 for call in witness.calls)


def _spans(witness: Witness) -> list[_Span]:
    """The calls to draw, in order of time: the anomaly's own, and those around it."""
    own = [i for i in range(len(witness.calls)) if i not in witness.context]
    shown = sorted({*own[:CALLS_SHOWN_MAX], *witness.context})
    has_times = _has_times(witness)
    last: dict[str, float] = {}
    spans = []
    for position in shown:
        call = witness.calls[position]
        done = call.done
        row = figures.clip(who(call, witness.roles), 19)
        start = float(call.invoke.time if has_times else call.invoke.index)
        end = None
        if done is not None:
            end = max(start, float(done.time if has_times else done.index))
        if call.is_event:  # a node takes several steps at one instant, in their order
            start = max(start, last.get(row, -1.0) + 1)
            last[row] = end = start
        text = witness.text_of(call, LABEL_CHARS_MAX)
        text = figures.clip(text, LABEL_CHARS_MAX + 8)
        spans.append(_Span(call, position, row, start, end, text))
    return sorted(spans, key=lambda span: (span.start, span.position))


def _axis(
    spans: Sequence[_Span], rows: dict[str, int], faults: Iterable[Fault]
) -> _Axis:
    """Place every moment left to right; a bar is as wide as its label at least."""
    marks: list[tuple[float, int, _Span | None]] = [(s.start, 1, s) for s in spans]
    marks += [(s.end, 0, s) for s in spans if s.end is not None and s.end > s.start]
    first, last = min(m[0] for m in marks), max(m[0] for m in marks)
    edges = [t for f in faults for t in (f.start_ns, f.end_ns) if t is not None]
    marks += [(t, 2, None) for t in edges if first < t < last]
    room = [0.0] * len(rows)  # for each row the x from which on it is free
    times, xs = [first], [LABEL_WIDTH + 24.0]
    for time, what, span in sorted(marks, key=lambda mark: mark[:2]):
        x = xs[-1] + _gap(time - times[-1])
        if span is not None:
            row = rows[span.row]
            x = max(x, room[row])
            room[row] = max(room[row], x + (span.width + 8 if what == 1 else 14))
        if time > times[-1]:
            times.append(time)
            xs.append(x)
        else:
            xs[-1] = max(xs[-1], x)
    return _stretch(times, xs, max([xs[-1] + 40, *room]))


def _gap(ns: float) -> float:
    """Pixels between two moments: 0 for none, then logarithmic from 18."""
    return 0.0 if ns <= 0 else min(110.0, 18 + 14 * math.log10(1 + ns / 2e5))


def _stretch(times: list[float], xs: list[float], needed: float) -> _Axis:
    """Use the whole width if there is room; append the open end of the picture."""
    left = xs[0]
    available = WIDTH - MARGIN
    if needed < available:
        factor = (available - left - 60) / max(needed - left - 40, 1)
        xs = [left + (x - left) * min(factor, 4) for x in xs]
        needed = max(available, xs[-1] + 40)
    return _Axis([*times, times[-1] + 1e6], [*xs, needed])


def _bar(span: _Span, axis: _Axis, rows: dict[str, int]) -> _Bar:
    left = axis(span.start)
    right = axis.xs[-1] if span.end is None else axis(span.end)
    top = MARGIN + 6 + ROW_HEIGHT * rows[span.row]
    return _Bar(span, left, max(right, left + span.width), top)


# Drawing


HEAD = "M0 0 8 4 0 8z"
CROSS = "M0 1 1 0 4 3 7 0 8 1 5 4 8 7 7 8 4 5 1 8 0 7 3 4z"


def _defs(number: int) -> Markup:
    """Arrow heads, one per kind: not every browser lets them inherit a colour."""
    markers = Markup("").join(
        Markup(
            '<marker id="head-{0}-{1}" class="{1}" viewBox="0 0 8 8" refX="7" refY="4" '
            'markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="{2}"/></marker>'
        ).format(number, css, CROSS if css == f"edge-{LOST}" else HEAD)
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


def _draw_bar(bar: _Bar, witness: Witness, right_end: float) -> Markup:
    call, outcome = bar.span.call, bar.span.call.outcome
    tail = number = Markup("")
    if outcome == "info":
        tail = Markup('<line class="tail" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
            round(bar.right), round(right_end), bar.middle, bar.middle
        )
    if not call.is_event:
        number = Markup('<tspan class="op">{}</tspan> ').format(call.number)
    return Markup(
        '<g class="call {} {}" data-op="{}"><title>{}</title>{}'
        '<rect x="{:.1f}" y="{}" width="{:.1f}" height="{}" rx="{}"/>'
        '<text x="{:.1f}" y="{}">{}{}</text></g>'
    ).format(
        outcome, _tone(bar.span, witness),
        "" if call.is_event else call.invoke.index, _said_of(call, witness), tail,
        bar.left, bar.top, bar.right - bar.left, BAR_HEIGHT, 11 if call.is_event else 4,
        bar.left + 9, bar.middle + 4, number, _fitting_text(bar, witness),
    )  # fmt: skip


def _legend(
    witness: Witness, bars: Iterable[_Bar], width: float, top: float
) -> list[Markup]:
    """The full labels of the anomaly's operations that are longer than their bars."""
    lines: list[str] = []
    for bar in bars:
        call, text = bar.span.call, witness.whole(bar.span.call)
        if not call.is_event and text != _fitting_text(bar, witness):
            columns = int((width - 2 * MARGIN) / CHAR_WIDTH)
            lines += wrapped(f"{call.number}: {text}", columns).split("\n")
    return [
        Markup('<text class="legend" x="{}" y="{}">{}</text>').format(
            MARGIN, round(top + LINE_HEIGHT * n), line
        )
        for n, line in enumerate(lines, 1)
    ]


def _fitting_text(bar: _Bar, witness: Witness) -> str:
    """The label, longer than usual if the bar has room for it."""
    room = int((bar.right - bar.left - 26) / CHAR_WIDTH) - len(
        str(bar.span.call.number)
    )
    if bar.span.call.is_event or room <= len(bar.span.text):
        return bar.span.text
    return figures.clip(witness.text_of(bar.span.call, room), room)


def _tone(span: _Span, witness: Witness) -> str:
    """CSS classes: whether the call is the anomaly's own, and an event's decision."""
    own = "context" if span.position in witness.context else "own"
    decision = mapping(span.call.invoke.value).get("decision")
    decided = span.call.is_event and decision in ("commit", "abort")
    return f"{own} {decision}" if decided else own


def _said_of(call: Call, witness: Witness) -> str:
    """The operation in a sentence, to be shown when the pointer rests on it."""
    text = witness.whole(call)
    if call.is_event:
        fields = figures.value(call.invoke.value, 200)
        return f"{call.invoke.f} {fields} at {figures.moment(call.invoke.time)}"
    said = f"op {call.number}: {text}: {call.outcome}"
    if call.done is not None and call.invoke.time >= 0:
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
    """As much of the fault's title as there is room for."""
    text = fault.title + ("" if fault.effect != "no-effect" else " (no effect)")
    return figures.clip(text, max(4, int(max(inside, until_end) / CHAR_WIDTH) - 2))


def fault_class(kind: str) -> str:
    """The CSS class suffix for a kind of fault; "other" for one without a colour.

    The page's scripts draw by it, too.
    """
    head = kind.lower().split("-")[0].split("_")[0].split(" ")[0]
    return FAULT_CLASSES.get(head, "other")


FAULT_CLASSES = {
    **dict.fromkeys(("partition", "network", "link", "delay", "loss"), "network"),
    **dict.fromkeys(
        ("duplicate", "reorder", "corrupt", "bandwidth", "slow"), "network"
    ),
    **dict.fromkeys(("mtu", "reset", "half", "flap", "message"), "network"),
    **dict.fromkeys(("kill", "crash", "restart", "node"), "kill"),
    **dict.fromkeys(("pause", "stop", "freeze", "starve"), "pause"),
    **dict.fromkeys(("clock", "skew", "time"), "clock"),
    **dict.fromkeys(("disk", "fsync", "power", "file", "rot"), "disk"),
}


def _ticks(axis: _Axis, rows_bottom: float, spans: Iterable[_Span]) -> list[Markup]:
    """Times under the rows, at moments that leave room for them."""
    out: list[Markup] = []
    free_from = 0.0
    for ns in sorted({span.start for span in spans}):
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


def _breaks(axis: _Axis, rows_bottom: float) -> list[Markup]:
    """Marks where the axis jumps: much of the time, on a far smaller scale."""
    moments, xs = axis.moments[:-1], axis.xs[:-1]  # without the open end
    spans = list(zip(pairwise(moments), pairwise(xs), strict=True))
    scales = [(end - start) / (right - left) for (start, end), (left, right) in spans]
    out: list[Markup] = []
    for ((start, end), (left, right)), scale in zip(spans, scales, strict=True):
        share = (end - start) / (moments[-1] - moments[0])
        if share > BREAK_SHARE and scale > BREAK_SCALE * min(scales):
            out.append(
                Markup(
                    '<g class="break"><title>{}, drawn shorter than the rest</title>'
                    '<path d="M{:.1f} {:.1f}l6 -12m0 12l6 -12"/></g>'
                ).format(
                    figures.duration(end - start),
                    (left + right) / 2 - 6,
                    rows_bottom + 9,
                )
            )
    return out


def _free_spot(
    curve: tuple[Sequence[float], Sequence[float]],
    bars: Iterable[_Bar],
    taken: Sequence[tuple[float, float]],
) -> tuple[float, float]:
    """A place on a curve for a number, covering no other number and no label."""
    spots = [
        (_bezier(share, *curve[0]), _bezier(share, *curve[1])) for share in BADGE_SHARES
    ]
    inside = [
        (bar.left - 9, bar.right + 9, bar.top - 7, bar.bottom + 7) for bar in bars
    ]
    for x, y in spots:
        is_free = all(math.hypot(x - a, y - b) > BADGE_WIDTH for a, b in taken)
        if is_free and not any(a < x < b and c < y < d for a, b, c, d in inside):
            return x, y
    return spots[0]


def _arrow(
    edge: Edge,
    order: int,
    bars: dict[int, _Bar],
    taken: list[tuple[float, float]],
    number: int,
) -> _Arrow:
    """The drawing of an edge; the place of its number is added to `taken`."""
    source, target = bars[edge.source], bars[edge.target]
    css = edge_class(edge.kind)
    x1, x2 = _anchors(source, target, css)
    if source.top == target.top:
        y1 = y2 = source.bottom
        bend1 = bend2 = 26.0 + 9 * (order % 3)
    else:
        down = source.top < target.top
        y1, y2 = (source.bottom, target.top) if down else (source.top, target.bottom)
        bend1 = (y2 - y1) * 0.6
        bend2 = -bend1
    start, end = f"{x1:.1f} {y1:.1f}", f"{x2:.1f} {y2:.1f}"
    path = f"M{start}C{x1:.1f} {y1 + bend1:.1f} {x2:.1f} {y2 + bend2:.1f} {end}"
    is_numbered = edge.kind != MESSAGE
    said = f"{edge.kind}: {edge.reason}" if edge.reason else edge.kind
    if is_numbered:
        said = f"{order}. {said}"
    line = Markup(
        '<g class="edge {}"><title>{}</title>'
        '<path d="{}" marker-end="url(#head-{}-{})"/></g>'
    ).format(css, said, path, number, css)
    if not is_numbered:
        return _Arrow(line, Markup(""))
    curve = (x1, x1, x2, x2), (y1, y1 + bend1, y2 + bend2, y2)
    at_x, at_y = _free_spot(curve, bars.values(), taken)
    taken.append((at_x, at_y))
    badge = Markup(
        '<g class="edge {}"><title>{}</title><circle cx="{:.1f}" cy="{:.1f}" r="8.5"/>'
        '<text x="{:.1f}" y="{:.1f}">{}</text></g>'
    ).format(css, said, at_x, at_y, at_x, at_y + 3.8, order)
    return _Arrow(line, badge)


def _anchors(source: _Bar, target: _Bar, css: str) -> tuple[float, float]:
    """The x at which an arrow leaves and arrives: orders in time run end to start."""
    if css in {"edge-realtime", "edge-process"}:
        return source.right - 3, target.left + 3
    if css in {f"edge-{MESSAGE}", f"edge-{LOST}"}:
        # Short arrows: a message arrives at once, and a pill is wider than its moment.
        return source.left + 14, target.left + 10
    # Arrows in both directions between two bars stay apart: no line has two heads.
    ahead = source.left <= target.left
    leaves, arrives = (0.72, 0.3) if ahead else (0.2, 0.55)
    return (
        source.left + leaves * (source.right - source.left),
        target.left + arrives * (target.right - target.left),
    )


def _bezier(t: float, a: float, b: float, c: float, d: float) -> float:
    """One coordinate of a cubic Bezier curve."""
    u = 1 - t
    return u**3 * a + 3 * u * u * t * b + 3 * u * t * t * c + t**3 * d
