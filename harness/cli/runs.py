"""`splitbrain runs`: what lies in a results folder, and what of it may go."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.flags import AS_JSON, number
from harness.cli.terminal import complain, say
from harness.errors import EXIT_HARNESS
from harness.host import interrupts
from harness.options import Number, Whole

if TYPE_CHECKING:
    from collections.abc import Sequence


RESULTS = click.argument(
    "results", type=click.Path(path_type=Path), default=Path("results")
)
DAYS = Number(0, 36_500)


class Runs(click.Group):
    """Commands of which `list` need not be named, as in `runs RESULTS`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Like click's, with `list` put before what begins with no command."""
        is_help = args[:1] in (["-h"], ["--help"])
        if not (args[:1] and args[0] in self.commands) and not is_help:
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Runs)
def runs() -> None:
    """List the runs in a results folder, and thin those that are not worth the room.

    \b
    splitbrain runs [RESULTS] ...      lists runs; the options are those of list
    splitbrain runs prune [RESULTS]    frees room
    """  # noqa: D301  # click wants the character \b itself


@runs.command(name="list")
@RESULTS
@click.option("--system", default="", help="Runs of these systems.")
@click.option("--workload", default="", help="Of these workloads.")
@click.option("--world", default="", help="Of os or sim.")
@click.option("--fault", default="", help="In which one of these kinds was in force.")
@click.option("--verdict", default="", help=(
    "valid, invalid, unknown, harness, unjudged; unexpected: not as expected."
))  # fmt: skip
@click.option("--kind", default="", help="run, explore, replay or shrunk.")
@click.option("--fingerprint", default="", help="That failed in this way.")
@click.option("--since", default="", help="Begun then or later: 2026-12-01T02:30, UTC.")
@click.option("--until", default="", help="Begun earlier.")
@click.option("--text", default="", help="Words in path, options, seed, anomalies.")
@click.option("--sort", default="-time", show_default=True, help=(
    "time, system, workload, verdict, ops, seconds or convicted; - turns it round."
))  # fmt: skip
@click.option("--limit", default="100", show_default=True, help="At most so many.")
@AS_JSON
@interrupts.raised()
def list_(results: Path, *, as_json: bool, **asked: str) -> int:
    """The runs in a RESULTS folder, the last ones first; `list` need not be written.

    Several words for one option are parted by commas. The facts are kept in
    RESULTS/index.sqlite, which is made anew from the folders whenever it is lost.
    """
    from harness.serve import queries
    from harness.serve.index import Index

    query = queries.RunQuery.of(asked)
    index = Index(results)
    try:
        if index.remark:
            complain(index.remark)
        index.refresh()
        total, found = queries.runs(index.base, query)
    finally:
        index.close()
    if as_json:
        say(json.dumps({"total": total, "runs": found}))
        return 0
    for line in _table(found):
        say(line)
    if total > len(found):
        say(f"{len(found)} of {total} runs; --limit shows more")
    return 0


@runs.command()
@RESULTS
@number("--keep-valid", Whole(0, 1_000_000), help=(
    "So many valid runs of each experiment stay whole, the newest."
))  # fmt: skip
@number("--older-than", DAYS, metavar="DAYS", help="Only runs begun so long ago go.")
@click.option("--failures", is_flag=True, help=(
    "Failures and runs without verdict, too, by --older-than."
))  # fmt: skip
@click.option("--remove", is_flag=True, help="Remove folders whole.")
@click.option("--dry-run", is_flag=True, help="Tell what would go; touch nothing.")
@AS_JSON
@interrupts.raised()
def prune(
    results: Path,
    *,
    keep_valid: int | None,
    older_than: float | None,
    failures: bool,
    remove: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Thin valid runs in a RESULTS folder: verdict, plan and report stay.

    Runs that are invalid, unknown, not as expected or not judged, and those in which
    the harness failed, are not touched, nor is the last run.

    A run that was thinned can be repeated, but not judged again.
    """
    from harness.campaign import pruning
    from harness.serve.index import Index

    age = None if older_than is None else datetime.timedelta(days=older_than)
    policy = pruning.Policy(keep_valid, age, failures, remove)
    policy.check()
    index = Index(results)
    gone = []
    done = ("would " if dry_run else "") + ("remove" if remove else "thin")
    if not dry_run:
        done += "d" if remove else "ned"
    try:
        index.refresh()
        for freed in pruning.prune(index, policy, dry_run=dry_run):
            gone.append(freed)
            if freed.problem:
                complain(freed.problem)
            elif not as_json:
                say(f"{done} {freed.path}: {freed.bytes / 1e6:,.1f} MB")
    finally:
        index.close()
    total = sum(freed.bytes for freed in gone)
    failed = sum(bool(freed.problem) for freed in gone)
    if as_json:
        told = [dataclasses.asdict(freed) for freed in gone]
        say(json.dumps({"dry_run": dry_run, "runs": told, "freed_bytes": total}))
    else:
        say(f"{done} {len(gone) - failed} runs: {total / 1e6:,.1f} MB")
    return EXIT_HARNESS if failed else 0


def _table(found: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each run; what was not as expected is marked."""
    if not found:
        return ["no such runs"]
    rows = [
        (
            "!" if run["as_expected"] is False else " ",
            run["started_utc"][:19].replace("T", " "),
            " ".join(filter(None, (run["system"], run["mutant"]))),
            run["workload"],
            ",".join(run["nemesis"]) or "none",
            run["state"],
            run["found"] or "",
            run["path"],
        )
        for run in found
    ]
    widths = [min(40, max(map(len, column))) for column in zip(*rows, strict=True)]
    return [
        " ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
