"""What an exploration takes for new, what it tries next, and what it tells."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, Literal

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.campaign import explore
from harness.campaign.experiment import Experiment, steps_of
from harness.campaign.exploration import corpus as corpora
from harness.campaign.exploration import counterfactuals, signatures, variation
from harness.campaign.exploration.bandit import Bandit, worth
from harness.campaign.exploration.search import Failure, Search, searching
from harness.campaign.exploration.space import (
    SLOW_FSYNC_MS,
    SLOW_LATENCY_MS,
    Choice,
    Space,
    begun_at,
    kinds_of,
)
from harness.campaign.outcome import Finding, Fingerprint, Outcome
from harness.cli import exploration, run_command
from harness.errors import EXIT_UNKNOWN
from harness.faults import plan as plans
from harness.faults.plan import Trigger
from harness.faults.targets import waits_for_observer
from harness.run import assembling
from harness.run.records import FaultLine
from harness.run.spec import TestSpec
from harness.run.store import RunFolder
from harness.worlds.sim.conditions import Conditions

if TYPE_CHECKING:
    from pathlib import Path

NODES = ("n1", "n2", "n3")
FEW = settings(max_examples=20)


# --- features --------------------------------------------------------------------

HAPPENINGS = st.lists(
    st.tuples(st.sampled_from(["", *NODES]), st.sampled_from([("a",), ("b",), ("c",)])),
    max_size=12,
)


@given(HAPPENINGS, st.permutations(NODES))
def test_names_of_nodes_make_no_feature(
    happenings: list[tuple[str, tuple[str]]], others: list[str]
) -> None:
    renamed = dict(zip(NODES, others, strict=True)) | {"": ""}
    again = [(renamed[node], what) for node, what in happenings]
    told = signatures.cluster_windows(happenings)
    assert told == signatures.cluster_windows(again)


@given(HAPPENINGS)
def test_windows_of_the_cluster_tell_nodes_apart(
    happenings: list[tuple[str, tuple[str]]],
) -> None:
    told = signatures.cluster_windows(happenings)
    apart = [one for one, _ in itertools.groupby(happenings)]
    assert len(told) <= len(apart)
    for window in told:
        pairs = [each for each in window if isinstance(each, tuple)]
        numbers = [number for number, _ in pairs if number >= 0]
        fresh = list(dict.fromkeys(numbers))
        assert fresh == list(range(len(fresh)))


@given(st.lists(st.sampled_from("abc"), max_size=8), st.integers(1, 3))
def test_runs_of_words_are_all_that_stand_in_a_row(words: str, longest: int) -> None:
    told = signatures.runs_of("x", [(word,) for word in words], longest)
    expected = {
        ("x", *((word,) for word in words[i:j]))
        for i in range(len(words))
        for j in range(i + 1, min(i + longest, len(words)) + 1)
    }
    assert told == expected


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(0, 1000))
def test_a_term_counts_by_its_step_and_not_by_its_height(
    terms: list[int], higher: int
) -> None:
    def words(add: int) -> list[signatures.Word]:
        events = [
            {"kind": "voted", "mono_ns": i, "term": term + add, "to": "n2"}
            for i, term in enumerate(terms)
        ]
        told = signatures.node_happenings("n1", NODES, events, 0)
        return [what for _, _, what in told]

    first, again = words(3), words(3 + higher)
    # What comes first has nothing before it that it could be relative to.
    assert [w for w in again if w != again[0]] == [w for w in first if w != first[0]]
    assert ("to", "other") in first[0]


@given(st.text(max_size=60) | st.text("\"'a1 ", max_size=12))
@example('"""')
def test_the_shape_of_a_line_has_no_numbers_and_is_its_own_shape(line: str) -> None:
    told = signatures.shape(line)
    assert signatures.shape(told) == told
    assert not set(told) & set("123456789")
    assert signatures.shape("term 12 of 'n1'") == signatures.shape('term 3 of "n22"')


