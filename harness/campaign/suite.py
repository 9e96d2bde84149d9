"""Suites: many runs from one YAML file, each with the outcome it is expected to have.

    name: nightly
    defaults: {time_limit_s: 60, nemesis: [partition, kill]}
    rows:
      - {name: raft, system: raft, expect: valid}
      - name: raft local reads
        system: raft
        set: {reads: local}
        expect: invalid
        anomaly: stale-read     # optional: the anomaly that must be among those found
        seeds: 3                # optional: up to so many runs, until one is invalid
      - name: zab local reads are stale, yet sequential
        system: zab
        set: {reads: local, register.consistency: sequential}
        anomaly: stale-read     # of a checker whose promise the run does not ask for
        also: [availability]    # optional: more checkers whose verdicts don't count
        shows: {longest_outage_s: ">= 0.5"}     # optional: figures among the checkers'

A row is a pursuit (`harness.campaign.executor`): its seeds are run one after the other
until one decides the row. Several rows run side by side (`--jobs`).
"""

from __future__ import annotations

import datetime
import functools
import itertools
import operator
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from harness.campaign.carrying import keep
from harness.campaign.coverage import Coverage
from harness.campaign.executor import noted, pursue
from harness.campaign.experiment import Experiment
from harness.campaign.processes import Processes
from harness.errors import (
    EXIT_HARNESS,
    EXIT_INVALID,
    EXIT_UNKNOWN,
    EXIT_USAGE,
    EXIT_VALID,
    NotInstalledError,
    UsageError,
)
from harness.host import documents, interrupts
from harness.host.documents import making_room
from harness.registry import nearest
from harness.run import monitor
from harness.run.asking import NO_FAULTS
from harness.run.assembling import assemble, refuse_absent_disks
from harness.run.completing import complete
from harness.run.spec import PlanData, TestSpec, usual_nodes
from harness.run.store import RUN_NAME, point
from harness.visible import visible_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.campaign.executor import Pursuit
    from harness.campaign.outcome import Outcome

VERDICTS = ("valid", "skipped", "not run", "unknown", "error", "invalid")
"""The outcomes of a row; those that say more about the system come later."""


