"""`splitbrain bench`: figures, their table, the peer, and a small run of it all."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.bench import bench, children, peer, rows, table
from harness.bench.bench import Outcome
from harness.bench.children import BenchError
from harness.bench.figures import Budget, Figure, PeerFigure
from harness.bench.histories import REGISTERS, Shape, generate
from harness.bench.rows import CheckRow, Lab, Row, SkippedError
from harness.bench.runfolder import FAULTS
from harness.cli import cli
from harness.errors import UsageError
from harness.history import History, Op


def figure(*samples: float, unit: str = "s") -> Figure:
    return Figure("group/row", "a row", unit, list(samples))


# Figures


def test_a_budget_is_judged_by_the_median() -> None:
    kept = replace(figure(0.5, 0.6, 99.0), budget=Budget(1.0))
    missed = replace(figure(0.5, 1.1, 1.2), budget=Budget(1.0))
    assert kept.within_budget is True
    assert missed.within_budget is False
    assert figure(1.0).within_budget is None


def test_a_rate_must_reach_its_budget() -> None:
    budget = Budget(800, "at_least")
    assert replace(figure(900, unit="ops/s"), budget=budget).within_budget is True
    assert replace(figure(700, unit="ops/s"), budget=budget).within_budget is False


@pytest.mark.parametrize(
    ("theirs", "ratio", "within"),
    [
        (PeerFigure("P", [20.0]), 20.0, True),
        (PeerFigure("P", [5.0]), 5.0, False),
        (PeerFigure("P", gave_up_after=60.0), 60.0, True),
        (PeerFigure("P", gave_up_after=5.0), 5.0, None),
        (PeerFigure("P", remark="skipped: no Go"), None, None),
    ],
)
def test_a_ratio_to_a_peer_is_judged_only_as_far_as_it_is_known(
    theirs: PeerFigure, ratio: float | None, within: bool | None
) -> None:
    ours = replace(figure(1.0), budget=Budget(10, "times_faster"), peer=theirs)
    assert ours.ratio == ratio
    assert ours.within_budget is within


def test_a_budget_missed_on_a_busy_machine_may_have_been_kept() -> None:
    slow = replace(figure(3.0, 3.2), budget=Budget(1.0))
    assert replace(slow, cpu=[0.5, 0.6]).within_budget is None
    assert replace(slow, cpu=[2.9, 3.1]).within_budget is False
    assert replace(slow, cpu=[1.5, 1.6]).within_budget is False
    said = table.remarks([replace(slow, cpu=[0.5, 0.6])], load=0.0, cores=2)
    assert "  a row: 550 ms" in said
    peer_too = replace(
        figure(3.0), cpu=[0.5], budget=Budget(10, "times_faster"),
        peer=PeerFigure("P", [15.0], cpu=[6.0]),
    )  # fmt: skip
    assert peer_too.within_budget is None
    assert replace(peer_too, cpu=[2.9]).within_budget is False
    said = table.remarks([peer_too], load=0.0, cores=2)
    assert "  a row: 500 ms, 12x" in said


def test_what_need_not_be_faster_must_not_be_slower_than_a_slow_peer() -> None:
    budget = Budget(1, "not_slower")
    slow, quick = PeerFigure("P", [0.2]), PeerFigure("P", [0.04])
    assert replace(figure(0.1), budget=budget, peer=slow).within_budget is True
    assert replace(figure(0.3), budget=budget, peer=slow).within_budget is False
    assert replace(figure(0.3), budget=budget, peer=quick).within_budget is None
    assert "not slower" in table.render(
        [replace(figure(0.1), budget=budget, peer=slow)]
    )


def test_the_ratio_is_taken_turn_by_turn() -> None:
    # Turns have histories of their own: 10x, 10x and 2x as fast, whatever the medians.
    ours = replace(figure(1.0, 10.0, 3.0), peer=PeerFigure("P", [10.0, 100.0, 6.0]))
    assert ours.ratio == 10


def test_a_peer_that_gave_up_in_its_second_turn_leaves_a_lower_bound() -> None:
    theirs = PeerFigure("P", [10.0], gave_up_after=60.0)
    ours = replace(figure(1.0, 2.0, 2.0), peer=theirs)
    assert ours.ratio == 17.5
    assert "> 17.5x" in table.render([ours])


def test_samples_far_apart_are_called_noisy() -> None:
    assert figure(1.0, 1.6).noisy
    assert not figure(1.0, 1.4).noisy
    assert not figure().noisy


# The table


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0000321, "s", "32.1 us"),
        (0.0532, "s", "53.2 ms"),
        (1.5, "s", "1.5 s"),
        (0.0, "s", "0 s"),
        (1536.0, "MiB", "1.5 GiB"),
        (147.2, "MiB", "147 MiB"),
        (12345.6, "ops/s", "12,346 ops/s"),
    ],
)
def test_quantities_take_the_unit_that_suits_them(
    value: float, unit: str, text: str
) -> None:
    assert table.quantity(value, unit) == text


def columns(text: str) -> list[list[str]]:
    """The table's cells: what two blanks keep apart."""
    return [
        [cell.strip() for cell in line.split("  ") if cell.strip()]
        for line in text.splitlines()
    ]


