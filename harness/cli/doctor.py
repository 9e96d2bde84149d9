"""`splitbrain doctor`: what this machine can do."""

from __future__ import annotations

import json

import click

from harness.cli.flags import AS_JSON
from harness.cli.terminal import say
from harness.errors import EXIT_HARNESS


@click.command()
@AS_JSON
def doctor(*, as_json: bool) -> int:
    """What this machine can do, and how to get what it can't."""
    from harness.run import doctor as examination

    findings = examination.examine()
    say(
        json.dumps([finding.as_json() for finding in findings])
        if as_json
        else examination.render(findings)
    )
    return 0 if examination.can_run(findings) else EXIT_HARNESS
