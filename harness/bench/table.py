"""Figures for people: one table, then remarks on missed budgets and on noise."""

from __future__ import annotations

from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.bench.figures import Figure

PEER = "peer"
HEADINGS = ("", "budget", "median", "min-max", PEER, "ratio", "target")
GIBIBYTE_MIB = 1024.0


def quantity(value: float, unit: str) -> str:
    """A value with three digits and the unit that suits it: "53.1 ms", "1.5 GiB"."""
    if unit == "s" and 0 < value < 1e-3:
        value, unit = value * 1e6, "us"
    elif unit == "s" and 0 < value < 1:
        value, unit = value * 1e3, "ms"
    elif unit == "MiB" and value >= GIBIBYTE_MIB:
        value, unit = value / GIBIBYTE_MIB, "GiB"
    return f"{digits(value)} {unit}"


def digits(value: float) -> str:
    """Three significant digits, never in powers of ten: "0.0123", "1.23", "12,345"."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    text = f"{value:.3g}"
    return f"{value:.6f}" if "e" in text else text


def budget_text(figure: Figure) -> str:
    """The promise: "1 s", "800 ops/s or more", "10x the peer", "not slower"."""
    if figure.budget is None:
        return ""
    if figure.budget.kind == "not_slower":
        return "not slower"
    if figure.budget.kind == "times_faster":
        return f"{figure.budget.limit:g}x the peer"
    more = " or more" if figure.budget.kind == "at_least" else ""
    return quantity(figure.budget.limit, figure.unit) + more


def range_text(figure: Figure) -> str:
    """The smallest and the largest sample; empty for a single one."""
    if len(figure.samples) < 2:
        return ""
    low, high = (
        quantity(end, figure.unit) for end in (min(figure.samples), max(figure.samples))
    )
    low_number, _, low_unit = low.partition(" ")
    is_same_unit = high.endswith(f" {low_unit}")
    return f"{low_number if is_same_unit else low} - {high}"


def peer_text(figure: Figure) -> str:
    """The peer's figure, or why it has none."""
    peer = figure.peer
    if peer is None or (not peer.samples and not peer.remark):
        return ""
    if not peer.samples:
        return peer.remark
    return bound_mark(figure) + quantity(median(peer.turns), figure.unit)


def ratio_text(figure: Figure) -> str:
    """How many times as fast as the peer we are, or as small."""
    if figure.ratio is None or figure.peer is None:
        return ""
    return f"{bound_mark(figure)}{digits(figure.ratio)}x"


def bound_mark(figure: Figure) -> str:
    """A mark for a figure that is only a bound, as the peer gave up; else empty."""
    return "> " if figure.peer is not None and figure.peer.is_bound else ""


def within_text(figure: Figure) -> str:
    """Whether the budget is kept; in capitals if it is not."""
    if figure.budget is None:
        return ""
    if figure.within_budget is None and figure.budget.kind == "not_slower":
        return ""  # the peer takes no time worth beating, or is absent
    return {True: "met", False: "MISSED", None: "not known"}[figure.within_budget]


def cells(figure: Figure) -> tuple[str, ...]:
    """The figure as a line of the table."""
    if figure.median is None:
        return (figure.what, budget_text(figure), figure.remark, "", "", "", "")
    return (
        figure.what,
        budget_text(figure),
        quantity(figure.median, figure.unit),
        range_text(figure),
        peer_text(figure),
        ratio_text(figure),
        within_text(figure),
    )


def headings_for(figures: Sequence[Figure]) -> list[str]:
    """The headings; if there is one peer only, its column has its name."""
    peers = {figure.peer.name for figure in figures if figure.peer is not None}
    name = peers.pop() if len(peers) == 1 else PEER
    return [name if heading == PEER else heading for heading in HEADINGS]


def widths_of(headings: Sequence[str], figures: Sequence[Figure]) -> list[int]:
    """The width of each column; 0 for an empty one.

    A remark in place of figures extends to the right, so it widens no column.
    """
    widths = []
    for n, heading in enumerate(headings):
        filling = [cells(f)[n] for f in figures if n == 0 or f.samples]
        widest = max(map(len, filling), default=0)
        widths.append(max(widest, len(heading)) if widest else 0)
    return widths


def laid_out(line: Sequence[str], widths: Sequence[int]) -> str:
    """The line of the table with these cells."""
    padded = (
        cell.ljust(width)
        for cell, width in zip(line, widths, strict=True)
        if width or cell
    )
    return "  ".join(padded).rstrip()


def render(figures: Sequence[Figure]) -> str:
    """The table, with a part for each group; empty columns are left out."""
    shown = [figure for figure in figures if not figure.detail]
    headings = headings_for(shown)
    widths = widths_of(headings, shown)
    used = [name * bool(width) for name, width in zip(headings, widths, strict=True)]
    out = [laid_out(used, widths)]
    for group, members in groupby(shown, key=lambda f: f.name.partition("/")[0]):
        out += ["", group]
        out += [laid_out(cells(figure), widths) for figure in members]
    return "\n".join(out)


def remarks(figures: Sequence[Figure], load: float, cores: int) -> list[str]:
    """Remarks on budgets missed, budgets that can't be judged, and noise.

    Args:
        figures: All figures.
        load: Average number of runnable processes when the benchmark began.
        cores: How many processes can run at a time.
    """
    out = []
    missed = [figure for figure in figures if figure.within_budget is False]
    judged = [figure for figure in figures if figure.within_budget is not None]
    if missed:
        out.append(f"{len(missed)} of {len(judged)} budgets missed:")
        out += [f"  {missed_text(figure)}" for figure in missed]
    elif judged:
        out.append(f"Budgets kept: all {len(judged)}.")
    open_ = [
        figure
        for figure in figures
        if figure.waited and figure.within_budget is not True
    ]
    if open_:
        out.append("Held up by other work on the machine; processor time alone:")
        out += [
            f"  {figure.what}: {processor_text(figure)}"
            for figure in open_
            if figure.budget is not None and not figure.detail
        ]
    noisy = [figure for figure in figures if figure.noisy]
    if noisy or load > cores:
        out.append(
            f"{len(noisy)} of {len(figures)} figures varied by more than half; "
            f"the load was {load:.1f} on {cores} cores when this began. "
            "On a busy machine trust ratios and the smallest samples."
        )
    return out


def processor_text(figure: Figure) -> str:
    """Our processor time, and how many times as much the peer needs."""
    ours = quantity(median(figure.cpu), figure.unit)
    if figure.cpu_ratio is None:
        return ours
    return f"{ours}, {digits(figure.cpu_ratio)}x"


def missed_text(figure: Figure) -> str:
    """The budget that was missed, and the figure."""
    assert figure.median is not None
    found = quantity(figure.median, figure.unit)
    if figure.budget is not None and figure.budget.kind.endswith(("faster", "slower")):
        found = f"{ratio_text(figure)} ({found})"
    return f"{figure.what}: {found}, budget {budget_text(figure)}"
