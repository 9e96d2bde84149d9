"""`splitbrain list`: the plug-ins that there are."""

from __future__ import annotations

import json

import click

from harness.cli.flags import AS_JSON
from harness.cli.terminal import complain, say


@click.command(name="list")
@AS_JSON
def list_(*, as_json: bool) -> int:
    """Systems, workloads, nemeses, checkers and models, a line each."""
    from harness.cli import catalogue

    say(json.dumps(catalogue.as_json()) if as_json else catalogue.as_text())
    for flaw in catalogue.broken():
        complain(str(flaw))
    return 0
