"""Shrinks a failure: the smallest experiment that still shows it.

A failure of the simulator is shrunk there (`simulated`). A failure of real processes is
tried in the simulator first, if the system can run there: a search there takes seconds,
and its result is then confirmed with real processes by the rule of `sampling`. If the
simulator doesn't show the failure, or the result isn't confirmed, the search goes on
with real processes (`sampled`).
"""

from __future__ import annotations

import contextlib
import functools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import msgspec

from harness.campaign.carrying import discard
from harness.campaign.experiment import steps_of
from harness.campaign.processes import Processes
from harness.campaign.rates import Rate
from harness.campaign.shrinking import changes
from harness.campaign.shrinking.changes import Change
from harness.campaign.shrinking.lab import BudgetSpentError, Lab, Notes
from harness.campaign.shrinking.sampled import Sampled, confirm
from harness.campaign.shrinking.sampling import NEVER_RUNS, confirmed
from harness.campaign.shrinking.simulated import Simulated
from harness.errors import HarnessError, UsageError
from harness.host.scratch import scratch_folder
from harness.run import assembling
from harness.run.spec import DEFAULTS, system_options
from harness.systems import abilities

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.campaign.experiment import Experiment
    from harness.campaign.outcome import Fingerprint

World = Literal["os", "sim"]

SIM_SHARE = 0.4
"""The part of the budget in which a failure of real processes may be shrunk in the
simulator: what is left must do to confirm it, or to go another way."""
CONFIRMED_OF_HISTORY = 3
"""How many results of the simulator are tried with real processes, smallest first."""
DOUBTED_RUNS = 5
"""A result of the simulator is given up if none of so many real runs fails: what fails
in half of the runs is missed at a chance of 3 %."""
LIMIT_S = {"os": 900.0, "sim": 600.0}
"""World -> real seconds that a run may take, on a busy machine."""

Ended = Literal["complete", "budget", "interrupted", "not reproduced"]


@dataclass(frozen=True)
class Start:
    """Where an earlier search stopped.

    Attributes:
        best: The smallest experiment known.
        seen: Name of an experiment -> what its runs showed.
    """

    best: Experiment
    seen: Mapping[str, Rate]


@dataclass
class Shrunk:
    """The result of a search.

    Attributes:
        first: The experiment as it was, with its plan written down.
        best: The smallest that shows the failure; `first` if none is smaller.
        ended: How the search ended. Only a complete one has tried every change.
        rate: How often `best` failed in runs that did not choose it, if there were any;
            in the simulator it always does. If the failure did not come again, how
            often `first` failed.
        runs: How many runs were made.
        cpu_s: Their processor time.
        false_accepts: How many experiments were adopted, and found out.
        remarks: Sentences about the way to the result.
        others: Other failures met on the way, each with the experiment that showed it
            first.
    """

    first: Experiment
    best: Experiment
    ended: Ended = "complete"
    rate: Rate = field(default_factory=lambda: Rate(0, 0))
    runs: int = 0
    cpu_s: float = 0.0
    false_accepts: int = 0
    remarks: list[str] = field(default_factory=list)
    others: dict[Fingerprint, Experiment] = field(default_factory=dict)

    @property
    def is_smaller(self) -> bool:
        """Whether the search has found anything."""
        return self.best is not self.first


def shrink(
    experiment: Experiment,
    wanted: frozenset[Fingerprint],
    *,
    budget_s: float,
    jobs: int = 1,
    world: World | None = None,
    notes: Notes | None = None,
    start: Start | None = None,
    by_event: Experiment | None = None,
) -> Shrunk:
    """The smallest experiment that shows a failure as this one does.

    A stop signal that raises KeyboardInterrupt ends the search; what it has found so
    far is the result.

    Args:
        experiment: It failed; its plan may be drawn or written.
        wanted: The fingerprints of the failure, of which one is enough.
        budget_s: Real seconds.
        jobs: Runs side by side in the simulator.
        world: Search in this world alone; None for that of the experiment, after the
            simulator if it can run there.
        notes: Hears of what is tried.
        start: Where an earlier search stopped.
        by_event: The same with real processes, its faults at events in place of times.

    Raises:
        UsageError: The experiment can't be run here, or not in `world`.
        HarnessError: A run failed.
    """
    assert wanted
    if experiment.spec.world == "sim" and world == "os":
        experiment = changes.with_spec(experiment, world="os")
    first = changes.drawn(experiment)
    if first.spec.world == "sim":  # which judges a whole run sooner than many prefixes
        first = changes.with_spec(first, until_invalid=False, until_anomaly=[])
    shrunk = Shrunk(first, first)
    deadline_s = time.monotonic() + budget_s
    with (
        scratch_folder("splitbrain-shrink-") as scratch,
        Processes(
            functools.partial(discard, scratch),
            jobs,
            limit_s=LIMIT_S[first.spec.world],
        ) as executor,
    ):
        lab = Lab(executor, wanted, deadline_s, jobs, notes or Notes())
        search = _Search(shrunk, lab, start, budget_s, by_event)
        try:
            search.run(world)
        except BudgetSpentError:
            shrunk.ended = "budget"
        except KeyboardInterrupt:
            shrunk.ended = "interrupted"
    shrunk.runs, shrunk.cpu_s, shrunk.others = lab.runs, lab.cpu_s, lab.others
    return shrunk


