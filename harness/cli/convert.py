"""`splitbrain convert`: a history in another format."""

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
    """Write a history in another format: TARGET's name ends in .jsonl or .edn.

    SOURCE is a history, perhaps gzipped (.gz), a run folder, or - for standard input.
    Every checker says the same of TARGET: what JSON has no notation for, such as ratios
    and maps whose keys are numbers, is written as {"#edn": "1/2"}.
    """
    from harness.history import formats

    kind = target.name.removesuffix(".gz").rpartition(".")[2]
    if kind not in formats.WRITABLE_FORMATS:
        raise UsageError(
            f"{target}: its name says in which format to write, and ends in "
            f".{' or .'.join(formats.WRITABLE_FORMATS)}, perhaps with .gz"
        )
    history = formats.load(
        formats.path_of(source), form, independent=independent, strict=False
    )
    formats.dump(history, target, kind)
    say(f"{len(history)} ops in {target}")
    return 0
