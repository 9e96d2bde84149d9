"""`splitbrain runs`: what lies in a results folder, run by run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.flags import AS_JSON
from harness.cli.terminal import complain, say
from harness.host import interrupts

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command()
@click.argument("results", type=click.Path(path_type=Path), default=Path("results"))
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
def runs(results: Path, *, as_json: bool, **asked: str) -> int:
    """The runs in a RESULTS folder, the last ones first.

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
