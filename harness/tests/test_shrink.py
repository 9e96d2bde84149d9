"""`splitbrain shrink`: sizes, changes, the rule for flaky failures, and whole searches.

Most searches here run on an executor whose experiments fail by a predicate, so that
what a search does is seen without a cluster.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import time
from collections import deque
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Self

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import cli, registry
from harness.campaign.executor import Executor
from harness.campaign.experiment import Experiment, steps_of
from harness.campaign.outcome import Finding, Fingerprint, Outcome
from harness.campaign.shrinking import changes, regression, sampling, search, shelf
from harness.campaign.shrinking.conclusion import Conclusion, Extent
from harness.campaign.shrinking.lab import BudgetSpentError, Lab, Notes, Tried, name_of
from harness.campaign.shrinking.lab import smaller_ones as smaller
from harness.campaign.shrinking.leaps import leaps
from harness.campaign.shrinking.sampled import Sampled, confirm, spread
from harness.campaign.shrinking.scenes import scenes
from harness.campaign.shrinking.shelf import Shelf
from harness.campaign.shrinking.simulated import Simulated
from harness.campaign.shrinking.size import size
from harness.errors import HarnessError, UsageError
from harness.faults import drawing
from harness.faults import plan as plans
from harness.override import override
from harness.report.rates import Rate
from harness.run import assembling
from harness.run.completing import complete
from harness.run.spec import TestSpec
from harness.run.store import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KINDS = ("partition", "kill", "pause", "clock", "power", "membership", "disk")
STALE = Finding("linearizable", "stale-read")
CANDIDATES_MAX = 40
WANTED = frozenset({Fingerprint("linearizable", "stale-read", "raft", "register")})


def experiment(
    kinds: tuple[str, ...] = KINDS, seed: int = 1, world: str = "sim"
) -> Experiment:
    """An experiment with a plan that was drawn from a seed, written down."""
    spec = TestSpec(
        system="raft",
        workload="",
        world=world,  # type: ignore[arg-type]
        seed=seed,
        options={"reads": "local", "pre_vote": "false"},
        time_limit_s=20.0,
        rate=50.0,
    )
    complete(spec)
    nemeses = {kind: registry.find("nemesis", kind).factory({}) for kind in kinds}
    plan = drawing.draw(seed, nemeses, spec.node_names, time_limit_s=20.0)
    return Experiment(spec, [step.as_data() for step in plan])


EXPERIMENTS = st.builds(
    experiment,
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique=True).map(tuple),
    st.integers(0, 10**6),
)


class Synthetic(Executor):
    """Experiments fail as often as a function says; nothing is run.

    Attributes:
        asked: The experiments that were submitted.
    """

    def __init__(self, chance: Callable[[Experiment], float], seed: int = 0) -> None:
        self.asked: list[Experiment] = []
        self._chance = chance
        self._random = Random(seed)
        self._answers: deque[tuple[int, Outcome]] = deque()

    @override
    def submit(self, experiment: Experiment) -> int:
        number = len(self.asked)
        self.asked.append(experiment)
        failed = self._random.random() < self._chance(experiment)
        outcome = Outcome(
            experiment=experiment,
            verdict="invalid" if failed else "valid",
            findings=(STALE,) if failed else (),
        )
        self._answers.append((number, outcome))
        return number

    @override
    def as_completed(self) -> Iterator[tuple[int, Outcome | None]]:
        while self._answers:
            yield self._answers.popleft()

    @override
    def cancel(self) -> None:
        self._answers.clear()

    @override
    def kill(self) -> None:
        self._answers.clear()


def lab_of(
    executor: Executor, notes: Notes | None = None, budget_s: float = 600.0
) -> Lab:
    """A laboratory with that executor."""
    deadline_s = time.monotonic() + budget_s
    return Lab(executor, WANTED, deadline_s, notes=notes or Notes())


# --- sizes and changes --------------------------------------------------------------


@given(EXPERIMENTS)
def test_sizes_are_natural_numbers(one: Experiment) -> None:
    assert all(type(part) is int and part >= 0 for part in size(one))


@settings(max_examples=max(5, settings().max_examples // 10))
@given(EXPERIMENTS, st.data())
def test_every_chain_of_candidates_gets_smaller_and_can_be_written_down(
    one: Experiment, data: st.DataObject
) -> None:
    for _ in range(3):
        way = data.draw(st.sampled_from(changes.SIM_WAYS))
        found = list(itertools.islice(smaller(way(one), one), CANDIDATES_MAX))
        for change, measured in found:
            assert measured == size(change.experiment) < size(one)
            again = plans.parse(change.experiment.plan, "plan")
            assert again == steps_of(change.experiment)
            assert Experiment.decode(change.experiment.encode()) == change.experiment
        if not found:
            return
        one = data.draw(st.sampled_from(found))[0].experiment


@given(EXPERIMENTS)
def test_a_plan_for_fewer_nodes_names_no_other_nodes(one: Experiment) -> None:
    for change in changes.fewer_nodes(one):
        left = set(change.experiment.spec.node_names)
        named = set(changes._nodes_in(steps_of(change.experiment)))
        assert named <= left


@given(EXPERIMENTS, st.integers(0, 3))
def test_leaps_are_the_same_in_each_search(one: Experiment, faults: int) -> None:
    drawn = [list(leaps(one, faults, 3)) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert all(len(steps_of(leap.experiment)) == faults for leap in drawn[0])


@given(EXPERIMENTS)
def test_options_of_faults_go_with_the_faults(one: Experiment) -> None:
    spec = msgspec.structs.replace(
        one.spec, options={**one.spec.options, "kill.targets": "one"}
    )
    kept = changes.with_plan(replace(one, spec=spec), steps_of(one))
    has_kill = any(step.fault.kind == "kill" for step in steps_of(one))
    assert ("kill.targets" in kept.spec.options) == has_kill
    none = changes.with_plan(kept, ())
    assert none.spec.options == one.spec.options


def test_a_partition_of_links_becomes_the_isolation_of_a_node() -> None:
    one = experiment(("partition",))
    cut = [["n1", "n2"], ["n1", "n3"], ["n2", "n1"], ["n3", "n1"]]
    data = [
        {
            "at": {"time_s": 1.0},
            "fault": {"kind": "partition", "shape": "halves", "cut": cut},
            "heal": {"after_s": 1.0},
        }
    ]
    one = replace(one, plan=data)
    found = smaller(changes.fewer_struck(one), one)
    targets = [c.experiment.plan[0]["fault"].get("target") for c, _ in found]  # type: ignore[index]
    assert targets[0] == ["n1"]


# --- the rule for failures that don't come every time ---------------------------------


def seen(
    random: Random, rate: float, decide: Callable[[Rate], str]
) -> tuple[str, Rate]:
    """Run something of that rate until a decision."""
    runs = Rate(0, 0)
    while (decision := decide(runs)) == "run again":
        runs = runs.with_run(hit=random.random() < rate)
    return decision, runs


def test_a_failure_is_confirmed_by_hits_and_given_up_after_misses() -> None:
    assert sampling.confirmed(Rate(4, 6)) == "yes"
    assert sampling.confirmed(Rate(4, 4)) == "run again"  # the anchor wants six
    assert sampling.confirmed(Rate(0, 9)) == "run again"
    assert sampling.confirmed(Rate(0, 10)) == "no"
    assert sampling.confirmed(Rate(3, 40)) == "no"


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 10**6))
def test_every_candidate_is_decided_within_the_cap(
    anchor: float, rate: float, seed: int
) -> None:
    bar = sampling.Bar(anchor)
    decision, runs = seen(Random(seed), rate, bar.decide)
    assert runs.runs <= sampling.RUNS_MAX
    if decision == "yes":
        assert runs.hits >= sampling.HITS_MIN
        assert runs.lower() >= max(0.8 * anchor, 0.05)


@pytest.mark.parametrize(
    ("original", "candidate", "most"),
    [(1.0, 0.0, 0.0), (1.0, 0.3, 0.03), (1.0, 0.1, 0.003), (0.7, 0.1, 0.04)],
)
def test_candidates_far_below_the_anchor_are_hardly_ever_adopted(
    original: float, candidate: float, most: float
) -> None:
    adopted = tried = 0
    for seed in range(3000):
        random = Random(f"{original} {candidate} {seed}")
        decision, runs = seen(random, original, sampling.confirmed)
        if decision == "yes":
            tried += 1
            bar = sampling.anchored(runs)
            adopted += seen(random, candidate, bar.decide)[0] == "yes"
    assert tried > 2500
    assert adopted / tried <= most


def test_what_fails_always_is_adopted_after_four_runs_and_rejected_after_five() -> None:
    bar = sampling.anchored(Rate(6, 6))
    assert bar.decide(Rate(3, 3)) == "run again"
    assert bar.decide(Rate(4, 4)) == "yes"
    assert bar.decide(Rate(0, 5)) == "no"


@given(st.integers(0, 30), st.integers(0, 30))
def test_looks_at_fresh_runs_never_lower_the_bar(hits: int, misses: int) -> None:
    bar = sampling.Bar(0.5)
    again = bar.raised(Rate(hits, hits + misses))
    assert again.anchor >= bar.anchor
    assert again.raised(Rate(hits, hits + misses)).anchor <= max(
        again.anchor, sampling.Bar(0.5).raised(Rate(hits, hits + misses)).anchor
    )


def test_every_false_accept_asks_for_one_hit_more_up_to_a_bound() -> None:
    bar = sampling.Bar(0.1)
    for _ in range(30):
        bar = bar.after_false_accept()
    assert bar.hits_min == sampling.HITS_MIN_MAX


# --- searches over a predicate ---------------------------------------------------


def needs_kill_of_n3(one: Experiment) -> float:
    """Fails if n3 is killed or cut off, and there are three operations."""
    struck = any(
        step.fault.kind in {"kill", "partition"}
        and "n3" in json.dumps(step.fault.as_data())
        for step in steps_of(one)
    )
    ops = 10**9 if one.spec.ops is None else one.spec.ops
    return float(struck and ops >= 3 and one.spec.options.get("reads") == "local")


@settings(max_examples=max(3, settings().max_examples // 20))
@given(st.integers(0, 1000))
def test_a_simulated_search_finds_the_smallest_of_a_simple_predicate(seed: int) -> None:
    one = experiment(("partition", "kill", "pause"), seed)
    if not needs_kill_of_n3(one):
        return
    search = Simulated(one, lab_of(Synthetic(needs_kill_of_n3)))
    search.search(depths=(1,))
    small = size(search.best)
    assert needs_kill_of_n3(search.best)
    assert (small.steps, small.ops, small.clients, small.nodes) == (1, 3, 1, 3)
    assert search.best.spec.options.keys() == {"reads", "register.keys"}
    sizes = [size(found) for found in search.history]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)


def test_other_seeds_are_tried_where_the_own_one_does_not_fail() -> None:
    one = experiment(("partition",), seed=99)
    one = changes.with_plan(one, steps_of(one)[:3])

    def with_luck(candidate: Experiment) -> float:
        return float(candidate == one or candidate.spec.seed == 2)

    search = Simulated(one, lab_of(Synthetic(with_luck)))
    search.search(depths=(1, 4))
    assert search.best.spec.seed == 2
    assert size(search.best).steps == 0


def test_a_search_ends_when_its_time_is_over() -> None:
    one = experiment()
    search = Simulated(one, lab_of(Synthetic(lambda _: 1.0), budget_s=0.0))
    with pytest.raises(BudgetSpentError):
        search.search()
    assert search.best == one


def test_candidates_of_an_earlier_search_are_not_tried_again() -> None:
    one = experiment(("kill",))
    tried: list[Tried] = []
    executor = Synthetic(lambda _: 0.0)
    Simulated(one, lab_of(executor, Notes(tried=tried.append))).search(depths=(1,))
    assert {t.id for t in tried} == {name_of(e) for e in executor.asked}
    again = Synthetic(lambda _: 0.0)
    before = {t.id: t.runs for t in tried}
    Simulated(one, lab_of(again), before).search(depths=(1,))
    assert not again.asked


@pytest.mark.parametrize("seed", range(3))
def test_a_sampled_search_keeps_the_rate_of_failures(seed: int) -> None:
    """Faults other than kills make it fail often; without, it hardly ever does."""
    one = experiment(("kill", "pause"), world="os")

    def chance(candidate: Experiment) -> float:
        kinds = {step.fault.kind for step in steps_of(candidate)}
        return {frozenset({"kill", "pause"}): 0.9, frozenset({"kill"}): 0.9}.get(
            frozenset(kinds), 0.05
        )

    lab = lab_of(Synthetic(chance, seed))
    rate = confirm(one, lab).rate
    assert sampling.confirmed(rate) == "yes"
    search = Sampled(one, rate, lab)
    search.search()
    assert chance(search.best) == 0.9, f"seed {seed}"
    assert size(search.best).steps == 1
    assert size(search.best).ops == 1


def test_what_was_adopted_by_luck_is_found_out() -> None:
    """The first candidate hits as long as it is new, and never again."""
    one = experiment(("kill", "pause"), world="os")
    lucky: list[str] = []
    hits = [0]

    def chance(candidate: Experiment) -> float:
        name = name_of(candidate)
        if candidate == one:
            return 1.0
        if not lucky:
            lucky.append(name)
        hits[0] += name == lucky[0]
        return float(name == lucky[0] and hits[0] <= 4)

    lab = lab_of(Synthetic(chance))
    rate = confirm(one, lab).rate
    search = Sampled(one, rate, lab)
    search.search()
    assert search.false_accepts == 1
    assert search.best == one
    assert search.bar.hits_min == sampling.HITS_MIN + 1


def test_a_failure_that_never_comes_again_is_not_confirmed() -> None:
    done = confirm(experiment(world="os"), lab_of(Synthetic(lambda _: 0.0)))
    assert done.rate == Rate(0, 10)
    assert done.known_s is None


def test_other_failures_are_kept_with_the_first_experiment_that_showed_them() -> None:
    one = experiment(("kill",))
    lab = lab_of(Synthetic(lambda _: 1.0))
    lab.wanted = frozenset({Fingerprint("raft_invariants", "x", "raft", "register")})
    Simulated(one, lab).search(depths=(1,))
    assert list(lab.others) == list(WANTED)
    [first] = lab.others.values()
    assert size(first) < size(one)


@pytest.mark.parametrize(
    ("budget_s", "error"), [(0.05, BudgetSpentError), (600.0, HarnessError)]
)
def test_a_run_that_the_end_of_the_budget_ended_is_no_failure_of_the_harness(
    budget_s: float, error: type[Exception]
) -> None:
    class Ends(Synthetic):
        """Ends every run without an outcome."""

        @override
        def as_completed(self) -> Iterator[tuple[int, Outcome | None]]:
            while self._answers:
                number, _ = self._answers.popleft()
                time.sleep(0.1)
                yield number, None

    lab = lab_of(Ends(lambda _: 1.0), budget_s=budget_s)
    with pytest.raises(error):
        lab.run(experiment(("kill",)))


# --- real processes: scenes, proposals of the simulator, and what is left -------------


class Side(Synthetic):
    """A synthetic executor in the place of one with processes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def searched(
    monkeypatch: pytest.MonkeyPatch,
    chance: Callable[[Experiment], float],
    one: Experiment,
    scenes: list[changes.Change],
    budget_s: float = 600.0,
) -> tuple[search.Shrunk, list[Experiment]]:
    """What `shrink` makes of an experiment, and all that it ran."""
    executor = Side(chance)
    monkeypatch.setattr(search, "Processes", lambda *_, **__: executor)
    found = search.shrink(one, WANTED, budget_s=budget_s, scenes=scenes)
    return found, executor.asked