def test_the_table_shows_budget_median_range_peer_ratio_and_verdict() -> None:
    ours = replace(
        figure(0.1, 0.3, 0.2),
        budget=Budget(10, "times_faster"),
        peer=PeerFigure("Porcupine", [4.0]),
    )
    heading, _, group, line = columns(table.render([ours]))
    assert heading[-3:] == [
        "Porcupine",
        "ratio",
        "target",
    ]
    assert group == ["group"]
    assert line == [
        "a row",
        "10x the peer",
        "200 ms",
        "100 - 300 ms",
        "4 s",
        "20x",
        "met",
    ]


def test_cells_stand_below_their_headings() -> None:
    missed = replace(figure(3.0, 3.0), budget=Budget(1.0))
    text = table.render([missed, figure(0.5)])
    heading, line = text.splitlines()[0], text.splitlines()[3]
    assert line.index("MISSED") == heading.index("target")
    assert line.index("3 s") == heading.index("median")


def test_a_peer_that_gave_up_gives_a_lower_bound() -> None:
    theirs = PeerFigure("P", gave_up_after=60.0, remark="no answer in 60 s")
    text = table.render([replace(figure(0.5), peer=theirs)])
    assert "no answer in 60 s" in text
    assert "> 120x" in text


def test_a_row_that_was_skipped_says_why_and_widens_no_column() -> None:
    reason = "skipped: " + "because " * 20
    text = table.render([replace(figure(), remark=reason), figure(1.0)])
    assert reason.strip() in text
    assert len(text.splitlines()[0]) < 100


def test_columns_that_nobody_fills_are_left_out() -> None:
    text = table.render([figure(1.0, 2.0)])
    assert columns(text)[0] == ["median", "min-max"]
    assert columns(text)[-1] == ["a row", "1.5 s", "1 - 2 s"]


def test_details_are_kept_out_of_the_table() -> None:
    assert "a row" not in table.render([replace(figure(1.0), detail=True)])


def test_missed_budgets_are_listed_with_what_was_promised() -> None:
    missed = replace(figure(3.0), budget=Budget(1.0))
    slow = replace(
        figure(1.0), budget=Budget(10, "times_faster"), peer=PeerFigure("P", [2.0])
    )
    said = table.remarks([missed, slow, figure(1.0)], load=0.5, cores=2)
    assert said == [
        "2 of 2 budgets missed:",
        "  a row: 3 s, budget 1 s",
        "  a row: 2x (1 s), budget 10x the peer",
    ]


def test_kept_budgets_and_a_busy_machine_are_told() -> None:
    kept = replace(figure(0.5), budget=Budget(1.0))
    first, second = table.remarks([kept], load=5.0, cores=2)
    assert first == "Budgets kept: all 1."
    assert "the load was 5.0 on 2 cores" in second


# Rows


def test_rows_have_names_of_their_own_and_budgets_for_the_promises() -> None:
    names = [row.name for row in rows.rows()]
    assert len(names) == len(set(names))
    assert {row.group for row in rows.rows()} == {
        "startup",
        "history",
        "check",
        "cluster",
        "sim",
    }


def test_rows_are_chosen_by_group_or_name_and_long_ones_not_in_quick_runs() -> None:
    everything = bench.choose([], quick=False)
    quick = bench.choose([], quick=True)
    assert {row.name for row in quick} < {row.name for row in everything}
    assert not any(row.full_only for row in quick)
    assert {r.group for r in bench.choose(["check", "report"], quick=True)} == {
        "check",
        "report",
    }
    (named,) = bench.choose(["check/register-1m-c100"], quick=True)
    assert named.full_only


def test_an_unknown_row_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(UsageError, match="did you mean check/cas-10k-c10"):
        bench.choose(["check/cas-10k-c11"], quick=True)