def test_outcomes_are_told_apart_by_the_faults_in_force() -> None:
    faults = [
        FaultLine(time=10, id=0, event="start", kind="kill"),
        FaultLine(time=20, id=0, event="end", kind="kill"),
    ]
    ops = [
        {"time": t, "type": kind, "f": "read", "process": 1}
        for t, kind in ((1, "invoke"), (5, "ok"), (15, "ok"), (16, "ok"), (25, "ok"))
    ]
    assert signatures.outcomes(ops, faults) == {
        ("op", "read", "ok", "", ()),
        ("op", "read", "ok", "", ("kill",)),
    }


def test_operations_are_under_way_from_their_call_to_their_end() -> None:
    def op(process: object, kind: str, time: object) -> dict[str, object]:
        return {"process": process, "type": kind, "time": time}

    second = signatures.UNKNOWN_FOR_NS
    ops = [
        op(0, "invoke", 1),
        op(1, "invoke", 3),
        op("nemesis", "info", 4),
        op(0, "ok", 5),
        op(1, "fail", 7),
        op(0, "invoke", 9),
        op(0, "info", 10),
        op(2, "ok", 11),  # of no call
        op(3, "invoke", "soon"),
    ]
    assert signatures.under_way(ops) == [(1, 7), (9, 10 + second)]


def test_upheavals_are_terms_that_grew_while_operations_were_under_way() -> None:
    busy = [(100, 200), (300, 400)]

    def counted(*events: dict[str, object]) -> int | None:
        return signatures.upheavals(events, 1000, busy)

    led = [{"kind": "led", "term": n, "mono_ns": 1100 + 50 * n} for n in range(5)]
    assert counted(*led) == 3  # at 150, 200 and 300; the first one is no growth
    assert counted({"kind": "led", "term": 1, "mono_ns": 1150}) == 0
    assert counted({"kind": "voted", "id": 7, "mono_ns": 1150}) is None
    assert counted({"kind": "led", "term": "x", "mono_ns": 1150}) is None
    ballots = [[1, "n1"], [1, "n2"], [2, "n1"], [], [1, "n1"]]
    assert counted(*({"kind": "p", "ballot": b, "mono_ns": 1150} for b in ballots)) == 1
    assert counted(*({"kind": "led", "term": n} for n in range(3))) is None


