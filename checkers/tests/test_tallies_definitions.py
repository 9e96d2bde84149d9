"""Checkers that count, compared with their definitions on small random histories."""

from __future__ import annotations

import itertools
import json
import re
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
from harness.history import History, HistoryError, Op
from harness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sized

    from harness.verdict import CheckResult

VALUES = st.integers(0, 3)
READS = st.lists(VALUES, max_size=4, unique=True)
SETS = histories(calls("add", VALUES) | calls("read", st.none(), READS))
DUPLICATING = st.lists(VALUES, max_size=4)
FULL_SETS = histories(calls("add", VALUES) | calls("read", st.none(), DUPLICATING))
QUEUES = histories(
    calls("enqueue", VALUES) | calls("dequeue", st.none(), VALUES | st.none())
)
DRAINED = histories(
    calls("enqueue", VALUES)
    | calls("dequeue", st.none(), VALUES | st.none())
    | calls("drain", st.none(), DUPLICATING)
)
COUNTERS = histories(calls("add", VALUES) | calls("read", st.none(), st.integers(0, 8)))
IDS = histories(calls("generate", st.none(), st.integers(0, 9)))
BALANCES = st.dictionaries(
    st.sampled_from("ab"), st.integers(-1, 3) | st.none()
) | st.integers(-1, 3).map(lambda a: {"a": a, "b": 2 - a})
BANKS = histories(
    calls("read", st.none(), BALANCES) | calls("transfer", st.just({"amount": 1}))
)
SUMS = histories(
    calls("add", st.integers(-3, 3))
    | calls("final-read", st.none(), st.integers(-6, 6))
)
ECHOED = st.sampled_from([0, False, None, "", [0], [False], {"a": 1}, {"a": True}])
ECHOES = histories(calls("echo", ECHOED, ECHOED), size_max=4)
ANY = {
    "echo": ECHOES,
    "pn-counter": SUMS,
    "set": SETS,
    "set-full": FULL_SETS,
    "queue": QUEUES,
    "total-queue": DRAINED,
    "counter": COUNTERS,
    "unique-ids": IDS,
    "bank": BANKS,
}


def whole_calls(judged: History, f: str) -> list[tuple[Op, Op | None, str]]:
    """(invocation, completion, outcome) of each call of `f`."""
    return [
        (op, done, "info" if done is None else done.type)
        for op, done in judged.calls()
        if op.f == f
    ]


def verdict_of(*, fine: bool, judged: Sized) -> Verdict:
    if not judged:
        return Verdict.UNKNOWN
    return Verdict.VALID if fine else Verdict.INVALID


def ok_calls(judged: History, f: str) -> list[tuple[Op, Op]]:
    return [(o, d) for o, d, kind in whole_calls(judged, f) if d and kind == "ok"]


@MANY
@given(SETS)
def test_a_set_is_judged_by_its_last_read(judged: History) -> None:
    reads = ok_calls(judged, "read")
    verdict = Verdict.UNKNOWN
    if reads:
        begun, read = max(reads, key=lambda call: call[1].index)
        sure = {d.value for _, d in ok_calls(judged, "add") if d.index < begun.index}
        tried = {o.value for o, _, _ in whole_calls(judged, "add")}
        fine = sure <= set(read.value) <= tried
        verdict = Verdict.VALID if fine else Verdict.INVALID
    assert check("set", judged).verdict is verdict


def fate(judged: History, value: int) -> tuple[str, bool]:
    """(stable, lost or never-read; whether some read was stale), by the definition."""
    tried = [o.index for o, _, _ in whole_calls(judged, "add") if o.value == value]
    added = [d.index for o, d in ok_calls(judged, "add") if o.value == value]
    reads = [(o, d) for o, d in ok_calls(judged, "read") if d.index > min(tried)]
    with_it = [(o.index, d.index) for o, d in reads if value in d.value]
    without = [o.index for o, d in reads if value not in d.value]
    known = min([*added, *(end for _, end in with_it)], default=len(judged))
    present = max((begin for begin, _ in with_it), default=-1)
    absent = max(without, default=-1)
    stale = known < absent
    if absent < present:
        return "stable", stale
    return ("lost" if stale else "never-read"), stale


@MANY
@given(FULL_SETS, st.booleans())
def test_every_element_of_a_set_has_its_fate(judged: History, strict: bool) -> None:
    tried = {o.value for o, _, _ in whole_calls(judged, "add")}
    fates = {value: fate(judged, value) for value in tried}
    reads = [d.value for _, d in ok_calls(judged, "read")]
    wrong = any(len(set(read)) < len(read) for read in reads)
    wrong |= any(what == "lost" for what, _ in fates.values())
    stable = [stale for what, stale in fates.values() if what == "stable"]
    wrong |= strict and any(stable)
    verdict = Verdict.VALID if stable else Verdict.UNKNOWN
    result = check("set-full", judged, linearizable=str(strict).lower())
    assert result.verdict is (Verdict.INVALID if wrong else verdict)
    assert result.stats["stable"] == len(stable)