def test_a_row_that_fails_or_is_skipped_does_not_end_the_others(
    tmp_path: Path,
) -> None:
    def fails(_: Lab, __: Row) -> list[Figure]:
        raise BenchError("it broke")

    def skips(_: Lab, __: Row) -> list[Figure]:
        raise SkippedError("not here")

    outcome, lab = Outcome(), Lab(tmp_path, repeat=1, quick=True)
    bench.measure(Row("g/a", "a", fails), lab, outcome)
    bench.measure(Row("g/b", "b", skips), lab, outcome)
    assert outcome.errors == ["g/a: it broke"]
    (skipped,) = outcome.figures
    assert skipped.remark == "skipped: not here"
    assert skipped.median is None


def test_a_wrong_verdict_of_ours_fails_the_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "measure", lambda *_, **__: {"verdict": "invalid"})
    with pytest.raises(BenchError, match="our verdict is invalid, not valid"):
        CheckRow(Shape("register", 10, 2)).ours(tmp_path)


def test_a_slow_peer_gets_one_turn_only() -> None:
    assert rows.worth_another_turn(PeerFigure("P"))
    assert rows.worth_another_turn(PeerFigure("P", [1.0]))
    assert not rows.worth_another_turn(PeerFigure("P", [30.0]))
    assert not rows.worth_another_turn(PeerFigure("P", gave_up_after=1.0))


# Children


def test_a_task_that_fails_says_why_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"load failed: .*nothing: No such file"):
        children.measure("load", path=str(tmp_path / "nothing"))


def test_a_command_that_is_not_there_or_hangs_is_reported() -> None:
    with pytest.raises(BenchError, match="cannot run /no/such/program"):
        children.run(["/no/such/program"], 1.0)
    with pytest.raises(BenchError, match=r"gave no answer in 0\.05 s"):
        children.run(["sleep", "60"], 0.05)
    with pytest.raises(BenchError, match="gave no answer: 'nonsense'"):
        children.answer_in("it", "nonsense\n\n")


# The peer


def operations(*ops: Op) -> list[str]:
    for index, op in enumerate(ops):
        op.index = index
    return list(peer.operation_lines(History(ops)))


def op(process: int, kind: str, f: str, value: object = None, **rest: object) -> Op:
    return Op(-1, 0, process, kind, f, value, **rest)  # type: ignore[arg-type]  # terse


def test_the_peer_is_told_intervals_values_and_keys_by_number() -> None:
    assert operations(
        op(0, "invoke", "write", 7, key="x"),
        op(1, "invoke", "read", key="y"),
        op(0, "ok", "write", 7, key="x"),
        op(1, "ok", "read", None, key="y"),
    ) == ["0 0 write 7 - 0 2\n", "1 1 read - - 1 3\n"]


def test_what_never_returned_is_open_to_the_end_and_unseen_reads_are_left_out() -> None:
    assert operations(
        op(0, "invoke", "cas", [1, 2]),
        op(1, "invoke", "read"),
        op(0, "info", "cas", [1, 2]),
        op(1, "info", "read"),
        op(2, "invoke", "write", 5),
    ) == ["0 0 cas 1,2 unknown 0 5\n", "2 0 write 5 - 4 5\n"]


def test_a_refused_cas_is_an_answer_and_a_plain_failure_is_nothing() -> None:
    mismatch = {"cas_fail_is_mismatch": True}
    assert operations(
        op(0, "invoke", "cas", [1, 2]),
        op(0, "fail", "cas", [1, 2], extra=mismatch),
        op(0, "invoke", "write", 3),
        op(0, "fail", "write", 3),
        op(0, "invoke", "cas", [1, 3]),
        op(0, "ok", "cas", [1, 3]),
    ) == ["0 0 cas 1,2 refused 0 1\n", "0 0 cas 1,3 ok 4 5\n"]


def test_without_go_there_is_no_peer_and_the_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(BenchError, match="Go is not installed"):
        peer.build(tmp_path)
    lab = bench.with_peer(Lab(tmp_path, repeat=1, quick=True), lambda _: None)
    assert lab.porcupine is None
    outcome = Outcome(record={"machine": {"load": 0.0, "cores": 2}})
    outcome.record["peer"] = bench.peer_record(lab)
    assert "Porcupine took no part: Go is not installed" in outcome.text()


def test_a_build_that_fails_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho 'proxy unreachable' >&2\nexit 1\n")
    go.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(go))
    with pytest.raises(BenchError, match="go build failed: proxy unreachable"):
        peer.build(tmp_path / "cache")