class _Search:
    """One search; what it has found is in `shrunk` at any time."""

    def __init__(
        self,
        shrunk: Shrunk,
        lab: Lab,
        start: Start | None,
        budget_s: float,
        by_event: Experiment | None,
    ) -> None:
        self.shrunk = shrunk
        self._lab = lab
        self._start = start
        self._budget_s = budget_s
        self._by_event = by_event
        self._in_sim: Experiment | None = None
        self._sim_ended: Ended = "complete"

    def run(self, world: World | None) -> None:
        first = self.shrunk.first
        if first.spec.world == "sim":
            self._in_simulator(first)
            return
        twin = None if world == "os" else self._twin(first)
        if world == "sim":
            if twin is None:
                raise UsageError(f"--world sim: {self.shrunk.remarks[-1]}")
            self._in_simulator(twin)
            return
        try:
            if twin is None or not self._confirmed_after(twin):
                self._with_processes()
        finally:
            self._fall_back()

    def _fall_back(self) -> None:
        """Take the result of the simulator if real processes have given none."""
        if self._in_sim is not None and not self.shrunk.is_smaller:
            self.shrunk.best, self.shrunk.rate = self._in_sim, Rate(0, 0)
            self.shrunk.remarks.append("this is what fails in the simulator")
            if self.shrunk.ended == "not reproduced":
                self.shrunk.ended = self._sim_ended

    # The simulator

    def _in_simulator(self, first: Experiment) -> None:
        """Shrink in the simulator alone."""
        begun = self._begun(first, "sim")
        if begun is None:
            begun = self._failing(first)
        if begun is None:
            self.shrunk.ended = "not reproduced"
            self.shrunk.rate = Rate(0, NEVER_RUNS)
            return
        self.shrunk.best = begun
        search = Simulated(begun, self._lab, self._seeds_before())
        with self._keeping(search):
            if begun is not self._earlier("sim"):
                search.leap()
            search.search()

    def _failing(self, first: Experiment) -> Experiment | None:
        """The experiment with a seed under which it fails; None if there is none."""
        own = first.spec.seed
        others = [seed for seed in range(NEVER_RUNS) if seed != own]
        for seed in [own, *others][:NEVER_RUNS]:
            outcome = self._lab.run(first.with_seed(seed))
            if outcome.verdict == "error":
                raise (UsageError if outcome.refused else HarnessError)(outcome.reason)
            if self._lab.shows(outcome):
                return first if seed == own else first.with_seed(seed)
        return None

    @contextlib.contextmanager
    def _keeping(self, search: Simulated | Sampled) -> Iterator[None]:
        """Keep the best of a search, however it ends."""
        try:
            yield
        finally:
            self.shrunk.best = search.best

    def _seeds_before(self) -> dict[str, int]:
        seen = {} if self._start is None else self._start.seen
        return {name: rate.runs for name, rate in seen.items() if not rate.hits}

    def _earlier(self, world: World) -> Experiment | None:
        """The best of an earlier search, if that was in `world`."""
        if self._start is None or self._start.best.spec.world != world:
            return None
        return self._start.best

    def _begun(self, first: Experiment, world: World) -> Experiment | None:
        """The best of an earlier search, if it still fails in the simulator."""
        earlier = self._earlier(world)
        if earlier is None or not self._lab.shows(self._lab.run(earlier)):
            return None
        return earlier

    # Real processes

    def _twin(self, first: Experiment) -> Experiment | None:
        """The experiment in the simulator; None and a remark if it can't run there."""
        spec = first.spec
        own = system_options(spec.options)
        system = assembling.configure(spec.system, own)
        if not isinstance(system, abilities.Simulated):
            self.shrunk.remarks.append(f"{system.name} can't run in the simulator")
            return None
        known = assembling.all_faults(system, "sim", nodes=spec.nodes)
        steps = [s for s in steps_of(first) if not known[s.fault.kind]]
        plain = DEFAULTS["sim"]
        twin = changes.with_spec(
            changes.with_plan(first, steps),
            world="sim",
            network="auto",
            pcap=False,
            until_invalid=False,
            until_anomaly=[],
            rate=plain["rate"] if spec.rate is None else min(spec.rate, plain["rate"]),
            time_limit_s=min(spec.time_limit_s, plain["time_limit_s"]),
        )
        try:
            assembling.prepare(msgspec.structs.replace(twin.spec), twin.plan)
        except UsageError as refusal:
            self.shrunk.remarks.append(f"not tried in the simulator: {refusal}")
            return None
        return twin

    def _confirmed_after(self, twin: Experiment) -> bool:
        """Shrink in the simulator, and confirm the result with real processes."""
        lab, whole_s = self._lab, self._lab.deadline_s
        search: Simulated | None = None
        lab.deadline_s = min(whole_s, time.monotonic() + SIM_SHARE * self._budget_s)
        try:
            search = self._simulated(twin)
        except BudgetSpentError:
            self.shrunk.remarks.append("the simulator didn't show the failure in time")
        finally:
            lab.deadline_s = whole_s
        if search is None:
            return False
        self._in_sim = search.best
        known = list(reversed(search.history))[:CONFIRMED_OF_HISTORY]
        for small in known:
            real = self._real(small)
            rate, _ = confirm(real, lab, never_runs=DOUBTED_RUNS)
            if confirmed(rate) == "yes":
                self.shrunk.best, self.shrunk.rate = real, rate
                self.shrunk.ended = self._sim_ended
                lab.notes.adopted(real)
                return True
        self.shrunk.remarks.append(
            "real processes did not confirm what fails in the simulator"
        )
        return False

    def _simulated(self, twin: Experiment) -> Simulated | None:
        """A search in the simulator that has found the failure; None if it has not."""
        earlier = self._begun(twin, "sim")
        seen = self._seeds_before()
        search = Simulated(earlier or twin, self._lab, seen, robust=True)
        if earlier is None and not search.leap():
            begun = self._failing(twin)
            if begun is None:
                told = "the simulator didn't show the failure"
                self.shrunk.remarks.append(told)
                return None
            search = Simulated(begun, self._lab, robust=True)
        try:
            search.search()
        except BudgetSpentError:
            # Its share is spent; what it has found is confirmed in the rest.
            self._sim_ended = "budget"
        return search

    def _real(self, small: Experiment) -> Experiment:
        """An experiment of the simulator, for real processes."""
        spec = self.shrunk.first.spec
        real = changes.with_spec(small, world="os", network=spec.network)
        return self._until_seen(real)

    def _until_seen(self, real: Experiment) -> Experiment:
        """The experiment, over once the failure is known."""
        anomalies = sorted({one.anomaly for one in self._lab.wanted})
        return changes.with_spec(real, until_invalid=True, until_anomaly=anomalies)

    def _hints(self) -> list[Change]:
        """Changes to try before all others: faults at the events that times meant."""
        if self._by_event is None:
            return []
        asked = self._until_seen(changes.drawn(self._by_event))
        return [Change("at events in place of times", asked)]

    def _with_processes(self) -> None:
        """Shrink with real processes."""
        first = self._until_seen(self.shrunk.first)
        begun = self._earlier("os") or first
        rate, known_s = confirm(begun, self._lab)
        if confirmed(rate) != "yes" and begun is not first:
            begun = first
            rate, known_s = confirm(begun, self._lab)
        self.shrunk.rate = rate
        if confirmed(rate) != "yes":
            self.shrunk.ended = "not reproduced"
            return
        seen = {} if self._start is None else dict(self._start.seen)
        search = Sampled(begun, rate, self._lab, seen)
        try:
            search.search(known_s=known_s, hints=self._hints())
        finally:
            self.shrunk.false_accepts = search.false_accepts
            if search.best is not first:
                self.shrunk.best = search.best
                self.shrunk.rate = Rate(0, 0) if search.best is not begun else rate
