"""A run that is judged while it lasts: it ends once it is known to be invalid."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkers.linearizability.models import MODELS
from checkers.linearizable import LinearizableChecker
from harness.campaign.carrying import discard, keep
from harness.campaign.experiment import Experiment
from harness.cli import run_command
from harness.errors import EXIT_HARNESS, EXIT_INVALID, EXIT_VALID, UsageError
from harness.history import History, HistoryError, Op
from harness.history.formats import HistoryFollower, HistoryWriter, load
from harness.judge import analysis
from harness.report import text
from harness.run import monitor
from harness.run.completing import complete
from harness.run.spec import TestSpec
from harness.run.store import RunFolder
from harness.systems import mutants
from harness.verdict import EVERY_ANOMALY, Anomaly, CheckResult, Limits, Verdict
from workloads.register import Register

if TYPE_CHECKING:
    from harness.campaign.outcome import Outcome
    from harness.run.records import TestRecord, VerdictRecord


def stale(**changes: Any) -> TestSpec:
    """A simulated run whose local reads are stale sooner or later."""
    given: dict[str, Any] = {
        "system": "raft",
        "workload": "register",
        "nemesis": ["partition"],
        "world": "sim",
        "rate": 50.0,
        "time_limit_s": 20.0,
        "seed": 1,
        "options": {"reads": "local"},
        "until_invalid": True,
    }
    spec = TestSpec(**{**given, **changes})
    complete(spec)
    return spec


def lines(outcome: Outcome) -> list[bytes]:
    return (Path(outcome.folder) / "history.jsonl").read_bytes().splitlines()


def test_a_simulated_run_ends_once_it_is_known_to_be_invalid(tmp_path: Path) -> None:
    whole = keep(tmp_path, Experiment(stale(until_invalid=False)))
    early = keep(tmp_path, Experiment(stale()))
    again = keep(tmp_path, Experiment(stale()))

    assert (whole.verdict, early.verdict) == ("invalid", "invalid")
    assert whole.convicted_s is None
    assert early.convicted_s is not None
    assert early.convicted_s == int(early.convicted_s), "at a whole virtual second"
    assert early.run_s < whole.run_s - 5
    assert lines(early) == lines(again)

    folder = RunFolder(Path(early.folder))
    run = folder.run()
    assert run is not None
    assert run.convicted is not None
    judged = run.convicted.events
    assert lines(early)[:judged] == lines(whole)[:judged], "judging changes nothing"
    assert run.ended == "convicted"
    times = [op.time for op in load(folder.path)]
    assert times[judged - 1] <= run.convicted.after_s * 1e9 <= times[judged]
    assert {op.f for op in load(folder.path).ops[judged:]} >= {"read"}, "final reads"
    assert run.convicted.anomaly in early.anomalies
    told = f"Convicted after {early.convicted_s:.1f} s, {run.convicted.ops} operations"
    assert told in text.summary(folder.path)
    record = folder.verdict()
    assert record is not None
    assert record.convicted == run.convicted
    assert "--until-invalid" in early.repro.split()
    assert Experiment.load(folder).spec.until_invalid


def test_a_run_that_keeps_its_promises_lasts_as_long_as_without(tmp_path: Path) -> None:
    valid = {"options": {}, "time_limit_s": 4.0}
    early = keep(tmp_path, Experiment(stale(**valid)))
    whole = keep(tmp_path, Experiment(stale(**valid, until_invalid=False)))
    assert early.verdict == whole.verdict == "valid"
    assert early.convicted_s is None
    assert lines(early) == lines(whole)


MUTANTS = [
    pytest.param(protocol, name, id=f"{protocol}-{name}")
    for protocol, known in mutants.every().items()
    for name in known
]


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("protocol", "mutant"), MUTANTS)
def test_whoever_is_convicted_early_is_in_the_end(
    protocol: str, mutant: str, seed: int, tmp_path: Path
) -> None:
    """The run that goes on from where the other ended is invalid, too."""
    given: dict[str, Any] = {"workload": "", "nemesis": [], "options": {}}
    early, whole = (
        discard(
            tmp_path,
            Experiment(
                stale(
                    **given,
                    system=protocol,
                    mutant=mutant,
                    seed=seed,
                    until_invalid=is_early,
                )
            ),
        )
        for is_early in (True, False)
    )
    told = (early.repro, early.reason, whole.reason)
    assert "error" not in {early.verdict, whole.verdict}, told
    if early.convicted_s is not None:
        assert (early.verdict, whole.verdict) == ("invalid", "invalid"), told
    else:
        assert early.verdict == whole.verdict, told


def test_a_run_that_is_discarded_tells_when_it_was_convicted(tmp_path: Path) -> None:
    outcome = discard(tmp_path, Experiment(stale()))
    assert outcome.convicted_s is not None


def test_a_hasty_run_ends_at_its_conviction_and_was_the_same_until_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[list[bytes]] = []
    judge = analysis.outcome

    def judged(test: TestRecord, folder: RunFolder, limits: Limits) -> VerdictRecord:
        told = (folder.path / "history.jsonl").read_bytes().splitlines()
        recorded.append([line for line in told if b"interrupted" not in line])
        return judge(test, folder, limits)

    monkeypatch.setattr(analysis, "outcome", judged)
    whole, hasty = (
        discard(tmp_path, Experiment(stale()), hasty=is_hasty)
        for is_hasty in (False, True)
    )
    assert hasty.verdict == whole.verdict == "invalid"
    assert hasty.run_s == hasty.convicted_s
    assert not hasty.interrupted
    assert whole.convicted_s is not None  # and judged at times of its own
    assert hasty.run_s <= monitor.HASTY.growth * whole.convicted_s, hasty.repro
    both_ns = min(hasty.run_s, whole.convicted_s) * 1e9
    one, other = (
        [line for line in lines if json.loads(line)["time"] < both_ns]
        for lines in recorded
    )
    assert one == other
    assert len(one) > 100


def test_a_real_run_ends_once_it_is_known_to_be_invalid(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Acknowledged reads are stale at once: every node answers from its own state."""
    arguments = [
        *("run", "raft", "--set", "reads=local", "--nemesis", "partition", "--json"),
        *("--seed", "1", "--time-limit", "120", "--until-invalid", "--rate", "400"),
        *("--results", str(tmp_path)),
    ]
    assert run_command(arguments) == EXIT_INVALID
    told = json.loads(capfd.readouterr().out)
    assert told["convicted"]["checker"] == "linearizable", "seed 1"
    assert told["convicted"]["after_s"] < 115, "seed 1"
    assert told["convicted"]["ops"] <= sum(told["ops"].values())