def test_a_driver_that_was_built_is_not_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, log = tmp_path / "go", tmp_path / "log"
    # Of `go build -C SOURCES -buildvcs=false -o OUT .` the sixth argument is OUT.
    go.write_text(f'#!/bin/sh\necho built >> {log}\necho binary > "$6"\n')
    go.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(go))
    first = peer.build(tmp_path / "cache")
    assert peer.build(tmp_path / "cache") == first
    assert first.read_text() == "binary\n"
    assert log.read_text() == "built\n"


@pytest.fixture(scope="module")
def porcupine() -> peer.Porcupine:
    try:
        binary = peer.build(limit_s=60)
    except BenchError as problem:
        pytest.skip(f"no Porcupine here: {problem}")
    return peer.Porcupine(binary, time_limit_s=20, memory_limit_mib=2048)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", REGISTERS)
@pytest.mark.parametrize("spoilt", [False, True])
def test_the_peer_agrees_with_the_verdict_that_a_history_was_made_with(
    kind: str, spoilt: bool, porcupine: peer.Porcupine, tmp_path: Path
) -> None:
    shape = Shape(kind, 60, 3, keys=2, crash=0.03, planted=spoilt)  # type: ignore[arg-type]  # parametrized
    history = History(generate(shape))
    count = peer.write_operations(history, tmp_path / "operations")
    answer = porcupine.check(tmp_path / "operations")
    assert answer["result"] == ("illegal" if spoilt else "ok"), shape
    assert answer["operations"] == count


@pytest.mark.nightly
def test_the_peer_keeps_its_limits(porcupine: peer.Porcupine, tmp_path: Path) -> None:
    path = tmp_path / "operations"
    peer.write_operations(History(generate(Shape("cas-register", 3000, 30))), path)
    hurried = replace(porcupine, time_limit_s=0.05)
    assert hurried.check(path)["result"] == "timeout"
    cramped = replace(porcupine, memory_limit_mib=64)
    answer = cramped.check(path)
    assert answer["result"] == "memory"
    assert answer["peak_mib"] > 64
    at_once = replace(porcupine, memory_limit_mib=0)
    assert at_once.check(path)["result"] == "memory"
    assert answer["seconds"] > 0


@pytest.mark.nightly
def test_the_peer_refuses_what_it_can_not_read(
    porcupine: peer.Porcupine, tmp_path: Path
) -> None:
    path = tmp_path / "operations"
    path.write_text("0 0 swap 1 - 0 1\n")
    with pytest.raises(BenchError, match='no function is called "swap"'):
        porcupine.check(path)


# All of it, small


def test_a_small_run_keeps_raw_samples_and_tells_what_it_ran_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "EXTRA_TURNS", 1)
    done = CliRunner().invoke(
        cli,
        ["bench", "check/cas-1k-c5", "--repeat", "1", "--results", str(tmp_path)],
        standalone_mode=False,
    )
    assert done.return_value == 0, done.output
    assert "cas-register, 1k calls, 5 clients" in done.output
    (path,) = (tmp_path / "bench").iterdir()  # and no scratch folder
    record = json.loads(path.read_text())
    assert {"command", "commit", "machine", "peer", "figures"} <= record.keys()
    assert {"cpu", "cores", "memory_mib", "python"} <= record["machine"].keys()
    seconds, memory, loading = record["figures"]
    assert [len(f["samples"]) for f in (seconds, memory, loading)] == [
        1 + rows.EXTRA_TURNS
    ] * 3
    assert 0 < seconds["median"] < 60
    assert memory["unit"] == "MiB"


def test_results_that_can_not_be_written_are_refused_before_anything_runs(
    tmp_path: Path,
) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(UsageError, match="choose another place with --results"):
        bench.run(
            ["startup"],
            quick=True,
            repeat=1,
            results=tmp_path / "results",
            show=lambda _: None,
        )


def test_a_run_folder_is_made_judged_and_reported(tmp_path: Path) -> None:
    made = children.measure("make_run", folder=str(tmp_path), calls=3000)
    verdict = json.loads((Path(made["run"]) / "verdict.json").read_text())
    assert verdict["verdict"] == "valid"
    assert verdict["faults"]["partition"]["bit"] == FAULTS
    answer = children.measure("report", run=made["run"])
    assert 0 < answer["size_mib"] < 20


@pytest.mark.nightly
def test_simulated_runs_are_timed_one_by_one(tmp_path: Path) -> None:
    answer = children.measure("simulate", folder=str(tmp_path), first=1, count=2)
    first, second = answer["cpu_seconds"]
    assert min(first, second) > 0
    assert not list(tmp_path.iterdir())
