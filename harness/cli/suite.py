"""`splitbrain suite`: a table of runs, each with the outcome it is expected to have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.flags import AS_JSON, BUDGET, EXECUTOR, JOBS, PLACE, number
from harness.cli.progress import Heartbeat, ProgressLine
from harness.cli.terminal import complain, say
from harness.errors import UsageError
from harness.host import interrupts, program

if TYPE_CHECKING:
    from harness.campaign.suites.results import RowResult
    from harness.campaign.suites.rows import Row
    from harness.campaign.suites.running import Standing
    from harness.campaign.suites.tonight import Ended, Tonight
    from harness.cli.flags import Place

UNDER_WAY_MAX = 3


def _tell_schema(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        from harness.campaign.suites.schema import text

        say(text())
        context.exit()


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@number("--jobs", JOBS, help=(
    "Runs side by side; default: one per two cores, or what the workers of a cluster "
    "can do."
))  # fmt: skip
@EXECUTOR
@number("--budget", BUDGET, metavar="TIME", help=(
    "How long the night may take: 90, 20m, 8h. What rows leave of it goes to rows that "
    "explore, or to more seeds. Default: the suite's, or as long as its rows need."
))  # fmt: skip
@click.option("--only", metavar="WORDS", help=(
    "Only rows whose name contains this, or that have this tag."
))  # fmt: skip
@click.option("--resume", is_flag=True, help=(
    "Go on with the last night of this suite, which was cut off."
))  # fmt: skip
@click.option("--baseline", metavar="NIGHT", help=(
    "Compare with the night in this folder, or with the last one: last. Exit 1 if a "
    "failure is new or comes more often, 2 if runs are slower or faults bite less."
))  # fmt: skip
@click.option("--known", type=click.Path(path_type=Path), metavar="FILE", help=(
    "Failures that are known, with a reason and a date."
))  # fmt: skip
@click.option("--junit", type=click.Path(path_type=Path), help="Write JUnit XML here.")
@click.option(
    "--junit-unknown",
    type=click.Choice(["skipped", "failure"]),
    default="skipped",
    show_default=True,
    help="What an unknown verdict is to JUnit.",
)
@click.option("--summary", type=click.Path(path_type=Path), help=(
    "Write a summary here, in Markdown, for a job's page."
))  # fmt: skip
@click.option("--list", "only_list", is_flag=True, help=(
    "List the rows with their first seeds, in the order of tonight; run none."
))  # fmt: skip
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_tell_schema,
    help="Print the JSON schema of suite files, for editors.",
)
@PLACE
@AS_JSON
def suite(
    file: Path,
    *,
    jobs: int | None,
    budget: float | None,
    only: str | None,
    resume: bool,
    baseline: str | None,
    known: Path | None,
    junit: Path | None,
    junit_unknown: str,
    summary: Path | None,
    only_list: bool,
    executor: str,
    results: Place,
    as_json: bool,
) -> int:
    """Run every row of a suite, and exit with 0 when all came out as expected.

    FILE is YAML, or the name of a suite that comes with splitbrain: quick.
    """
    from harness.campaign.choosing import engine_of
    from harness.campaign.suites import known as knowns
    from harness.campaign.suites import reading
    from harness.campaign.suites.tonight import Tonight

    asked = reading.load(reading.find(file))
    entries = [] if known is None else knowns.load(known)
    for path in filter(None, (junit, summary)):
        make_room(path)
    with engine_of(executor, results.path, results.store, complain) as engine:
        rows = reading.chosen(asked, only)
        night = Tonight(asked, rows, results.path, only, budget, engine)
        if baseline is not None:
            night.compare_with(baseline)
        if resume:
            night.resume()
        if only_list:
            say(json.dumps(night.listing) if as_json else listed(night))
            return 0
        for remark in night.remarks:
            complain(remark)
        with interrupts.noted():  # the runner hears them, and its results are printed
            night.carry_out(jobs, Told(asked.name, as_json=as_json))
            ended = night.ended(entries)
            tell(night, ended, Out(junit, junit_unknown, summary, as_json=as_json))
            engine.publish(night.folder, f"suites/{night.folder.name}")
            if (told := night.tidy()) and not as_json:
                say(told)
            if night.interrupted or night.lost:
                done = sum(bool(result.outcomes) for result in ended.results)
                how = "interrupted" if night.interrupted else "cut off"
                complain(f"{how}: {done} of {len(night.rows)} rows were run")
                complain(f"go on with: {program.called()} suite {file} --resume")
            if night.lost:
                raise night.lost
            return ended.status


class Told:
    """Tells how a night goes: a line a row, and what is under way.

    That is a line which is rewritten on a terminal; elsewhere one now and then.
    """

    def __init__(self, name: str, *, as_json: bool) -> None:
        self._as_json = as_json
        self._line = ProgressLine(enabled=not as_json)
        self._beat = Heartbeat(f"suite {name}", enabled=not as_json)

    def ended(self, result: RowResult) -> None:
        """A row has ended."""
        self._line.clear()
        if not self._as_json:
            say(result.line)

    def standing(self, standing: Standing) -> None:
        """Called about once a second."""
        self._tell(progress(standing))

    def searching(self, row: Row, told: str) -> None:
        """How far a search is."""
        self._tell(f"{row.name}: {told}")

    def _tell(self, text: str) -> None:
        self._line.tell(text)
        self._beat.tell(text)


def progress(standing: Standing) -> str:
    """How far a night is, in a line."""
    spent = clock(standing.spent_s)
    if standing.budget_s is not None:
        spent += f" of {clock(standing.budget_s)}"
    under_way = [
        f"{name} seed {seed} ({seconds:.0f} s)"
        for name, seed, seconds in standing.under_way[:UNDER_WAY_MAX]
    ]
    more = len(standing.under_way) - UNDER_WAY_MAX
    under_way += [f"{more} more"] if more > 0 else []
    told = f"{standing.ended} of {standing.rows} rows, {spent}"
    return " | ".join(filter(None, [told, ", ".join(under_way)]))


def clock(seconds: float) -> str:
    """Minutes and seconds, and hours if there are any: 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def listed(night: Tonight) -> str:
    """The rows of a night that has not begun, a line each."""
    lines = []
    for row in night.listing:
        time = "explores" if row.get("explore") else f"up to {row['needs_s']} s"
        lines.append(f"{row['name']}: {row['system']}, seed {row['seed']}, {time}")
    lines += [f"{one.row.name}: skipped: {one.absent}" for one in night.absent]
    return "\n".join(lines)


