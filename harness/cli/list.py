"""`splitbrain list`: the plug-ins that there are, and what names mean."""

from __future__ import annotations

import json

import click

from harness.cli.flags import AS_JSON
from harness.cli.terminal import complain, say


@click.command(name="list")
@click.argument("name", required=False)
@AS_JSON
def list_(name: str | None, *, as_json: bool) -> int:
    """Systems, workloads, nemeses, checkers and models, a line each.

    With NAME, only what is called so. That may be an anomaly, too, such as
    G-single-item-process: what it means, and where it is defined.
    """
    from harness.cli import catalogue

    tables = catalogue.as_json() if name is None else catalogue.about(name)
    say(json.dumps(tables) if as_json else catalogue.as_text(tables))
    for flaw in catalogue.broken() if name is None else ():
        complain(str(flaw))
    return 0
