"""long-fork, adya-g2, causal, causal-reverse, monotonic: definitions and examples."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkers.tests.counting_histories import (
    Call,
    altered,
    calls,
    check,
    elsewhere,
    histories,
    in_turn,
    names,
)
from checkers.tests.histories import FEWER, MANY
from harness.errors import UsageError
from harness.history import History, HistoryError, Op
from harness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VALUES = st.integers(0, 3)


def ok_calls(judged: History, *functions: str) -> list[tuple[Op, Op]]:
    """(invocation, completion) of the calls that returned ok."""
    return [
        (op, done)
        for op, done in judged.calls()
        if op.f in functions and done is not None and done.type == "ok"
    ]


# Long fork


def group_read(seen: Sequence[Any]) -> list[Any]:
    return [["r", key, value] for key, value in enumerate(seen)]


FORKS = histories(
    calls("txn", st.integers(0, 2).map(lambda key: [["w", key, 1]]))
    | calls(
        "txn",
        st.just(group_read([None] * 3)),
        st.lists(st.sampled_from([None, 1]), min_size=3, max_size=3).map(group_read),
    )
)


@MANY
@given(FORKS)
def test_reads_without_a_long_fork_fit_an_order_of_the_writes(judged: History) -> None:
    writes = [
        op.value[0][1]
        for op, done in judged.calls()
        if op.value[0][0] == "w" and (done is None or done.type != "fail")
    ]
    reads = [
        {key for _, key, value in done.value if value is not None}
        for _, done in ok_calls(judged, "txn")
        if done.value[0][0] == "r"
    ]

    def explains(order: Sequence[int]) -> bool:
        states = [set(order[:n]) for n in range(4)]
        return all(read in states for read in reads)

    fine = any(map(explains, itertools.permutations(range(3))))
    verdict = Verdict.VALID if fine else Verdict.INVALID
    if len(set(writes)) < len(writes) or not reads:
        verdict = Verdict.UNKNOWN
    tried = {op.value[0][1] for op, _ in judged.calls() if op.value[0][0] == "w"}
    baseless = set()
    for key in set().union(*reads) if tried else ():
        if key not in writes:
            baseless.add("G1a" if key in tried else "garbage-read")
    if baseless:
        verdict = Verdict.INVALID
    result = check("long-fork", judged, group_size="3")
    assert result.verdict is verdict
    assert names(result) - {"long-fork"} == baseless
    for anomaly in result.anomalies:
        if anomaly.name != "long-fork":
            continue
        a, b = anomaly.ops
        assert a in anomaly.witness.nodes  # type: ignore[union-attr]
        assert b in anomaly.witness.nodes  # type: ignore[union-attr]


def test_the_example_of_jepsens_long_fork_tests() -> None:
    first = [["r", 0, 1], ["r", 1, 1], ["r", 2, None]]
    second = [["r", 2, 1], ["r", 0, 1], ["r", 1, None]]
    judged = in_turn(Call("read", got=first), Call("read", got=second))
    result = check("long-fork", judged, group_size="3")
    assert names(result) == {"long-fork"}
    assert result.anomalies[0].ops == (1, 3)
    assert result.stats["early_reads"] == result.stats["late_reads"] == 0


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([[["w", 0, 1]], [["w", 0, 2]]], "both write key 0"),
        ([[["w", 0, None]]], "writes nil"),
        ([[["r", 0, 1]]], "reads 1 keys, and a group has 2"),
        (
            [[["r", 0, 1], ["r", 1, 1]], [["r", 0, 2], ["r", 1, 1]]],
            "op 1 read 1 of key 0, and op 3 read 2",
        ),
    ],
)
def test_what_is_no_long_fork_workload_is_unknown(
    values: list[Any], reason: str
) -> None:
    result = check("long-fork", in_turn(*[Call("txn", v, got=v) for v in values]))
    assert result.verdict is Verdict.UNKNOWN
    assert reason in result.reason


def test_a_value_that_nobody_tried_to_write_is_garbage_whatever_else_is_wrong() -> None:
    """Beside one of two values, too, where Jepsen throws; but not in an excerpt."""
    read = [["r", 0, 1], ["r", 1, None]], [["r", 0, 7], ["r", 1, None]]
    calls_made = [Call("txn", value, got=value) for value in ([["w", 0, 1]], *read)]
    result = check("long-fork", in_turn(*calls_made))
    assert names(result) == {"garbage-read"}
    (garbage,) = result.anomalies
    assert (garbage.ops, garbage.key) == ((5,), 0)
    assert "read 7 from key 0, which nobody ever tried to write" in garbage.explanation
    assert "op 3 read 1 of key 0, and op 5 read 7" in result.reason
    for excerpt in (calls_made[1:], calls_made[1:2]):
        partly = check("long-fork", in_turn(*excerpt))
        assert partly.verdict is not Verdict.INVALID
    ends = [op for op in in_turn(*calls_made) if op.type == "ok"]
    for index, op in enumerate(ends):
        op.index = index
    lone = check("long-fork", History(ends, strict=False))
    assert lone.verdict is Verdict.UNKNOWN


def test_a_value_whose_write_failed_is_an_aborted_read() -> None:
    read = [["r", 0, 1], ["r", 1, None]]
    failed = Call("txn", [["w", 0, 1]], outcome="fail")
    judged = in_turn(failed, Call("txn", read, got=read))
    result = check("long-fork", judged)
    assert names(result) == {"G1a"}
    witness = result.anomalies[0].witness
    assert witness is not None
    assert list(witness.edges) == [(0, 3)]
    again = Call("txn", [["w", 0, 1]], outcome="info")
    judged = in_turn(failed, again, Call("txn", read, got=read))
    assert check("long-fork", judged).verdict is Verdict.VALID


@pytest.mark.parametrize(
    "value", [5, [["append", 0, 1]], [["w", 0, 1], ["r", 1, None]], [[1]]]
)
def test_long_fork_refuses_other_transactions(value: Any) -> None:
    with pytest.raises(HistoryError, match="op 0"):
        check("long-fork", in_turn(Call("txn", value, got=value)))


# Adya's G2

INSERTS = histories(
    calls("insert", st.tuples(VALUES, st.just([1, None])).map(list)), size_max=6
)


@MANY
@given(INSERTS)
def test_one_insert_a_key_may_succeed(judged: History) -> None:
    counts = Counter(done.value[0] for _, done in ok_calls(judged, "insert"))
    verdict = Verdict.UNKNOWN
    if counts:
        fine = max(counts.values()) == 1
        verdict = Verdict.VALID if fine else Verdict.INVALID
    result = check("adya-g2", judged)
    assert result.verdict is verdict
    illegal = {key for key, count in counts.items() if count > 1}
    assert {anomaly.key for anomaly in result.anomalies} == illegal


def test_an_insert_may_have_its_key_beside_it() -> None:
    a = Call("insert", [1, None], got=[1, None], key="k")
    b = Call("insert", [None, 2], got=[None, 2], key="k")
    assert names(check("adya-g2", in_turn(a, b))) == {"G2"}
    with pytest.raises(HistoryError, match=r"op 1: insert of \[1, None\]"):
        check("adya-g2", in_turn(Call("insert", got=[1, None])))


# Causal reverse

REVERSES = histories(
    calls("write", VALUES) | calls("read", st.none(), st.lists(VALUES, unique=True))
)


@MANY
@given(REVERSES)
def test_who_sees_a_write_sees_what_was_over_before_it(judged: History) -> None:
    begun: dict[int, int] = {}
    for op, done in judged.calls():
        if op.f == "write" and (done is None or done.type != "fail"):
            begun.setdefault(op.value, op.index)
    sure = [(done.value, done.index) for _, done in ok_calls(judged, "write")]
    reads = ok_calls(judged, "read")
    fine = all(
        x in done.value or w not in begun or end >= begun[w]
        for _, done in reads
        for w in done.value
        for x, end in sure
    )
    verdict = Verdict.VALID if fine else Verdict.INVALID
    result = check("causal-reverse", judged)
    assert result.verdict is (verdict if reads else Verdict.UNKNOWN)
    for anomaly in result.anomalies:
        _, acknowledged, began_later, read = anomaly.ops
        assert acknowledged < began_later
        assert judged[acknowledged].value not in judged[read].value
        assert judged[began_later].value in judged[read].value


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [([1, 2], Verdict.VALID), ([1], Verdict.VALID), ([2], Verdict.INVALID)],
)
def test_the_examples_of_jepsens_causal_reverse_tests(
    seen: list[int], verdict: Verdict
) -> None:
    writes = [Call("write", 1, got=1), Call("write", 2, got=2)]
    judged = in_turn(*writes, Call("read", got=seen))
    assert check("causal-reverse", judged).verdict is verdict


# Causal


def causal_history(steps: Sequence[tuple[str, Any, str, bool]]) -> History:
    """One client's operations: (f, value, outcome, whether it links to the last)."""
    made: list[Call] = []
    last: int | None = None
    for i, (f, value, outcome, is_linked) in enumerate(steps):
        link = "init" if last is None else last
        extra = {"position": i, "link": link if is_linked else i + 100}
        asked = value if f == "write" else None
        made.append(Call(f, asked, outcome, value, extra=extra))
        last = i if outcome == "ok" else last
    return in_turn(*made)


