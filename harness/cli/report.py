"""`splitbrain report`: an earlier run, judged again."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli.flags import AS_JSON
from harness.cli.terminal import say
from harness.errors import UsageError
from harness.host import interrupts


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@AS_JSON
@interrupts.raised()
def report(run: Path, *, as_json: bool) -> int:
    """Judge an earlier RUN folder again, and make its report anew."""
    from harness.judge import analysis
    from harness.report import text
    from harness.run import store

    folder = store.RunFolder.open(run)
    for name in ("verdict.json", "report.html"):
        if (place := folder.path / name).is_dir():
            raise UsageError(f"{place} is a folder, and a file is to go there: move it")
    record = analysis.analyse(folder)
    told = json.dumps(store.as_data(record)) if as_json else text.summary(folder.path)
    say(told)
    return analysis.exit_status(record)
