"""`splitbrain convert`: a history in another format, or a run as a trace."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.terminal import say
from harness.errors import UsageError
from harness.host import interrupts


@click.command()
@click.argument("source")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--format", "form", default="auto", show_default=True, help=(
    "What SOURCE is: auto, jsonl, edn, jepsen-log, plume or cobra."
))  # fmt: skip
@click.option("--independent/--no-independent", default=None, help=(
    "Values are [key value] tuples of jepsen.independent; default: if they show."
))  # fmt: skip
@interrupts.raised()
def convert(source: str, target: Path, *, form: str, independent: bool | None) -> int:
    """Write a history in another format: TARGET's name ends in .jsonl, .edn or .txt.

    SOURCE is a history, perhaps gzipped (.gz), a run folder, or - for standard input.
    Every checker says the same of a TARGET in .jsonl or .edn: what JSON has no notation
    for, such as ratios and maps whose keys are numbers, is written as {"#edn": "1/2"}.
    A .txt is Jepsen's history.txt, which has no times.

    A TARGET in .perfetto or .pftrace is a trace of a whole run folder, for
    https://ui.perfetto.dev: operations, faults, nodes, anomalies and clocks.
    """
    from harness.history import formats
    from harness.report import perfetto

    kind = target.name.removesuffix(".gz").rpartition(".")[2]
    if kind in perfetto.NAMES:
        return _trace(Path(source), target)
    if kind not in formats.WRITABLE_FORMATS:
        known = [*formats.WRITABLE_FORMATS, *perfetto.NAMES[:2]]
        raise UsageError(
            f"{target}: its name says in which format to write, and ends in "
            f".{' or .'.join(known)}, histories perhaps with .gz"
        )
    history = formats.load(
        formats.path_of(source), form, independent=independent, strict=False
    )
    formats.dump(history, target, kind)
    say(f"{len(history)} ops in {target}")
    return 0


def _trace(run_dir: Path, target: Path) -> int:
    from harness.report import perfetto
    from harness.run.store import RunFolder

    count = perfetto.write(RunFolder.open(run_dir).path, target)
    say(f"{count} events in {target}; open it at https://ui.perfetto.dev")
    return 0