@st.composite
def causal_steps(draw: st.DrawFn) -> list[tuple[str, Any, str, bool]]:
    """Writes that count up, and any reads."""
    steps = []
    counter = 0
    for _ in range(draw(st.integers(0, 7))):
        outcome = draw(st.sampled_from(["ok", "ok", "ok", "fail", "info", "never"]))
        f = draw(st.sampled_from(["write", "read", "read", "read-init"]))
        value = draw(st.sampled_from([None, 0, 1, 2, 3]))
        if f == "write":
            value = counter = counter + 1
        is_linked = draw(st.sampled_from([True] * 9 + [False]))
        steps.append((f, value, outcome, is_linked))
    return steps


def causal_runs(steps: Sequence[Any]) -> Iterator[list[tuple[str, Any]]]:
    """All ways in which what is known may have happened: doubtful writes anywhere."""
    if not steps:
        yield []
        return
    (f, value, outcome, _), *rest = steps
    for run in causal_runs(rest):
        if outcome == "ok":
            yield [(f, value), *run]
        else:
            yield run
        if outcome in {"info", "never"} and f == "write":
            for at in range(len(run) + 1):
                yield [*run[:at], (f, value), *run[at:]]


def is_causal(run: Sequence[tuple[str, Any]]) -> bool:
    """Whether one run is that of a register."""
    register = 0
    for f, value in run:
        if f == "write":
            register = value
        elif f == "read-init" and register == 0:
            if value != 0:
                return False
        elif value is not None and value != register:
            return False
    return True


