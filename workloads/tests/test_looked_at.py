"""What a run's verdict rests on: acknowledged changes that were looked at again."""

from __future__ import annotations

import pytest

from harness import registry
from harness.history import History, Op
from harness.verdict import CheckResult, Limits, Verdict
from workloads.looked_at import LookedAt

EVENTS = {"i": "invoke", "o": "ok", "f": "fail", "?": "info"}


def told(text: str) -> CheckResult:
    """The result on events such as `0o write 1@5`: process, type, function and key."""
    ops = []
    for index, event in enumerate(text.split(",")):
        who, f, key = event.split()
        kind = EVENTS[who[-1]]
        op = Op(index, index, int(who[:-1]), kind, f, None, int(key))  # type: ignore[arg-type]  # ours
        ops.append(op)
    return LookedAt(Yes(), {"write", "cas"}, {"read", "cas"}).check(
        History(ops), Limits()
    )


class Yes:
    def check(self, history: History, limits: Limits) -> CheckResult:
        return CheckResult(Verdict.VALID, stats={"mine": 1}, remarks=("mine",))


@pytest.mark.parametrize(
    ("text", "acknowledged", "again"),
    [
        ("0i write 1, 0o write 1, 1i read 1, 1o read 1", 1, 1),
        ("0i write 1, 0o write 1, 1i read 2, 1o read 2", 1, 0),
        ("0i write 1, 0o write 1, 1i read 1, 1f read 1", 1, 0),
        ("0i write 1, 1i read 1, 0o write 1, 1o read 1", 1, 0),
        ("0i write 1, 0? write 1, 0i write 1, 0f write 1", 0, 0),
        ("0i write 1, 0o write 1, 0i cas 1, 0o cas 1", 2, 1),
        ("0i write 1, 0o write 1, 0i write 1, 0o write 1, 0i read 1, 0o read 1", 2, 2),
    ],
)
def test_acknowledged_changes_count_that_a_later_look_followed(
    text: str, acknowledged: int, again: int
) -> None:
    result = told(text)
    assert result.stats == {
        "mine": 1,
        "acknowledged": acknowledged,
        "looked_at_again": again,
    }
    assert result.verdict is Verdict.VALID


def test_a_remark_says_so_where_many_were_not_looked_at() -> None:
    seen = "0i write 1, 0o write 1, " * 9 + "0i read 1, 0o read 1"
    assert told(seen).remarks == ("mine",)
    [_, remark] = told(seen + ", 0i write 1, 0o write 1" * 2).remarks
    assert remark.startswith("of 11 acknowledged changes only 9 (82%) were followed by")
    assert told("0i read 1, 0o read 1").remarks == ("mine",)


@pytest.mark.parametrize("workload", ["register", "kv", "set"])
def test_workloads_on_objects_say_what_their_verdict_rests_on(workload: str) -> None:
    checkers = registry.find("workload", workload).factory({}).checkers()
    assert any(isinstance(checker, LookedAt) for checker in checkers.values())
