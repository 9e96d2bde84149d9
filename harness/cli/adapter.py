"""`splitbrain adapter check`: what a node gets wrong, message by message."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from harness.cli.flags import AS_JSON, key_values, number
from harness.cli.terminal import interrupted, say
from harness.errors import EXIT_INVALID, EXIT_VALID, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.group()
def adapter() -> None:
    """Tools for those who write a node of their own (WIRE.md)."""


@adapter.command()
@click.argument("command")
@click.option("--workload", default="register", show_default=True, help=(
    "The workload whose requests the node serves."
))  # fmt: skip
@number("--nodes", default=3, show_default=True)
@number("--op-timeout", help=(
    "Seconds that a client waits for an answer; default: 2, or what the workload needs."
))  # fmt: skip
@click.option(
    "--network",
    type=click.Choice(["auto", "switch", "proxy"]),
    default="auto",
    show_default=True,
)
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help=(
    "Option of launch: or, with its name and a dot, of the workload."
))  # fmt: skip
@AS_JSON
def check(
    command: str,
    *,
    workload: str,
    nodes: int,
    op_timeout: float | None,
    network: str,
    sets: Sequence[str],
    as_json: bool,
) -> int:
    """Tell what a node that COMMAND starts gets wrong.

    Starts some of it as a run does, talks to them as WIRE.md has it, kills them and
    starts them again. What is wrong is told with the words of WIRE.md, what was sent,
    what came back, and what to do.

    Exit status: 0 fit for runs, 1 not fit, 2 interrupted, 254 bad usage, 255 the
    harness failed.
    """
    from harness.adapter import check as checking
    from harness.adapter import findings
    from harness.run.spec import TestSpec

    kind, colon, _ = command.partition(":")
    if colon and kind in ("attach", "maelstrom"):
        raise UsageError(
            f"{kind}: nodes can't be checked: write the command of a node that speaks "
            "the protocol of WIRE.md"
        )
    spec = TestSpec(
        system=f"launch:{command.removeprefix('launch:')}",
        workload=workload,
        nodes=nodes,
        op_timeout_s=op_timeout,
        options=key_values("--set", sets),
        network=network,  # type: ignore[arg-type]  # click has checked the choice
    )
    report = checking.check(spec)
    if as_json:
        say(json.dumps(findings.as_json(report)))
    else:
        say(findings.as_text(report))
    if report.ended != "complete":
        return interrupted("interrupted", as_json=as_json)
    return EXIT_VALID if report.fit else EXIT_INVALID