def test_a_judge_that_dies_is_a_failure_of_ours_and_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "serve", lambda *_: os._exit(3))
    early = stale(world="os", nodes=3, time_limit_s=100.0)
    outcome = keep(tmp_path, Experiment(early))
    assert outcome.status == EXIT_HARNESS
    assert outcome.reason == "the judge process died (exit status 3)"
    assert outcome.run_s < 90, "it ends at once"


def test_a_judge_that_can_t_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: object) -> None:
        raise HistoryError("history.jsonl:7: not an operation")

    monkeypatch.setattr(HistoryFollower, "read", read)
    outcome = keep(tmp_path, Experiment(stale()))
    assert outcome.status == EXIT_HARNESS
    assert "can't be judged while it lasts: history.jsonl:7" in outcome.reason


def test_what_can_t_be_judged_to_its_end_is_judged_as_far_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken system may go on to say things that no checker understands."""

    class Puzzled(LinearizableChecker):
        def check(self, history: History, limits: Limits) -> CheckResult:
            if history[len(history) - 1].time > 4e9:
                raise UsageError("op 99: makes no sense")
            return super().check(history, limits)

    puzzled = Puzzled(MODELS["cas-register"].build(""))
    monkeypatch.setattr(Register, "checkers", lambda _: {"linearizable": puzzled})
    outcome = keep(tmp_path, Experiment(stale()))
    assert outcome.convicted_s is not None
    assert outcome.verdict == "invalid"
    record = RunFolder(Path(outcome.folder)).verdict()
    assert record is not None
    (remark,) = record.checkers["linearizable"].remarks
    assert "as the whole history is unknown: op 99: makes no sense" in remark


@pytest.mark.parametrize(
    ("anomaly", "ends"), [("stale-read", "convicted"), ("two-leaders", "complete")]
)
def test_a_run_may_wait_for_an_anomaly_by_name(
    anomaly: str, ends: str, tmp_path: Path
) -> None:
    spec = stale(until_anomaly=[anomaly], time_limit_s=8.0)
    outcome = keep(tmp_path, Experiment(spec))
    run = RunFolder(Path(outcome.folder)).run()
    assert run is not None
    assert run.ended == ends
    assert f"--until-anomaly {anomaly}" in outcome.repro


class Hasty:
    """Convicts a history that is short, and takes it back once it is longer."""

    final_on_prefix = EVERY_ANOMALY

    def check(self, history: History, limits: Limits) -> CheckResult:
        if len(history) > 130:
            return CheckResult(Verdict.VALID)
        return CheckResult(Verdict.INVALID, (Anomaly("too-short", (0,), "Too short."),))


def test_a_conviction_that_the_whole_history_does_not_bear_out_is_our_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Register, "checkers", lambda _: {"hasty": Hasty()})
    outcome = keep(tmp_path, Experiment(stale(concurrency=30)))
    assert outcome.status == EXIT_HARNESS
    assert "the hasty checker found too-short in the first" in outcome.reason
    assert "the whole history is valid" in outcome.reason


def test_whoever_asks_for_what_nothing_can_tell_is_told_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.run.monitor.final_on_prefix", lambda _: ())
    arguments = [
        *("run", "raft", "--world", "sim", "--until-invalid", "--time-limit", "1"),
        *("--seed", "1", "--results", str(tmp_path)),
    ]
    assert run_command(arguments) == EXIT_VALID
    assert (
        "no checker of this run (register) can tell anything before its end"
        in capfd.readouterr().err
    )


VALUES = st.one_of(st.none(), st.integers(), st.lists(st.integers(), max_size=3))


@given(st.lists(st.tuples(VALUES, st.booleans()), max_size=30), st.data())
def test_a_follower_reads_what_a_reader_of_the_whole_file_reads(
    ops: list[tuple[Any, bool]], data: st.DataObject
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.jsonl"
        follower = HistoryFollower(path)
        follower.read()
        assert follower.events == 0
        with HistoryWriter(path) as writer:
            for number, (value, is_read) in enumerate(ops):
                writer.record(Op(-1, 2 * number, number, "invoke", "f", value, 1))
                if data.draw(st.booleans()):
                    follower.read()
                    assert len(follower.history()) == follower.events == writer.ops
                if is_read:
                    writer.record(Op(-1, 2 * number, number, "ok", "f", value, 1))
        follower.read()
        ours, whole = follower.history(), load(path)
    assert list(ours) == list(whole)
    assert list(ours.completion) == list(whole.completion)
    for name, column in vars(ours.columns).items():
        assert (
            list(column) == list(vars(whole.columns)[name])
            if not isinstance(column, bool)
            else column == vars(whole.columns)[name]
        )


def test_a_line_that_is_being_written_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    line = b'{"index":0,"time":1,"process":0,"type":"invoke","f":"read"}\n'
    follower = HistoryFollower(path)
    path.write_bytes(line[:20])
    follower.read()
    assert follower.events == 0
    path.write_bytes(line)
    follower.read()
    assert follower.events == 1


@given(costs_s=st.lists(st.floats(0.0, 0.6), min_size=1, max_size=5))
def test_checkers_beside_a_run_share_a_tenth_of_a_core_and_none_is_kept_out(
    costs_s: list[float],
) -> None:
    seats = [
        monitor.Seat(
            str(n), LinearizableChecker(MODELS["register"].build("")), observes=False
        )
        for n in range(len(costs_s))
    ]
    turns = dict.fromkeys(map(str, range(len(costs_s))), 0)
    now_s = spent_s = 0.0
    while now_s < 200.0:
        seat = min(seats, key=lambda seat: (seat.due_s, seat.turn))
        now_s = max(now_s, seat.due_s)
        took_s = costs_s[int(seat.name)]
        turns[seat.name] += 1
        spent_s += took_s
        monitor.by_cost(seats, seat, now_s, took_s)
    assert spent_s <= now_s / 10 + max(costs_s)
    # In the time of one turn each, with the rests, or in a second, all have had one.
    cycle_s = 10 * sum(costs_s) + monitor.EVERY_S
    assert min(turns.values()) >= 200.0 / cycle_s - 2
