from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.campaign import moments, traffic
from harness.campaign.carrying import keep
from harness.campaign.experiment import Experiment, steps_of
from harness.campaign.moments import before_strikes, shape
from harness.campaign.shrinking.changes import drawn
from harness.faults import plan as plans
from harness.faults.retrigger import AGO_S_MAX, retrigger
from harness.run.completing import complete
from harness.run.spec import DEFAULTS, TestSpec
from harness.run.store import RunFolder
from harness.worlds import logs
from harness.worlds.events import Logged, Observed, Passed


def test_messages_are_sightings_of_their_type_on_their_link_and_on_any(
    simulated: RunFolder,
) -> None:
    run = simulated.run()
    assert run is not None
    assert run.start_mono_ns is not None
    sent = traffic.messages(Experiment.load(simulated), run.start_mono_ns)
    assert sent == sorted(sent, key=lambda each: each.at_s)
    assert sent[-1].at_s <= run.seconds
    plain, before = before_strikes(simulated), before_strikes(simulated, sent)
    compared = 0
    for number, began_s in strikes(simulated).items():
        added = set(before[number].seen) - set(plain[number].seen)
        for sighting in added:
            event = sighting.event
            assert isinstance(event, Passed)
            times = [
                each.at_s
                for each in sent
                if each.at_s <= began_s
                and event.pattern == f'"type":"{each.type}"'
                and event.is_on((each.sender, each.receiver))
            ]
            assert sighting.at_s == times[-1]
            assert began_s - AGO_S_MAX <= sighting.at_s
            assert sighting.since_s == (times[-2] if len(times) > 1 else 0.0)
            compared += 1
    assert compared > 20, "seed 3"
    plan = Experiment.load(simulated)
    steps = steps_of(drawn(plan))
    sorts = {
        type(step.at.event)
        for step, old in zip(retrigger(steps, before), steps, strict=True)
        if step != old
    }
    assert Passed in sorts, "seed 3"


def spec_of(system: str, seed: int) -> TestSpec:
    spec = TestSpec(
        system=system,
        workload="",
        nemesis=["partition", "kill"],
        world="sim",
        seed=seed,
        **{**DEFAULTS["sim"], "time_limit_s": 8.0},
    )
    complete(spec, planned=False)
    return spec


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run without clock faults, so that all stamps of observations are true."""
    results = tmp_path_factory.mktemp("moments")
    return RunFolder(Path(keep(results, Experiment(spec_of("raft", 3))).folder))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def strikes(folder: RunFolder) -> dict[int, float]:
    """Number of a step -> when it was asked for."""
    asked = [line for line in folder.faults() if line.event == "asked"]
    return {line.id: line.time / 1e9 for line in asked}


def test_what_came_before_a_strike_is_what_all_observations_say(
    simulated: RunFolder,
) -> None:
    run = simulated.run()
    assert run is not None
    assert run.start_mono_ns is not None
    observed: list[tuple[str, int, float, str]] = []  # node, end in file, time, kind
    for node in ("n1", "n2", "n3", "n4", "n5"):
        text = (simulated.path / "nodes" / node / "observe.jsonl").read_bytes()
        end = 0
        for line in text.splitlines(keepends=True):
            end += len(line)
            event = json.loads(line)
            at_s = (event["mono_ns"] - run.start_mono_ns) / 1e9
            observed.append((node, end, at_s, event["kind"]))
    asked = {line.id: line for line in simulated.faults() if line.event == "asked"}
    before, last_s, compared = before_strikes(simulated), 0.0, 0
    for number, began_s in strikes(simulated).items():
        assert before[number].began_s == began_s
        found = {each.event: each for each in before[number].seen}
        # What nodes had seen, but not yet written, could set nothing off.
        written = asked[number].written
        assert written is not None
        times: dict[Observed, list[float]] = defaultdict(list)
        for node, end, at_s, kind in observed:
            if end <= written[node].observed:
                times[Observed(kind, node)].append(at_s)
                times[Observed(kind)].append(at_s)
        for event, all_s in times.items():
            earlier = sorted(at_s for at_s in all_s if 0.0 <= at_s <= began_s)
            recent = [
                at_s
                for at_s in earlier
                if at_s > last_s and began_s - at_s <= AGO_S_MAX
            ]
            if not recent:
                assert event not in found, (number, event)
                continue
            sighting = found.pop(event)
            assert sighting.at_s == pytest.approx(earlier[-1], abs=1e-6)
            if len(earlier) > 1:
                assert sighting.since_s == pytest.approx(earlier[-2], abs=1e-6)
            compared += 1
        assert not found
        last_s = began_s
    assert compared > 20


def test_a_run_by_events_strikes_when_the_run_by_times_did(
    simulated: RunFolder, tmp_path: Path
) -> None:
    """In the simulator all is the same until the first strike comes a bit sooner."""
    asked = Experiment.load(simulated)
    plan = plans.parse(simulated.read_as("plan.yaml", list), "plan")
    by_event = retrigger(plan, before_strikes(simulated))
    changed = [n for n, step in enumerate(plan) if step != by_event[n]]
    assert changed
    data = [step.as_data() for step in by_event]
    again = [
        RunFolder(Path(keep(tmp_path, Experiment(asked.spec, data)).folder))
        for _ in range(2)
    ]
    assert strikes(again[0]) == strikes(again[1])
    then, now = strikes(simulated), strikes(again[0])
    assert list(now) == list(then)
    first = changed[0]
    assert then[first] - AGO_S_MAX - 0.01 <= now[first] <= then[first]
    for number in then:
        assert abs(then[number] - now[number]) <= 0.8


def test_the_tail_of_a_long_file_is_enough(
    simulated: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = before_strikes(simulated)
    monkeypatch.setattr(moments, "TAIL_BYTES", 4096)
    for number, before in before_strikes(simulated).items():
        known = {each.event: each for each in whole[number].seen}
        for each in before.seen:
            assert each.at_s == known[each.event].at_s
            assert each.since_s >= known[each.event].since_s


# Nodes that observe nothing


def a_log(folder: Path, text: str, told: list[dict[str, Any]]) -> RunFolder:
    """A run folder with one node's log, and lines of faults.jsonl."""
    (folder / "nodes" / "n1").mkdir(parents=True)
    (folder / "nodes" / "n1" / "log").write_text(text)
    (folder / "faults.jsonl").write_text("".join(json.dumps(x) + "\n" for x in told))
    start = {"n1": {"observed": 0, "logged": 0, "logged_ago_ms": 0.0}}
    run = {"version": 1, "ended": "complete", "start_mono_ns": 0}
    (folder / "run.json").write_text(json.dumps({**run, "written_at_start": start}))
    return RunFolder(folder)


