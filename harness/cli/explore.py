"""`splitbrain explore`: search for failures of a system."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.cli.exhaustive import NODES, OPS, explore_exhaustively, flags
from harness.cli.flags import AS_JSON, BUDGET, key_values, number
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command()
@click.argument("system")
@flags
@click.option("--workload", help="Default: the first that the system serves.")
@click.option("--mutant", metavar="NAME", help=(
    "Explore this broken variant of the protocol, under the workload and options that "
    "it declares unless others are given."
))  # fmt: skip
@number("--nodes", NODES, default=3, show_default=True)
@number("--ops", OPS, default=2, show_default=True, help="Operations of clients.")
@number("--budget", BUDGET, metavar="TIME", help=(
    "Time after which the search ends: 90, 10m, 2h; default 60s, or none with --depth."
))  # fmt: skip
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help=(
    "Option of the system; of the workload with its name and a dot."
))  # fmt: skip
@AS_JSON
def explore(
    system: str,
    *,
    exhaustive: bool,
    depth: int | None,
    crashes: int | None,
    copies: int | None,
    timeouts: int | None,
    workload: str | None,
    mutant: str | None,
    nodes: int,
    ops: int,
    budget: float | None,
    sets: Sequence[str],
    as_json: bool,
) -> int:
    """Explore all that the cores of SYSTEM can do, up to a depth (--exhaustive).

    All orders of messages, timeouts and crashes are tried, breadth first, so that the
    way to a broken promise that is shown is a shortest one. A message may be lost,
    however late, and overtaken by others. Each node's clock runs as it likes.

    Exit status: 1 if a promise is broken, 0 if none is within the bounds, 2 if the
    budget did not suffice for the depth, or nothing happened that could be judged.
    """
    if not exhaustive:
        raise UsageError("splitbrain explore needs --exhaustive")
    return explore_exhaustively(
        system,
        workload=workload or "",
        mutant=mutant or "",
        nodes=nodes,
        ops=ops,
        options=key_values("--set", sets),
        budget_s=budget,
        depth=depth,
        crashes=1 if crashes is None else crashes,
        copies=copies or 0,
        timeouts=timeouts,
        as_json=as_json,
    )
