"""Shrinks a failure: the smallest experiment that still shows it.

A failure of the simulator is shrunk there (`simulated`). A failure of real processes is
shrunk with these (`sampled`), where a run costs seconds. So the search begins with
something small: a scene of the run (`scenes`) that is confirmed to fail by the rule of
`sampling`. What fails in the simulator, if the system can run there, comes from a short
search, and is a proposal that real processes have to confirm. If nothing small is
confirmed, the whole run is, and made smaller from there.
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
from harness.campaign.shrinking import changes
from harness.campaign.shrinking.changes import Change
from harness.campaign.shrinking.lab import BudgetSpentError, Lab, Notes, told
from harness.campaign.shrinking.sampled import Sampled, confirm
from harness.campaign.shrinking.sampling import FAIR, NEVER_RUNS, confirmed
from harness.campaign.shrinking.simulated import Simulated
from harness.campaign.shrinking.size import size
from harness.errors import HarnessError, UsageError
from harness.host.scratch import scratch_folder
from harness.report.rates import Rate
from harness.run import assembling
from harness.run.spec import DEFAULTS
from harness.systems import abilities
from harness.visible import visible_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.campaign.experiment import Experiment
    from harness.campaign.outcome import Fingerprint
    from harness.campaign.shrinking.sampled import Confirmed

World = Literal["os", "sim"]

SCENES_SHARE = 0.5
"""The part of the budget in which scenes are tried."""
SIM_SHARE = 0.3
"""The part of the budget in which a failure of real processes may be shrunk in the
simulator if no scene was confirmed."""
SIM_HINTS_SHARES = (0.2, 0.1)
"""The same if one was, at first, and after something was adopted of what came of it.
Real processes go on from there in any case."""
SMALL_STEPS = 2
"""From an experiment of so many steps, the simulator searches at once."""
PUNCTUAL_RUNS = 5
"""Seeds in the simulator of an experiment with faults behind messages."""
PUNCTUAL_MAX = 3
"""How many of these real processes try."""
SETTLE_SHARE = 0.15
"""The part of the budget that is kept back to run the result again."""
PROVING_S = {"os": 20.0, "sim": 1.0}
PROVING_SHARE = 0.1
"""World -> seconds of the budget that are left for running the result again; and the
part of it that these are at most."""
SCENE_RUNS = 2
"""A scene is left for the next if none of so many runs fails."""
CONFIRMED_OF_HISTORY = 3
"""How many results of the simulator are tried with real processes, smallest first."""
DOUBTED_RUNS = 4
"""A result of the simulator is given up if none of so many real runs fails: what fails
in half of the runs is missed at a chance of 6 %."""
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
        until_s: When the budget is over, by `time.monotonic`.
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
        simulated: The smallest that fails in the simulator, if real processes were
            searched as well.
    """

    first: Experiment
    best: Experiment
    until_s: float
    ended: Ended = "complete"
    rate: Rate = field(default_factory=lambda: Rate(0, 0))
    runs: int = 0
    cpu_s: float = 0.0
    false_accepts: int = 0
    remarks: list[str] = field(default_factory=list)
    others: dict[Fingerprint, Experiment] = field(default_factory=dict)
    simulated: Experiment | None = None

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
    scenes: Sequence[Change] = (),
) -> Shrunk:
    """The smallest experiment that shows a failure as this one does.

    A stop signal that raises KeyboardInterrupt ends the search; what it has found so
    far is the result.

    Args:
        experiment: It failed; its plan may be drawn or written.
        wanted: The fingerprints of the failure, of which one is enough.
        budget_s: Real seconds, of which a few are left for running the result again.
        jobs: Runs side by side.
        world: Search in this world alone; None for that of the experiment, with the
            help of the simulator if it can run there.
        notes: Hears of what is tried.
        start: Where an earlier search stopped.
        by_event: The same with real processes, its faults at events in place of times.
        scenes: Small experiments that may fail in the same way, best ones first.

    Raises:
        UsageError: The experiment can't be run here, or not in `world`.
        HarnessError: A run failed.
    """
    assert wanted
    if experiment.spec.world == "sim" and world == "os":
        experiment = changes.with_spec(experiment, world="os")
    first = changes.drawn(experiment)
    if first.spec.world == "sim":
        first = judged_once(first)
    begun_s = time.monotonic()
    shrunk = Shrunk(first, first, begun_s + budget_s)
    budget_s -= min(PROVING_SHARE * budget_s, PROVING_S[first.spec.world])
    deadline_s = begun_s + budget_s
    with (
        scratch_folder("splitbrain-shrink-") as scratch,
        Processes(
            functools.partial(discard, scratch),
            jobs,
            limit_s=LIMIT_S[first.spec.world],
            until_s=deadline_s,
        ) as executor,
    ):
        lab = Lab(executor, wanted, deadline_s, jobs, notes or Notes())
        search = _Search(shrunk, lab, start, budget_s, by_event, scenes)
        try:
            search.run(world)
        except BudgetSpentError:
            shrunk.ended = "budget"
        except KeyboardInterrupt:
            shrunk.ended = "interrupted"
    shrunk.runs, shrunk.cpu_s, shrunk.others = lab.runs, lab.cpu_s, lab.others
    if shrunk.ended == "not reproduced" and lab.unclear:
        shrunk.remarks.append(
            f"{len(lab.unclear)} of {lab.runs} runs could not be judged: "
            f"{visible_line(lab.unclear[0])}"
        )
    return shrunk