@pytest.mark.parametrize(
    ("events", "verdict"),
    [
        ("a a'", "unknown"),
        ("a r r-", "unknown"),
        ("r a r+ a'", "valid"),
        ("r a a' r+", "valid"),
        ("a r r+ a'", "valid"),
        ("a r a' r+", "valid"),
        ("a a' r r+", "valid"),
        ("a a' r r-", "invalid"),
        ("r a r- a'", "unknown"),
        ("r a a' r-", "unknown"),
        ("a r r- a'", "unknown"),
        ("a r a' r-", "unknown"),
    ],
)
def test_the_examples_of_jepsens_set_full_tests(events: str, verdict: str) -> None:
    meanings: dict[str, tuple[int, Any, str, Any]] = {
        "a": (0, "invoke", "add", 0),
        "a'": (0, "ok", "add", 0),
        "r": (1, "invoke", "read", None),
        "r+": (1, "ok", "read", [0]),
        "r-": (1, "ok", "read", []),
    }
    ops = [Op(i, i, *meanings[event]) for i, event in enumerate(events.split())]
    assert str(check("set-full", History(ops)).verdict) == verdict


@MANY
@given(QUEUES)
def test_a_queue_gives_what_it_was_given(judged: History) -> None:
    inside: list[int] = []
    fine = True
    for op in judged:
        if op.f == "enqueue" and op.type == "invoke":
            inside.append(op.value)
        elif op.f == "dequeue" and op.type == "ok" and op.value is not None:
            if op.value not in inside:
                fine = False
                break
            inside.remove(op.value)
    out = [d for _, d in ok_calls(judged, "dequeue") if d.value is not None]
    assert check("queue", judged).verdict is verdict_of(fine=fine, judged=out)


@MANY
@given(DRAINED)
def test_what_went_into_a_drained_queue_came_out(judged: History) -> None:
    tried = [o.value for o, _, _ in whole_calls(judged, "enqueue")]
    sure = [o.value for o, _ in ok_calls(judged, "enqueue")]
    out = [d.value for _, d in ok_calls(judged, "dequeue") if d.value is not None]
    out += [value for _, d in ok_calls(judged, "drain") for value in d.value]
    open_ends = Counter(
        o.f
        for f in ("dequeue", "drain")
        for o, _, kind in whole_calls(judged, f)
        if kind == "info"
    )
    missing = list(sure)
    for value in out:
        if value in missing:
            missing.remove(value)
    explained = bool(open_ends["drain"]) or len(missing) <= open_ends["dequeue"]
    verdict = Verdict.UNKNOWN if missing or not out else Verdict.VALID
    if set(out) - set(tried) or not explained:
        verdict = Verdict.INVALID
    assert check("total-queue", judged).verdict is verdict


@MANY
@given(COUNTERS)
def test_a_counter_lies_within_its_bounds(judged: History) -> None:
    fine = True
    for begun, read in ok_calls(judged, "read"):
        least = sum(
            o.value for o, d in ok_calls(judged, "add") if d.index < begun.index
        )
        most = sum(
            o.value
            for o, _, kind in whole_calls(judged, "add")
            if kind != "fail" and o.index < read.index
        )
        fine &= least <= read.value <= most
    reads = ok_calls(judged, "read")
    assert check("counter", judged).verdict is verdict_of(fine=fine, judged=reads)


@MANY
@given(SUMS)
def test_a_counter_ends_as_a_sum_of_what_may_have_been_added(judged: History) -> None:
    sure = sum(o.value for o, _ in ok_calls(judged, "add"))
    doubtful = [o.value for o, _, kind in whole_calls(judged, "add") if kind == "info"]
    possible = {
        sure + sum(chosen)
        for size in range(len(doubtful) + 1)
        for chosen in itertools.combinations(doubtful, size)
    }
    reads = [d.value for _, d in ok_calls(judged, "final-read")]
    verdict = Verdict.VALID if set(reads) <= possible else Verdict.INVALID
    result = check("pn-counter", judged)
    assert result.verdict is (verdict if reads else Verdict.UNKNOWN)


