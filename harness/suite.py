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

Every run is a process of its own, so that nothing of one (a crash, a leak, an event
loop) reaches another, and so that several can go side by side (`--jobs`).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import json
import operator
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import yaml

from harness import documents, interrupts
from harness.errors import (
    EXIT_HARNESS,
    EXIT_INVALID,
    EXIT_UNKNOWN,
    EXIT_USAGE,
    EXIT_VALID,
    NotInstalledError,
    UsageError,
)
from harness.osworld import kernel
from harness.registry import nearest
from harness.report import tally
from harness.sim.batch import SeedResult
from harness.spec import TestSpec, assemble
from harness.store import RUN_NAME, point
from harness.visible import visible_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.interrupts import Interrupts

VERDICTS = ("valid", "skipped", "not run", "unknown", "error", "invalid")
"""What can come of a row; what says more about the system comes later."""


class Row(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One row of a suite file; the fields of a TestSpec, and what to expect.

    Rows of a file expect something; one that is a seed of a run may not (None).
    """

    name: str
    system: str
    expect: Literal["valid", "invalid"] | None = "valid"
    anomaly: str | None = None
    seeds: int = 1
    workload: str = "register"
    nemesis: list[str] = []
    nodes: int = 5
    concurrency: int = 10
    rate: float | None = None
    time_limit_s: float = 60.0
    ops: int | None = None
    seed: int = 0
    set: dict[str, str | int | float | bool] = {}
    plan: list[dict[str, Any]] | None = None
    world: Literal["os", "sim"] = "os"
    mutant: str | None = None
    network: Literal["auto", "switch", "proxy"] = "auto"
    also: list[str] = []
    node_data_mb: int = 4000
    node_log_mb: int = 64
    shows: dict[str, str] = {}

    @property
    def kinds(self) -> list[str]:
        """Kinds of fault: those asked for, else those of the written plan."""
        steps = [step.get("fault") for step in self.plan or ()]
        planned = [fault.get("kind") for fault in steps if isinstance(fault, dict)]
        return self.nemesis or sorted({str(kind) for kind in planned})

    def spec(self, seed: int) -> TestSpec:
        """The run that this row asks for, with `seed`."""
        return TestSpec(
            system=self.system,
            workload=self.workload,
            nemesis=self.nemesis,
            nodes=self.nodes,
            concurrency=self.concurrency,
            rate=self.rate,
            time_limit_s=self.time_limit_s,
            ops=self.ops,
            seed=seed,
            options={name: option_text(value) for name, value in self.set.items()},
            plan=self.plan,
            world=self.world,
            mutant=self.mutant,
            network=self.network,
            expect=self.expect,
            also=self.also,
            node_data_mb=self.node_data_mb,
            node_log_mb=self.node_log_mb,
            name=self.name,
        )


class Suite(msgspec.Struct, forbid_unknown_fields=True):
    """A suite file."""

    name: str
    rows: list[dict[str, Any]]
    defaults: dict[str, Any] = {}


ROWS_MAX = 10_000

BUNDLED = Path(__file__).parent / "suites"
"""Suites that come with splitbrain; named without their ending."""


def find(path: Path) -> Path:
    """The file that `path` means: itself, or a bundled suite of that name.

    Raises:
        UsageError: There is neither.
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
    """What came of a row: the last run's outcome, and whether it was as expected.

    `runs` is how many there were: none in a row that an interrupt came before, nor in
    one that can't be run on this machine, which is `absent` and says why.
    """

    row: Row
    seed: int
    runs: int
    status: int
    outcome: Mapping[str, Any]
    error: str
    absent: str = ""

    @property
    def verdict(self) -> str:
        """One of VERDICTS."""
        if self.absent:
            return "skipped"
        if self.runs == 0:
            return "not run"
        if self.status in {EXIT_USAGE, EXIT_HARNESS} or not self.outcome:
            return "error"
        return str(self.outcome["verdict"])

    @property
    def anomalies(self) -> list[str]:
        """Names of the anomalies found, each once."""
        checkers = self.outcome.get("checkers", {}).values()
        return sorted({a["name"] for c in checkers for a in c["anomalies"]})

    @property
    def found(self) -> str:
        """What checkers found wrong, with how often; "" where nothing is."""
        checkers = self.outcome.get("checkers", {}).values()
        return str(tally.together(map(tally.of_json, checkers)))

    @property
    def as_expected(self) -> bool:
        """Whether verdict, anomaly and figures are those that the row asks for."""
        return self.verdict == (self.row.expect or "valid") and not self.missing

    @property
    def interrupted(self) -> str:
        """Why it says nothing of the row that an interrupt came; "" if none did."""
        if self.absent:
            return ""
        if self.runs == 0:
            return "not run: the suite was interrupted"
        cut_off = self.verdict == "unknown" and self.outcome.get("interrupted")
        return str(self.outcome["reason"]) if cut_off else ""

    @property
    def skipped(self) -> str:
        """Why it says nothing of the row; "" if it does."""
        return self.absent or self.interrupted

    @property
    def mark(self) -> str:
        """Whether it was as expected, in a word or two; "" where nobody can tell."""
        if self.skipped:
            return ""
        return "as expected" if self.as_expected else "UNEXPECTED"

    @property
    def line(self) -> str:
        """The result in a line, as it comes."""
        found = f" ({self.found})" if self.found else ""
        how = ", ".join(filter(None, [f"{self.verdict}{found}", self.mark]))
        why = "; ".join(filter(None, [*self.missing, self.error, self.skipped]))
        return ": ".join(filter(None, [self.row.name, how, why]))

    def cut_short(self) -> RowResult:
        """The same of a row some of whose seeds were not run, and might have told."""
        reason = f"interrupted after {self.runs} of {self.row.seeds} seeds"
        told = {"verdict": "unknown", "reason": reason, "interrupted": True}
        return replace(self, status=EXIT_UNKNOWN, outcome={**self.outcome, **told})

    @property
    def missing(self) -> list[str]:
        """What the row wants shown and the run did not show, as clauses."""
        if self.skipped:
            return []
        stats: dict[str, Any] = {}
        for checker in self.outcome.get("checkers", {}).values():
            stats |= checker.get("stats", {})
        missing = [
            f"{name} is {stats.get(name, 'not told')}, not {text}"
            for name, text in self.row.shows.items()
            if not condition(text)(stats.get(name))
        ]
        if self.row.anomaly is not None and self.row.anomaly not in self.anomalies:
            missing.append(f"no {self.row.anomaly} was found")
        return missing

    def as_seed(self) -> SeedResult:
        """The result as one of many seeds."""
        return SeedResult(
            seed=self.seed,
            verdict=self.verdict,
            anomalies=tuple(self.anomalies),
            reason=self.error or str(self.outcome.get("reason", "")),
            ops=self.outcome.get("ops", {}),
            seconds=self.outcome.get("seconds", 0.0),
            repro=str(self.outcome.get("repro", "")),
        )

    def as_json(self) -> dict[str, Any]:
        """The result for the index, JUnit and --json."""
        return {
            "name": self.row.name,
            "system": self.row.system,
            "workload": self.row.workload,
            "nemesis": self.row.kinds,
            "expected": self.row.expect,
            "verdict": self.verdict,
            "as_expected": None if self.skipped else self.as_expected,
            "why": "; ".join(self.missing),
            "anomalies": self.anomalies,
            "found": self.found,
            "ops": self.outcome.get("ops", {}),
            "seconds": self.outcome.get("seconds", 0.0),
            "seed": self.seed,
            "runs": self.runs,
            "run": self.outcome.get("run", ""),
            "repro": self.outcome.get("repro", ""),
            "error": self.error,
            "skipped": self.skipped,
        }


COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "=": operator.eq,
}


