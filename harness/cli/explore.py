"""`splitbrain explore`: search for failures of a system."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from harness.cli import exhaustive as exhaustively
from harness.cli import exploration
from harness.cli.exhaustive import NODES, OPS, explore_exhaustively
from harness.cli.exploration import explore_by_runs
from harness.cli.flags import AS_JSON, BUDGET, key_values, number
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.cli.flags import Place

EXHAUSTIVE_NODES = 3
EXHAUSTIVE_OPS = 2
OF_CORES = ("depth", "crashes", "copies", "timeouts", "ops")
"""Options that only --exhaustive has a use for, and those that it has none for."""
OF_RUNS = ("nemesis", "world", "runs", "jobs", "seed", "executor", "results")


def refuse_idle(*, exhaustive: bool) -> None:
    """Refuse options that would change nothing.

    Raises:
        UsageError: There is such an option; names it.
    """
    context = click.get_current_context()
    for name in OF_RUNS if exhaustive else OF_CORES:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            why = "is for runs, and not for" if exhaustive else "is for"
            raise UsageError(f"--{name} {why} --exhaustive")


@click.command()
@click.argument("system")
@exploration.flags
@exhaustively.flags
@click.option("--workload", help="Default: the first that the system serves.")
@click.option("--mutant", metavar="NAME", help=(
    "Explore this broken variant of the protocol, under the workload, faults and "
    "options that it declares unless others are given."
))  # fmt: skip
@number("--nodes", help=(
    "Default: 5 or 3, as the search chooses, and for a system of one process 1; with "
    "--exhaustive 3, of 2 to 5."
))  # fmt: skip
@number("--ops", OPS, help="With --exhaustive: operations of clients; default: 2.")
@number("--budget", BUDGET, metavar="TIME", help=(
    "Time after which no run begins, or an exhaustive search ends: 90, 10m, 2h; "
    "default 60s, or none with --runs or --depth. Two fifths of it are for shrinking, "
    "with real processes if that is 90 s or more."
))  # fmt: skip
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help=(
    "Option of the system; of another plug-in with its name and a dot: clock.drift=0.1."
))  # fmt: skip
@AS_JSON
def explore(
    system: str,
    *,
    nemesis: Sequence[str],
    world: str,
    runs: int | None,
    jobs: int | None,
    seed: int | None,
    executor: str,
    results: Place,
    exhaustive: bool,
    depth: int | None,
    crashes: int | None,
    copies: int | None,
    timeouts: int | None,
    workload: str | None,
    mutant: str | None,
    nodes: int | None,
    ops: int | None,
    budget: float | None,
    sets: Sequence[str],
    as_json: bool,
) -> int:
    """Search for failures of SYSTEM, in many short runs or exhaustively.

    Each run has a fault plan, a length, a size and a pace of its own. Plans by which
    leaders changed while operations were under way are kept and changed, or those that
    led to something new, of nodes that observe no terms; kinds of fault, what sets them
    off and their rhythm are chosen by the same. Every distinct failure is told once.
    It is shrunk; in the simulator it is run again before, and afterwards without each
    of its faults. With --world sim, --jobs 1 and --runs, the same seed explores the
    same.

    With --exhaustive there are no runs: all orders of messages, timeouts and crashes
    are tried on the cores of a protocol, breadth first, so that the way to a broken
    promise that is shown is a shortest one. A message may be lost, however late, and
    overtaken by others. Each node's clock runs as it likes.

    Exit status: 1 if a promise is broken, 0 if none is, 2 if nothing could be judged,
    or the budget did not suffice for --depth.
    """
    refuse_idle(exhaustive=exhaustive)
    options = key_values("--set", sets)
    if not exhaustive:
        return explore_by_runs(
            system,
            workload=workload or "",
            mutant=mutant,
            nemesis=nemesis,
            world="sim" if world == "sim" else "os",
            nodes=nodes,
            options=options,
            budget_s=budget,
            runs=runs,
            jobs=jobs,
            seed=seed,
            executor=executor,
            results=results,
            as_json=as_json,
        )
    if nodes is not None and not NODES.admits(nodes):
        raise UsageError(f"--nodes {nodes}: with --exhaustive it takes {NODES.told}")
    return explore_exhaustively(
        system,
        workload=workload or "",
        mutant=mutant or "",
        nodes=EXHAUSTIVE_NODES if nodes is None else nodes,
        ops=EXHAUSTIVE_OPS if ops is None else ops,
        options=options,
        budget_s=budget,
        depth=depth,
        crashes=1 if crashes is None else crashes,
        copies=copies or 0,
        timeouts=timeouts,
        as_json=as_json,
    )