def test_final_reads_may_be_marked_as_maelstrom_does() -> None:
    marked = Call("read", got=4, extra={"final?": True})
    early = Call("read", got=99)
    adds = [Call("add", 5, got=5), Call("add", -2, outcome="info")]
    result = check("pn-counter", in_turn(*adds, early, marked))
    assert names(result) == {"impossible-sum"}
    assert result.anomalies[0].explanation == (
        "In the end process 1 read 4, but the acknowledged additions make 5, and no "
        "choice of 1 additions of unknown outcome makes up the -1 between them."
    )
    assert check("pn-counter", in_turn(*adds, early)).verdict is Verdict.UNKNOWN
    with pytest.raises(HistoryError, match=r"op 0: add of 1\.5"):
        check("pn-counter", in_turn(Call("add", 1.5)))


@MANY
@given(IDS)
def test_ids_are_pairwise_different(judged: History) -> None:
    given_out = [d.value for _, d in ok_calls(judged, "generate")]
    twins = any(
        a == b for i, a in enumerate(given_out) for b in given_out[:i]
    )  # every pair
    verdict = verdict_of(fine=not twins, judged=given_out)
    assert check("unique-ids", judged).verdict is verdict


@MANY
@given(BANKS, st.booleans())
def test_a_bank_has_all_its_money(judged: History, may_owe: bool) -> None:
    def is_fine(balances: dict[str, Any]) -> bool:
        amounts = list(balances.values())
        if None in amounts or sum(amounts) != 2:
            return False
        return may_owe or all(amount >= 0 for amount in amounts)

    reads = [d.value for _, d in ok_calls(judged, "read")]
    verdict = Verdict.UNKNOWN
    if reads:
        fine = all(map(is_fine, reads))
        verdict = Verdict.VALID if fine else Verdict.INVALID
    options = {"total_amount": "2", "negative_balances": str(may_owe).lower()}
    assert check("bank", judged, accounts="a, b", **options).verdict is verdict


@MANY
@given(ECHOES)
def test_an_echo_is_what_was_asked_to_the_letter(judged: History) -> None:
    echoes = ok_calls(judged, "echo")
    wrong = [(o, d) for o, d in echoes if json.dumps(o.value) != json.dumps(d.value)]
    result = check("echo", judged)
    assert {anomaly.ops for anomaly in result.anomalies} == {
        (o.index, d.index) for o, d in wrong
    }
    verdict = Verdict.VALID if echoes else Verdict.UNKNOWN
    assert result.verdict is (Verdict.INVALID if wrong else verdict)


@pytest.mark.parametrize("name", ANY)
@FEWER
@given(data=st.data())
def test_neither_clocks_nor_names_nor_bystanders_matter(
    name: str, data: st.DataObject
) -> None:
    judged = data.draw(ANY[name])
    before, after = check(name, judged), check(name, elsewhere(judged))
    assert after.verdict is before.verdict
    assert Counter(a.name for a in after.anomalies) == Counter(
        a.name for a in before.anomalies
    )


def tried(name: str, judged: History) -> tuple[CheckResult | None, str]:
    """The result, or why the checker refuses the history."""
    try:
        return check(name, judged), ""
    except HistoryError as problem:
        return None, str(problem)


def with_calls_between(
    judged: History, f: str, count: int, places: list[int]
) -> History:
    """The same, and calls of `f` by a process of its own, each in one place."""
    ops = list(judged.ops)
    for at in sorted(
        (place % (len(ops) + 1) for place in places[:count]), reverse=True
    ):
        ops[at:at] = [Op(0, 0, "other", "invoke", f), Op(0, 0, "other", "ok", f)]
    for i, op in enumerate(ops):
        op.index = op.time = i
    return History(ops)


@pytest.mark.parametrize("name", ANY)
@FEWER
@given(data=st.data(), places=st.lists(st.integers(0, 99), min_size=3, max_size=3))
def test_what_is_left_out_changes_no_verdict_but_where_it_may_explain_it(
    name: str, data: st.DataObject, places: list[int]
) -> None:
    judged = data.draw(ANY[name])
    count, calls = data.draw(st.integers(1, 3)), len(list(judged.calls()))
    before = check(name, judged)
    harmless = with_calls_between(
        altered(judged, lambda _: {}), "topology", count, places
    )
    strange = with_calls_between(altered(judged, lambda _: {}), "wibble", count, places)
    if not calls:
        with pytest.raises(HistoryError, match="knows"):
            check(name, harmless)
        return
    after = check(name, harmless)
    mostly = before.verdict is Verdict.VALID and count > calls
    assert after.verdict is (Verdict.UNKNOWN if mostly else before.verdict)
    assert names(after) == names(before)
    assert after.remarks
    doubted, refusal = tried(name, strange)
    if doubted is None:
        assert "and this history has" in refusal
        assert not any(op.f in {"add", "enqueue"} for op in judged)
        return
    assert doubted.verdict is not Verdict.INVALID
    assert (doubted.verdict is Verdict.VALID) is (after.verdict is Verdict.VALID)


