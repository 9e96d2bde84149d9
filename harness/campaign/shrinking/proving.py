"""Runs the result of a search again: for its record, and for the rate of its failures.

Runs that chose an experiment were selected for their hits, and say too much. So a
result is measured by runs of its own.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

from harness.campaign.carrying import keep
from harness.campaign.processes import Processes
from harness.campaign.shrinking.search import LIMIT_S
from harness.errors import HarnessError
from harness.report.rates import Rate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.campaign.outcome import Fingerprint, Outcome
    from harness.campaign.shrinking.search import Shrunk

RUNS = 5
"""Runs of real processes that measure a result."""
RUNS_MAX = 20
"""No more runs are made for one that fails; a result that never does was luck. None
begins when the budget is over, but for the first."""


def prove(
    shrunk: Shrunk,
    wanted: frozenset[Fingerprint],
    scratch: Path,
    tell: Callable[[str], None],
) -> tuple[Rate, Outcome | None]:
    """Run the result of a search again.

    Args:
        shrunk: The result.
        wanted: The fingerprints of the failure.
        scratch: Gets the run folders.
        tell: Called with a clause before each run.

    Returns:
        How often it failed, and the first outcome that failed, with its folder; None
        if none did.

    Raises:
        HarnessError: The harness failed, or a simulated run doesn't repeat.
        KeyboardInterrupt: A stop signal came.
    """
    best = shrunk.best
    is_sim = best.spec.world == "sim"
    needed = 1 if is_sim or shrunk.rate.runs else RUNS
    rate, failed = Rate(0, 0), None
    carry_out = functools.partial(keep, scratch)
    limit_s = LIMIT_S[best.spec.world]

    def goes_on() -> bool:
        if rate.runs and time.monotonic() >= shrunk.until_s:
            return False
        return rate.runs < needed or (failed is None and rate.runs < RUNS_MAX)

    with Processes(carry_out, 1, limit_s=limit_s) as executor:
        while goes_on():
            tell(f"the result again: failed {rate.hits} of {rate.runs}")
            executor.submit(best)
            [(_, outcome)] = executor.as_completed()
            if outcome is None:
                raise HarnessError("somebody ended a run")
            if outcome.verdict == "error":
                raise HarnessError(outcome.reason)
            hit = bool(outcome.fingerprints & wanted)
            rate = rate.with_run(hit=hit)
            if hit and failed is None:
                failed = outcome
            if is_sim:
                break
    if is_sim and failed is None:
        raise HarnessError(
            f"seed {best.spec.seed} failed in the search, and not when it was run "
            "again: the simulation depends on something beside its seed"
        )
    return rate, failed