def test_a_run_folder_has_features_whatever_nodes_put_there(tmp_path: Path) -> None:
    node = tmp_path / "nodes" / "n1"
    node.mkdir(parents=True)
    (node / "log").write_text("listening on 7000\nlistening on 7001\nready\n")
    folder = RunFolder(tmp_path)
    logged = signatures.look(folder, ["n1"]).features
    assert len(logged) == 4  # two shapes, and two pairs of them
    (node / "log").unlink()
    (node / "log").mkdir()
    assert signatures.look(folder, ["n1", "n2"]).features == ()
    lines = [{"kind": "led", "term": n, "mono_ns": n} for n in (1, 2)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (node / "observe.jsonl").write_text("torn {\n" + text)
    observed = signatures.look(folder, ["n1"]).features
    assert observed
    assert observed == tuple(sorted(set(observed)))
    assert all(0 <= number < 2**48 for number in observed)
    assert signatures.look(folder, ["n1"]).upheavals == 0  # no operation was under way


# --- bandit and corpus -----------------------------------------------------------


@given(st.integers(0, 1000))
@FEW
def test_a_bandit_comes_to_prefer_what_gains_most_and_forgets_it_again(
    seed: int,
) -> None:
    random, bandit = Random(seed), Bandit(("a", "b", "c"))
    for good in ("b", "c"):
        chosen = []
        for _ in range(150):
            arm = bandit.choose(random)
            bandit.learn(arm, 5.0 if arm == good else 0.5, 1.0)
            chosen.append(arm)
        assert chosen[-50:].count(good) > 30, (seed, good)
    assert bandit.rates()["c"] > bandit.rates()["a"]


def test_of_untried_arms_the_better_one_is_chosen_in_proportion() -> None:
    bandit = Bandit({"short": 4.0, "long": 1.0})
    chosen = [bandit.choose(Random(seed)) for seed in range(200)]
    assert 140 < chosen.count("short") < 180


def test_a_small_cluster_is_tried_only_where_the_user_left_it_open() -> None:
    assert set(EVERYTHING.sizes) == {"small", "usual"}
    given = TestSpec(system="raft", nemesis=["kill"], world="sim", nodes=5)
    assert set(Space(given).sizes) == {"usual"}
    four = {"initial_members": "n1,n2,n3,n4"}
    assert set(space("raft", "kill", options=four).sizes) == {"usual"}
    assert set(space("raft", "kill", nodes=3).sizes) == {"usual"}
    choice = Choice(("partition",), "times", "mixed", "long", "small", "usual")
    small = EVERYTHING.draw(Random(1), choice, 1)
    assert small.spec.node_names == ["n1", "n2", "n3"]
    large = EVERYTHING.draw(Random(1), replace(choice, size="usual"), 1)
    for seed in range(20):
        check_possible(EVERYTHING.vary(Random(seed), small, large, seed))


def test_most_simulated_runs_are_slow_somewhere_and_none_has_a_seed_twice() -> None:
    random, seeds, least = Random(1), [], 1
    for _ in range(100):
        seeds.append(EVERYTHING.next_seed(random, least))
        least = seeds[-1] + 1
    assert seeds == sorted(set(seeds))
    drawn = [Conditions.draw(seed) for seed in seeds]
    fast = [
        one
        for one in drawn
        if one.fsync_ms < SLOW_FSYNC_MS and one.latency_ms < SLOW_LATENCY_MS
    ]
    assert 1 < len(fast) < 15


@given(st.integers(0, 10**6), st.floats(0.0, 3.0))
@FEW
def test_a_plan_begun_sooner_is_else_the_same(seed: int, begin_s: float) -> None:
    choice = Choice(("kill", "pause"), "both", "mixed", "middle", "usual", "usual")
    plan = steps_of(EVERYTHING.draw(Random(seed), choice, seed))
    begun = begun_at(plan, begin_s)
    times = [[step.at.time_s or 0.0 for step in each] for each in (plan, begun)]
    by_s = max(0.0, min(times[0]) - begin_s)
    assert times[1] == pytest.approx([time - by_s for time in times[0]], abs=0.002)
    assert [(s.fault, s.heal_after_s) for s in begun] == [
        (s.fault, s.heal_after_s) for s in plan
    ]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 9), st.floats(0, 9))))
def test_a_bandit_takes_any_gains_and_costs(
    gains: list[tuple[str, float, float]],
) -> None:
    bandit = Bandit(("a", "b"))
    for arm, gain, cost_s in gains:
        bandit.learn(arm, gain, cost_s)
    assert all(rate > 0 for rate in bandit.rates().values())
    assert bandit.choose(Random(1)) in {"a", "b"}


def test_worth_grows_ever_more_slowly() -> None:
    steps = [worth(n + 1) - worth(n) for n in range(50)]
    assert worth(0) == 0
    assert steps == sorted(steps, reverse=True)
    assert steps[-1] > 0


def test_a_corpus_keeps_the_most_energetic_and_tires_of_them() -> None:
    corpus = corpora.Corpus()
    for n in range(corpora.ENTRIES_MAX + 5):
        corpus.add(experiment(n), n + 1.0)
    assert len(corpus.entries) == corpora.ENTRIES_MAX
    assert min(entry.worth for entry in corpus.entries) == 6.0
    before = sum(entry.energy for entry in corpus.entries)
    chosen = corpus.choose(Random(1))
    assert chosen.spec.seed >= 5
    assert sum(entry.energy for entry in corpus.entries) < before


def experiment(seed: int) -> Experiment:
    return Experiment(TestSpec(system="raft", seed=seed), [])


# --- space and variations --------------------------------------------------------


