"""Activation coverage: how often each fault that a campaign asked for did its work.

A campaign proves nothing about faults that never bit. Kinds of fault are counted over
all its runs, and the knobs of each kind apart (`Fault.knobs`): that power failed says
little about torn writes. A fault that is refused is never asked for, and not counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.faults.profiles import SWARM
from harness.report.figures import plural
from harness.run.asking import WORDS
from harness.run.records import Activation, FaultRecord
from harness.visible import visible_line

if TYPE_CHECKING:
    from harness.campaign.outcome import Outcome

HEADINGS = ("what was broken", "asked", "applied", "bit", "bit in runs", "else")
ELSE = ("no_effect", "indeterminate", "skipped", "failed", "not_reached")


@dataclass
class Line:
    """One kind of fault, or one knob of it, over all runs.

    Attributes:
        kind: The kind of fault.
        knob: The knob; None for the whole kind.
        counts: Their sums over all runs; of a knob, only those of `Activation`.
        runs: The runs that had this kind of fault among their nemeses.
        bit_in: In how many of these it bit.
    """

    kind: str
    knob: str | None = None
    counts: FaultRecord = field(default_factory=FaultRecord)
    runs: int = 0
    bit_in: int = 0

    @property
    def name(self) -> str:
        """Kind and knob: "power torn"."""
        return visible_line(f"{self.kind} {self.knob or ''}".rstrip())

    @property
    def reached(self) -> int:
        """How many faults had their turn in the plan."""
        return self.counts.asked - self.counts.not_reached

    @property
    def share(self) -> str:
        """In how many runs it bit: "8 of 11, 73 %"."""
        return f"{self.bit_in} of {self.runs}, {self.bit_in / max(1, self.runs):.0%}"

    @property
    def otherwise(self) -> str:
        """What became of those that did not bite: "2 skipped, 1 no effect"."""
        counted = ((getattr(self.counts, name), name) for name in ELSE)
        return ", ".join(f"{n} {name.replace('_', ' ')}" for n, name in counted if n)

    def add(self, told: Activation) -> None:
        """Count the faults of one run."""
        for name in told.__struct_fields__:
            if isinstance(number := getattr(told, name), int):
                setattr(self.counts, name, getattr(self.counts, name) + number)
        self.bit_in += told.bit > 0

    def cells(self) -> tuple[str, ...]:
        """The line's row of the table."""
        numbers = (self.counts.asked, self.counts.applied, self.counts.bit)
        name = self.name if self.knob is None else f"  {visible_line(self.knob)}"
        return (name, *map(str, numbers), self.share, self.otherwise)

    def as_json(self) -> dict[str, object]:
        """The line for --json, suite.json and the index."""
        counts = self.counts
        kinds_only = {name: getattr(counts, name) for name in ("healed", *ELSE)}
        return {
            "kind": self.kind,
            "knob": self.knob,
            "asked": counts.asked,
            "applied": counts.applied,
            "bit": counts.bit,
            "runs": self.runs,
            "bit_in_runs": self.bit_in,
            **(kinds_only if self.knob is None else {}),
        }


class Coverage:
    """The activation coverage of a campaign; `add` takes in the outcomes of its runs.

    Attributes:
        runs: How many runs were counted.
    """

    def __init__(self) -> None:
        self.runs = 0
        self._kinds: dict[str, Line] = {}
        self._knobs: dict[tuple[str, str], Line] = {}

    def add(self, outcome: Outcome) -> None:
        """Count the faults of one run; one that was refused had none."""
        if outcome.refused:
            return
        self.runs += 1
        spec = outcome.experiment.spec
        # A swarm leaves most kinds out that it could have drawn.
        drawn = SWARM in (*spec.profile, *spec.nemesis)
        named = set() if drawn else set(spec.nemesis) - set(WORDS)
        for kind in sorted(named | set(outcome.faults)):
            line = self._kinds.setdefault(kind, Line(kind))
            line.runs += 1
            told = outcome.faults.get(kind, FaultRecord())
            line.add(told)
            for knob, activation in told.knobs.items():
                of_knob = self._knobs.setdefault((kind, knob), Line(kind, knob))
                of_knob.add(activation)

    @property
    def lines(self) -> list[Line]:
        """Kinds by name, each with its knobs by name behind it."""
        for (kind, _), line in self._knobs.items():
            line.runs = self._kinds[kind].runs
        lines = [*self._kinds.values(), *self._knobs.values()]
        return sorted(lines, key=lambda line: (line.kind, line.knob or ""))

    @property
    def never(self) -> list[Line]:
        """Those that were asked for, and never bit."""
        return [line for line in self.lines if line.reached and not line.counts.bit]

    @property
    def sentence(self) -> str:
        """Which kinds and knobs never bit; empty if there were no faults."""
        if not self.lines:
            return ""
        never, runs = self.never, plural(self.runs, "run")
        told = f"in {runs}, every kind of fault and every knob bit"
        if never:
            kinds = sum(line.knob is None for line in never)
            counted = [
                plural(count, what)
                for count, what in ((kinds, "kind"), (len(never) - kinds, "knob"))
                if count
            ]
            names = ", ".join(line.name for line in never)
            told = f"in {runs}, {' and '.join(counted)} never bit: {names}"
        missed = [line.name for line in self.lines if not line.reached]
        if not missed:
            return told
        if len(missed) == len(self.lines):
            return f"in {runs}, no fault had a turn"
        number = plural(len(missed), "kind")
        return f"{told}; {number} never had a turn: {', '.join(missed)}"

    def as_json(self) -> dict[str, object]:
        """The coverage for --json, suite.json and the index."""
        return {
            "runs": self.runs,
            "faults": [line.as_json() for line in self.lines],
            "never_bit": [line.name for line in self.never],
            "sentence": self.sentence,
        }

    def text(self) -> str:
        """The table for terminals, and the sentence; empty if there were no faults."""
        lines = self.lines
        if not lines:
            return ""
        body = [HEADINGS, *(line.cells() for line in lines)]
        widths = [max(len(row[i]) for row in body) for i in range(len(HEADINGS))]
        right = range(1, 4)
        told = [
            "  ".join(
                cell.rjust(width) if i in right else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in body
        ]
        told.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([*told, "", self.sentence])
