"""`splitbrain suite`: rows of experiments, each with its expectation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.flags import AS_JSON, JOBS, RESULTS, number
from harness.cli.terminal import complain, say
from harness.errors import UsageError
from harness.host import interrupts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.campaign.coverage import Coverage
    from harness.campaign.suite import RowResult


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@number("--jobs", JOBS, help="Runs side by side; default: one per two cores.")
@click.option("--junit", type=click.Path(path_type=Path), help="Write JUnit XML here.")
@click.option("--only", help="Only rows whose name contains this.")
@RESULTS
@AS_JSON
def suite(
    file: Path,
    *,
    jobs: int | None,
    junit: Path | None,
    only: str | None,
    results: Path,
    as_json: bool,
) -> int:
    """Run every row of a suite, and exit with 0 when all came out as expected.

    FILE is YAML, or the name of a suite that comes with splitbrain: quick.
    """
    from harness.campaign import suite as suites

    file = suites.find(file)
    name, rows = suites.load(file)
    rows = [row for row in rows if only is None or only in row.name]
    if not rows:
        raise UsageError(f"{file}: no row's name contains {only!r}")
    absent = [result for row in rows if (result := suites.check_row(row, file))]
    lacking = {result.row.name for result in absent}
    possible = [row for row in rows if row.name not in lacking]
    if junit is not None:
        make_room(junit)
    folder = suites.suite_folder(results, name)

    def show(result: suites.RowResult) -> None:
        if not as_json:
            say(result.line)

    for result in absent:
        show(result)
    with interrupts.noted():  # the runner hears them, and its results are printed
        runner = suites.Runner(results, done=show)
        found = runner.run(possible, jobs or suites.cpu_jobs())
        found = suites.with_those_not_run(rows, [*absent, *found])
        coverage = runner.coverage
        tell_suite(name, folder, found, coverage, junit, as_json=as_json)
        if runner.interrupted:
            done = sum(result.runs > 0 for result in found)
            complain(f"interrupted: {done} of {len(rows)} rows were run")
        return suites.exit_status(found)


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


def tell_suite(
    name: str,
    folder: Path,
    found: Sequence[RowResult],
    coverage: Coverage,
    junit: Path | None,
    *,
    as_json: bool,
) -> None:
    """Write a suite's index, suite.json, summary.md and JUnit XML; print its tables.

    Raises:
        HarnessError: A file can't be written. If it is JUnit's, the table is printed
            first.
    """
    from harness.campaign import suite as suites
    from harness.host.documents import writing
    from harness.report import index

    records = [result.as_json() for result in found]
    told = coverage.as_json()
    with writing(folder / "index.html"):
        report = index.build_index(folder, records, told)
    data = json.dumps(
        {"suite": name, "rows": records, "coverage": told, "report": str(report)}
    )
    with writing(folder / "suite.json"):
        (folder / "suite.json").write_text(f"{data}\n", encoding="utf-8")
    with writing(folder / "summary.md"):
        index.write_summary(name, records, told, folder / "summary.md")
    if as_json:
        say(data)
    else:
        say()
        say(suites.table(found))
        say()
        if table := coverage.text():
            say(f"{table}\n")
        say(f"report: {report}")
        say(suites.summary(found))
    if junit is not None:
        with writing(junit):
            index.write_junit(records, junit, told)
