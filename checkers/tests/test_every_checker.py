"""What each checker owes whoever gives it a history that is not all its own.

What it knows nothing of it says, or it refuses; and where nothing succeeded that could
have contradicted its promise, it has nothing to judge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkers.tests.histories import EXAMPLES
from checkers.tests.test_wrong_types import OPTIONS, SAMPLES, sample
from harness.errors import EXIT_UNKNOWN, EXIT_USAGE
from harness.history import History, Op
from harness.tests.checking import judged
from harness.verdict import Verdict, where_vacuous

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.history import OpType
    from harness.judge.check import FileResult

ANY = {"availability", "stats", "unhandled-exceptions"}
"""They judge how operations end, whatever these are called."""

BY_FORM = {"linearizable", "list-append", "rw-register"}
"""They refuse an operation that they don't know, each by itself."""

NAMED = sorted(SAMPLES.keys() - ANY - BY_FORM)

JUDGES_CALLS = sorted(SAMPLES.keys() - BY_FORM - ANY - {"raft_invariants"})

EMPTINESS_TELLS = {"total-queue"}
"""A dequeue that failed says that nothing is left."""

TELLING = {
    "atomic_commit": {"decisions"},
    "causal": {"read", "read-init"},
    "consensus": {"propose", "learn"},
    "fencing": {"acquire"},
    "kafka": {"poll", "txn"},
    "monotonic": {"read"},
    "queue": {"dequeue"},
    "sequential": {"read", "cas"},
    "total_order": {"delivered"},
    "adya-g2": {"insert"},
    "echo": {"echo"},
    "one_leader": {"status"},
    "unique-ids": {"generate"},
}
"""Operations whose answers can contradict the promise; reads, if nothing is said."""

NEVER_ELSE = {"monotonic", "adya-g2", "consensus", "echo", "one_leader", "unique-ids"}
"""All operations of these are telling."""


def check(name: str, history: History) -> FileResult:
    return judged(name, history, **OPTIONS.get(name, {}))


def changed(history: History, change: Callable[[Op], Op | None]) -> History:
    """The history with each op replaced, or left out."""
    ops = [op for op in map(change, history) if op is not None]
    for index, op in enumerate(ops):
        op.index = index
    return History(ops, strict=False, source="history")


STRANGER = 100
"""The first process of calls that don't belong to the sample."""

BEGIN_AND_END: tuple[OpType, OpType] = ("invoke", "ok")


def with_strangers(history: History, f: str, places: list[int]) -> History:
    """The history with calls of `f`, each by a process of its own, at these places."""
    ops = list(history)
    for process, place in enumerate(places, STRANGER):
        at = min(place, len(ops))
        call = (Op(0, 0, process, kind, f, 7) for kind in BEGIN_AND_END)
        ops[at:at] = call
    for index, op in enumerate(ops):
        op.index = index
    return History(ops, source="history")


STRANGE = st.sampled_from(["wibble", "frobnicate", "topology", "ping"])
"""Two that may have done anything, and two that change nothing."""


@pytest.mark.parametrize("name", NAMED)
@settings(max_examples=max(10, EXAMPLES // 20))
@given(f=STRANGE, places=st.lists(st.integers(0, 20), min_size=1, max_size=3))
def test_a_checker_says_what_it_passed_over(
    name: str, f: str, places: list[int]
) -> None:
    result = check(name, with_strangers(sample(name), f, places))
    assert result.error == ""
    assert result.verdict is not Verdict.INVALID
    (remark,) = result.result.remarks
    calls = f"{len(places)} of "
    assert remark.startswith(calls)
    assert f"'{f}' ({len(places)})" in remark


@pytest.mark.parametrize("name", sorted(SAMPLES.keys() - ANY))
def test_a_checker_that_knows_no_operation_refuses(name: str) -> None:
    strangers = with_strangers(History([]), "wibble", [0, 0])
    result = check(name, strangers)
    assert result.exit_status == EXIT_USAGE
    assert "wibble" in result.error or name in BY_FORM
    assert "\n" not in result.error


@pytest.mark.parametrize("name", NAMED)
def test_nothing_is_passed_over_in_silence_nor_told_of_in_vain(name: str) -> None:
    assert check(name, sample(name)).result.remarks == ()


def assert_vacuous(result: FileResult) -> None:
    assert (result.error, result.verdict) == ("", Verdict.UNKNOWN)
    assert result.exit_status == EXIT_UNKNOWN
    assert result.result.vacuous, result.result.reason
    assert where_vacuous(result.result, Verdict.VALID).verdict is Verdict.VALID


def clients_only(op: Op) -> Op | None:
    """What nodes observed is left out."""
    return op if op.is_client else None


@pytest.mark.parametrize("name", JUDGES_CALLS)
@pytest.mark.parametrize("outcome", ["fail", "info"])
def test_where_nothing_succeeded_nothing_was_judged(name: str, outcome: OpType) -> None:
    def spoil(op: Op) -> Op | None:
        if op.type == "ok":
            op.type = outcome
            # What a drain of unknown outcome tells, it told.
            op.value = None if op.f == "drain" else op.value
        return clients_only(op)

    assert_vacuous(check(name, changed(sample(name), spoil)))


@pytest.mark.parametrize("name", sorted({*JUDGES_CALLS} - EMPTINESS_TELLS))
def test_what_can_contradict_nothing_is_not_judged(name: str) -> None:
    tells = TELLING.get(name, {"read", "final-read"})

    def spoil(op: Op) -> Op | None:
        is_read = name == "long-fork" and op.value[0][0] == "r"
        op.extra = None
        if op.type == "ok" and (op.f in tells or is_read):
            op.type = "fail"
        return clients_only(op)

    spoilt = changed(sample(name), spoil)
    assert name in NEVER_ELSE or any(op.type == "ok" for op in spoilt)
    assert_vacuous(check(name, spoilt))


@pytest.mark.parametrize("name", SAMPLES)
def test_where_no_client_and_no_node_did_anything_nothing_was_judged(name: str) -> None:
    idle = History([Op(0, 0, "nemesis", "info", "start")], source="history")
    assert_vacuous(check(name, idle))
