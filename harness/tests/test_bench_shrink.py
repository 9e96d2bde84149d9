"""`splitbrain bench shrink`: what counts as small enough, and one failure for real."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from harness import cli
from harness.bench import shrink
from harness.bench.shrink import Case, Kept, Result, Shrunk
from harness.campaign.carrying import discard
from harness.campaign.experiment import Experiment
from harness.campaign.shrinking.size import size
from harness.run.spec import TestSpec
from harness.systems import mutants

if TYPE_CHECKING:
    from pathlib import Path

KILL = {"at": {"time_s": 1.0}, "fault": {"kind": "kill", "target": "leader"}}
HEALED = {**KILL, "heal": {"after_s": 0.5}}
KNOWN = shrink.read_known()
EVERY = [(name, mutant) for name, known in mutants.every().items() for mutant in known]
SEEDS = 200
"""Seeds of a smallest experiment: a change of any protocol's timing moves its luck."""


def experiment(steps: int, ops: int) -> Experiment:
    spec = TestSpec(system="raft", world="sim", mutant="keeps-conflict", ops=ops)
    return Experiment(spec, [HEALED] * steps)


def case(known: tuple[int, int] | None, *found: tuple[int, int]) -> Case:
    made = Case(
        "raft", "keeps-conflict", None if not known else size(experiment(*known))
    )
    for steps, ops in found:
        made.results.append(Result(experiment(steps, ops), "complete", 1.0, 0.5, 9))
    return made


@pytest.mark.parametrize(
    ("known", "found", "verdict"),
    [
        ((1, 3), [(1, 3)], "within"),
        ((1, 3), [(2, 6)], "within"),
        ((1, 3), [(2, 7)], "LARGER"),
        ((1, 3), [(3, 3)], "LARGER"),
        ((0, 3), [(1, 3)], "LARGER"),
        ((1, 3), [(1, 2)], "smaller"),
        ((1, 3), [(1, 2), (3, 9)], "LARGER"),
        (None, [(3, 9)], "new"),
        ((1, 3), [], "ERROR"),
    ],
)
def test_a_failure_is_small_enough_within_twice_the_smallest_known(
    known: tuple[int, int] | None, found: list[tuple[int, int]], verdict: str
) -> None:
    one = case(known, *found)
    assert one.verdict == verdict
    assert Shrunk([one]).meets_target is (verdict not in {"LARGER", "ERROR"})


def test_the_table_has_the_smallest_known_beside_what_differs() -> None:
    told = Shrunk([case((1, 3), (1, 7)), case((1, 3), (1, 3))]).text()
    larger, within = told.splitlines()[2:4]
    assert larger.split()[2:6] == ["LARGER", "1", "7", "(3)"]
    assert within.split()[2:5] == ["within", "1", "3"]
    assert "1 of 2 mutants' failures have at most 2 times" in told
    assert "larger: raft/keeps-conflict" in told


def test_only_what_is_smaller_is_kept() -> None:
    known = {"raft": {"keeps-conflict": Kept.of(experiment(1, 3))}}

    def record(*found: tuple[int, int]) -> Any:
        results = [result.as_json() for result in case(None, *found).results]
        of_mutant = {"protocol": "raft", "mutant": "keeps-conflict", "results": results}
        return json.loads(json.dumps({"cases": [of_mutant]}))

    assert shrink.merge(known, record((1, 4), (2, 1))) == 0
    assert shrink.merge(known, record((1, 2), (0, 9), (1, 1))) == 2
    assert known["raft"]["keeps-conflict"].experiment() == experiment(0, 9)


def test_the_smallest_experiment_is_known_for_each_mutant() -> None:
    assert {(p, m) for p, known in KNOWN.items() for m in known} == set(EVERY)
    for protocol, of_protocol in KNOWN.items():
        for mutant, kept in of_protocol.items():
            one = kept.experiment()
            assert (one.spec.system, one.spec.mutant) == (protocol, mutant)
            assert one.spec.world == "sim"
            assert Kept.of(one) == kept


@pytest.mark.nightly
@pytest.mark.parametrize(("protocol", "mutant"), EVERY)
def test_the_smallest_experiment_known_convicts(
    protocol: str, mutant: str, tmp_path: Path
) -> None:
    one = KNOWN[protocol][mutant].experiment()
    declared = set(mutants.find(protocol, mutant).anomalies)
    for seed in [one.spec.seed, *range(SEEDS)]:
        if declared & set(discard(tmp_path, one.with_seed(seed)).anomalies):
            return
    pytest.fail(f"none of {SEEDS} seeds convicts: shrink the mutant's failure again")


def test_a_mutant_is_convicted_and_its_failure_shrunk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [Case("raft", "vote-not-durable", None)]
    monkeypatch.setattr(shrink, "choose", lambda _: chosen)
    asked = ["bench", "shrink", "--budget", "20", "--results", str(tmp_path)]
    status = cli.run_command(asked)
    out, err = capsys.readouterr()
    assert status == 0, out + err
    [path] = (tmp_path / "bench").glob("shrink-*.json")
    [told] = json.loads(path.read_text())["cases"]
    assert told["outcome"] in {"within", "smaller"}, told
    assert told["results"][0]["steps"] == 0
    assert f"raw figures: {path}" in out


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("protocol", "mutant"),
    [
        ("multi_paxos", "fsync-omitted"),
        ("paxos", "accepted-before-fsync"),
        ("raft", "commit-past-match"),
        ("raft", "lease-ignores-drift"),
        ("three_phase_commit", "precommit-not-durable"),
        ("two_phase_commit", "unlock-at-prepare"),
        ("zab", "serves-before-sync"),
    ],
)
def test_a_failure_is_shrunk_to_twice_the_smallest_known_at_most(
    protocol: str, mutant: str, tmp_path: Path
) -> None:
    one = Case(protocol, mutant, size(KNOWN[protocol][mutant].experiment()))
    found = shrink.shrink_one(one, 1, 300.0, 1, tmp_path)
    assert one.known is not None
    assert found.is_within(one.known), f"{found.size}, beside {one.known}"
    assert found.cpu_s < 60.0
