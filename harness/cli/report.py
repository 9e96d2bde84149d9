"""`splitbrain report`: an earlier run, judged again, or pages about many runs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli.flags import AS_JSON
from harness.cli.terminal import say, say_run
from harness.errors import UsageError
from harness.host import interrupts


@click.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--index", type=click.Path(path_type=Path), metavar="RESULTS", help=(
    "In place of RUN: pages about all runs in a folder, as files that need no server."
))  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help=(
    "The folder for these pages.  [default: RESULTS/pages]"
))  # fmt: skip
@click.option("--points", is_flag=False, flag_value="", metavar="[KEY]", help=(
    "Show when each operation on KEY, or on every key, may have taken effect; a short "
    "run shows that by itself. It stands behind RUN."
))  # fmt: skip
@AS_JSON
@interrupts.raised()
def report(
    run: Path | None,
    *,
    index: Path | None,
    out: Path | None,
    points: str | None,
    as_json: bool,
) -> int:
    """Judge an earlier RUN folder again, and make its report anew.

    With --index, write what `splitbrain serve` shows as files, for the artefacts of a
    CI job: lists of runs, ways to fail, nights beside each other, trends.
    """
    if run is None and index is None and points:
        raise UsageError(
            f"report wants a RUN before --points: report {points} --points"
        )
    if index is not None and points is not None:
        raise UsageError("--points is for the report of one RUN, not for --index")
    if (run is None) == (index is None) or (out is not None and index is None):
        raise UsageError("report wants a RUN, or --index RESULTS, perhaps with --out")
    if index is not None:
        return _pages(index, out or index / "pages", as_json=as_json)
    assert run is not None
    from harness.judge import analysis
    from harness.run import store

    folder = store.RunFolder.open(run)
    for name in ("verdict.json", "report.html"):
        if (place := folder.path / name).is_dir():
            raise UsageError(f"{place} is a folder, and a file is to go there: move it")
    record = analysis.analyse(folder, points=points)
    if as_json:
        say(json.dumps(store.as_data(record)))
    else:
        say_run(folder.path)
    return analysis.exit_status(record)


def _pages(results: Path, out: Path, *, as_json: bool) -> int:
    from harness.serve import static

    first = static.write(results, out)
    say(json.dumps({"pages": str(first)}) if as_json else str(first))
    return 0
