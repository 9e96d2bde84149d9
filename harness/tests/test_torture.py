"""Torture as test suites ask for it: keywords become experiments, or one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.campaign.failures import Database
from harness.campaign.outcome import Outcome
from harness.campaign.torture import TIME_LIMIT_S, Torturer, experiment, tell
from harness.errors import HarnessError, NotInstalledError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from harness.campaign.torture import Ask

STALE: Ask = {
    "world": "sim",
    "nodes": 3,
    "concurrency": 5,
    "time_limit_s": 4,
    "nemesis": "partition",
    "options": {"reads": "local"},
}
"""Raft that reads without asking anybody, which a seed or two convicts."""

SAFE: Ask = {**STALE, "options": {"reads": "log"}}
TEST = "test_store.py::test_reads"


@pytest.fixture
def torturer(tmp_path: Path) -> Iterator[Torturer]:
    made = Torturer(tmp_path / "results", Database(tmp_path / "kept"), 0)
    yield made
    made.close()


def test_what_a_terminal_obeys_is_spelled_out(tmp_path: Path) -> None:
    anomaly = {"name": "stale-read", "explanation": "read \x1b[2J from n1", "ops": []}
    found = {"verdict": "invalid", "anomalies": [anomaly]}
    verdict = {"verdict": "invalid", "checkers": {"linearizable": found}}
    (tmp_path / "verdict.json").write_text(json.dumps(verdict))
    asked = experiment("raft", {"world": "sim"})
    told = tell(
        Outcome(experiment=asked, verdict="invalid", folder=str(tmp_path)),
        kept="\x07",
    )
    assert r"Read \x1b[2J from n1" in told
    assert not set(told) & {"\x1b", "\x07"}


def test_keywords_become_an_experiment(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("[]")
    made = experiment(
        "raft",
        {
            "nemesis": ["kill, pause", "clock"],
            "nodes": 3,
            "options": {"reads": "local", "clock.drift": 0.1, "pre_vote": False},
            "also": "crashes",
            "seed": 4,
            "plan": plan,
        },
    )
    assert made.spec.nemesis == ["kill", "pause", "clock"]
    assert made.spec.options["clock.drift"] == "0.1"
    assert made.spec.options["pre_vote"] == "false"
    assert (made.spec.workload, made.spec.also) == ("register", ["crashes"])
    assert (made.plan, made.plan_file) == ([], str(plan))
    assert made.spec.until_invalid
    assert made.spec.time_limit_s == TIME_LIMIT_S["os"]


def test_a_seed_is_the_tests_own_or_the_command_lines_or_drawn() -> None:
    assert experiment("raft", {"seed": 4}, seed=5).spec.seed == 4
    assert experiment("raft", {}, seed=5).spec.seed == 5
    assert len({experiment("raft", {}).spec.seed for _ in range(5)}) > 1


def test_the_command_lines_time_limit_goes_before_the_tests() -> None:
    made = experiment("raft", {"time_limit_s": 4}, time_limit_s=9)
    assert made.spec.time_limit_s == 9


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        ({"nemeses": "kill"}, "takes no 'nemeses'; did you mean nemesis or nodes?"),
        ({"nemesis": "kil"}, "there is no nemesis called 'kil'; did you mean kill?"),
        ({"nemesis": {"kill"}}, "it takes a list of names"),
        ({"nemesis": [1]}, "it takes a list of names"),
        ({"nodes": "3"}, "Expected `int`, got `str` - at `$.nodes`"),
        ({"nodes": True}, "nodes"),
        ({"world": "moon"}, "world='moon': it takes os or sim"),
        ({"options": [("a", "b")]}, "it takes a dict"),
        ({"options": {"a": None}}, "neither a text nor a number"),
        ({"plan": [{"at": 1}]}, "step 1"),
        ({"plan": {"at": 1}}, "a plan is a list"),
        ({"plan": "nowhere.yaml"}, "nowhere.yaml"),
        ({"workload": "registr"}, "no workload called 'registr'"),
    ],
)
def test_an_impossible_request_is_refused_in_one_line(
    ask: Any, why: str, torturer: Torturer
) -> None:
    with pytest.raises(UsageError) as caught:
        torturer.torture(TEST, experiment("raft", ask))
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_program_that_is_not_there_is_told_apart(
    torturer: Torturer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("SPLITBRAIN_SYSTEMS", "/nowhere")
    with pytest.raises(NotInstalledError, match="etcd"):
        torturer.torture(TEST, experiment("etcd", {}))


def test_a_failure_is_told_kept_replayed_and_forgotten(
    torturer: Torturer, tmp_path: Path
) -> None:
    found = torturer.torture(TEST, experiment("raft", {**STALE, "seed": 1}), 20)
    assert found.outcome.verdict == "invalid"
    seed = found.outcome.experiment.spec.seed
    first = found.told.splitlines()[0]
    assert first.startswith("stale-read: ")
    rows = [line[:9].rstrip() for line in found.told.splitlines()]
    assert rows[rows.index("seed") :][:3] == ["seed", "kept", "plan"]
    assert rows[-2:] == ["again", "report"]
    assert f"\nseed     {seed}\n" in found.told
    assert "\nplan     {at: {time_s: " in found.told
    assert Path(found.outcome.folder, "report.html").exists()
    assert found.remarks == ()

    # Whatever seed comes next, the failure comes first.
    again = torturer.torture(TEST, experiment("raft", {**STALE, "seed": seed + 50}))
    assert again.outcome.verdict == "invalid"
    assert again.told.splitlines()[0] == first
    assert "\nreplayed stale-read of 2" in again.told
    [remark] = again.remarks
    assert remark.startswith("replayed stale-read of 2")
    assert remark.endswith(": failed again")

    # Once it is mended, the failure is forgotten, and passing runs leave nothing.
    before = sorted((tmp_path / "results").glob("*/*"))
    mended = torturer.torture(TEST, experiment("raft", {**SAFE, "seed": seed}))
    assert (mended.outcome.verdict, mended.told) == ("valid", "")
    assert mended.remarks[0].endswith(": passed, and is forgotten")
    assert sorted((tmp_path / "results").glob("*/*")) == before
    assert not list((tmp_path / "kept").glob("*/*.json"))


def test_a_failure_is_told_even_if_it_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    torturer = Torturer(tmp_path / "results", Database(tmp_path / "file"), 0)
    try:
        found = torturer.torture(TEST, experiment("raft", {**STALE, "seed": 1}), 20)
    finally:
        torturer.close()
    assert found.outcome.verdict == "invalid"
    assert "\nkept     not at all: cannot write " in found.told


@pytest.mark.nightly
def test_a_failure_is_made_smaller_and_the_small_one_is_kept(tmp_path: Path) -> None:
    small: Ask = {**STALE, "nodes": 2, "concurrency": 4, "time_limit_s": 1, "seed": 70}
    small = {**small, "nemesis": "none", "options": {"reads": "local"}, "rate": 40}
    torturer = Torturer(tmp_path / "results", Database(tmp_path / "kept"), 60)
    try:
        found = torturer.torture(TEST, experiment("raft", small), 20)
        again = torturer.torture(TEST, experiment("raft", small))
    finally:
        torturer.close()
    assert found.outcome.verdict == "invalid"
    [shrunk] = [row for row in found.told.splitlines() if row.startswith("shrunk ")]
    assert "operations -> " in shrunk
    assert "shrunk/report.html" in found.told
    assert len(list((tmp_path / "kept").glob("*/*.json"))) == 1
    assert again.remarks[0].endswith("failed again")
    ops = again.outcome.experiment.spec.ops
    assert ops is not None, "the small one was replayed, which bounds its operations"


def test_a_run_that_showed_nothing_is_unknown_and_says_why(torturer: Torturer) -> None:
    never = {"election_timeout_ms_min": 50_000, "election_timeout_ms_max": 60_000}
    ask: Ask = {"world": "sim", "nodes": 3, "time_limit_s": 1, "options": never}
    found = torturer.torture(TEST, experiment("raft", ask))
    assert found.outcome.verdict == "unknown"
    assert found.told.startswith("unknown: No read ever succeeded, ")
    assert "\nplan     no faults\n" in found.told


def test_a_failure_of_the_harness_is_no_verdict(
    torturer: Torturer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    with pytest.raises(HarnessError, match="cannot make a scratch folder"):
        torturer.torture(TEST, experiment("raft", SAFE))
    monkeypatch.undo()
    outcome = torturer.torture(TEST, experiment("raft", {**SAFE, "seed": 1})).outcome
    assert outcome.verdict == "valid", "and the next test is not harmed"
