"""What a run says of itself beside its verdict: silent functions, errors, remarks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.history import History, Op
from harness.judge.account import ATTEMPTS_MIN, account
from harness.run.controller import OUTCOME_COUNTERS
from harness.run.records import FaultLine
from harness.systems.wire import WireCounters

if TYPE_CHECKING:
    from harness.history import OpType

SECOND_NS = 1_000_000_000


def history(*calls: Any) -> History:
    """(second of the invocation, function, outcome, error) of calls in turn."""
    ops: list[Op] = []
    for process, (begin_s, f, kind, error) in enumerate(calls):
        time = int(begin_s * SECOND_NS)
        for at, (event, why) in enumerate((("invoke", None), (kind, error))):
            ops.append(Op(len(ops), time + at, process, event, f, 1, error=why))
    return History(ops)


def tried(
    f: str, kind: OpType = "fail", error: Any = None, *, seconds: float = 10.0
) -> list[Any]:
    """A function tried often enough to be judged."""
    count = 2 * ATTEMPTS_MIN
    return [(seconds * i / count, f, kind, error) for i in range(count)]


def fault(
    event: str, second: float, kind: str = "partition", title: str | None = None
) -> FaultLine:
    return FaultLine(event=event, time=second * SECOND_NS, kind=kind, title=title)


def test_a_function_that_never_worked_makes_a_run_unknown_and_says_what_it_met() -> (
    None
):
    refused = "no leader, ask n3 (11)"
    found = account(
        history(*tried("write", "ok"), *tried("read", "fail", refused)), {}, []
    )
    assert found.reason == (
        "No read ever succeeded, of 20 tried in 9.5 s: mostly error 11, "
        "temporarily-unavailable: no leader, ask n3"
    )
    crashed = "client crashed: ValueError: what"
    found = account(history(*tried("read", "info", crashed)), {}, [])
    assert found.reason.endswith(f"of 20 tried in 9.5 s: mostly {crashed}")


@pytest.mark.parametrize(
    "calls",
    [
        tried("cas", "fail", "the value was another (22)"),  # an answer
        tried("read", "fail", "no (11)", seconds=1.0),  # hardly tried
        tried("read", "fail", "no (11)")[: ATTEMPTS_MIN - 1],
        [*tried("read", "fail", "no (11)"), (10.0, "read", "ok", None)],
    ],
)
def test_a_function_that_answers_or_was_hardly_tried_is_not_silent(calls: Any) -> None:
    assert account(history(*calls), {}, []).reason == ""


def test_errors_are_told_most_frequent_first_and_alike_but_for_numbers() -> None:
    calls = [
        *[(i * 0.1, "read", "fail", f"key {i} (12)") for i in range(5)],
        *[(i * 0.1, "write", "fail", "key 3 (12)") for i in range(2)],
        (0.5, "write", "info", "timeout"),
        (0.5, "write", "info", "it said (7000)"),
        (0.6, "cas", "fail", "precondition-failed (22)"),
        (0.7, "write", "fail", ["odd", 1]),
    ]
    found = account(history(*calls), {"timeouts": 1, "late": 1_200}, [])
    assert found.troubles == [
        "7 times error 12, malformed-request: key 0 (read 5, write 2)",
        "1 times timeout (write 1)",
        "1 times error 7000: it said (write 1)",
        "1 times other errors, of 1 kinds",
        "1,200 answers came after their operation had been given up",
        "1 operations met their time limit",
    ]
    told = found.as_json()
    assert told["errors"][0] == {
        "count": 7,
        "code": 12,
        "name": "malformed-request",
        "text": "key 0",
        "functions": {"read": 5, "write": 2},
    }
    assert told["functions"]["cas"] == {"ok": 0, "fail": 1, "info": 0}


def test_a_long_silence_at_the_end_is_remarked_on() -> None:
    good: list[Any] = [(i, "write", "ok", None) for i in range(14)]
    silent: list[Any] = [(i, "write", "fail", "no (11)") for i in range(14, 33)]
    assert account(history(*good, *silent), {}, []).remarks == [
        "No operation succeeded after 13.0 s of 32.0 s."
    ]
    assert account(history(*good, *silent[:2]), {}, []).remarks == []


def test_what_was_not_read_after_the_last_fault_is_remarked_on() -> None:
    struck = [fault("start", 2), fault("end", 5)]
    early: list[Any] = [(1, "read", "ok", None), (1, "write", "ok", None)]
    late = (6, "write", "ok", None)
    [said] = account(history(*early, late), {}, struck).remarks
    assert said.startswith(
        "No read succeeded after the last fault (partition, over at 5.0 s)"
    )
    assert account(history(*early, late), {}, []).remarks == []
    again = (7, "read", "ok", None)
    assert account(history(*early, late, again), {}, struck).remarks == []
    txns: list[Any] = [(1, "txn", "ok", None)]
    [said] = account(history(*txns), {}, struck).remarks
    assert said == "No operation succeeded after the last fault (5.0 s)."


def test_what_nodes_did_of_themselves_is_remarked_on() -> None:
    notes = [
        fault("note", 3, "node-exit", "n1 exited with status 3 on its own"),
        fault("note", 9, "node-start", "started again at the end: n1"),
        fault("note", 19, "node-absent", "n2 did not serve within 10 s"),
    ]
    counters = {"duplicate": 2, "malformed": 1_000, "late": 7}
    assert account(None, counters, notes).remarks == [
        "n1 exited with status 3 on its own, at 3.0 s.",
        "n2 did not serve within 10 s, at 19.0 s.",
        "Nodes answered a second time: 2 times.",
        "Nodes sent lines that are no messages: 1,000 times.",
    ]


ABSENT = fault("note", 9, "node-absent", "n1 did not serve within 10 s")


@pytest.mark.parametrize(
    ("calls", "faults", "reason"),
    [
        (
            [(1, "read", "ok", None), (3, "read", "fail", "no (11)")],
            [fault("start", 2, "kill"), fault("end", 5, "kill")],
            "No read succeeded after the first fault (kill, at 2.0 s), of 1 tried: "
            "what it did was not seen",
        ),
        (
            [(3, "read", "ok", None), (9, "read", "fail", "no (11)")],
            [fault("start", 2, "kill"), fault("end", 8, "kill"), ABSENT],
            "No read succeeded after the last fault (kill, at 8.0 s), of 1 tried: "
            "what it did was not seen",
        ),
        (
            [(1, "txn", "ok", None), (3, "txn", "info", "timeout")],
            [fault("start", 2)],
            "No txn succeeded after the first fault (partition, at 2.0 s), of 1 "
            "tried: what it did was not seen",
        ),
        ([(3, "read", "ok", None)], [fault("start", 2), fault("end", 5)], ""),
        ([(1, "read", "ok", None), (3, "write", "ok", None)], [fault("start", 2)], ""),
        ([(1, "read", "ok", None), (3, "read", "fail", "no (11)")], [], ""),
        (
            [(3, "read", "ok", None), (9, "read", "fail", "no (11)")],
            [fault("start", 2), fault("end", 8)],
            "",
        ),
    ],
)  # fmt: skip
def test_a_run_that_never_saw_what_its_faults_did_is_unknown(
    calls: Any, faults: Any, reason: str
) -> None:
    assert account(history(*calls), {}, faults).reason == reason


TOLD_ELSEWHERE = {"nemesis_ops", "flood_bytes"}
"""Faults have a section of their own; and who floods is cut off, which is told."""


@pytest.mark.parametrize(
    "counter",
    [*sorted({*OUTCOME_COUNTERS, *WireCounters().as_json()} - TOLD_ELSEWHERE)],
)
def test_whatever_is_counted_is_told(counter: str) -> None:
    found = account(None, {counter: 1_234}, [])
    (said,) = [*found.remarks, *found.troubles]
    assert "1,234" in said
    assert account(None, {counter: 0}, []).as_json() == account(None, {}, []).as_json()


def test_quantiles_are_of_operations_that_succeeded() -> None:
    ops: list[Op] = []
    for took_ms in [*range(1, 101), 9000]:
        kind: OpType = "ok" if took_ms <= 100 else "fail"
        times = (0, took_ms * 1_000_000)
        for time, event in zip(times, ("invoke", kind), strict=True):
            ops.append(Op(len(ops), time, took_ms, event, "read", 1))
    assert account(History(ops), {}, []).latency_ms == {
        "p50": 50.0,
        "p95": 95.0,
        "p99": 99.0,
    }
    assert account(history(), {}, []).latency_ms == {}