def scene_of(one: Experiment, places: tuple[int, ...]) -> changes.Change:
    plan = steps_of(one)
    return changes.Change("a scene", changes.with_plan(one, [plan[p] for p in places]))


def test_the_search_begins_with_a_scene_that_fails_and_never_runs_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = experiment(("kill", "pause"), world="os")
    count = len(steps_of(one))
    kill = next(i for i, s in enumerate(steps_of(one)) if s.fault.kind == "kill")
    pause = next(i for i, s in enumerate(steps_of(one)) if s.fault.kind == "pause")

    def chance(candidate: Experiment) -> float:
        kinds = {step.fault.kind for step in steps_of(candidate)}
        return 0.9 if candidate.spec.world == "os" and "kill" in kinds else 0.0

    wrong, right = scene_of(one, (pause,)), scene_of(one, (kill, pause))
    found, asked = searched(monkeypatch, chance, one, [wrong, right])
    assert found.ended == "complete"
    assert size(found.best).steps == 1
    assert found.best.spec.world == "os"
    assert found.rate.hits * 2 > found.rate.runs >= sampling.SETTLED_RUNS
    of_os = [each for each in asked if each.spec.world == "os"]
    assert max(len(steps_of(each)) for each in of_os) == 2 < count
    assert found.simulated is None