def space(system: str = "raft", *nemesis: str, **fields: object) -> Space:
    spec = TestSpec(
        system=system,
        nemesis=list(nemesis) or ["all"],
        world="sim",
        rate=50.0,
        **fields,  # type: ignore[arg-type]  # the test's own words
    )
    return Space(spec, any_size=True)


EVERYTHING = space()


def choices(of: Space) -> st.SearchStrategy[Choice]:
    kinds = st.lists(st.sampled_from(of.kinds), min_size=1, max_size=3, unique=True)
    return st.builds(
        Choice,
        kinds.map(lambda some: tuple(sorted(some))),
        st.sampled_from(sorted(of.triggers)),
        st.sampled_from(sorted(of.rhythms)),
        st.sampled_from(sorted(of.lengths)),
        st.sampled_from(sorted(of.sizes)),
        st.sampled_from(sorted(of.paces)),
    )


def check_possible(made: Experiment) -> None:
    """The run is possible, and its plan is one that could have been drawn."""
    spec = TestSpec(**{f: getattr(made.spec, f) for f in TestSpec.__struct_fields__})
    _, schedule, _ = assembling.prepare(spec, made.plan)
    plan = schedule.plan
    assert spec.nemesis == kinds_of(plan)
    assert plans.parse(plans_data(plan), "plan") == plan
    assert len(plan) <= 200
    begins = [step.at.time_s for step in plan]
    assert begins == sorted(begins)  # type: ignore[type-var]  # all have times
    for step in plan:
        ends_s = step.at.latest_s + step.heal_after_s
        assert ends_s <= made.spec.time_limit_s + 0.002
        assert step.at.event is not None or not waits_for_observer(step.fault)


def plans_data(plan: plans.Plan) -> list[dict[str, object]]:
    return [dict(step.as_data()) for step in plan]


@given(st.data(), st.integers(0, 10**6))
@FEW
def test_all_that_is_drawn_or_varied_can_be_run(data: st.DataObject, seed: int) -> None:
    random = Random(seed)
    one, other = (
        EVERYTHING.draw(random, data.draw(choices(EVERYTHING)), seed) for _ in range(2)
    )
    check_possible(one)
    for _ in range(4):
        one = EVERYTHING.vary(random, one, other, seed)
        check_possible(one)


def test_the_same_choice_and_seed_draw_the_same() -> None:
    choice = Choice(("kill", "power"), "both", "bursts", "short", "usual", "busy")
    first, again = (EVERYTHING.draw(Random(7), choice, 3) for _ in range(2))
    assert first == again
    assert first.spec.options["register.keys"] == "1"
    assert set(first.spec.nemesis) <= {"kill", "power"}


def test_what_the_user_has_set_stays_as_it_is() -> None:
    own = space(
        "raft",
        "kill",
        "clock",
        options={"register.keys": "3", "clock.modes": "drift", "reads": "lease"},
    )
    assert list(own.paces) == ["usual", "few clients", "patient", "calm", "quiet"]
    for seed in range(30):
        choice = Choice(("clock",), "times", "bursts", "short", "usual", "usual")
        made = own.draw(Random(seed), choice, seed)
        assert made.spec.options["register.keys"] == "3"
        assert made.spec.options["reads"] == "lease"
        assert {step.fault.params["mode"] for step in steps_of(made)} <= {"drift"}
        none = own.vary(Random(seed), experiment_of(own), experiment_of(own), seed)
        if "clock" not in none.spec.nemesis:
            assert "clock.modes" not in none.spec.options


def experiment_of(own: Space) -> Experiment:
    return own.draw(
        Random(1), Choice(("kill",), "times", "bursts", "short", "usual", "usual"), 1
    )


@given(st.integers(0, 10**6), st.floats(0.5, 10))
@FEW
def test_steps_that_begin_too_late_are_left_out(seed: int, limit_s: float) -> None:
    made = experiment_of(EVERYTHING)
    plan = [
        plans.Step(Trigger(time_s=float(n)), step.fault, 5.0)
        for n, step in enumerate(steps_of(made) * 3)
    ]
    Random(seed).shuffle(plan)
    fitting = variation.settled(plan, limit_s)
    assert [s.at.time_s for s in fitting] == sorted(
        s.at.time_s for s in plan if (s.at.time_s or 0.0) < limit_s - 0.001
    )  # type: ignore[type-var]  # all have times


