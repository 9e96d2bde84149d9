"""What came of a suite's rows, and what that means for its exit status."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from harness.errors import (
    EXIT_HARNESS,
    EXIT_INVALID,
    EXIT_UNKNOWN,
    EXIT_USAGE,
    EXIT_VALID,
    UsageError,
)
from harness.visible import visible_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.campaign.outcome import Outcome
    from harness.campaign.suites.rows import Row

VERSION = 1
"""The version of suite.json."""

VERDICTS = ("valid", "skipped", "not run", "unknown", "error", "invalid")
"""The outcomes of a row; those that say more about the system come later."""


@dataclass(frozen=True)
class RowResult:
    """The result of a row: its runs, of which the last one decided it.

    Attributes:
        outcomes: The outcomes of its runs, a seed each, in order.
        retried: Those in which the harness failed and which were tried again.
        absent: Why this machine can't run it; empty if it can.
        unrun: Why none of its runs began, though it can be run; empty if one did.
        cut: Why it lacks runs, without which it is not decided; empty if it is.
    """

    row: Row
    outcomes: tuple[Outcome, ...] = ()
    retried: tuple[Outcome, ...] = ()
    absent: str = ""
    unrun: str = ""
    cut: str = ""

    @property
    def outcome(self) -> Outcome | None:
        """The outcome that decides; None if there was no run."""
        return self.outcomes[-1] if self.outcomes else None

    @property
    def seed(self) -> int | None:
        """The seed of the run that decides."""
        if self.outcome is not None:
            return self.outcome.experiment.spec.seed
        return self.row.seed if isinstance(self.row.seed, int) else None

    @property
    def verdict(self) -> str:
        """One of VERDICTS."""
        if self.absent:
            return "skipped"
        if self.outcome is None:
            return "not run"
        return "unknown" if self.cut else self.outcome.verdict

    @property
    def anomalies(self) -> list[str]:
        """Names of the anomalies found, each once."""
        return [] if self.outcome is None else self.outcome.anomalies

    @property
    def found(self) -> str:
        """The anomalies with their numbers, as text; "" if there are none."""
        return "" if self.outcome is None else self.outcome.found

    @property
    def error(self) -> str:
        """The failures of the harness, in a line; "" if there are none."""
        return "" if self.outcome is None else "; ".join(self.outcome.errors)

    @property
    def died(self) -> str:
        """A clause saying that the run is a second try, and why; "" if it is none."""
        told = []
        if self.outcome is not None and self.outcome.died:
            died = self.outcome.died
            told.append(f"run again, as the process of the first try {died}")
        told += [
            f"seed {one.experiment.spec.seed} run again, as the harness failed: "
            f"{one.reason}"
            for one in self.retried
        ]
        return "; ".join(told)

    @property
    def as_expected(self) -> bool:
        """Whether verdict, anomaly and figures are those that the row asks for."""
        return self.verdict == (self.row.expect or "valid") and not self.missing

    @property
    def interrupted(self) -> str:
        """How an interrupt kept the row from an outcome; "" if none did."""
        if self.absent or self.unrun:
            return ""
        if self.outcome is None:
            return "not run: the suite was interrupted"
        if self.cut:
            return self.cut
        cut_off = self.verdict == "unknown" and self.outcome.interrupted
        return self.outcome.reason if cut_off else ""

    @property
    def skipped(self) -> str:
        """Why the row has no outcome; "" if it has one."""
        return self.absent or self.unrun or self.interrupted

    @property
    def mark(self) -> str:
        """Whether it was as expected, in a word or two; "" without an outcome."""
        if self.skipped:
            return ""
        return "as expected" if self.as_expected else "UNEXPECTED"

    @property
    def notes(self) -> list[str]:
        """Clauses to stand beside the verdict."""
        told = (*self.missing, self.error, self.skipped, self.died)
        return [note for note in told if note]

    @property
    def line(self) -> str:
        """The result in a line, to be printed when the row has ended."""
        found = f" ({self.found})" if self.found else ""
        how = ", ".join(filter(None, [f"{self.verdict}{found}", self.mark]))
        return ": ".join(filter(None, [self.row.name, how, "; ".join(self.notes)]))

    @property
    def missing(self) -> list[str]:
        """Clauses on the anomaly and figures that the row asks for and lacks."""
        if self.skipped:
            return []
        figures = {} if self.outcome is None else self.outcome.figures
        missing = [
            f"{name} is {figures.get(name, 'not told')}, not {text}"
            for name, text in self.row.shows.items()
            if name not in figures or not condition(text)(figures[name])
        ]
        if self.row.anomaly is not None and self.row.anomaly not in self.anomalies:
            missing.append(f"no {self.row.anomaly} was found")
        return missing

    def decided(self) -> bool:
        """Whether no further run can change what is told of the row."""
        if self.verdict != "valid":
            return True
        wanted = self.row.anomaly is not None or bool(self.row.shows)
        return wanted and self.as_expected

    def after(self, outcome: Outcome) -> RowResult:
        """The result with one more run."""
        return replace(self, outcomes=(*self.outcomes, outcome), unrun="")

    def as_json(self) -> dict[str, object]:
        """The result for suite.json, the index, JUnit and --json."""
        outcome = self.outcome
        return {
            "name": self.row.name,
            "system": self.row.system,
            "workload": self.row.workload,
            "nemesis": self.row.kinds,
            "expected": self.row.expect,
            "source": self.row.source,
            "control": self.row.control,
            "verdict": self.verdict,
            "as_expected": None if self.skipped else self.as_expected,
            "why": "; ".join(self.missing),
            "anomalies": self.anomalies,
            "found": self.found,
            "sentence": "" if outcome is None else outcome.sentence,
            "faults": {} if outcome is None else msgspec.to_builtins(outcome.faults),
            "ops": {} if outcome is None else outcome.ops,
            "seconds": 0.0 if outcome is None else outcome.run_s,
            "convicted_s": None if outcome is None else outcome.convicted_s,
            "seed": self.seed,
            "runs": len(self.outcomes),
            "run": "" if outcome is None else outcome.folder,
            "repro": "" if outcome is None else outcome.repro,
            "error": self.error,
            "harness_failures": sum(
                one.verdict == "error" for one in (*self.retried, *self.outcomes)
            ),
            "retried": [one.reason for one in self.retried],
            "skipped": self.skipped,
            "seeds": [self._seed_as_json(one) for one in self.outcomes],
        }

    def _seed_as_json(self, one: Outcome) -> dict[str, object]:
        """One run, as JUnit and baselines need it."""
        alone = RowResult(self.row, (one,), cut=self.cut if one is self.outcome else "")
        return {
            "seed": one.experiment.spec.seed,
            "verdict": alone.verdict,
            "as_expected": alone.as_expected,
            "decides": one is self.outcome,
            "anomalies": one.anomalies,
            "found": one.found,
            "sentence": one.sentence,
            "fingerprints": [
                msgspec.to_builtins(mark) for mark in sorted(one.fingerprints)
            ],
            "reason": one.reason,
            "why": "; ".join(alone.missing),
            "error": "; ".join(one.errors),
            "interrupted": one.interrupted,
            "ops": one.ops,
            "latency_ms": one.latency_ms,
            "seconds": one.run_s,
            "took_s": one.seconds,
            "convicted_s": one.convicted_s,
            "bit": sorted(kind for kind, told in one.faults.items() if told.bit),
            "run": one.folder,
            "repro": one.repro,
        }


COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "=": operator.eq,
}


def condition(text: str) -> Callable[[float], bool]:
    """A test of a figure, from a text such as ">= 3".

    Raises:
        UsageError: The text is no such condition.
    """
    match = re.fullmatch(r"(>=|<=|=)\s*(-?\d{1,18}(?:\.\d{1,18})?)", text.strip())
    if match is None:
        raise UsageError(
            f"shows: {text[:60]!r}: write a condition as '>= 3', '<= 3', '= 3'"
        )
    compare, bound = COMPARISONS[match[1]], float(match[2])
    return lambda figure: compare(figure, bound)


def with_those_not_run(
    rows: Sequence[Row], found: Iterable[RowResult]
) -> list[RowResult]:
    """A result for every row, in the order of the rows."""
    by_name = {result.row.name: result for result in found}
    return [by_name.get(row.name, RowResult(row)) for row in rows]


def exit_status(results: Iterable[RowResult]) -> int:
    """The exit status of a suite: 0 if all runs came out as expected, else the gravest.

    A harness fault (255) outranks an unexpected verdict (1), and that outranks unknown
    (2). Unknown is also the status of a row that was interrupted, and of a suite of
    which nothing was run. Rows that this machine can't run, and rows for which there
    was no time, don't count.
    """
    told = [result for result in results if not result.absent and not result.unrun]
    worst = EXIT_VALID if told else EXIT_UNKNOWN
    rank = [EXIT_VALID, EXIT_UNKNOWN, EXIT_INVALID, EXIT_USAGE, EXIT_HARNESS]
    for result in told:
        if result.as_expected:
            continue
        refused = result.outcome is not None and result.outcome.refused
        status = {
            "error": EXIT_USAGE if refused else EXIT_HARNESS,
            "unknown": EXIT_UNKNOWN,
            "not run": EXIT_UNKNOWN,
        }.get(result.verdict, EXIT_INVALID)
        worst = max(worst, status, key=rank.index)
    return worst


def table(results: Sequence[RowResult]) -> str:
    """The verdict table, for terminals."""
    header = (
        *("row", "nemesis", "expected", "verdict", ""),
        *("seeds", "harness", "ok ops", "s", "convicted s", "found"),
    )
    body = [header, *(tuple(map(visible_line, cells(r))) for r in results)]
    widths = [max(len(line[i]) for line in body) for i in range(len(header))]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in body
    ]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)


def cells(result: RowResult) -> tuple[str, ...]:
    """A row of the verdict table."""
    outcome = result.outcome
    notes = [note for note in (result.found, *result.notes) if note]
    failures = [one for one in (*result.retried, *result.outcomes) if one.errors]
    if not notes and outcome is not None:
        notes = [outcome.reason]
    return (
        result.row.name,
        ",".join(result.row.kinds) or "-",
        " ".join(filter(None, [result.row.expect, result.row.anomaly])),
        result.verdict,
        result.mark,
        _seeds(result),
        f"{len(failures)} failed" if failures else "",
        f"{0 if outcome is None else outcome.ops.get('ok', 0)}",
        f"{0.0 if outcome is None else outcome.run_s:.0f}",
        convicted_s(outcome),
        "; ".join(notes)[:80],
    )


def _seeds(result: RowResult) -> str:
    """The seeds that were run: "7", or "7 to 9"."""
    seeds = [one.experiment.spec.seed for one in result.outcomes]
    return " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1])))) if seeds else "-"


def convicted_s(outcome: Outcome | None) -> str:
    """When a run was known to be invalid, in seconds; "-" if it was not before its end.

    A row whose run was not to be judged while it lasts has none either.
    """
    when = None if outcome is None else outcome.convicted_s
    return "-" if when is None else f"{when:.1f}"


def summary(results: Sequence[RowResult]) -> str:
    """The last line: how many rows came out as expected, and how many did not.

    `3 rows: 1 as expected, 1 unexpected, 1 skipped`; other counts than the first are
    left out if they are zero.
    """
    marks = [result.mark for result in results]
    counts = {
        "as expected": marks.count("as expected"),
        "unexpected": marks.count("UNEXPECTED"),
        "interrupted": sum(bool(result.interrupted) for result in results),
        "skipped": sum(bool(result.absent) for result in results),
        "not run": sum(bool(result.unrun) for result in results),
    }
    told = [f"{n} {how}" for how, n in counts.items() if n or how == "as expected"]
    return f"{len(results)} row{'s' * (len(results) != 1)}: {', '.join(told)}"