def test_what_only_the_simulator_shows_is_a_proposal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = experiment(("kill", "pause"), world="os")

    def chance(candidate: Experiment) -> float:
        if candidate.spec.world == "sim":
            return 1.0
        ops = 10**9 if candidate.spec.ops is None else candidate.spec.ops
        return float(ops >= 50 and len(steps_of(candidate)) >= 1)

    found, _ = searched(monkeypatch, chance, one, [scene_of(one, (0,))])
    assert found.best.spec.world == "os"
    assert (size(found.best).steps, size(found.best).ops) == (1, 50)
    assert found.simulated is not None
    assert size(found.simulated) < size(found.best)


def test_what_real_processes_never_show_again_is_the_simulators_and_said_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = experiment(("kill", "pause"), world="os")
    found, asked = searched(
        monkeypatch,
        lambda candidate: float(candidate.spec.world == "sim"),
        one,
        [scene_of(one, (0,))],
    )
    assert found.best.spec.world == "sim"
    assert found.rate == Rate(0, 0)
    assert "this is what fails in the simulator" in found.remarks
    assert any(each.spec.world == "os" for each in asked)


def test_no_time_for_the_search_keeps_the_scene(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = experiment(("kill",), world="os")
    begun_s = time.monotonic()
    asked = 0

    def chance(candidate: Experiment) -> float:
        nonlocal asked
        asked += 1
        monkeypatch.setattr(time, "monotonic", lambda: begun_s + 10.0 * asked)
        return float(candidate.spec.world == "os")

    found, _ = searched(monkeypatch, chance, one, [scene_of(one, (0,))], 150.0)
    assert found.ended == "budget"
    assert found.is_smaller
    assert len(steps_of(found.best)) <= 1


@pytest.mark.parametrize(
    ("world", "run_world", "rate", "words"),
    [
        ("sim", "sim", Rate(1, 1), "; fails always"),
        ("sim", "os", Rate(1, 1), "; fails always in the simulator, not confirmed"),
        ("os", "os", Rate(5, 6), "; fails 5 of 6, rate 0.44 to 0.97 (Wilson 95 %)"),
        ("os", "os", Rate(6, 6), "; fails 6 of 6, rate 0.61 to 1.00"),
        ("os", "os", Rate(0, 0), ""),
    ],
)
def test_the_headline_says_how_often_and_where_the_result_fails(
    world: str, run_world: str, rate: Rate, words: str
) -> None:
    before, after = (Extent(steps, 5, 10, 100) for steps in (9, 1))
    headline = Conclusion(
        ended="complete",
        rate=rate.as_json(),
        before=before,
        after=after,
        world=world,
        run_world=run_world,
    ).headline
    assert headline.startswith(f"9 steps -> 1 step{words}")
    assert ("fails" in headline) == bool(words)


@given(st.lists(st.integers(), max_size=40), st.integers(1, 10))
def test_a_few_candidates_are_spread_over_all(items: list[int], few: int) -> None:
    same = Experiment(TestSpec(system="raft", workload="register"), [])
    every = [changes.Change(str(item), same) for item in items]
    chosen = list(spread(iter(every), few))
    assert len(chosen) == min(few, len(every))
    assert chosen[:1] == every[:1]
    assert list(spread(iter(every), None)) == every


def test_a_cut_behind_a_message_stands_for_a_partition() -> None:
    data = [
        {
            "at": {"observe": "became_leader", "count": 1},
            "fault": {"kind": "partition", "target": ["n1"]},
            "heal": {"after_s": 2.0},
        }
    ]
    one = replace(experiment(("kill",)), plan=data)
    one = changes.with_spec(one, ops=1)
    found = list(changes.behind_messages(one))
    assert found
    for change in found:
        assembling.prepare(msgspec.structs.replace(change.experiment.spec), data)
        [step] = steps_of(change.experiment)
        assert step.fault.kind == "message"
        assert step.fault.params["target"] == ["n1"]
        assert step.heal_after_s == 2.0
        assert change.experiment.spec.ops == 1 + (step.at.ops or 0)
    assert not list(changes.behind_messages(experiment(("kill",))))


# --- the folder, the test, the command line ---------------------------------------


def test_a_search_goes_on_where_it_stopped(tmp_path: Path) -> None:
    one = experiment(("kill",))
    shelf = Shelf(RunFolder(tmp_path))
    assert shelf.start() is None
    shelf.adopted(one)
    sizes = size(one)._asdict()
    for hits in (0, 1):
        shelf.tried(
            Tried(id="a", changed="x", world="sim", size=sizes, runs=2, hits=hits,
                  accepted=False)
        )  # fmt: skip
    shelf.close()
    with (tmp_path / "shrunk" / "tried.jsonl").open("a") as file:
        file.write('{"id": "torn')
    start = shelf.start()
    assert start is not None
    assert start.best == one
    assert start.seen == {"a": Rate(1, 4)}


@pytest.mark.parametrize("content", ["[", "7", "{version: 1}", "version: 9"])
def test_a_damaged_state_is_refused_with_what_to_do(
    tmp_path: Path, content: str
) -> None:
    shelf = Shelf(RunFolder(tmp_path))
    shelf.adopted(experiment(("kill",)))
    (tmp_path / "shrunk" / "best.yaml").write_text(content)
    with pytest.raises(UsageError, match="to begin anew"):
        shelf.start()


def test_a_result_goes_to_no_folder_that_a_link_names(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run.mkdir()
    elsewhere.mkdir()
    shelf = Shelf(RunFolder(run))
    for make in (
        lambda: (run / "shrunk").write_text("a file"),
        lambda: (run / "shrunk").symlink_to(elsewhere),
        lambda: (run / "shrunk").symlink_to(tmp_path / "nowhere"),
    ):
        make()
        with pytest.raises(UsageError, match="shrunk is no folder"):
            shelf.start()
        (run / "shrunk").unlink()


@settings(max_examples=max(5, settings().max_examples // 5))
@given(EXPERIMENTS, st.integers(0, 5), st.text(max_size=60))
def test_the_regression_test_is_python_and_holds_the_plan(
    one: Experiment, hits: int, sentence: str
) -> None:
    text = regression.source(one, Rate(hits, 5), sentence, "stale-read")
    names: dict[str, object] = {}
    code = compile(text, "test", "exec", dont_inherit=True)  # else it has our futures
    exec(code, names)  # it defines a function
    assert plans.parse(_yaml(str(names["PLAN"])), "plan") == steps_of(one)
    assert "test_raft_register_stale_read" in names


def _yaml(text: str) -> object:
    from harness.host.documents import parse_yaml

    return parse_yaml(text, "plan")


def test_more_runs_are_needed_for_what_fails_less_often() -> None:
    runs = [regression.runs_needed(Rate(hits, 5)) for hits in range(6)]
    assert runs == sorted(runs, reverse=True)
    assert runs[-1] == 4
    assert runs[0] == regression.RUNS_MAX


@pytest.fixture(scope="module")
def failed_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated run of 3PC that a partition split, from a plan for the purpose."""
    folder = tmp_path_factory.mktemp("shrink")
    plan = folder / "plan.yaml"
    plan.write_text(
        "- at: {observe: precommitting, count: 1}\n"
        "  fault: {kind: partition, shape: one, target: observer}\n"
        "  heal: {after_s: 2.5}\n"
        "- at: {time_s: 2.6}\n  fault: {kind: kill, target: [n2]}\n"
        "  heal: {after_s: 0.2}\n"
    )
    words = ["run", "3pc", "--world", "sim", "--ops", "20", "--rate", "20"]
    for seed in (6, *range(30)):  # the first seed that is known to do
        results = folder / f"results{seed}"
        asked = [*words, "--seed", str(seed), "--plan", str(plan)]
        if cli.run_command([*asked, "--results", str(results), "--json"]) == 1:
            return (results / "latest").resolve()
    raise AssertionError("no seed of 30 fails")


def copied(run: Path, tmp_path: Path) -> Path:
    """A copy of a run to be spoilt."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    return copy


def test_the_scenes_of_a_run_have_what_was_in_force_and_end_soon_after(
    failed_run: Path,
) -> None:
    recorded = shelf.failing(RunFolder.open(failed_run))
    wanted = recorded.outcome.fingerprints
    found = scenes(recorded, wanted)
    assert found
    whole = changes.drawn(recorded.variants["time"])
    kinds = [[step.fault.kind for step in steps_of(one.experiment)] for one in found]
    assert kinds[0] == ["partition"]
    assert all("partition" in each for each in kinds), kinds
    for one in found:
        limit_s = one.experiment.spec.time_limit_s
        assert limit_s <= whole.spec.time_limit_s
        for step in steps_of(one.experiment):
            assert (step.at.time_s or 0.0) < limit_s
    names = [name_of(one.experiment) for one in found]
    assert len(set(names)) == len(names)
    assert not scenes(recorded, frozenset())[1:], "nobody knows when it went wrong"


@pytest.mark.nightly
def test_3pc_is_shrunk_to_one_partition_and_one_transaction(
    failed_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(failed_run, tmp_path)
    assert cli.run_command(["shrink", str(run), "--budget", "10m", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ended"] == "complete"
    assert told["anomaly"] == "split-decision"
    assert told["after"]["steps"] == 1
    assert told["after"]["clients"] == 1
    assert told["plan"].count("kind: partition") == 1
    small = RunFolder(run / "shrunk")
    assert small.test().spec.ops == 1
    record = small.verdict()
    assert record is not None
    assert record.verdict == "invalid"
    assert (run / "shrunk" / "report.html").is_file()
    page = (run / "report.html").read_text()
    assert '<a href="./shrunk/report.html">The smallest' in page
    assert (run / "shrunk" / "command.txt").read_text().strip() == told["command"]
    lines = (run / "shrunk" / "tried.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["accepted"] for line in lines) >= 3


def test_plans_of_other_failures_stay_beside_the_result(
    failed_run: Path, tmp_path: Path
) -> None:
    shelf = Shelf(RunFolder(copied(failed_run, tmp_path)))
    [other] = shelf.keep_others(dict.fromkeys(WANTED, experiment(("kill",))))
    again = RunFolder(tmp_path / "again")
    shutil.copytree(failed_run, again.path)
    record = again.verdict()
    assert record is not None
    shelf.keep_run(Outcome.of(Experiment.load(again), record, again))
    assert (shelf.path / "report.html").is_file()
    assert str(shelf.path / "other-1.yaml") in other.command
    assert (shelf.path / "other-1.yaml").is_file()


@pytest.mark.nightly
def test_a_second_search_has_nothing_left_to_do_and_the_test_for_a_suite_fails(
    failed_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(failed_run, tmp_path)
    assert cli.run_command(["shrink", str(run), "--budget", "10m", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert cli.run_command(["shrink", str(run), "--budget", "10m", "--json"]) == 1
    again = json.loads(capsys.readouterr().out)
    assert again["runs"] == 1
    assert again["plan"] == told["plan"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider",
         told["test"]],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "AC1 (agreement) is broken" in done.stdout


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda run: (run / "plan.yaml").unlink(), "has no plan.yaml"),
        (lambda run: (run / "plan.yaml").write_text("x: ["), "not YAML"),
        (lambda run: (run / "verdict.json").write_text("{"), "verdict.json"),
        (lambda run: (run / "test.yaml").unlink(), "is no run folder"),
        (
            lambda run: (run / "test.yaml").write_text(
                (run / "test.yaml").read_text().replace("version: 1", "version: 99")
            ),
            "of version 99",
        ),
        (
            lambda run: (run / "plan.yaml").write_text(
                (run / "plan.yaml").read_text().replace("n2", "n9")
            ),
            "no node 'n9'",
        ),
        (
            lambda run: (run / "verdict.json").write_text(
                (run / "verdict.json").read_text().replace("invalid", "valid")
            ),
            "no failure to shrink",
        ),
    ],
)
def test_a_run_that_cant_be_shrunk_is_refused_in_a_line(
    failed_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object],
    words: str,
) -> None:
    run = copied(failed_run, tmp_path)
    spoil(run)
    assert cli.run_command(["shrink", str(run)]) == 254
    complaint = capsys.readouterr().err
    assert words in complaint
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    "budget", ["0", "0s", "", "-1m", "nan", "1e999h", "8d", "169h"]
)
def test_a_budget_of_nothing_is_refused(
    capsys: pytest.CaptureFixture[str], budget: str
) -> None:
    assert cli.run_command(["shrink", "x", "--budget", budget]) == 254
    assert "a number with the unit s, m or h, from" in capsys.readouterr().err


def test_a_failure_that_never_comes_back_is_not_reproduced(
    failed_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(failed_run, tmp_path)
    record = (run / "verdict.json").read_text()
    (run / "verdict.json").write_text(record.replace("split-decision", "other"))
    # The plan of a record that shows what no run does.
    (run / "plan.yaml").write_text("[]\n")
    assert cli.run_command(["shrink", str(run)]) == 2
    assert "0 of 10: not reproduced" in capsys.readouterr().out
    assert not (run / "shrunk" / "best.yaml").exists()