# --- search ----------------------------------------------------------------------


def outcome(asked: Experiment, number: int) -> Outcome:
    """A made-up outcome, which depends on the experiment alone."""
    random = Random(f"{asked.spec.seed} {len(asked.plan or [])}")
    fails = random.random() < 0.2
    return Outcome(
        experiment=asked,
        verdict="invalid" if fails else "valid",
        findings=(Finding("linearizable", "stale-read"),) if fails else (),
        features=tuple(random.sample(range(200), 5)),
        cpu_s=0.5,
        seconds=1.0 + number,
    )


def test_where_terms_are_observed_plans_are_kept_for_upheavals_and_not_for_news() -> (
    None
):
    search = Search(EVERYTHING, 1)

    def kept(**seen: Any) -> float:
        proposal = search.propose()
        before = len(search.corpus.entries)
        search.learn(
            proposal,
            Outcome(
                experiment=proposal.experiment, verdict="valid", run_s=10.0, **seen
            ),
        )
        return sum(entry.worth for entry in search.corpus.entries[before:])

    assert kept(features=(1, 2, 3), upheavals=0) == 0
    assert kept(features=(1, 2, 3), upheavals=7) == worth(7) / 10
    assert kept(features=(1, 2, 3), upheavals=None) == 0
    assert kept(features=(4, 5, 6), upheavals=None) == worth(3) / 10


def test_a_variation_has_a_seed_of_its_own() -> None:
    _, made = searched(5, 40)
    seeds = [one.spec.seed for one in made]
    assert len(set(seeds)) == len(seeds)


def test_clients_are_patient_only_if_nobody_has_said_how_long_they_wait() -> None:
    assert "patient" in space("raft", "kill").paces
    assert "patient" not in space("raft", "kill", op_timeout_s=3.0).paces
    choice = Choice(("kill",), "times", "bursts", "short", "usual", "patient")
    assert EVERYTHING.draw(Random(1), choice, 1).spec.op_timeout_s == 6.0
    usual = replace(choice, pace="usual")
    assert EVERYTHING.draw(Random(1), usual, 1).spec.op_timeout_s is None


def searched(seed: int, runs: int) -> tuple[Search, list[Experiment]]:
    search, made = Search(EVERYTHING, seed), []
    news: list[int] = []
    left = iter(range(runs))
    pursuit = searching(
        search, lambda: next(left, None) is not None, lambda _, new: news.append(new)
    )
    asked = next(pursuit, None)
    while asked is not None:
        made.append(asked)
        try:
            asked = pursuit.send(outcome(asked, len(made)))
        except StopIteration:
            break
    assert sum(news) == len(search.seen)
    return search, made


def test_the_same_outcomes_lead_to_the_same_experiments() -> None:
    (one, made), (_, again) = searched(5, 25), searched(5, 25)
    assert made == again
    assert len(made) == one.tally.runs == 25
    _, others = searched(6, 25)
    assert made != others
    assert len({e.spec.seed for e in made}) > 5


def test_a_failure_is_told_once_with_what_it_took_to_find() -> None:
    search, made = searched(5, 40)
    tally = search.tally
    assert tally.invalid > 1
    [failure] = tally.failures
    first = next(n for n, e in enumerate(made, 1) if outcome(e, n).verdict == "invalid")
    assert failure.runs == first
    assert failure.cpu_s == pytest.approx(0.5 * first)
    mark = Fingerprint("linearizable", "stale-read", "raft", "register")
    assert failure.fingerprint == mark


def test_a_run_that_the_harness_failed_is_no_failure_of_the_system() -> None:
    search = Search(EVERYTHING, 1)
    proposal = search.propose()
    search.learn(proposal, Outcome.failed(proposal.experiment, "no disk"))
    assert search.tally.errors == ["no disk"]
    assert (search.tally.failed, search.tally.failures) == (1, [])


