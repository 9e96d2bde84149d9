"""`splitbrain bench mutants --foreign`: its systems, its table, and runs of both."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from harness.bench import foreign, trials
from harness.bench.foreign import Row, Trial, Tried
from harness.bench.trials import whatever_comes
from harness.campaign.outcome import Outcome
from harness.cli import run_command
from harness.errors import HarnessError, UsageError
from harness.worlds.os.switch import why_no_switch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness.run.spec import TestSpec

SEED = 11
RUN_LIMIT_S = 120.0

SOON = {
    "bank": "reads-without-locks",
    "chain": "ack-at-head",
    "crdt": "one-sum",
    "lock": "token-per-node",
    "primary": "read-from-backup",
    "quorum": "ties",
}
"""System -> a bug that shows in almost every run."""
CORRECT = [
    (name, workload)
    for name, system in foreign.systems().items()
    for workload in system.workloads
]


@pytest.fixture
def ready(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], None]]:
    """A function that builds a system once a session, or skips the test."""
    place = tmp_path_factory.getbasetemp().parent / "foreign"
    place.mkdir(exist_ok=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))

    def make(name: str) -> None:
        if why := why_no_switch():
            pytest.skip(f"no switch here: {why}")
        if missing := foreign.systems()[name].missing:
            pytest.skip(f"needs {' and '.join(missing)} on PATH")
        with (place / f"{name}.lock").open("w") as lock:  # other workers wait
            fcntl.flock(lock, fcntl.LOCK_EX)
            foreign.built(name)

    foreign.built.cache_clear()
    yield make
    foreign.built.cache_clear()


def outcome_of(spec: TestSpec, results: Path) -> tuple[dict[str, Any], str]:
    """What `splitbrain run` says of such a run, and all that it printed."""
    words = spec.command()
    words = [*words[words.index("run") :], "--json", "--results", str(results)]
    done = subprocess.run(
        [sys.executable, "-m", "harness", *words],
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
        check=False,
    )
    told = f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    assert done.returncode in {0, 1, 2}, told
    return json.loads(done.stdout), told


# --- the systems -----------------------------------------------------------------


@pytest.mark.parametrize("name", foreign.systems())
def test_every_bug_is_told_and_made_in_the_source(name: str) -> None:
    sources = "".join(
        file.read_text(encoding="utf-8")
        for file in (foreign.FOLDER / name).iterdir()
        if file.suffix not in {".yaml", ".mod"}
    )
    for bug in foreign.systems()[name].bugs:
        assert f"{bug} " in sources, f"{bug} is not told at the top"
        made = f'"{bug}"' in sources or any(
            f'"{part}"' in sources
            for part in (bug.partition("-")[0] + "-", bug[bug.index("-") :])
        )
        assert made, f"nothing depends on {bug}"


def test_there_are_six_systems_in_six_languages_and_a_bug_of_each_shows_soon() -> None:
    every = foreign.systems()
    assert len(every) >= 6
    assert len({system.language for system in every.values()}) >= 6
    assert every.keys() == SOON.keys()
    assert all(bug in every[name].bugs for name, bug in SOON.items())
    for system in every.values():
        assert len(system.bugs) >= 3
        assert all(system.expected(bug) for bug in system.bugs)


@pytest.mark.parametrize(("name", "workload"), CORRECT)
def test_a_correct_system_stands_under_all_faults_that_it_bears(
    name: str, workload: str, tmp_path: Path, ready: Callable[[str], None]
) -> None:
    ready(name)
    spec = foreign.set_up(name, None, workload)
    spec.time_limit_s, spec.seed, spec.until_invalid = 4.0, SEED, False
    outcome, told = outcome_of(spec, tmp_path)
    # A machine that is busy leaves some of them no time to serve between two faults.
    assert outcome["verdict"] in {"valid", "unknown"}, told
    assert outcome["ops"]["ok"] > 0, told


@pytest.mark.parametrize(("name", "bug"), SOON.items())
def test_a_planted_bug_is_convicted(
    name: str, bug: str, tmp_path: Path, ready: Callable[[str], None]
) -> None:
    ready(name)
    spec = foreign.set_up(name, bug)
    spec.seed = SEED
    if name == "crdt":
        spec.time_limit_s, spec.options["pn_counter.settle_s"] = 2.0, "1"
    outcome, told = outcome_of(spec, tmp_path)
    assert outcome["verdict"] == "invalid", told
    found = {
        anomaly["name"]
        for checker in outcome["checkers"].values()
        for anomaly in checker["anomalies"]
    }
    assert found & foreign.systems()[name].expected(bug), told


@pytest.mark.nightly
def test_nine_in_ten_bugs_are_convicted_and_no_correct_system_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run_command(["bench", "mutants", "--foreign", "--results", str(tmp_path)])
    printed = capsys.readouterr()
    assert done == 0, printed.out
    assert " 0 false alarms in " in printed.out


# --- their descriptions ----------------------------------------------------------

GOOD = {
    "about": "a node",
    "language": "Go",
    "needs": ["go"],
    "command": "{build}/node",
    "workloads": {"register": {}},
    "faults": ["kill"],
    "finds": ["stale-read"],
    "bugs": {"b": {"faults": []}},
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"command": None}, r"Expected `str`, got `null`.*command"),
        ({"comand": "x"}, "unknown field `comand`"),
        ({"workloads": {}}, "names no workload"),
        ({"bugs": {"b": {"faults": "kill"}}}, r"Expected `array`.*bugs"),
        ({"bugs": {"b": {"faults": [], "workload": "lock"}}}, "bug b .*'lock'"),
    ],
)
def test_a_wrong_description_is_refused_in_a_line(
    change: dict[str, Any], told: str, tmp_path: Path
) -> None:
    file = tmp_path / "foreign.yaml"
    file.write_text(yaml.safe_dump({**GOOD, **change}))
    with pytest.raises(UsageError, match=told) as caught:
        foreign.described(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """A system of our own in the place of all others: fields to be written down."""
    (tmp_path / "examples" / "toy").mkdir(parents=True)
    monkeypatch.setattr(foreign, "FOLDER", tmp_path / "examples")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    foreign.systems.cache_clear()
    foreign.built.cache_clear()
    yield {**GOOD, "needs": ["sh"]}
    foreign.systems.cache_clear()
    foreign.built.cache_clear()


def write(fields: dict[str, Any]) -> None:
    file = foreign.FOLDER / "toy" / "foreign.yaml"
    file.write_text(yaml.safe_dump(fields))
    foreign.systems.cache_clear()
    foreign.built.cache_clear()


def test_a_system_is_built_once_for_the_same_sources(made_up: dict[str, Any]) -> None:
    write({**made_up, "build": "sh -c 'date +%N > {build}/node'"})
    first = foreign.built("toy")
    made = (first / "node").read_text()
    foreign.built.cache_clear()
    assert foreign.built("toy") == first
    assert (first / "node").read_text() == made
    assert foreign.set_up("toy", "b").system == f"launch:{first}/node --bug b"
    write({**made_up, "build": "sh -c 'date +%N >> {build}/node'"})
    assert foreign.built("toy") != first
    assert sorted(foreign.cache().iterdir()) == sorted([first, foreign.built("toy")])


@pytest.mark.parametrize(
    ("build", "told"),
    [
        ("sh -c 'echo line 3: no such thing >&2; exit 1'", "line 3: no such thing"),
        ("sh -c 'exit 1'", "it says nothing"),
        ("./compiler", "No such file"),
    ],
)
def test_a_build_that_fails_is_told_in_a_line_and_leaves_nothing(
    build: str, told: str, made_up: dict[str, Any]
) -> None:
    write({**made_up, "build": build})
    with pytest.raises(HarnessError, match=rf"can't build toy.*{told}"):
        foreign.built("toy")
    assert not list(foreign.cache().iterdir())


def test_what_can_t_be_built_here_is_skipped_and_said(
    made_up: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write({**made_up, "needs": ["sh", "no-such-compiler"]})
    assert foreign.bugs() == []
    words = ["bench", "mutants", "--foreign", "--results", str(tmp_path / "results")]
    assert run_command(words) == 1
    printed = capsys.readouterr().out
    assert "skipped: toy needs no-such-compiler on PATH" in printed
    assert "0 of 0 bugs convicted" in printed
    assert "MISSED" in printed


def test_a_system_that_is_not_there_and_a_simulated_one_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(["bench", "mutants", "--foreign", "--protocol", "banc"]) == 254
    assert "did you mean" in capsys.readouterr().err
    assert run_command(["bench", "mutants", "--foreign", "--world", "sim"]) == 254
    assert "leave out --world sim" in capsys.readouterr().err


def test_an_install_without_the_sources_says_that_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(foreign, "FOLDER", tmp_path)
    foreign.systems.cache_clear()
    try:
        assert run_command(["bench", "mutants", "--foreign"]) == 254
    finally:
        foreign.systems.cache_clear()
    assert "they come with the sources" in capsys.readouterr().err


# --- the table -------------------------------------------------------------------


def held(*verdicts: str, found: str = "stale-read") -> Trial:
    convicted = "invalid" in verdicts
    return Trial(
        verdicts=list(verdicts),
        seconds=3.0,
        anomalies=[found] if convicted else [],
        repro="splitbrain run it" if convicted else "",
    )


@pytest.mark.parametrize(
    ("bug", "trials", "outcome", "is_met"),
    [
        ("ties", [held("valid", "invalid")], "convicted", True),
        ("ties", [held("valid", "unknown")], "ESCAPED", False),
        ("ties", [held("invalid"), held("valid")], "ESCAPED", False),
        ("ties", [held("invalid", found="crash")], "UNEXPECTED", False),
        (None, [held("valid", "unknown")], "clean", True),
        (None, [held("unknown", "unknown")], "UNDECIDED", False),
        (None, [held("valid", "invalid")], "FALSE ALARM", False),
    ],
)
def test_a_row_is_judged_by_most_of_its_trials(
    bug: str | None, trials: list[Trial], outcome: str, *, is_met: bool
) -> None:
    row = Row("quorum", bug, "register", trials=trials)
    assert row.outcome == outcome
    other = Row("quorum", "own-clock", "register", trials=[held("invalid")])
    tried = Tried([row, other], 60.0)
    assert tried.meets_target == is_met
    assert f"the target is {'met' if is_met else 'MISSED'}" in tried.text()
    assert ("false alarm: splitbrain run it" in tried.text()) == (
        outcome == "FALSE ALARM"
    )


def test_one_bug_in_ten_may_escape() -> None:
    found = [Row("quorum", "ties", "register", trials=[held("invalid")])] * 9
    escaped = Row("quorum", "ties", "register", trials=[held("valid")])
    assert Tried([*found, escaped], 60.0).meets_target
    assert not Tried([*found, escaped, escaped], 60.0).meets_target
    failed = Row("quorum", None, "register", error="can't build quorum: no")
    assert not Tried([*found, failed], 60.0).meets_target


def test_a_trial_ends_with_a_conviction_or_its_budget(
    made_up: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    write({**made_up, "run_s": 4})

    def ended(bug: str | None, verdicts: list[str]) -> Trial:
        trying = foreign.trial(Row("toy", bug, "register"), 7, 10.0)
        asked = next(trying)
        for turn, verdict in enumerate(verdicts):
            assert asked.spec.seed == 7 + turn
            outcome = Outcome(experiment=asked, verdict=verdict, seconds=4.0)  # type: ignore[arg-type]  # words
            try:
                asked = trying.send(outcome)
            except StopIteration as done:
                assert turn == len(verdicts) - 1
                trial: Trial = done.value
                return trial
        raise AssertionError("it goes on")

    assert ended("b", ["valid", "invalid"]).seconds == 8.0
    assert ended("b", ["valid", "unknown"]).verdicts == ["valid", "unknown"]
    monkeypatch.setattr(foreign, "CONTROL_RUNS", 2)
    assert ended(None, ["invalid", "valid"]).convicts
    trying = whatever_comes(foreign.trial(Row("toy", "b", "register"), 7, 9.0))
    asked = next(trying)
    with pytest.raises(StopIteration) as failed:
        trying.send(Outcome.failed(asked, "disk full"))
    assert failed.value.value.why == "seed 7: disk full"
    assert trials.outcome_of(Tried([], 1.0, interrupted="0 of 3")).startswith("open")
