"""What tallying checkers know of a history, what they leave out, and what they say."""

from __future__ import annotations

from typing import Any

import pytest

from checkers.tests.counting_histories import Call, check, in_turn, names
from harness.history import History, HistoryError, Op
from harness.verdict import Verdict

SYNONYMS: list[tuple[str, list[Call], str]] = [
    ("set", [Call("broadcast", 1, got=1), Call("read", got=[])], "lost"),
    ("set-full", [Call(":Insert", 1, got=1), Call("final_read", got=[])], "lost"),
    ("counter", [Call("increment", 2, got=2), Call("read", got=0)], "out-of-bounds"),
    ("counter", [Call("inc"), Call("inc"), Call("read", got=1)], "out-of-bounds"),
    (
        "pn-counter",
        [Call("incr", 5, got=5), Call("dec", 2, got=3), Call("final-read", got=4)],
        "impossible-sum",
    ),
    ("queue", [Call("push", 1), Call("pop", got=1), Call("pop", got=1)], "unexpected"),
    ("total-queue", [Call("offer", 1, got=1), Call("drain", got=[])], "lost"),
    ("unique-ids", [Call("id", got=7), Call("next-id", got=7)], "duplicated"),
    ("unique-ids", [Call("generate", got={"id": 7, "type": "generate_ok"})] * 2,
     "duplicated"),
    ("unique-ids", [Call("generate", extra={"id": 7})] * 2, "duplicated"),
    ("bank", [Call("read", got=[50, 50]), Call("read", got=[50, 49])], "wrong-total"),
    ("bank", [Call("read", got=[["a", 50], ["b", 50]]), Call("read", got=[["a", 1]])],
     "wrong-total"),
    ("echo", [Call("echo", "hi", got={"type": "echo_ok", "echo": "ho"})], "wrong-echo"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "done", "anomaly"), SYNONYMS)
def test_usual_names_for_one_thing_are_taken_for_it(
    name: str, done: list[Call], anomaly: str
) -> None:
    assert names(check(name, in_turn(*done))) == {anomaly}


@pytest.mark.parametrize(
    ("asked", "got", "is_echo"),
    [
        ("x", {"type": "echo_ok", "in_reply_to": 1, "msg_id": 1, "echo": "x"}, True),
        ({"type": "echo", "echo": "x"}, {"type": "echo_ok", "echo": "x"}, True),
        ({"echo": 1}, {"echo": True, "type": "echo_ok"}, False),
        ("x", {"echo": "x"}, False),
        ("x", {"type": "echo_ok", "in_reply_to": 1}, False),
        ({"echo": 1, "type": "a"}, {"echo": 1, "type": "a"}, True),
    ],
)
def test_an_echo_may_come_with_the_whole_body(
    asked: Any, got: Any, is_echo: bool
) -> None:
    verdict = check("echo", in_turn(Call("echo", asked, got=got))).verdict
    assert verdict is (Verdict.VALID if is_echo else Verdict.INVALID)


@pytest.mark.parametrize(
    ("name", "done", "complaint"),
    [
        ("set", [Call("wibble", 1)],
         r"the set checker knows add \(or broadcast, insert\) and read \(or .*\), and "
         r"this history has 'wibble' \(1\)$"),
        ("set", [Call("wibble", 1), Call("read", got=[1])],
         r"this history has 'wibble' \(1\), 'read' \(1\)$"),
        ("set", [Call("add", 1), Call("remove", 1), Call("read", got=[])],
         r"no place for 'remove' \(1 operations\): a set that may shrink: try .* set$"),
        ("counter", [Call("add", 1), Call("decrement", 1)], "try --checker pn-counter"),
        ("unique-ids", [Call("generate"), Call("generate")], "gave no id"),
        ("bank", [Call("read", got={"a": 100}), Call("deposit", 1)], "no place for"),
        ("queue", [Call("lpush", 1), Call("rpop", got=1)], "knows enqueue"),
        ("echo", [Call("ping")], "the echo checker knows echo, and this history has"),
    ],
)  # fmt: skip
def test_a_checker_that_knows_too_little_refuses_and_says_what_it_knows(
    name: str, done: list[Call], complaint: str
) -> None:
    with pytest.raises(HistoryError, match=complaint):
        check(name, in_turn(*done))


ADDED = [Call("add", 1, got=1), Call("add", 2, got=2)]


def test_what_a_checker_leaves_out_is_said() -> None:
    read = Call("read", got=[1, 2])
    result = check("set", in_turn(*ADDED, Call("topology"), Call("wibble"), read))
    assert result.verdict is Verdict.VALID
    assert result.remarks == (
        "2 of 5 operations were left out, as this checker knows nothing of them: "
        "'topology' (1), 'wibble' (1)",
    )
    assert check("set", in_turn(*ADDED, read)).remarks == ()


def test_what_is_mostly_left_out_is_not_valid() -> None:
    mostly = in_turn(*ADDED, Call("read", got=[1, 2]), *[Call("topology")] * 4)
    result = check("set", mostly)
    assert result.verdict is Verdict.UNKNOWN
    assert "less than half" in result.reason


def test_operations_that_nobody_knows_may_explain_what_looks_wrong() -> None:
    lost = Call("read", got=[1])
    assert names(check("set", in_turn(*ADDED, Call("topology"), lost))) == {"lost"}
    assert names(
        check("set", in_turn(*ADDED, Call("wibble", outcome="fail"), lost))
    ) == {"lost"}
    doubted = check("set", in_turn(*ADDED, Call("wibble"), lost))
    assert doubted.verdict is Verdict.UNKNOWN
    assert doubted.reason == (
        "lost may be the doing of operations that this checker knows nothing of: "
        "'wibble' (1)"
    )


def test_an_increment_whose_invocation_is_missing_may_tell_the_sum() -> None:
    ops = [Op(0, 0, 1, "ok", "increment", 5), Op(1, 1, 1, "ok", "read", 5)]
    with pytest.raises(HistoryError, match="gave 5, and nobody recorded what was"):
        check("counter", History(ops, strict=False))


def test_a_bank_is_read_in_one_form() -> None:
    mixed = in_turn(Call("read", got={"a": 100}), Call("read", got=[50, 50]))
    with pytest.raises(HistoryError, match="a list, but the first read gave a map"):
        check("bank", mixed)


def test_accounts_of_a_list_are_named_in_its_order() -> None:
    judged = in_turn(Call("read", got=[50, 50]))
    assert check("bank", judged, accounts="alice,bob").verdict is Verdict.VALID
    assert names(check("bank", judged, accounts="alice")) == {"unexpected-key"}