@MANY
@given(causal_steps())
def test_a_causal_register_has_a_run_that_explains_it(steps: list[Any]) -> None:
    judged = causal_history(steps)
    done = [step for step in steps if step[2] == "ok"]
    fine = all(is_linked for *_, is_linked in done)
    fine &= any(map(is_causal, causal_runs(steps)))
    # A lone write follows on nothing, and nobody saw it.
    tells = [i for i, (f, *_) in enumerate(done) if i > 0 or f != "write"]
    found = check("causal", judged)
    if fine and not tells:
        assert (found.verdict, found.vacuous) == (Verdict.UNKNOWN, True)
    else:
        assert found.verdict is (Verdict.VALID if fine else Verdict.INVALID)


def test_a_register_that_goes_back_is_told() -> None:
    steps = [
        ("read-init", 0, "ok", True),
        ("write", 1, "ok", True),
        ("read", 0, "ok", True),
    ]
    result = check("causal", causal_history(steps))
    assert names(result) == {"unexpected-value"}
    assert result.anomalies[0].explanation == (
        "After op 3, write of 1, process 0 read 0 where the register held 1."
    )
    gap = check("causal", causal_history([("write", 1, "ok", False)]))
    assert names(gap) == {"broken-link"}


def test_writes_out_of_turn_are_the_clients_doing() -> None:
    judged = causal_history([("write", 2, "ok", True), ("read", 2, "ok", True)])
    result = check("causal", judged)
    assert result.verdict is Verdict.UNKNOWN
    assert "op 0 writes 2 out of turn" in result.reason


def test_registers_of_several_keys_are_apart() -> None:
    judged = in_turn(
        Call("write", 1, got=1, key="x", extra={"position": 1}),
        Call("read-init", got=0, key="y"),
        Call("read", got=1, key="x", extra={"link": 1}),
    )
    assert check("causal", judged).verdict is Verdict.VALID
    with pytest.raises(HistoryError, match="--independent"):
        check("causal", in_turn(Call("write", ["x", 1], got=["x", 1])))
    with pytest.raises(HistoryError, match="'cas'"):
        check("causal", in_turn(Call("cas", 1, got=1)))