@dataclass(frozen=True)
class Out:
    """Where a night's results go.

    Attributes:
        junit, summary: Files beside those in the night's folder; None for none.
        junit_unknown: What an unknown verdict is to JUnit: "skipped" or "failure".
        as_json: Whether JSON is printed in place of tables.
    """

    junit: Path | None = None
    junit_unknown: str = "skipped"
    summary: Path | None = None
    as_json: bool = False


def make_room(file: Path) -> None:
    """Make the folder for `file`, before any work is done for it.

    Raises:
        UsageError: No file of that name can be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UsageError(f"cannot write {file}: {problem.strerror}") from None
    if file.is_dir():
        raise UsageError(f"cannot write {file}: it is a folder")


def tell(night: Tonight, ended: Ended, out: Out) -> None:
    """Write a night's index, suite.json, summary.md and JUnit XML; print its tables.

    Raises:
        HarnessError: A file can't be written. If it is one that was asked for, the
            table is printed first.
    """
    from harness.campaign.suites import results
    from harness.host.documents import writing
    from harness.report import index

    folder, name = night.folder, night.suite.name
    records = [one.as_json() for one in ended.results]
    covered = ended.coverage.as_json()
    remarks = [*night.remarks, *ended.lines]
    with writing(folder / "index.html"):
        report = index.build_index(folder, records, covered, remarks)
    data = json.dumps(
        {
            "version": results.VERSION,
            "suite": name,
            "rows": records,
            "coverage": covered,
            "known": ended.judged.as_json(),
            "compared": ended.compared and ended.compared.as_json(),
            "report": str(report),
        }
    )
    with writing(folder / "suite.json"):
        write_whole(folder / "suite.json", f"{data}\n")
    with writing(folder / "summary.md"):
        index.write_summary(name, records, covered, folder / "summary.md", remarks)
    if out.as_json:
        say(data)
    else:
        say()
        say(results.table(ended.results))
        say()
        if table := ended.coverage.text():
            say(f"{table}\n")
        for line in ended.lines:
            say(line)
        say(f"report: {report}")
        say(results.summary(ended.results))
    if out.junit is not None:
        with writing(out.junit):
            index.write_junit(records, out.junit, covered, unknown=out.junit_unknown)
    if out.summary is not None:
        with writing(out.summary):
            index.write_summary(name, records, covered, out.summary, remarks)


def write_whole(path: Path, text: str) -> None:
    """Write a file in one step: later nights read it, and this one may be killed."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