def told(event: str, step: int, at_s: float, logged: int, ago_ms: float) -> Any:
    written = {"observed": 0, "logged": logged, "logged_ago_ms": ago_ms}
    return {
        "time": int(at_s * 1e9),
        "id": step,
        "event": event,
        "kind": "kill",
        "written": {"n1": written},
    }


LOG = "12:00:01 elected in term 1\n12:00:02 stepped down\n12:00:03 elected in term 2\n"
"""Its lines are 27, 22 and 27 bytes long."""


def test_the_last_line_of_a_log_is_known_by_its_shape(tmp_path: Path) -> None:
    assert [len(line) for line in LOG.splitlines(keepends=True)] == [27, 22, 27]
    folder = a_log(
        tmp_path,
        LOG + "something later\n",
        [
            told("asked", 0, 2.0, 27, ago_ms=900.0),
            told("end", 0, 2.5, 49, ago_ms=10.0),
            told("asked", 1, 4.0, 76, ago_ms=30.0),
        ],
    )
    before = before_strikes(folder)
    assert before[0].seen == []  # the line is older than what a strike hits
    (sighting,) = before[1].seen
    assert sighting.event == Logged(shape("12:00:03 elected in term 2"), "n1")
    assert sighting.at_s == pytest.approx(3.97)
    assert (sighting.since_s, sighting.count) == (2.5, 1)
    assert sighting.interval_s == pytest.approx(2.0)


@pytest.mark.parametrize("last", ["n1 serves status of c-harness", "status: asked"])
def test_a_question_of_ours_is_no_event_of_a_node(tmp_path: Path, last: str) -> None:
    folder = a_log(tmp_path, last, [told("asked", 0, 2.0, len(last), ago_ms=10.0)])
    assert before_strikes(folder)[0].seen == []


def test_a_log_that_lost_its_middle_tells_nothing(tmp_path: Path) -> None:
    cut = "12:00:01 elected in term 1\n[splitbrain: 999 bytes of log dropped here]\n"
    text = f"{cut}12:00:03 elected in term 2\n"
    folder = a_log(tmp_path, text, [told("asked", 0, 2.0, len(text), ago_ms=10.0)])
    assert before_strikes(folder)[0].seen == []


def test_a_record_that_lacks_the_files_tells_nothing(tmp_path: Path) -> None:
    folder = a_log(tmp_path, "", [told("asked", 0, 2.0, 500, ago_ms=10.0)])
    assert before_strikes(folder)[0].seen == []
    (tmp_path / "nodes" / "n1" / "log").unlink()
    assert before_strikes(folder)[0].seen == []
    (tmp_path / "run.json").unlink()
    assert before_strikes(folder) == {}


@given(st.text(max_size=200))
def test_a_shape_is_a_pattern_that_finds_its_line(line: str) -> None:
    if pattern := shape(line):
        assert logs.compiled(pattern).search(line)


def test_values_are_no_part_of_a_shape() -> None:
    one = shape("12:00:01.25 n1 elected in term 7 by n2,n3")
    other = shape("12:34:56.78 n5 elected in term 812 by n1,n2")
    assert one == other
    assert not re.search(one, "12:34:56.78 n5 stepped down in term 812 by n1,n2")
    assert shape("17 n1") == ""
    assert shape("") == ""
    assert shape("x" * 5000) == ""
