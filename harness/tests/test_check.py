"""Checking files: one result each, whatever happens to any of them."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx
import pytest

from harness import registry
from harness.errors import UsageError
from harness.history import Op
from harness.history.formats import dump
from harness.judge.check import FileResult, exit_status
from harness.judge.text import render_text
from harness.registry import Plugin
from harness.tests.checking import check_files
from harness.verdict import Anomaly, CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.history import History

OPS = [
    Op(0, 1_000_000, 0, "invoke", "write", 3, key=7, node="n1"),
    Op(1, 2_500_000, 1, "invoke", "read", key=7),
    Op(2, 3_000_000, 0, "ok", "write", 3, key=7, node="n1"),
    Op(3, 4_000_000, 1, "ok", "read", 9, key=7),
    Op(4, 5_000_000, 2, "invoke", "cas", [1, 2]),
]
VALID = CheckResult(Verdict.VALID)
WITNESS: nx.DiGraph[int] = nx.DiGraph()
WITNESS.add_edge(0, 1, kind="realtime", reason="the write returned before")
INVALID = CheckResult(
    Verdict.INVALID,
    anomalies=(
        Anomaly("garbage-read", (3, 1), "read 9, which nobody wrote", WITNESS, key=7),
        Anomaly("garbage-read", (4,), "and\x1b[31m again"),
        Anomaly("G0", (0,), "a cycle"),
    ),
    not_models=("linearizable",),
    stats={"states": 12},
)


@dataclass
class Scripted:
    """A checker that does what the test says, and remembers what it was given."""

    do: Callable[[History, Limits], CheckResult]
    options: dict[str, str] = field(default_factory=dict)
    limits: list[Limits] = field(default_factory=list)

    def check(self, history: History, limits: Limits) -> CheckResult:
        self.limits.append(limits)
        return self.do(history, limits)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Scripted]:
    """Put a checker called "scripted" into the registry."""

    def put(do: Callable[[History, Limits], CheckResult]) -> Scripted:
        checker = Scripted(do)

        def factory(options: Mapping[str, str]) -> Scripted:
            if "nonsense" in options:
                raise UsageError("scripted has no option 'nonsense'")
            checker.options = dict(options)
            return checker

        def find(kind: str, name: str) -> Plugin[Any]:
            assert (kind, name) == ("checker", "scripted")
            return Plugin("scripted", "", factory)

        monkeypatch.setattr(registry, "find", find)
        return checker

    return put


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "history.jsonl"
    dump(OPS, path)
    return str(path)


def check_one(file: str, limits: Limits | None = None) -> FileResult:
    return next(check_files([file], "scripted", {}, limits=limits or Limits()))


def test_a_result_is_the_json_that_the_command_line_promises(
    install: Any, file: str
) -> None:
    install(lambda _history, _limits: INVALID)
    out = check_one(file).as_json()
    assert 0 <= out.pop("seconds") < 60
    edge = {"kind": "realtime", "reason": "the write returned before"}
    assert out == {
        "file": file,
        "verdict": "invalid",
        "anomalies": {"garbage-read": 2, "G0": 1},
        "found": [
            {
                "name": "garbage-read",
                "ops": [3, 1],
                "lines": [4, 2],
                "explanation": "read 9, which nobody wrote",
                "key": 7,
                "witness": {
                    "nodes": [1, 0],
                    "lines": [2, 1],
                    "edges": [{"source": 0, "target": 1, **edge}],
                },
            },
            {
                "name": "garbage-read",
                "ops": [4],
                "lines": [5],
                "explanation": "and\x1b[31m again",
            },
            {"name": "G0", "ops": [0], "lines": [1], "explanation": "a cycle"},
        ],
        "left_out": {},
        "not": ["linearizable"],
        "stats": {"states": 12},
        "ops": 5,
    }
    json.dumps(out)


def test_what_json_leaves_out_it_counts(install: Any, file: str) -> None:
    ladder: nx.DiGraph[int] = nx.path_graph(300, create_using=nx.DiGraph)
    nx.set_edge_attributes(ladder, {edge: {"kind": "ww"} for edge in ladder.edges})
    cycle = Anomaly("G0", tuple(range(250)), "x" * 9000, ladder, key="k" * 9000)
    others = [Anomaly("G1a", (1,), f"number {i}") for i in range(25)]
    counted = {"anomalies": {"G1a": 70}, "windows": list(range(9000))}
    found = CheckResult(Verdict.INVALID, (*others, cycle), stats=counted)
    install(lambda _history, _limits: found)
    result = check_one(file)
    result.history = None  # that has five ops
    out = result.as_json()
    assert out["anomalies"] == {"G1a": 70, "G0": 1}
    assert out["left_out"] == {"G1a": 50}
    assert [told["name"] for told in out["found"]] == ["G1a"] * 20 + ["G0"]
    told = out["found"][-1]
    assert (told["ops"], told["ops_left_out"]) == ([*range(100)], 150)
    assert "lines" not in told
    drawn = told["witness"]
    assert (drawn["nodes"], drawn["nodes_left_out"]) == ([*range(101)], 199)
    assert (len(drawn["edges"]), drawn["edges_left_out"]) == (100, 199)
    assert drawn["edges"][0] == {"source": 0, "target": 1, "kind": "ww"}
    assert len(json.dumps(out)) < 100_000


def test_json_is_json_whatever_values_edn_has(install: Any, file: str) -> None:
    odd = {(1, "a"): Fraction(1, 3), "big": 10**400, "nan": float("nan")}
    anomaly = Anomaly("odd", (0,), "odd", key=Fraction(1, 3), details={"held": odd})
    found = CheckResult(Verdict.INVALID, (anomaly,), stats={"s": {1, 2}})
    install(lambda _history, _limits: found)
    text = json.dumps(check_one(file).as_json(), allow_nan=False)
    (told,) = json.loads(text)["found"]
    assert told["key"] == "1/3"
    assert "Fraction(1, 3)" in told["details"]["held"]


def test_one_bad_file_never_hides_the_verdicts_of_others(
    install: Any, file: str, tmp_path: Path
) -> None:
    install(lambda _history, _limits: VALID)
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(b"{}\n")
    paths = [str(bad), file, str(tmp_path / "absent"), file]
    results = list(check_files(paths, "scripted", {}))
    assert [result.file for result in results] == paths
    assert [str(result.verdict) for result in results] == [
        "unknown", "valid", "unknown", "valid",
    ]  # fmt: skip
    assert results[0].as_json()["error"].startswith(f"{bad}:1: ")
    assert "No such file" in results[2].error
    assert "error" not in results[1].as_json()
    judged = [result.as_json()["verdict"] for result in results]
    assert judged == [None, "valid", None, "valid"]
    assert [result.exit_status for result in results] == [254, 0, 254, 0]


def test_results_come_as_they_are_found(install: Any, file: str) -> None:
    checked: list[History] = []

    def do(history: History, _limits: Limits) -> CheckResult:
        checked.append(history)
        return VALID

    install(do)
    results = check_files([file] * 3, "scripted", {})
    assert len(checked) == 0
    next(results)
    assert len(checked) == 1


def test_options_reach_the_checker_and_bad_ones_are_refused_before_any_file(
    install: Any, file: str
) -> None:
    checker = install(lambda _history, _limits: VALID)
    list(check_files([file], "scripted", {"model": "kv", "consistency": "causal"}))
    assert checker.options == {"model": "kv", "consistency": "causal"}
    with pytest.raises(UsageError, match="nonsense"):
        check_files([file], "scripted", {"nonsense": "1"})


def test_an_unknown_checker_is_refused_before_any_file() -> None:
    with pytest.raises(UsageError, match="no checker called 'no-such-checker'"):
        check_files(["absent"], "no-such-checker", {})


def test_a_checker_that_crashes_is_our_failure_and_no_verdict(
    install: Any, file: str
) -> None:
    def do(_history: History, _limits: Limits) -> CheckResult:
        raise ZeroDivisionError("oops")

    install(do)
    result = check_one(file)
    assert result.verdict is Verdict.UNKNOWN
    assert "ZeroDivisionError: oops" in result.as_json()["reason"]
    assert result.exit_status == 255
    assert "oops" in render_text(result)


def test_reading_counts_towards_the_time_limit(install: Any, file: str) -> None:
    checker = install(lambda _history, _limits: VALID)
    check_one(file, Limits(time_s=50.0, memory_mb=4000))
    (given,) = checker.limits
    assert given.time_s is not None
    assert 0 <= given.time_s < 50
    assert given.memory_mb == 4000


def test_a_checker_that_does_not_watch_the_time_is_stopped(
    install: Any, file: str
) -> None:
    def do(_history: History, _limits: Limits) -> CheckResult:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            pass
        return VALID

    before = signal.getsignal(signal.SIGALRM)
    install(do)
    result = check_one(file, Limits(time_s=0.01))
    assert (result.verdict, result.exit_status) == (Verdict.UNKNOWN, 2)
    assert result.result.reason == "the time limit passed while checking"
    assert result.ops == 5
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_a_checker_that_fills_memory_is_unknown_and_memory_is_free_afterwards(
    install: Any, file: str
) -> None:
    def do(_history: History, _limits: Limits) -> CheckResult:
        blocks = [bytearray(8 << 20) for _ in range(64)]
        return CheckResult(Verdict.VALID, stats={"blocks": len(blocks)})

    before = resource.getrlimit(resource.RLIMIT_DATA)
    install(do)
    result = check_one(file, Limits(memory_mb=100))
    assert (result.verdict, result.exit_status) == (Verdict.UNKNOWN, 2)
    assert "memory limit of 100 MB was reached while checking" in result.result.reason
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert check_one(file, Limits(memory_mb=700)).verdict is Verdict.VALID


CHECK_IN_LITTLE_MEMORY = """
import sys
from harness.judge.check import judge_of
from harness.verdict import Limits
result = judge_of("linearizable", {}, "edn", Limits(memory_mb=4))(sys.argv[1])
print(result.verdict, bool(result.error), result.result.reason)
"""


def test_a_history_that_fills_memory_is_unknown(tmp_path: Path) -> None:
    # In a process of its own: this one may have enough left over from other tests.
    path = tmp_path / "big.edn"
    call = "{:type :invoke :process %d :f :read}\n"
    path.write_text("".join(call % i for i in range(40_000)))
    ended = subprocess.run(
        [sys.executable, "-c", CHECK_IN_LITTLE_MEMORY, str(path)],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    assert ended.stdout == (
        "unknown False the memory limit of 4 MB was reached while reading the file\n"
    )


def test_limits_do_no_harm_outside_the_main_thread(install: Any, file: str) -> None:
    install(lambda _history, _limits: VALID)
    results: list[FileResult] = []
    limits = Limits(time_s=60.0)
    thread = threading.Thread(target=lambda: results.append(check_one(file, limits)))
    thread.start()
    thread.join()
    assert results[0].verdict is Verdict.VALID


CRASHED = FileResult("crashed", CheckResult(Verdict.UNKNOWN, stats={"crashed": True}))
UNREADABLE = FileResult("bad", CheckResult(Verdict.UNKNOWN), error="bad:1: what?")
WRONG = FileResult("wrong", INVALID)
OPEN = FileResult("open", CheckResult(Verdict.UNKNOWN, reason="out of time"))
RIGHT = FileResult("right", VALID)


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ([RIGHT, RIGHT], 0),
        ([RIGHT, OPEN], 2),
        ([OPEN, WRONG, RIGHT], 1),
        ([WRONG, UNREADABLE, OPEN], 254),
        ([UNREADABLE, CRASHED, RIGHT], 255),
        ([], 254),
    ],
)
def test_the_exit_status_is_what_most_needs_attention(
    results: list[FileResult], status: int
) -> None:
    assert exit_status(result.exit_status for result in results) == status


def test_results_that_are_kept_do_not_keep_histories(install: Any, file: str) -> None:
    install(lambda _history, _limits: VALID)
    kept = list(check_files([Path(file)] * 3, "scripted", {}))
    assert [result.history for result in kept] == [None] * 3
    assert [result.file for result in kept] == [file] * 3


def test_the_text_tells_verdict_anomalies_operations_and_figures_in_this_order(
    install: Any, file: str
) -> None:
    install(lambda _history, _limits: INVALID)
    lines = render_text(check_one(file)).splitlines()
    assert lines[0] == (f"invalid  {file}: 2 x garbage-read, 1 x G0; not linearizable")
    words = [" ".join(line.split()) for line in lines]
    # The clearest comes first, which has one operation; then all of its kind.
    assert words[2] == "G0: A cycle"
    assert words[3] == "#0 0.001 s .. 0.003 s process 0 → n1 key 7: write 3 ok"
    at = words.index("garbage-read, key 7: Read 9, which nobody wrote")
    assert words[at + 1] == "#0 0.001 s .. 0.003 s process 0 → n1 key 7: write 3 ok"
    assert words[at + 2] == "#3 0.003 s .. 0.004 s process 1 key 7: read → 9 ok"
    assert words[at + 3] == "1. realtime: op 0 → op 3: the write returned before"
    at = words.index(r"garbage-read: and\x1b[31m again")
    assert words[at + 1] == "#4 0.005 s .. never returned process 2 cas 1 → 2 info"
    assert any(word.startswith("G0: Dirty write") for word in words)
    assert lines[-2].startswith("  5 ops, ")
    assert lines[-1] == "  states: 12"


def test_the_text_stays_short_however_much_was_found(install: Any, file: str) -> None:
    many = [Anomaly("G1c", tuple(range(5)), f"number {i}") for i in range(500)]
    install(lambda _history, _limits: CheckResult(Verdict.INVALID, tuple(many)))
    text = render_text(check_one(file))
    assert "500 x G1c" in text
    assert "... and 490 more anomalies" in text
    assert len(text.splitlines()) < 100


def test_the_text_of_an_unreadable_file_is_its_error(install: Any) -> None:
    install(lambda _history, _limits: VALID)
    text = render_text(check_one("/absent\x1b[31m"))
    assert text == (r"error  /absent\x1b[31m: No such file or directory")


def test_a_real_checker_judges_real_formats(tmp_path: Path) -> None:
    log = tmp_path / "register.log"
    log.write_text(
        "INFO  jepsen.util - 0\t:invoke\t:write\t1\n"
        "INFO  jepsen.util - 0\t:ok\t:write\t1\n"
        "INFO  jepsen.util - 1\t:invoke\t:read\tnil\n"
        "INFO  jepsen.util - 1\t:ok\t:read\t2\n"
    )
    edn = tmp_path / "register.edn"
    edn.write_text(
        "{:process 0 :type :invoke :f :write :value [:x 1]}\n"
        "{:process 0 :type :ok :f :write :value [:x 1]}\n"
        "{:process 1 :type :invoke :f :read :value [:x nil]}\n"
        "{:process 1 :type :ok :f :read :value [:x 1]}\n"
    )
    options = {"model": "cas-register"}
    (wrong,) = check_files([str(log)], "linearizable", options)
    (right,) = check_files([str(edn)], "linearizable", options, independent=True)
    assert wrong.verdict is Verdict.INVALID
    assert right.verdict is Verdict.VALID