def judged_once(experiment: Experiment) -> Experiment:
    """The experiment, to be judged when it is over.

    The simulator judges a whole run sooner than many prefixes of it.
    """
    return changes.with_spec(experiment, until_invalid=False, until_anomaly=[])


class _Search:
    """One search; what it has found is in `shrunk` at any time."""

    def __init__(
        self,
        shrunk: Shrunk,
        lab: Lab,
        start: Start | None,
        budget_s: float,
        by_event: Experiment | None,
        scenes: Sequence[Change],
    ) -> None:
        self.shrunk = shrunk
        self._lab = lab
        self._start = start
        self._budget_s = budget_s
        self._by_event = by_event
        self._scenes = scenes
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
            self._with_processes(twin)
        finally:
            self._fall_back()

    def _fall_back(self) -> None:
        """Take the result of the simulator if real processes have given none."""
        small = self.shrunk.simulated
        if small is not None and not self.shrunk.is_smaller:
            self.shrunk.best, self.shrunk.rate = small, Rate(0, 0)
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
                search.propose(
                    Change(scene.told, judged_once(scene.experiment))
                    for scene in self._scenes
                    if scene.experiment.spec.world == begun.spec.world
                )
                search.approach()
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
        system = changes.system_of(first)
        if not isinstance(system, abilities.Simulated):
            self.shrunk.remarks.append(f"{system.name} can't run in the simulator")
            return None
        known = assembling.all_faults(system, "sim", nodes=spec.nodes)
        steps = [s for s in steps_of(first) if not known[s.fault.kind]]
        plain = DEFAULTS["sim"]
        twin = changes.with_spec(
            judged_once(changes.with_plan(first, steps)),
            world="sim",
            network="auto",
            pcap=False,
            rate=plain["rate"] if spec.rate is None else min(spec.rate, plain["rate"]),
            time_limit_s=min(spec.time_limit_s, plain["time_limit_s"]),
        )
        try:
            assembling.prepare(msgspec.structs.replace(twin.spec), twin.plan)
        except UsageError as refusal:
            self.shrunk.remarks.append(f"not tried in the simulator: {refusal}")
            return None
        return twin

    def _simulated(self, twin: Experiment) -> Simulated | None:
        """A search in the simulator that has found the failure; None if it has not."""
        earlier = self._begun(twin, "sim")
        seen = self._seeds_before()
        search = Simulated(earlier or twin, self._lab, seen, robust=True)
        # A scene is small already, and its own search sooner than draws at random.
        is_small = size(twin).steps <= SMALL_STEPS
        if earlier is None and (is_small or not search.leap()):
            begun = self._failing(twin)
            if begun is None:
                self.shrunk.remarks.append("the simulator didn't show the failure")
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

    def _with_processes(self, twin: Experiment | None) -> None:
        """Shrink with real processes.

        What begins the search is the first of these that is confirmed: the best of an
        earlier search, a scene of the run, what fails in the simulator, the whole run.
        """
        lab, whole_s = self._lab, self._lab.deadline_s
        lab.deadline_s = whole_s - SETTLE_SHARE * self._budget_s
        try:
            base = self._earlier_confirmed() or self._scene()
            by_sim: list[Experiment] = []
            if base is None and twin is not None:
                by_sim = self._fail_in_simulator(twin, SIM_SHARE)
                base = self._first_confirmed(
                    [
                        *(change.experiment for change in self._punctual()),
                        *by_sim[:CONFIRMED_OF_HISTORY],
                    ]
                )
            if base is None:
                base = confirm(self._until_seen(self.shrunk.first), lab)
                self.shrunk.rate = base.rate
                if confirmed(base.rate) != "yes":
                    self.shrunk.ended = "not reproduced"
                    return
            else:
                self._take(base.experiment, base.rate)
            self._search_from(base, by_sim, whole_s, twin=twin)
        except BudgetSpentError:
            self.shrunk.ended = "budget"

    def _take(self, best: Experiment, rate: Rate) -> None:
        """Keep the best so far."""
        if best is not self.shrunk.best:
            self._lab.notes.adopted(best)
        self.shrunk.best, self.shrunk.rate = best, rate

    def _earlier_confirmed(self) -> Confirmed | None:
        """The best of an earlier search, if it still fails."""
        earlier = self._earlier("os")
        if earlier is None:
            return None
        again = confirm(earlier, self._lab, never_runs=DOUBTED_RUNS)
        return again if confirmed(again.rate) == "yes" else None

    def _scene(self) -> Confirmed | None:
        """The first scene of the run that fails in most runs; else the best of them."""
        lab, whole_s = self._lab, self._lab.deadline_s
        lab.deadline_s = min(whole_s, time.monotonic() + SCENES_SHARE * self._budget_s)
        known: list[Confirmed] = []
        try:
            for scene in self._scenes:
                lab.notes.progress(scene.told)
                begun_s = lab.seconds
                try:
                    tried = confirm(
                        self._until_seen(scene.experiment), lab, SCENE_RUNS, fair=FAIR
                    )
                except UsageError:  # it can't be run without what was left out
                    continue
                known.append(tried)
                is_enough = confirmed(tried.rate) == "yes"
                lab.notes.tried(
                    told(
                        Change(scene.told, tried.experiment),
                        tried.rate,
                        accepted=is_enough,
                        seconds=lab.seconds - begun_s,
                    )
                )
                if is_enough:
                    return tried
            for tried in sorted(known, key=lambda each: -each.rate.observed):
                if tried.rate.hits:
                    again = confirm(tried.experiment, lab)
                    return again if confirmed(again.rate) == "yes" else None
        except BudgetSpentError:
            self.shrunk.remarks.append("no part of the run failed often in time")
        finally:
            lab.deadline_s = whole_s
        return None

    def _fail_in_simulator(self, twin: Experiment, share: float) -> list[Experiment]:
        """Shrink in the simulator, in a share of the budget.

        Returns:
            What failed there, for real processes, smallest first.
        """
        lab, whole_s = self._lab, self._lab.deadline_s
        search: Simulated | None = None
        lab.deadline_s = min(whole_s, time.monotonic() + share * self._budget_s)
        try:
            search = self._simulated(twin)
        except BudgetSpentError:
            self.shrunk.remarks.append("the simulator didn't show the failure in time")
        finally:
            lab.deadline_s = whole_s
        if search is None:
            return []
        known = self.shrunk.simulated
        if known is None or size(search.best) < size(known):
            self.shrunk.simulated = search.best
        return [self._real(small) for small in reversed(search.history)]

    def _punctual(self) -> list[Change]:
        """What fails in the simulator, with its faults just behind messages.

        Tried are all messages, there; the most reliable ones come first.
        """
        small = self.shrunk.simulated
        if small is None:
            return []
        lab, found = self._lab, []
        lab.notes.progress("faults behind messages")
        for change in changes.behind_messages(small):
            seeds = range(PUNCTUAL_RUNS)
            hits = 0
            for seed in seeds:
                hits += lab.shows(lab.run(change.experiment.with_seed(seed)))
                if not hits:
                    break
            if hits:
                found.append((-hits, size(change.experiment), change))
        found.sort(key=lambda each: each[:2])
        return [
            Change(change.told, self._real(change.experiment))
            for *_, change in found[:PUNCTUAL_MAX]
        ]

    def _first_confirmed(self, found: Sequence[Experiment]) -> Confirmed | None:
        """The first that real processes confirm."""
        for real in found:
            tried = confirm(real, self._lab, never_runs=DOUBTED_RUNS)
            if confirmed(tried.rate) == "yes":
                return tried
        if found:
            self.shrunk.remarks.append(
                "real processes did not confirm what fails in the simulator"
            )
        return None

    def _search_from(
        self,
        base: Confirmed,
        by_sim: Sequence[Experiment],
        whole_s: float,
        *,
        twin: Experiment | None,
    ) -> None:
        """Make what was confirmed smaller; `whole_s` is when all time is over."""
        lab = self._lab
        seen = {} if self._start is None else dict(self._start.seen)
        search = Sampled(base.experiment, base.rate, lab, seen)
        try:
            try:
                search.end_after(base.known_s)
                self._propose(search, by_sim, in_sim=twin is not None)
                search.search()
            except BudgetSpentError:
                self.shrunk.ended = "budget"
            lab.deadline_s = whole_s
            lab.notes.progress("the result again")
            search.settle()
        finally:
            self.shrunk.false_accepts = search.false_accepts
            if search.best is not base.experiment or self.shrunk.is_smaller:
                self.shrunk.best, self.shrunk.rate = search.best, search.fresh

    def _propose(
        self, search: Sampled, by_sim: Sequence[Experiment], *, in_sim: bool
    ) -> None:
        """Have real processes try what fails in the simulator, and other hints.

        What they adopt is shrunk in the simulator once more: a fault behind a message
        does the same in both worlds, so what is found from there mostly holds.
        """
        for share in SIM_HINTS_SHARES:
            small = self._twin(search.best) if in_sim else None
            if small is not None and not by_sim:
                by_sim = self._fail_in_simulator(small, share)
            if not search.adopt_hint(self._hints(by_sim)):
                return
            by_sim = []

    def _hints(self, by_sim: Sequence[Experiment]) -> list[Change]:
        """Changes to try before all others.

        Real processes strike some milliseconds after an event, and the simulator at
        once. So what fails in the simulator comes first with its faults behind
        messages, then as it is, then at other events, of which an earlier one may be
        the one that hits. Then come larger ones, and the run with its faults at the
        events that times meant.
        """
        out = []
        if by_sim:
            out += self._punctual()
            out.append(Change("as it fails in the simulator", by_sim[0]))
            out += changes.other_events(by_sim[0])
            larger = [by_sim[len(by_sim) // 3], by_sim[len(by_sim) * 2 // 3]]
            out += [Change("as it fails in the simulator", each) for each in larger]
        if self._by_event is not None:
            asked = self._until_seen(changes.drawn(self._by_event))
            out.append(Change("at events in place of times", asked))
        return out