@pytest.mark.parametrize("name", ANY)
@FEWER
@given(data=st.data())
def test_independent_objects_are_judged_apart(name: str, data: st.DataObject) -> None:
    options = {"accounts": "a, b"} if name == "bank" else {}
    one, other = data.draw(ANY[name]), data.draw(ANY[name])
    ops: list[Op] = []
    for key, judged in ([1], one), ({"k": 2}, other):
        for op in judged:
            assert type(op.process) is int
            process = op.process + 100 * (judged is other)
            ops.append(Op(len(ops), 0, process, op.type, op.f, op.value, key))
    apart = Counter(
        anomaly.name
        for judged in (one, other)
        for anomaly in check(name, judged, **options).anomalies
    )
    together = check(name, History(ops), **options)
    assert Counter(anomaly.name for anomaly in together.anomalies) == apart


RENAMED: list[dict[int, Any]] = [
    {0: [1, True], 1: ["x"], 2: [1, 1], 3: []},
    {0: "", 1: "x", 2: "1", 3: "[]"},
    {0: {}, 1: {"a": {}}, 2: {"a": []}, 3: {"b": {}}},
    {0: 1.5, 1: -1, 2: 10**400, 3: 0},
    {0: True, 1: 1, 2: "1", 3: "true"},
    {0: False, 1: 0, 2: "", 3: [[]]},
    {0: [True], 1: [1], 2: ["1"], 3: {"1": True}},
]


@pytest.mark.parametrize("name", ["set", "set-full", "queue", "total-queue"])
@FEWER
@given(data=st.data())
def test_what_elements_are_does_not_matter(name: str, data: st.DataObject) -> None:
    names_of = data.draw(st.sampled_from(RENAMED))

    def other(value: Any) -> Any:
        if isinstance(value, list):
            return [names_of[x] for x in value]
        return None if value is None else names_of[value]

    judged = data.draw(ANY[name])
    renamed = altered(judged, lambda op: {"value": other(op.value)})
    before = check(name, judged)
    after, refusal = tried(name, renamed)
    if after is None:
        # Of several kinds, what nobody put there may be of one that nothing was of.
        assert len({type(value) for value in names_of.values()}) > 1
        assert re.search("gave .* but what went in was", refusal)
        return
    assert after.verdict is before.verdict
    assert names(after) == names(before)


def test_completions_alone_convict_nobody_of_what_went_before() -> None:
    def ends(*events: tuple[str, Any]) -> History:
        ops = [Op(i, -1, i, "ok", f, value) for i, (f, value) in enumerate(events)]
        return History(ops, strict=False)

    assert check("queue", ends(("enqueue", 1), ("dequeue", 1))).verdict is Verdict.VALID
    late = ends(("dequeue", 1), ("enqueue", 1))
    assert check("queue", late).verdict is Verdict.VALID
    assert check("total-queue", late).verdict is Verdict.VALID
    assert check("counter", ends(("read", 1), ("add", 1))).verdict is Verdict.VALID
    assert check("counter", ends(("add", 1), ("read", 0))).verdict is Verdict.VALID
    assert check("counter", ends(("read", 1))).verdict is Verdict.INVALID
    missing = check("set", ends(("add", 1), ("read", [])))
    assert missing.verdict is Verdict.UNKNOWN
    assert "nobody recorded when the last read began" in missing.reason
    lost = ends(("add", 1), ("read", [1]), ("read", []))
    assert check("set-full", lost).verdict is Verdict.VALID


def test_a_drain_of_unknown_outcome_may_have_taken_everything() -> None:
    judged = in_turn(
        Call("enqueue", "a", got="a"),
        Call("enqueue", "b", got="b"),
        Call("drain", outcome="info"),
    )
    result = check("total-queue", judged)
    assert result.verdict is Verdict.UNKNOWN
    assert "2 elements are missing" in result.reason


@pytest.mark.parametrize("name", ["set", "set-full"])
def test_a_read_that_gives_no_collection_is_refused(name: str) -> None:
    judged = in_turn(Call("add", 1, got=1), Call("read", got="abc"))
    with pytest.raises(HistoryError, match=r"op 3: read of 'abc', which is no"):
        check(name, judged)


def test_a_bank_whose_first_read_left_an_account_out_is_told_who_has_one() -> None:
    judged = in_turn(Call("read", got={"a": 100}), Call("read", got={"a": 1, "b": 99}))
    assert names(check("bank", judged)) == {"unexpected-key"}
    assert check("bank", judged, accounts="a,b").verdict is Verdict.VALID
