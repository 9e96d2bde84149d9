"""The chance of a run's failure over its time, as `splitbrain explain` measured it.

The picture has the rate at each moment with its interval, the faults that were in force
below, and the jump. It is SVG without scripts. why.json is untrusted, like all that
stands in a run folder: what is no number, or lies outside of a rate's bounds, is left
out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from harness.report import figures
from harness.report.folder import mapping, number, sequence, string, whole
from harness.report.spacetime import fault_class
from harness.report.story import lasted
from harness.run.store import Salvage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.report.folder import Fault, Recording

FILE = "why.json"
MOMENTS_MAX = 1000
AROUND_MAX = 200
FAULTS_MAX = 8

WIDTH = 1080
LEFT, RIGHT = 128, 1064
TOP, HEIGHT = 16, 150
FAULT_HEIGHT = 20
MARGIN = 16


class Chance(NamedTuple):
    """How many runs failed if chance changed at a moment; the bounds of 95 %."""

    at_ns: float
    hits: int
    runs: int
    lower: float
    upper: float

    @property
    def rate(self) -> float:
        """Hits per run."""
        return self.hits / self.runs

    @property
    def text(self) -> str:
        """The chance in words."""
        return (
            f"{self.hits} of {self.runs} runs, "
            f"rate {self.lower:.2f} to {self.upper:.2f}"
        )


class Around(NamedTuple):
    """Something that happened around the jump."""

    at_ns: float
    kind: str
    text: str


@dataclass(frozen=True)
class Chances:
    """What why.json holds.

    Attributes:
        chances: In the order of time; at least one.
        jump: The two between which the rate rises most; None if it doesn't rise.
        clear: Whether these two differ beyond doubt.
        around: What happened around the jump.
    """

    chances: Sequence[Chance]
    jump: tuple[Chance, Chance] | None
    clear: bool
    around: Sequence[Around]


def read(run_dir: Path) -> Chances | None:
    """What `splitbrain explain` found about a run; None if it found nothing yet."""
    if not (run_dir / FILE).exists():
        return None
    told = mapping(Salvage(run_dir).document(FILE))
    moments = sequence(told.get("moments"))[:MOMENTS_MAX]
    chances = sorted(filter(None, map(chance, moments)))
    if not chances:
        return None
    jump = mapping(told.get("jump"))
    ends = (chance(jump.get("before")), chance(jump.get("after")))
    around = [
        Around(
            number(each.get("at_s")) * 1e9,
            string(each.get("kind")),
            figures.clip(string(each.get("text")), 200),
        )
        for each in map(mapping, sequence(told.get("around"))[:AROUND_MAX])
    ]
    found = None if ends[0] is None or ends[1] is None else (ends[0], ends[1])
    return Chances(chances, found, jump.get("clear") is True, around)


def chance(thing: Any) -> Chance | None:
    """A moment of why.json; None if it is none."""
    told = mapping(thing)
    hits, runs = whole(told.get("hits")), whole(told.get("runs"))
    lower, upper = number(told.get("lower")), number(told.get("upper"))
    if not (0 <= hits <= runs and runs and 0 <= lower <= upper <= 1):
        return None
    return Chance(max(0.0, number(told.get("at_s"))) * 1e9, hits, runs, lower, upper)


def chart(found: Chances, folder: Recording) -> Markup:
    """The picture, as an <svg> element."""
    end_ns = max(folder.end_ns, found.chances[-1].at_ns, 1.0)

    def x(at_ns: float) -> float:
        return LEFT + (RIGHT - LEFT) * min(1.0, max(0.0, at_ns / end_ns))

    def y(rate: float) -> float:
        return TOP + HEIGHT * (1 - rate)

    upper = [f"{x(c.at_ns):.1f},{y(c.upper):.1f}" for c in found.chances]
    lower = [f"{x(c.at_ns):.1f},{y(c.lower):.1f}" for c in reversed(found.chances)]
    line = [f"{x(c.at_ns):.1f},{y(c.rate):.1f}" for c in found.chances]
    faults = [fault for fault in folder.faults if fault.applied][:FAULTS_MAX]
    bottom = TOP + HEIGHT + 24
    height = bottom + FAULT_HEIGHT * len(faults) + MARGIN
    parts = [grid(rate, y(rate)) for rate in (0.0, 0.5, 1.0)]
    parts += [tick(end_ns * at / 4, x(end_ns * at / 4)) for at in range(5)]
    if found.jump is not None:
        left, right = (x(each.at_ns) for each in found.jump)
        parts.append(
            Markup(
                '<rect class="jump" x="{:.1f}" y="{}" width="{:.1f}" height="{}"/>'
            ).format(left - 1, TOP, max(2.0, right - left + 2), bottom - TOP - 24)
        )
    outline = " ".join([*upper, *lower])
    parts.append(Markup('<polygon class="interval" points="{}"/>').format(outline))
    parts.append(Markup('<polyline class="rate" points="{}"/>').format(" ".join(line)))
    parts += [dot(each, x(each.at_ns), y(each.rate)) for each in found.chances]
    for row, fault in enumerate(faults):
        end = fault.start_ns + lasted(fault, folder.end_ns)
        parts.append(
            band(fault, x(fault.start_ns), x(end), bottom + FAULT_HEIGHT * row)
        )
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" class="chances" role="img" '
        'aria-label="The chance of the failure over the time of the run" '
        'viewBox="0 0 {} {}" width="{}" height="{}" '
        'style="max-width:100%;min-width:{}px">{}</svg>'
    ).format(WIDTH, height, WIDTH, height, WIDTH * 2 // 3, Markup("").join(parts))


def grid(rate: float, y: float) -> Markup:
    """A line at a rate."""
    return Markup(
        '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
        '<text class="row-name" x="{}" y="{:.1f}">{}</text>'
    ).format(LEFT, RIGHT, y, y, LEFT - 8, y + 4, f"{rate:.0%}")


def dot(found: Chance, x: float, y: float) -> Markup:
    """A moment in the picture."""
    return Markup(
        '<circle class="rate" cx="{:.1f}" cy="{:.1f}" r="3"><title>{}</title></circle>'
    ).format(x, y, f"{figures.moment(found.at_ns)}: {found.text}")


def tick(at_ns: float, x: float) -> Markup:
    """A moment below the picture."""
    where = "middle" if LEFT < x < RIGHT else "start" if x <= LEFT else "end"
    return Markup(
        '<text class="tick" x="{:.1f}" y="{}" text-anchor="{}">{}</text>'
    ).format(x, TOP + HEIGHT + 16, where, figures.moment(at_ns))


def band(fault: Fault, left: float, right: float, top: float) -> Markup:
    """A fault, from its start to its end."""
    return Markup(
        '<g class="fault fault-{}"><title>{}</title>'
        '<rect class="band" x="{:.1f}" y="{}" width="{:.1f}" height="{}" rx="3"/>'
        '<text class="row-name" x="{}" y="{}">{}</text></g>'
    ).format(
        fault_class(fault.kind),
        f"{fault.title} (from {figures.moment(fault.start_ns)})",
        left,
        top,
        max(6.0, right - left),
        FAULT_HEIGHT - 4,
        LEFT - 8,
        top + 12,
        figures.clip(fault.kind, 18),
    )