def condition(text: str) -> Callable[[Any], bool]:
    """A test of a figure, from ">= 3" or the like; what is no number fails it.

    Raises:
        UsageError: It is none.
    """
    match = re.fullmatch(r"(>=|<=|=)\s*(-?\d+(?:\.\d+)?)", text.strip())
    if match is None:
        raise UsageError(f"shows: {text!r}: write a condition as '>= 3', '<= 3', '= 3'")
    compare, bound = COMPARISONS[match[1]], float(match[2])

    def holds(figure: Any) -> bool:
        number = type(figure) in {int, float}
        return number and compare(figure, bound)

    return holds


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
    return suite.name, rows


def seed_row(spec: TestSpec, seed: int) -> Row:
    """A row that runs `spec` with another seed."""
    fields = {f: getattr(spec, f) for f in Row.__struct_fields__ if hasattr(spec, f)}
    fields |= {"name": f"seed {seed}", "seed": seed, "set": dict(spec.options)}
    return Row(**fields)


def suite_folder(results: Path, name: str) -> Path:
    """A new folder for a suite's index, below `results`."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
    parent = results.absolute() / "suites"
    folder = parent / f"{stamp}Z-{RUN_NAME.sub('_', name)}"
    try:
        folder.mkdir(parents=True)
        point(parent / "latest", folder)
    except OSError as problem:
        raise UsageError(
            f"cannot write results to {results}: {problem.strerror}; "
            "choose another place with --results DIR"
        ) from None
    return folder


def check_row(row: Row, source: Path) -> RowResult | None:
    """Check that a row's run is possible, before any row is run.

    Returns:
        None when it can be run; a skipped result when this machine lacks the program
        or library that its system needs.

    Raises:
        UsageError: Names the file, the row and what is wrong with it.
    """
    try:
        assemble(row.spec(row.seed))
    except NotInstalledError as lack:
        return RowResult(row, row.seed, 0, EXIT_UNKNOWN, {}, "", absent=str(lack))
    except UsageError as problem:
        raise UsageError(f"{source}: row {row.name!r}: {problem}") from None
    return None


class Runner:
    """Runs rows, each run in a process of its own, several at a time.

    A stop signal (`harness.interrupts`) ends the runs under way and starts no more; one
    that insists kills them. All runs are started by the main thread and die with it
    (`kernel.die_with`), also when nobody is left to end them. Each has a session of its
    own, so a Ctrl-C in the terminal comes to us alone and ends each of them once.

    Args:
        results: Where run folders go.
        done: Hears of each row as it ends.
        stop_early: The first verdict that isn't valid ends the other runs, too; what
            they come to is dropped.

    Attributes:
        interrupted: A stop signal came.
    """

    def __init__(
        self,
        results: Path,
        *,
        done: Callable[[RowResult], None],
        stop_early: bool = False,
    ) -> None:
        self.interrupted = False
        self._results = results
        self._done = done
        self._stop_early = stop_early
        self._running: set[asyncio.subprocess.Process] = set()
        self._stopping = False
        self._found: dict[int, RowResult] = {}

    def run(self, rows: Sequence[Row], jobs: int) -> list[RowResult]:
        """Run every row, `jobs` at a time; rows without a result are left out."""
        with interrupts.noted() as stop:
            asyncio.run(self._run(rows, jobs, stop))
        return [self._found[place] for place in sorted(self._found)]

    async def _run(self, rows: Sequence[Row], jobs: int, stop: Interrupts) -> None:
        loop = asyncio.get_running_loop()
        stop.listen(
            lambda: loop.call_soon_threadsafe(self._interrupt),
            lambda: loop.call_soon_threadsafe(self._send, signal.SIGKILL),
        )
        todo = enumerate(rows)

        async def work() -> None:
            for place, row in todo:
                if self._stopping:
                    return
                await self._run_row(place, row)

        await asyncio.gather(*(work() for _ in range(jobs)))

    def _interrupt(self) -> None:
        self.interrupted = True
        self._stop()

    def _stop(self) -> None:
        """Start no more runs, and ask each that is under way to end, but once."""
        if not self._stopping:
            self._stopping = True
            self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def _run_row(self, place: int, row: Row) -> None:
        """Run a row's seeds until one tells.

        One tells that isn't valid, or is, and shows what was asked for: an anomaly that
        breaks no promise of the row's, or figures.
        """
        result, told = None, False
        for runs, seed in enumerate(range(row.seed, row.seed + row.seeds), start=1):
            if self._stopping:
                break
            found = await self._run_once(row, seed, runs)
            if found is None:
                break
            result = found
            wanted = row.anomaly is not None or row.shows
            shown = wanted and result.as_expected
            told = result.verdict != "valid" or bool(shown)
            if told:
                break
        if result is None or (self._stopping and not self.interrupted):
            return
        if not told and result.runs < row.seeds:
            result = result.cut_short()
        self._found[place] = result
        if self._stop_early and result.verdict != "valid":
            self._stop()
        self._done(result)

    async def _run_once(self, row: Row, seed: int, runs: int) -> RowResult | None:
        """One run; None where an interrupt ended it before it had anything to say."""
        spec = row.spec(seed)
        # Without a name: nothing of it is left, whatever ends us.
        with tempfile.TemporaryFile() as plan:
            plan.write(yaml.safe_dump(spec.plan).encode())
            plan.seek(0)
            process = await asyncio.create_subprocess_exec(
                *self._command(spec),
                stdin=plan,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=functools.partial(kernel.die_with, os.getpid()),
            )
        self._running.add(process)
        if self._stopping:  # it came while this one was being started
            process.terminate()
        out, err = await process.communicate()
        self._running.discard(process)
        assert process.returncode is not None
        try:
            outcome = json.loads(out)
        except ValueError:
            outcome = {}
        if self._stopping and not outcome:
            return None
        complaint = err.decode(errors="replace").strip().splitlines()
        error = complaint[-1] if complaint and process.returncode >= EXIT_USAGE else ""
        return RowResult(row, seed, runs, process.returncode, outcome, error)

    def _command(self, spec: TestSpec) -> list[str]:
        plan = [] if spec.plan is None else ["--plan", "/dev/stdin"]
        return [
            sys.executable,
            "-m",
            "harness",
            *spec.arguments(),
            *plan,
            "--json",
            "--results",
            str(self._results),
        ]


def with_those_not_run(
    rows: Sequence[Row], found: Sequence[RowResult]
) -> list[RowResult]:
    """A result for every row, in the order of the rows."""
    by_name = {result.row.name: result for result in found}
    return [
        by_name.get(row.name, RowResult(row, row.seed, 0, EXIT_UNKNOWN, {}, ""))
        for row in rows
    ]


def exit_status(results: Iterable[RowResult]) -> int:
    """0 when all that was run came out as expected; else the worst that happened.

    A harness fault (255) outranks an unexpected verdict (1), and that one unknown (2),
    which is also what stands for a row that was interrupted or never run, and for a
    suite of which this machine could run nothing.
    """
    told = [result for result in results if not result.absent]
    worst = EXIT_VALID if told else EXIT_UNKNOWN
    rank = [EXIT_VALID, EXIT_UNKNOWN, EXIT_INVALID, EXIT_USAGE, EXIT_HARNESS]
    for result in told:
        if result.as_expected:
            continue
        # A run without an outcome may have ended with any status, even 1.
        failed = result.status if result.status == EXIT_USAGE else EXIT_HARNESS
        status = {
            "error": failed,
            "unknown": EXIT_UNKNOWN,
            "not run": EXIT_UNKNOWN,
        }.get(result.verdict, EXIT_INVALID)
        worst = max(worst, status, key=rank.index)
    return worst


def table(results: Sequence[RowResult]) -> str:
    """The verdict table, for terminals."""
    header = ("row", "nemesis", "expected", "verdict", "", "ok ops", "s", "found")
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
    ok = result.outcome.get("ops", {}).get("ok", 0)
    told = (result.found, *result.missing, result.error, result.skipped)
    found = "; ".join(filter(None, told))
    found = found or result.outcome.get("reason", "")
    return (
        result.row.name,
        ",".join(result.row.kinds) or "-",
        " ".join(filter(None, [result.row.expect, result.row.anomaly])),
        result.verdict,
        result.mark,
        f"{ok}",
        f"{result.outcome.get('seconds', 0.0):.0f}",
        found[:80],
    )


def summary(results: Sequence[RowResult]) -> str:
    """The last line: how many rows came out as expected, and how many did not.

    `3 rows: 1 as expected, 1 unexpected, 1 skipped`; what there is none of is left out
    but for the first.
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
    """Runs that this machine can take side by side: one per two cores."""
    return max(1, (os.cpu_count() or 1) // 2)
