"""`splitbrain explore SYSTEM --exhaustive`: all that cores can do, up to a depth."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from harness.cli.flags import number
from harness.cli.terminal import interrupted, say
from harness.host import interrupts
from harness.options import Whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BUDGET_S = 60.0
"""Seconds, if neither they nor a depth are given."""

DEPTH = Whole(1, 1000)
NODES = Whole(2, 5)
OPS = Whole(0, 100)
FEW = Whole(0, 100)


def flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of `explore` that only --exhaustive has."""
    for flag in (
        number("--timeouts", FEW, help=(
            "With --exhaustive: most timers that fire on a way; default: any number."
        )),
        number("--copies", FEW, help=(
            "With --exhaustive: most messages on a way that arrive twice; default: 0."
        )),
        number("--crashes", FEW, help=(
            "With --exhaustive: most nodes on a way that crash and restart, also in "
            "the middle of a step; default: 1."
        )),
        number("--depth", DEPTH, help=(
            "With --exhaustive: most moves on a way: a delivery, a timeout, a crash or "
            "a request. Default: as many as the budget allows."
        )),
        click.option("--exhaustive", is_flag=True, help=(
            "Explore all orders of messages, timeouts and crashes of the protocol's "
            "cores, up to a depth, in place of runs."
        )),
    ):  # fmt: skip
        command = flag(command)
    return command


def explore_exhaustively(
    system: str,
    *,
    workload: str,
    mutant: str,
    nodes: int,
    ops: int,
    options: Mapping[str, str],
    budget_s: float | None,
    depth: int | None,
    crashes: int,
    copies: int,
    timeouts: int | None,
    as_json: bool,
) -> int:
    """Explore all that the cores of SYSTEM can do; print it, and return the status.

    Raises:
        UsageError: It can't be explored; says why.
    """
    from harness.campaign.exhaustive.exploring import Asked, explore
    from harness.campaign.exhaustive.space import Bounds
    from harness.cli.progress import ProgressLine

    if budget_s is None and depth is None:
        budget_s = BUDGET_S
    asked = Asked(
        system,
        options,
        mutant,
        workload,
        nodes,
        ops,
        Bounds(crashes, copies, timeouts),
        depth,
        budget_s,
    )
    line = ProgressLine(enabled=not as_json)

    def show(depth: int, states: int, seconds: float) -> None:
        rate = states / max(1e-9, seconds)
        line.tell(
            f"{seconds:5.1f} s | depth {depth} done | {states:,} states, "
            f"{rate:,.0f} a second"
        )

    with interrupts.raised():
        try:
            explored = explore(asked, show)
        except KeyboardInterrupt:
            line.clear()
            return interrupted("interrupted before it began", as_json=as_json)
    with interrupts.noted():  # it is too late to end early: all is printed
        line.clear()
        say(json.dumps(explored.as_json()) if as_json else explored.text)
    return explored.status
