"""`splitbrain check` with models and plans, as a user types it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from checkers.tests.histories import history
from harness.cli import main
from harness.history.formats import dump

if TYPE_CHECKING:
    from pathlib import Path

QUEUE = """
    0 invoke enqueue 1
    0 ok enqueue 1
    1 invoke dequeue
    1 ok dequeue {}
"""


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    path = tmp_path / "queue.jsonl"
    dump(list(history(QUEUE.format(1))), path)
    return path


def splitbrain(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def output(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_the_plan_is_a_key_of_the_json_and_a_line_of_the_text(
    queue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("check", queue, "--model", "fifo-queue")
    assert splitbrain(*asked, "--explain-plan", "--json") == 0
    assert output(capsys)["plan"] == [
        {
            "algorithm": "aspects",
            "keys": 1,
            "which": "the only object",
            "why": "it is certain which dequeue took which value",
        }
    ]
    assert splitbrain(*asked, "--explain-plan") == 0
    shown = capsys.readouterr().out
    why = "it is certain which dequeue took which value"
    assert f"plan: aspects for the only object: {why}" in shown
    assert splitbrain(*asked, "--json") == 0
    assert "plan" not in output(capsys)


def test_a_violation_is_told_with_its_operations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "queue.jsonl"
    dump(list(history(QUEUE.format("nil"))), path)
    assert splitbrain("check", path, "--model", "fifo-queue") == 1
    shown = capsys.readouterr().out
    assert "false-empty: Process 1 found the queue empty" in shown
    assert "enqueue 1" in shown


def test_json_tells_each_anomaly_with_its_lines_and_why_its_cycle_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A blank line and a comment: lines are those of the file, not of the history."""
    path = tmp_path / "skew.edn"
    path.write_text(
        """
        ; each of two transactions misses the other's append
        {:process 0 :type :invoke :f :txn :value [[:append :x 1] [:r :y nil]]}
        {:process 1 :type :invoke :f :txn :value [[:append :y 1] [:r :x nil]]}
        {:process 0 :type :ok :f :txn :value [[:append :x 1] [:r :y nil]]}
        {:process 1 :type :ok :f :txn :value [[:append :y 1] [:r :x nil]]}
        {:process 1 :type :invoke :f :txn :value [[:r :y nil] [:r :x nil]]}
        {:process 1 :type :ok :f :txn :value [[:r :y [1]] [:r :x [1]]]}
        """
    )
    assert splitbrain("check", path, "--checker", "list-append", "--json") == 1
    answer = output(capsys)
    names = [anomaly["name"] for anomaly in answer["found"]]
    assert answer["anomalies"] == dict.fromkeys(names, 1)
    assert answer["left_out"] == {}
    told = answer["found"][names.index("G2-item")]
    assert (told["ops"], told["lines"]) == ([2, 3], [5, 6])
    assert "T2 would have to come before itself" in told["explanation"]
    assert [
        (edge["source"], edge["target"], edge["kind"])
        for edge in told["witness"]["edges"]
    ] == [(2, 3, "rw"), (3, 2, "rw")]
    missed = "T2 did not observe T3's append of 1 to key y"
    assert told["witness"]["edges"][0]["reason"] == missed


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ("fifo-qeue", "did you mean fifo-queue"),
        ("bank.py:Account", "there is no file bank.py"),
        ("nosuch.module:Account", "nosuch.module can't be loaded"),
    ],
)
def test_a_model_that_is_not_there_is_bad_usage_in_one_line(
    queue: Path, model: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert splitbrain("check", queue, "--model", model) == 254
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1


def test_an_operation_that_the_model_does_not_know_is_bad_input_with_its_line(
    queue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert splitbrain("check", queue, "--model", "stack", "--json") == 254
    answer = output(capsys)
    assert answer["verdict"] is None
    assert "op 0: enqueue: the stack model has no such operation" in answer["error"]


def test_a_step_that_never_ends_is_stopped_by_the_time_limit(
    queue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "endless.py"
    path.write_text(
        "from dataclasses import dataclass\n"
        "@dataclass(frozen=True)\n"
        "class Endless:\n"
        "    def step(self, op):\n"
        "        while True:\n"
        "            pass\n"
    )
    asked = ("check", queue, "--model", f"{path}:Endless", "--time-limit", "0.2")
    assert splitbrain(*asked, "--json") == 2
    answer = output(capsys)
    assert answer["verdict"] == "unknown"
    assert "time limit" in answer["reason"]
    assert answer["seconds"] < 1.2