class Row(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One row of a suite file: the fields of a TestSpec, and the expected outcome.

    `expect` is None only in a row that stands for one seed of `run --seeds`.

    Unless `until_invalid` says otherwise, a row that expects invalid ends once it is
    known to be so, by its anomaly if it names one; figures are those of whole runs.

    `source` and `control` tell readers where a weakness was published, and which other
    row is its mended or stricter version, which has to stay valid.
    """

    name: str
    system: str
    expect: Literal["valid", "invalid"] | None = "valid"
    anomaly: str | None = None
    seeds: int = 1
    workload: str = "register"
    nemesis: list[str] = []
    nodes: int | None = None
    concurrency: int = 10
    rate: float | None = None
    op_timeout_s: float | None = None
    time_limit_s: float = 60.0
    ops: int | None = None
    seed: int = 0
    set: dict[str, str | int | float | bool] = {}
    plan: PlanData | None = None
    world: Literal["os", "sim"] = "os"
    mutant: str | None = None
    network: Literal["auto", "switch", "proxy"] = "auto"
    also: list[str] = []
    node_data_mb: int = 4000
    node_log_mb: int = 64
    watchdog: bool = False
    pcap: bool = False
    until_invalid: bool | None = None
    until_anomaly: list[str] = []
    shows: dict[str, str] = {}
    source: str = ""
    control: str | None = None

    @property
    def kinds(self) -> list[str]:
        """The kinds of fault asked for, or else those of the written plan."""
        steps = [step.get("fault") for step in self.plan or ()]
        planned = [fault.get("kind") for fault in steps if isinstance(fault, dict)]
        return self.nemesis or sorted({str(kind) for kind in planned})

    def experiment(self, seed: int) -> Experiment:
        """The run that this row asks for, with `seed`.

        A mutant's workload and options are taken from its declaration, but not its
        faults: a row that names none has none.

        Raises:
            UsageError: There is no such system or mutant, or `plan` is no fault plan.
        """
        fields = {
            name: getattr(self, name)
            for name in TestSpec.__struct_fields__
            if hasattr(self, name)
        }
        options = {name: option_text(value) for name, value in self.set.items()}
        nodes = usual_nodes(self.system) if self.nodes is None else self.nodes
        fields |= {"nodes": nodes, "seed": seed, "options": options}
        if self.until_invalid is None:
            ends_early = self.expect == "invalid" and not self.shows
            fields["until_invalid"] = ends_early or bool(self.until_anomaly)
        if fields["until_invalid"] and self.anomaly and not self.until_anomaly:
            fields["until_anomaly"] = [self.anomaly]
        spec = TestSpec(**fields)
        spec.nemesis = spec.nemesis or [NO_FAULTS]
        complete(spec, planned=self.plan is not None)
        return Experiment(spec, self.plan)


class Suite(msgspec.Struct, forbid_unknown_fields=True):
    """A suite file; its rows are read one by one, so that errors name the row."""

    name: str
    rows: list[dict[str, object]]
    defaults: dict[str, object] = {}


ROWS_MAX = 10_000

BUNDLED = Path(__file__).parents[1] / "suites"
"""Suites that come with splitbrain; named without their ending."""


def find(path: Path) -> Path:
    """The file that `path` means: itself, or a bundled suite of that name.

    Raises:
        UsageError: There is neither a file nor a suite of that name.
    """
    bundled = BUNDLED / f"{path}.yaml"
    if path.exists():
        return path
    if bundled.is_file():
        return bundled
    names = sorted(file.stem for file in BUNDLED.glob("*.yaml"))
    raise UsageError(
        f"there is no suite file {path}{nearest(str(path), names)} "
        f"(suites that come with splitbrain: {', '.join(names)})"
    )


def option_text(value: str | float | bool) -> str:
    """A YAML value as the text that `--set` would have given."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class RowResult:
    """The result of a row: the last run's outcome, and whether it was as expected.

    Attributes:
        seed: The seed of the last run.
        runs: How many runs there were.
        outcome: The last run's outcome; None if an interrupt came before the row, or
            this machine can't run it.
        absent: Why this machine can't run it; empty if it can.
    """

    row: Row
    seed: int
    runs: int = 0
    outcome: Outcome | None = None
    absent: str = ""

    @property
    def verdict(self) -> str:
        """One of VERDICTS."""
        if self.absent:
            return "skipped"
        return "not run" if self.outcome is None else self.outcome.verdict

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
        if self.outcome is None or not self.outcome.died:
            return ""
        return f"run again, as the process of the first try {self.outcome.died}"

    @property
    def as_expected(self) -> bool:
        """Whether verdict, anomaly and figures are those that the row asks for."""
        return self.verdict == (self.row.expect or "valid") and not self.missing

    @property
    def interrupted(self) -> str:
        """How an interrupt kept the row from an outcome; "" if none did."""
        if self.absent:
            return ""
        if self.outcome is None:
            return "not run: the suite was interrupted"
        cut_off = self.verdict == "unknown" and self.outcome.interrupted
        return self.outcome.reason if cut_off else ""

    @property
    def skipped(self) -> str:
        """Why the row has no outcome; "" if it has one."""
        return self.absent or self.interrupted

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

    def cut_short(self) -> RowResult:
        """The result of a row whose other seeds an interrupt came before."""
        assert self.outcome is not None
        reason = f"interrupted after {self.runs} of {self.row.seeds} seeds"
        cut = msgspec.structs.replace(
            self.outcome, verdict="unknown", reason=reason, interrupted=True
        )
        return replace(self, outcome=cut)

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

    def as_json(self) -> dict[str, object]:
        """The result for the index, JUnit and --json."""
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
            "faults": {} if outcome is None else msgspec.to_builtins(outcome.faults),
            "ops": {} if outcome is None else outcome.ops,
            "seconds": 0.0 if outcome is None else outcome.run_s,
            "convicted_s": None if outcome is None else outcome.convicted_s,
            "seed": self.seed,
            "runs": self.runs,
            "run": "" if outcome is None else outcome.folder,
            "repro": "" if outcome is None else outcome.repro,
            "error": self.error,
            "skipped": self.skipped,
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
    match = re.fullmatch(r"(>=|<=|=)\s*(-?\d+(?:\.\d+)?)", text.strip())
    if match is None:
        raise UsageError(f"shows: {text!r}: write a condition as '>= 3', '<= 3', '= 3'")
    compare, bound = COMPARISONS[match[1]], float(match[2])
    return lambda figure: compare(figure, bound)


def load(path: Path) -> tuple[str, list[Row]]:
    """A suite's name and rows.

    Raises:
        UsageError: Names the file, the row and what is wrong with it.
    """
    try:
        suite = msgspec.convert(documents.read_yaml(path), Suite)
    except msgspec.ValidationError as problem:
        raise UsageError(f"{path}: {problem}") from None
    if len(suite.rows) > ROWS_MAX:
        raise UsageError(f"{path}: {len(suite.rows)} rows; at most {ROWS_MAX}")
    rows = []
    for number, data in enumerate(suite.rows, start=1):
        where = f"{path}: row {number} ({data.get('name', 'no name')!s:.60})"
        try:
            rows.append(msgspec.convert({**suite.defaults, **data}, Row))
        except msgspec.ValidationError as problem:
            raise UsageError(f"{where}: {problem}") from None
        if rows[-1].expect is None:
            raise UsageError(f"{where}: expect must be valid or invalid")
        if rows[-1].seeds < 1:
            raise UsageError(f"{where}: seeds must be 1 or more")
        for text in rows[-1].shows.values():
            try:
                condition(text)
            except UsageError as problem:
                raise UsageError(f"{where}: {problem}") from None
    if not rows:
        raise UsageError(f"{path}: the suite has no rows")
    for name, count in Counter(row.name for row in rows).items():
        if count > 1:
            raise UsageError(f"{path}: two rows are called {name!r}")
    valid = {row.name for row in rows if row.expect == "valid"}
    for row in rows:
        if row.control is not None and row.control not in valid:
            raise UsageError(
                f"{path}: row {row.name!r}: no row that is to be valid is called "
                f"{row.control!r}, its control{nearest(row.control, valid)}"
            )
    return suite.name, rows


def seed_row(experiment: Experiment, seed: int) -> Row:
    """A row that runs an experiment with another seed."""
    spec = experiment.spec
    fields = {f: getattr(spec, f) for f in Row.__struct_fields__ if hasattr(spec, f)}
    fields |= {"name": f"seed {seed}", "seed": seed, "set": dict(spec.options)}
    return Row(**fields, plan=experiment.plan)


def suite_folder(results: Path, name: str) -> Path:
    """A new folder for a suite's index, below `results`."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
    parent = results.absolute() / "suites"
    folder = parent / f"{stamp}Z-{RUN_NAME.sub('_', name)}"
    with making_room(f"results to {results}"):
        folder.mkdir(parents=True)
        point(parent / "latest", folder)
    return folder


def check_row(row: Row, source: Path) -> RowResult | None:
    """Check that a row's run is possible, before any row is run.

    Returns:
        None if it can be run; a skipped result if this machine lacks the program or
        library that its system needs, or the disks that its faults need.

    Raises:
        UsageError: Names the file, the row and what is wrong with it.
    """
    try:
        spec = row.experiment(row.seed).spec
        parts = assemble(spec)
        if row.until_anomaly:
            monitor.refuse_unknown(spec, parts.system.invariants)
        refuse_absent_disks(spec, parts)
    except NotInstalledError as lack:
        return RowResult(row, row.seed, absent=str(lack))
    except UsageError as problem:
        raise UsageError(f"{source}: row {row.name!r}: {problem}") from None
    return None


class Runner:
    """Runs rows, several at a time.

    A stop signal (`harness.host.interrupts`) ends the runs under way, and no others
    start; a signal that insists kills them.

    Args:
        results: The folder for run folders.
        done: Called with the result of each row as it ends.
        stop_early: Whether the first verdict that isn't valid ends the other runs, too;
            their outcomes are dropped.

    Attributes:
        interrupted: Whether a stop signal came.
        coverage: How often the faults of all runs bit.
    """

    def __init__(
        self,
        results: Path,
        *,
        done: Callable[[RowResult], None],
        stop_early: bool = False,
    ) -> None:
        self.interrupted = False
        self.coverage = Coverage()
        self._results = results
        self._done = done
        self._stop_early = stop_early
        self._stopping = False

    def run(self, rows: Sequence[Row], jobs: int) -> list[RowResult]:
        """Run every row, `jobs` at a time; rows without a result are left out."""
        found: dict[int, RowResult] = {}
        carry_out = functools.partial(keep, self._results)
        with interrupts.noted() as stop, Processes(carry_out, jobs) as executor:

            def interrupt() -> None:
                self.interrupted = self._stopping = True
                executor.cancel()

            stop.listen(interrupt, executor.kill)
            begun = itertools.takewhile(lambda _: not self._stopping, rows)
            pursuits = (noted(self._pursue(row), self.coverage.add) for row in begun)
            for place, result in pursue(executor, pursuits, jobs):
                if result is None or (self._stopping and not self.interrupted):
                    continue
                found[place] = result
                if self._stop_early and result.verdict != "valid":
                    self._stopping = True
                    executor.cancel()
                self._done(result)
        return [found[place] for place in sorted(found)]

    def _pursue(self, row: Row) -> Pursuit[RowResult | None]:
        """Run a row's seeds in turn.

        Stop at the first seed whose verdict is not valid, or which shows the anomaly or
        figures that the row asks for.

        Returns:
            The result; None if an interrupt came before there was one.
        """
        result = None
        for runs, seed in enumerate(range(row.seed, row.seed + row.seeds), start=1):
            outcome = None if self._stopping else (yield row.experiment(seed))
            if outcome is None:
                break
            result = RowResult(row, seed, runs, outcome)
            wanted = row.anomaly is not None or bool(row.shows)
            if result.verdict != "valid" or (wanted and result.as_expected):
                return result
        if result is None or result.runs == row.seeds:
            return result
        return result.cut_short()


def with_those_not_run(
    rows: Sequence[Row], found: Sequence[RowResult]
) -> list[RowResult]:
    """A result for every row, in the order of the rows."""
    by_name = {result.row.name: result for result in found}
    return [by_name.get(row.name, RowResult(row, row.seed)) for row in rows]


def exit_status(results: Iterable[RowResult]) -> int:
    """The exit status of a suite: 0 if all runs came out as expected, else the gravest.

    A harness fault (255) outranks an unexpected verdict (1), and that outranks unknown
    (2). Unknown is also the status of a row that was interrupted or never run, and of a
    suite of which this machine could run nothing.
    """
    told = [result for result in results if not result.absent]
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
        *("ok ops", "s", "convicted s", "found"),
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
    if not notes and outcome is not None:
        notes = [outcome.reason]
    return (
        result.row.name,
        ",".join(result.row.kinds) or "-",
        " ".join(filter(None, [result.row.expect, result.row.anomaly])),
        result.verdict,
        result.mark,
        f"{0 if outcome is None else outcome.ops.get('ok', 0)}",
        f"{0.0 if outcome is None else outcome.run_s:.0f}",
        convicted_s(outcome),
        "; ".join(notes)[:80],
    )


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
    }
    told = [f"{n} {how}" for how, n in counts.items() if n or how == "as expected"]
    return f"{len(results)} row{'s' * (len(results) != 1)}: {', '.join(told)}"


def cpu_jobs() -> int:
    """How many runs go side by side on this machine: one per two cores."""
    return max(1, (os.cpu_count() or 1) // 2)