# --- counterfactuals -------------------------------------------------------------


def test_each_fault_is_left_out_in_turn_and_what_came_of_it_is_told() -> None:
    choice = Choice(("kill", "pause"), "times", "bursts", "middle", "usual", "usual")
    made = EVERYTHING.draw(Random(3), choice, 3)
    plan = steps_of(made)
    assert len(plan) >= 3
    mark = Fingerprint("linearizable", "stale-read", "raft", "register")
    failed = Outcome(
        experiment=made,
        verdict="invalid",
        findings=(Finding("linearizable", "stale-read"),),
    )
    ends = [
        failed,
        Outcome(experiment=made, verdict="valid"),
        Outcome(
            experiment=made, verdict="invalid", findings=(Finding("crashes", "exit"),)
        ),
    ]
    pursuit = counterfactuals.without_each(made)
    asked = next(pursuit)
    for number, step in enumerate(plan[:2]):
        assert steps_of(asked) == plan[:number] + plan[number + 1 :]
        assert step not in steps_of(asked)
        assert asked.spec == made.spec
        asked = pursuit.send(ends[number])
    asked = pursuit.send(ends[2])
    with pytest.raises(StopIteration) as ended:
        pursuit.send(None)
    assert ended.value.value == ends
    told = counterfactuals.told_of(mark, made, ends)
    assert [each.fate for each in told] == ["same", "valid", "other"]
    assert told[1].told.startswith(f"valid without the {plan[1].fault.kind} at ")


def test_a_shrunk_experiment_without_its_last_fault_of_a_kind_can_be_run() -> None:
    spec = TestSpec(
        system="raft",
        workload="register",
        world="sim",
        options={"clock.bump_max_s": "9"},
    )
    fault = {"kind": "clock", "mode": "bump", "target": ["n1"], "wall_ms": 500}
    made = Experiment(
        spec, [{"at": {"time_s": 1}, "fault": fault, "heal": {"after_s": 1}}]
    )
    less = counterfactuals.without(made, 0)
    assert steps_of(less) == ()
    assert less.spec.nemesis == ["clock"]
    assembling.prepare(less.spec, less.plan)


# --- the command -----------------------------------------------------------------


def explored(results: Path, *words: str) -> tuple[int, dict[str, Any]]:
    status = run_command(
        ["explore", "2pc", "--world", "sim", "--results", str(results), *words]
    )
    [stored] = results.glob("explore/*/*/explore.json")
    told = json.loads(stored.read_text())
    assert isinstance(told, dict)
    return status, told


MUTANT = ("--mutant", "unlock-at-prepare", "--seed", "1")


def test_a_broken_protocol_is_found_and_its_failure_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counterfactuals, "STEPS_MAX", 1)
    monkeypatch.setattr(explore, "SHRINK_S", 0.001)
    monkeypatch.setattr(explore, "CLOSER_MAX", 1)
    status, told = explored(tmp_path, *MUTANT, "--runs", "4")
    text = capsys.readouterr().out
    assert status == 1, text
    assert told["runs"] == 4
    assert told["failures"]
    for failure in told["failures"]:
        assert failure["command"] in text
    failure = told["failures"][0]
    assert failure["repeats"]
    assert failure["sentence"] in text
    assert failure["shrunk"]["ended"] == "budget"
    [without] = failure["without"]
    assert without["fate"] in {"same", "other", "valid"}


