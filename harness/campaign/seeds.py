"""Sweeps of seeds in the simulator: several a second, of which only outcomes are kept.

The record of a run can be had by running its seed again, which gives the same to the
byte. (Real runs of many seeds are rows of a suite: `harness.campaign.suite`.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from harness.campaign.carrying import discard
from harness.campaign.engine import HERE
from harness.campaign.executor import pursue
from harness.errors import HarnessError
from harness.host.scratch import scratch_folder
from harness.run import assembling

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.campaign.engine import Engine
    from harness.campaign.executor import Pursuit
    from harness.campaign.experiment import Experiment
    from harness.campaign.outcome import Outcome


def sweep(
    experiment: Experiment,
    seeds: Iterable[int],
    jobs: int = 1,
    engine: Engine = HERE,
) -> Iterator[Outcome]:
    """Simulate an experiment with every seed, `jobs` at a time.

    Gives the outcomes in the order of `seeds`. Closing the iterator ends the runs under
    way. After an interrupt, outcomes that waited for their turn are still given.

    Raises:
        UsageError: The run is impossible.
    """
    # Prepared in this process first, to refuse an impossible run before any starts.
    assembling.prepare(msgspec.structs.replace(experiment.spec), experiment.plan)
    done: dict[int, Outcome] = {}
    next_one = 0
    with (
        scratch_folder("splitbrain-sim-") as scratch,
        engine.executor(discard, scratch, jobs) as executor,
    ):
        pursuits = (once(experiment.with_seed(seed)) for seed in seeds)
        try:
            for place, outcome in pursue(executor, pursuits, jobs):
                done[place] = outcome
                while next_one in done:
                    yield done.pop(next_one)
                    next_one += 1
        except KeyboardInterrupt:
            yield from (done[place] for place in sorted(done))
            raise


def once(experiment: Experiment) -> Pursuit[Outcome]:
    """A pursuit of one run, which returns its outcome.

    Raises:
        HarnessError: The run was ended from outside.
    """
    outcome = yield experiment
    if outcome is None:
        raise HarnessError("somebody ended a worker of the simulator")
    return outcome


def as_json(outcome: Outcome) -> dict[str, object]:
    """The object of `run --seeds --json` for a simulated seed."""
    return {
        "seed": outcome.experiment.spec.seed,
        "verdict": outcome.verdict,
        "anomalies": outcome.anomalies,
        "reason": outcome.reason,
        "ops": outcome.ops,
        "convicted_s": outcome.convicted_s,
        "seconds": outcome.seconds,
        "repro": outcome.repro,
    }


def agree(first: Outcome, again: Outcome) -> bool:
    """Whether two runs of the same seed had the same outcome."""
    one, other = ((o.verdict, o.anomalies) for o in (first, again))
    return one == other