# Monotonic

OBSERVATIONS = st.dictionaries(st.sampled_from("xy"), st.integers(0, 2) | st.none())
GROWING = histories(calls("read", st.none(), OBSERVATIONS), size_max=5)
ORDERS = ("none", "process", "realtime")


@MANY
@given(GROWING, st.sampled_from(ORDERS))
def test_observations_without_a_cycle_fit_an_order(judged: History, order: str) -> None:
    observed = [(op, done) for op, done in ok_calls(judged, "read") if done.value]

    def may_come_before(a: tuple[Op, Op], b: tuple[Op, Op]) -> bool:
        """Whether nothing demands that b comes before a."""
        if order != "none" and b[0].process == a[0].process and b[0].index < a[0].index:
            return False
        if order == "realtime" and b[1].index < a[0].index:
            return False
        return all(
            rank(low) <= rank(b[1].value[key])
            for key, low in a[1].value.items()
            if key in b[1].value
        )

    def rank(value: int | None) -> int:
        return -1 if value is None else value

    fine = any(
        all(may_come_before(a, b) for a, b in itertools.combinations(ordering, 2))
        for ordering in itertools.permutations(observed)
    )
    verdict = Verdict.VALID if fine else Verdict.INVALID
    keys = Counter(key for _, done in observed for key in done.value)
    result = check("monotonic", judged, order=order)
    is_seen_twice = max(keys.values(), default=0) > 1
    assert result.verdict is (verdict if is_seen_twice else Verdict.UNKNOWN)
    for anomaly in result.anomalies:
        witness = anomaly.witness
        assert witness is not None
        ring = [*anomaly.ops, anomaly.ops[0]]
        assert list(witness.edges) == list(itertools.pairwise(ring))


def test_two_keys_that_grew_in_opposite_orders_are_a_cycle() -> None:
    judged = in_turn(
        Call("read", got={"x": 1, "y": 2}), Call("read", got={"x": 2, "y": 1})
    )
    result = check("monotonic", judged)
    assert names(result) == {"monotonic-cycle"}
    assert result.anomalies[0].explanation == (
        "op 1 observed x = 1 and op 3 the higher 2; op 3 observed y = 1 and op 1 the "
        "higher 2: so op 1 would have to come before itself."
    )


@pytest.mark.parametrize(
    "values", [[[1]], [{"x": []}], [{"x": 1}, {"x": "a"}], [{"x": True}]]
)
def test_what_does_not_grow_is_refused(values: list[Any]) -> None:
    with pytest.raises(HistoryError, match="op 1"):
        check("monotonic", in_turn(*[Call("read", got=value) for value in values]))


# All of them

ANY = {
    "long-fork": FORKS,
    "adya-g2": INSERTS,
    "causal-reverse": REVERSES,
    "causal": causal_steps().map(causal_history),
    "monotonic": GROWING,
}


@pytest.mark.parametrize("name", ANY)
@FEWER
@given(data=st.data())
def test_neither_clocks_nor_names_nor_bystanders_matter(
    name: str, data: st.DataObject
) -> None:
    options = {"long-fork": {"group_size": "3"}}.get(name, {})
    judged = data.draw(ANY[name])
    before = check(name, judged, **options)
    after = check(name, elsewhere(judged), **options)
    assert after.verdict is before.verdict
    assert names(after) == names(before)


@pytest.mark.parametrize("name", ["adya-g2", "causal-reverse"])
@FEWER
@given(data=st.data())
def test_what_values_are_does_not_matter(name: str, data: st.DataObject) -> None:
    def other(value: Any) -> Any:
        if isinstance(value, list):
            return [other(x) for x in value]
        return value if value is None else {"was": [value]}

    judged = data.draw(ANY[name])
    renamed = altered(judged, lambda op: {"value": other(op.value)})
    assert check(name, renamed).verdict is check(name, judged).verdict


@pytest.mark.parametrize("name", ANY)
def test_nothing_to_judge_is_unknown(name: str) -> None:
    result = check(name, History([]))
    assert result.verdict is Verdict.UNKNOWN
    assert result.reason


@pytest.mark.parametrize("size", ["0", "-1", "two"])
def test_a_group_has_keys(size: str) -> None:
    with pytest.raises(UsageError, match="group-size"):
        check("long-fork", History([]), group_size=size)