@pytest.mark.parametrize(
    ("world", "budget_s", "found", "goes_on", "shrink_s"),
    [
        ("sim", 1000.0, True, False, 60.0),
        ("sim", 1000.0, False, True, 60.0),
        ("sim", 10.0, True, False, 10.0),
        ("os", 1000.0, True, False, 300.0),
        ("os", 200.0, True, False, 60.0),
        ("os", 60.0, True, True, 0.0),
    ],
)
def test_a_part_of_the_budget_is_for_making_failures_smaller(
    world: Literal["sim", "os"],
    budget_s: float,
    found: bool,
    goes_on: bool,
    shrink_s: float,
    tmp_path: Path,
) -> None:
    spec = TestSpec(system="2pc", workload="commit", world=world, nodes=3)
    exploring = explore.Exploration(
        Space(spec),
        1,
        tmp_path,
        jobs=1,
        budget_s=budget_s,
        runs=None,
        show=lambda _: None,
        tell=lambda _: None,
    )
    exploring._start_s -= 0.7 * budget_s
    if found:
        mark = Fingerprint("atomic_commit", "split-decision", "2pc", "commit")
        made = Outcome(experiment=Experiment(spec, []), verdict="invalid")
        tally = exploring.explored.search.tally
        tally.failures.append(Failure(mark, made, 1, 1.0, 1.0))
        tally.runs = 100
    assert exploring._goes_on() is goes_on
    assert exploring._shrink_s(0) == pytest.approx(shrink_s, abs=5.0)


def test_an_unbroken_protocol_is_no_failure_and_no_plan_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--nemesis", "kill", "--runs", "1", "--seed", "4", "--nodes", "3")
    status, told = explored(tmp_path, *words)
    assert status == 0, capsys.readouterr().out
    assert (told["failures"], told["errors"], told["kinds"]) == ([], [], ["kill"])
    assert told["states"] > 10
    [plan] = tmp_path.glob("explore/*/*/corpus/*.yaml")
    assert plan.read_text().startswith("# ")
    assert "--nodes 3" in plan.read_text()
    assert plans.parse(yaml.safe_load(plan.read_text()), "plan")


@pytest.mark.nightly
def test_the_same_seed_explores_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explore, "SHRINK_S", 0.001)  # it counts real time
    _, one = explored(tmp_path / "one", *MUTANT, "--runs", "10")
    _, again = explored(tmp_path / "two", *MUTANT, "--runs", "10")
    for what in ("states", "invalid", "coverage", "kinds", "gains"):
        assert again[what] == one[what], what
    seeds = [[failure["seed"] for failure in told["failures"]] for told in (one, again)]
    assert seeds[0] == seeds[1]
    assert all(failure["repeats"] for failure in one["failures"])


def test_an_interrupt_before_the_first_run_leaves_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> list[str]:
        raise KeyboardInterrupt

    words = ["explore", "2pc", "--world", "sim", "--results", str(tmp_path), "--json"]
    monkeypatch.setattr(exploration, "fault_words", interrupted)
    assert run_command(words) == EXIT_UNKNOWN
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["interrupted"]) == ("unknown", True)


def test_a_failure_has_the_name_that_the_whole_run_gives_it() -> None:
    def run(anomaly: str, checker: str = "linearizable") -> Outcome:
        finding = Finding(checker, anomaly)
        return Outcome(experiment=experiment(1), verdict="invalid", findings=(finding,))

    first = run("stale-read")
    [mark] = first.fingerprints
    failure = Failure(mark, first, 1, 0.5, 0.5)
    assert explore.as_again(failure, first) == failure
    [other] = run("lost-write").fingerprints
    assert explore.as_again(failure, run("lost-write")).fingerprint == other
    assert explore.as_again(failure, run("exit", "crashes")) == failure


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["raft", "--budget", "soon"], "--budget"),
        (["raft", "--runs", "0"], "--runs"),
        (["raft", "--mutant", "nope"], "no mutant"),
        (["raft", "--exhaustive", "--runs", "3"], "--runs is for runs"),
        (["raft", "--depth", "3"], "--depth is for --exhaustive"),
        (["nope"], "nope"),
        (["raft", "--nemesis", "nope"], "nope"),
        (["launch:/bin/true", "--world", "sim"], "simulator"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(
    words: list[str], why: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_command(["explore", *words, "--results", str(tmp_path)]) == 254
    told = capsys.readouterr().err
    assert why in told
    assert len(told.splitlines()) == 1
