"""The isolation checkers as `splitbrain check` and the workloads use them."""

from __future__ import annotations

import copy
import csv
import random
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from checkers import list_append, rw_register
from checkers.isolation.judge import Trial
from checkers.isolation.transactions import collect
from checkers.linearizability.budget import LimitExceeded
from checkers.tests.histories import FEWER
from checkers.tests.isolation_histories import (
    Simulation,
    beside,
    corrupt,
    histories,
    judge,
    transactions,
)
from harness import registry
from harness.errors import UsageError
from harness.history import History, HistoryError, Op, formats
from harness.verdict import CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CORPUS = Path(__file__).parents[2].parent / "shared" / "corpus" / "dev"
NO_LIMITS = Limits()


def check_lists(history: History, **options: str) -> CheckResult:
    return list_append.build(options).check(history, NO_LIMITS)


def check_registers(history: History, **options: str) -> CheckResult:
    return rw_register.build(options).check(history, NO_LIMITS)


def simulated(*, lists: bool, seed: int = 1, length: int = 400) -> History:
    """A run of a serial database with ten clients."""
    rng = random.Random(seed)
    simulation = Simulation(lists, rng, keys=6, crashes=0.03)
    return simulation.history(length, 10)


# Planted anomalies


def plant(history: History, lines: dict[str, list[list[Any]]]) -> History:
    """The history with more transactions behind it, on keys of their own, in turn."""
    ops = list(history.ops)
    process = 10_000
    for name, value in lines.items():
        process += 1
        kind: Any = name.partition(" ")[0]
        asked = [[f, k, None if f == "r" else v] for f, k, v in value]
        ops.append(Op(len(ops), 0, process, "invoke", "txn", asked))
        ops.append(Op(len(ops), 0, process, kind, "txn", value))
    return History(ops)


PLANTED: dict[str, dict[str, list[list[Any]]]] = {
    "G0": {
        "ok 1": [["append", "x", 1], ["append", "y", 1]],
        "ok 2": [["append", "x", 2], ["append", "y", 2]],
        "ok 3": [["r", "x", [1, 2]], ["r", "y", [2, 1]]],
    },
    "G1a": {"fail": [["append", "x", 1]], "ok": [["r", "x", [1]]]},
    "G1b": {
        "ok 1": [["append", "x", 1], ["append", "x", 2]],
        "ok 2": [["r", "x", [1]]],
    },
    "G1c": {
        "ok 1": [["append", "x", 1], ["r", "y", [1]]],
        "ok 2": [["append", "y", 1], ["r", "x", [1]]],
    },
    "G-single-item": {
        "ok 1": [["append", "x", 1], ["append", "y", 1]],
        "ok 2": [["r", "y", None], ["r", "x", [1]]],
        "ok 3": [["r", "y", [1]]],
    },
    "G-nonadjacent-item": {
        "ok 1": [["append", "x", 1]],
        "ok 2": [["append", "y", 1]],
        "ok 3": [["r", "x", [1]], ["r", "y", None]],
        "ok 4": [["r", "x", None], ["r", "y", [1]]],
    },
    "G2-item": {
        "ok 1": [["r", "x", None], ["append", "y", 1]],
        "ok 2": [["r", "y", None], ["append", "x", 1]],
    },
    "G-single-item-realtime": {
        "ok 1": [["append", "x", 1]],
        "ok 2": [["r", "x", None]],
    },
    "lost-update": {
        "ok 1": [["r", "x", None], ["append", "x", 1]],
        "ok 2": [["r", "x", None], ["append", "x", 2]],
    },
    "incompatible-order": {
        "ok 1": [["append", "x", 1]],
        "ok 2": [["append", "x", 2]],
        "ok 3": [["r", "x", [1, 2]]],
        "ok 4": [["r", "x", [2, 1]]],
    },
    "dirty-update": {
        "fail": [["append", "x", 1]],
        "ok 1": [["append", "x", 2]],
        "ok 2": [["r", "x", [1, 2]]],
    },
    "duplicate-elements": {"ok": [["append", "x", 1], ["r", "x", [1, 1]]]},
    "garbage-read": {"ok": [["r", "x", [99]]]},
    "internal": {"ok": [["append", "x", 1], ["r", "x", None]]},
    "future-read": {"ok": [["r", "x", [1]], ["append", "x", 1]]},
}


def test_a_serial_database_is_strictly_serializable() -> None:
    for seed in range(5):
        for lists in (True, False):
            history = simulated(lists=lists, seed=seed)
            result = (check_lists if lists else check_registers)(history)
            assert result.verdict is Verdict.VALID, (seed, lists, result)
            assert not result.anomalies
            assert not result.reason


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_anomaly_is_found_among_many_transactions(name: str) -> None:
    result = check_lists(plant(simulated(lists=True), PLANTED[name]))
    assert result.verdict is Verdict.INVALID
    assert name in {anomaly.name for anomaly in result.anomalies}


@pytest.mark.parametrize("model", ["parallel-snapshot-isolation", "prefix", "causal"])
def test_models_between_causal_and_snapshot_isolation_are_told_apart(
    model: str,
) -> None:
    long_fork = transactions("ax1 ay1 rx1ry rxry1")
    lost_update = transactions("rxax1 rxax2 ; rx12")
    causal_hole = transactions("ax1@0 ; ay1@0 ; rxry1@1")
    verdicts = [
        check_lists(history, consistency=model).verdict is Verdict.VALID
        for history in (long_fork, lost_update, causal_hole)
    ]
    assert (
        verdicts
        == {
            "parallel-snapshot-isolation": [True, False, False],
            "prefix": [False, True, False],
            "causal": [True, True, False],
        }[model]
    )


# Verdicts and reasons


def test_a_history_without_committed_transactions_shows_nothing() -> None:
    for text in ("", "ax1!", "ax1? rx1?"):
        result = check_lists(transactions(text))
        assert result.verdict is Verdict.UNKNOWN
        assert "nothing to judge" in result.reason


def test_what_a_model_allows_is_mentioned_but_breaks_nothing() -> None:
    result = check_lists(transactions("rxay1 ryax1"), consistency="read-committed")
    assert result.verdict is Verdict.VALID
    assert result.stats["also_found"] == ["G-update", "G2-item", "write-skew"]


def test_only_the_anomalies_asked_for_count() -> None:
    history = transactions("ax1ry1 ay1rx1")
    assert check_lists(history, anomalies="G2").verdict is Verdict.VALID
    assert check_lists(history, anomalies="G1").verdict is Verdict.INVALID


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("ax1 ax1 ; rx1", Verdict.INVALID),  # both have happened
        ("ax1 ax1 ; rx11", Verdict.VALID),
        ("ax1? ; ax1 ; rx1", Verdict.VALID),
        ("ax1? ; ax1 ; rx11", Verdict.VALID),
        ("ax1? ; ax1 ; rx111", Verdict.INVALID),
        ("ax1? ; ax1 ; rx11 ; rx1", Verdict.INVALID),
        ("ax1? ; rx1 ; ax1 ; rx1", Verdict.INVALID),
        ("ax1! ; ax1 ; rx1", Verdict.VALID),
        ("ax1! ; rx1 ; ax1", Verdict.INVALID),
        ("ax1! ; ax1 ; rx11", Verdict.INVALID),
        ("ax1ax1 ; rx11", Verdict.VALID),
        ("ax1ax2rx1 ; rx12 ; rx12 ; rx12ax1", Verdict.INVALID),  # seed 1
        ("ax1ax1 ; rx1", Verdict.INVALID),
        ("ax1ax1rx11", Verdict.VALID),
        ("ax1rx1ax1rx11", Verdict.VALID),
        ("rx1ax1 ax1", Verdict.VALID),
        ("rx11ax1 ax1", Verdict.INVALID),
        ("ax1 ax1 ; rx11 ; ay1 ; ry", Verdict.INVALID),
    ],
)
def test_appends_that_were_repeated_explain_what_was_read_or_do_not(
    line: str, verdict: Verdict
) -> None:
    assert check_lists(transactions(line)).verdict is verdict


class Patience:
    """A budget that is used up after some looks at it."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def exceeded(self) -> str:
        self.looks -= 1
        return "enough" if self.looks < 0 else ""

    def seconds(self) -> float:
        return 0.0


@pytest.mark.parametrize(
    "line", ["rx1ax1 ax1", "ax1? ; rx1 ; ax1 ; rx11", "rx1ay2@1 ax1@0 ; ax1ry2@0"]
)
@pytest.mark.parametrize("model", ["strict-serializable", "read-committed"])
def test_a_limit_met_while_writers_are_tried_proves_nothing(
    line: str, model: str
) -> None:
    history = transactions(line)
    checker = list_append.build({"consistency": model})
    verdicts = []
    for looks in range(60):
        patience: Any = Patience(looks)
        trial = Trial(checker.question, patience)
        try:
            trial.hold(collect(history), checker.infer)
        except LimitExceeded as limit:
            trial.limit = str(limit)
        verdicts.append(trial.result().verdict)
    assert Verdict.INVALID not in verdicts
    assert verdicts[0] is Verdict.UNKNOWN
    assert verdicts[-1] is Verdict.VALID


def test_an_unknown_outcome_may_have_happened_or_not() -> None:
    assert check_lists(transactions("ax1? ; rx1 ; rx1")).verdict is Verdict.VALID
    assert check_lists(transactions("ax1? ; rx ; rx1")).verdict is Verdict.VALID
    assert check_lists(transactions("ax1? ; rx1 ; rx")).verdict is Verdict.INVALID


def test_a_transaction_that_never_returned_may_have_written() -> None:
    ops = transactions("ax1 ; rx1").ops
    kept = [op for op in ops if op.index != 1]
    for i, op in enumerate(kept):
        op.index = i
    assert check_lists(History(kept)).verdict is Verdict.VALID


def test_orders_that_nothing_tells_are_found_by_elimination() -> None:
    result = check_registers(
        transactions("wx1wy1 wx2wy2 rx1ry2 rx2ry1", lists=False),
        consistency="serializable",
    )
    assert result.verdict is Verdict.INVALID  # no order of the writers will do
    assert "comes before" in result.anomalies[0].explanation


# Explanations


def test_a_cycle_is_told_step_by_step_and_drawn() -> None:
    result = check_lists(transactions("rxay1 ryax1"), consistency="serializable")
    *closer, anomaly = result.anomalies
    assert {a.name for a in closer} == {"G-update", "write-skew"}
    assert anomaly.name == "G2-item"
    assert anomaly.ops == (2, 3) or anomaly.ops == (3, 2)
    assert "T2 did not observe T3's append of 1 to key x" in anomaly.explanation
    assert "T3 did not observe T2's append of 1 to key y" in anomaly.explanation
    assert anomaly.explanation.endswith("would have to come before itself.")
    assert anomaly.witness is not None
    assert not nx.is_directed_acyclic_graph(anomaly.witness)
    assert {data["kind"] for _, _, data in anomaly.witness.edges(data=True)} == {"rw"}


def test_real_time_and_sessions_are_named_as_reasons() -> None:
    (first, *_) = check_lists(
        transactions("ax1 ; rx"), consistency="strong-read-committed"
    ).anomalies or [None]
    assert first is None  # read committed lets reads be stale
    result = check_lists(transactions("ax1@4 ; rx@4"))
    told = {anomaly.name: anomaly.explanation for anomaly in result.anomalies}
    assert "process 4 ran T1 before T3" in told["G-single-item-process"]
    assert "T1 had returned when T3 was invoked" in told["G-single-item-realtime"]


@FEWER
@given(histories(lists=True, transactions=6), st.booleans())
def test_witnesses_name_operations_of_the_history(
    history: History, lists: bool
) -> None:
    result = check_lists(history)
    for anomaly in result.anomalies:
        assert anomaly.ops
        assert all(history[i].type != "invoke" for i in anomaly.ops)
        assert anomaly.explanation.endswith(".")
        assert anomaly.witness is not None
        assert set(anomaly.ops) <= set(anomaly.witness.nodes)
    assert bool(result.anomalies) == (result.verdict is Verdict.INVALID)
    assert bool(result.not_models) == (result.verdict is Verdict.INVALID)


# What must make no difference


def renamed(history: History) -> History:
    """Other names for keys, values and processes; later times."""
    ops = copy.deepcopy(list(history.ops))
    for op in ops:
        assert isinstance(op.process, int)
        op.process = 1000 - op.process
        op.time += 10**12
        for micro_op in op.value:
            micro_op[1] = f"key-{micro_op[1]}"
            if isinstance(micro_op[2], list):
                micro_op[2] = [f"v{element}" for element in micro_op[2]]
            elif micro_op[2] is not None:
                micro_op[2] = f"v{micro_op[2]}"
    return History(ops)


def with_an_empty_transaction(history: History) -> History:
    """One more transaction, last, that does nothing."""
    return plant(history, {"ok": []})


def with_a_reader_beside(history: History) -> History:
    """One more transaction, around a committed one, that saw what that one saw.

    Where the one fits the other does too: just before it.
    """
    calls = [
        (invoke.index, end.index, outer_reads(end.value))
        for invoke, end in history.calls()
        if end is not None and end.type == "ok"
    ]
    begin, end, seen = calls[len(calls) // 2]
    asked = [[f, key, None] for f, key, _ in seen]
    ops = copy.deepcopy(list(history.ops))
    ops.insert(begin, Op(0, ops[begin].time, 77_777, "invoke", "txn", asked))
    ops.insert(end + 2, Op(0, ops[end + 1].time, 77_777, "ok", "txn", seen))
    for i, op in enumerate(ops):
        op.index = i
    return History(ops)


def outer_reads(micro_ops: list[Any]) -> list[Any]:
    """The reads of keys that the transaction had not written itself by then."""
    written = set()
    reads = []
    for f, key, value in micro_ops:
        if f != "r":
            written.add(key)
        elif key not in written:
            reads.append([f, key, value])
    return reads


CHANGES = [renamed, with_an_empty_transaction, with_a_reader_beside]
ASKED = ["serializable", "strict-serializable", "snapshot-isolation", "causal"]


@FEWER
@given(
    st.booleans(),
    st.data(),
    st.sampled_from(CHANGES),
    st.sampled_from(ASKED),
)
def test_names_times_and_readers_that_fit_make_no_difference(
    lists: bool,
    data: st.DataObject,
    change: Callable[[History], History],
    model: str,
) -> None:
    history = data.draw(histories(lists=lists))
    assume(any(op.type == "ok" for op in history))
    checker = (list_append if lists else rw_register).build({"consistency": model})
    before = judge(checker, history)
    after = judge(checker, change(history))
    assert before.verdict is after.verdict
    if change is not with_a_reader_beside:  # which may break weaker models as well
        assert before.not_models == after.not_models


@FEWER
@given(st.booleans(), st.data(), st.floats(0, 1), st.sampled_from(ASKED))
def test_histories_on_different_keys_are_as_right_together_as_each_by_itself(
    lists: bool, data: st.DataObject, at: float, model: str
) -> None:
    one, other = data.draw(histories(lists=lists)), data.draw(histories(lists=lists))
    checker = (list_append if lists else rw_register).build({"consistency": model})
    apart = [judge(checker, history).verdict for history in (one, other)]
    together = judge(checker, beside(one, renamed(other), at))
    assert together.verdict is max(apart)


def test_a_history_is_left_as_it_was() -> None:
    history = simulated(lists=True, length=50)
    history.ops[-1].value.append(["r", 0])
    before = copy.deepcopy([op.value for op in history])
    check_lists(history)
    assert [op.value for op in history] == before


# Limits and bad input


def test_a_time_limit_ends_a_check() -> None:
    history = simulated(lists=False, length=3000)
    started = time.monotonic()
    result = rw_register.build({}).check(history, Limits(time_s=0.0))
    assert result.verdict is Verdict.UNKNOWN
    assert "time limit" in result.reason
    assert time.monotonic() - started < 5


BROKEN: list[tuple[str, Any]] = [
    ("no list of micro-operations", 5),
    ("no list of micro-operations", "rx1"),
    ("is no [f, key, value]", [["r"]]),
    ("is no [f, key, value]", [["r", "x", 1, 2]]),
    ("is neither", [["pop", "x", None]]),
    ("returns a list", [["r", "x", 5]]),
    ("is no [f, key, value]", ["rxy"]),
    ("is no [f, key, value]", [{"r": 1, "x": 2, "y": 3}]),
    ("no list of micro-operations", None),
]

BROKEN_REGISTERS: list[tuple[str, Any]] = [
    ("is no [f, key, value]", ["rxy"]),
    ("is neither", [["append", "x", 1]]),
]


@pytest.mark.parametrize(("problem", "value"), BROKEN)
def test_what_is_no_transaction_is_refused_with_the_operation_named(
    problem: str, value: Any
) -> None:
    history = History(
        [Op(0, 0, 0, "invoke", "txn", value), Op(1, 1, 0, "ok", "txn", value)],
        source="somewhere",
    )
    with pytest.raises(HistoryError) as refusal:
        check_lists(history)
    assert str(refusal.value).startswith("somewhere: op 1: ")
    assert problem in str(refusal.value)


@pytest.mark.parametrize(("problem", "value"), BROKEN_REGISTERS)
def test_what_is_no_transaction_of_registers_is_refused(
    problem: str, value: Any
) -> None:
    history = History(
        [Op(0, 0, 0, "invoke", "txn", value), Op(1, 1, 0, "ok", "txn", value)]
    )
    with pytest.raises(HistoryError, match="op 1: ") as refusal:
        check_registers(history)
    assert problem in str(refusal.value)


def test_pairs_stand_for_reads_of_nothing() -> None:
    value: list[Any] = [["r", "x"], ["append", "x", 1]]
    history = History(
        [Op(0, 0, 0, "invoke", "txn", value), Op(1, 1, 0, "ok", "txn", value)]
    )
    assert check_lists(history).verdict is Verdict.VALID


def test_options_are_refused_that_do_not_exist() -> None:
    for checker in ("list-append", "rw-register"):
        plugin = registry.find("checker", checker)
        with pytest.raises(UsageError, match="consistency"):
            plugin.factory({"consistancy": "serializable"})
    with pytest.raises(UsageError, match="wfr-keys"):
        rw_register.build({"wfr-keys": "yes"})


# Other people's histories


def corpus_rows() -> Iterator[tuple[str, list[str], str]]:
    if not (CORPUS / "manifest.tsv").is_file():
        return
    with (CORPUS / "manifest.tsv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            # The largest take half of the time; the corpus's own runner has them all.
            is_large = "20x100x15" in row["file"]
            if row["checker"] in {"list-append", "rw-register"} and not is_large:
                yield row["file"], shlex.split(row["args"]), row["expected"]


def options_of(words: list[str]) -> dict[str, str]:
    pairs = dict(
        word.split("=", 1)
        for flag, word in zip(words[::2], words[1::2], strict=True)
        if flag == "--option"
    )
    if "--consistency" in words:
        pairs["consistency"] = words[words.index("--consistency") + 1]
    return pairs


@pytest.mark.skipif(
    not (CORPUS / "manifest.tsv").is_file(),
    reason="no ../shared/corpus beside this checkout",
)
@pytest.mark.nightly
def test_recorded_histories_get_the_verdicts_their_authors_gave() -> None:
    wrong = []
    loaded: dict[str, History] = {}
    for file, words, expected in corpus_rows():
        if file not in loaded:
            how = words[words.index("--format") + 1]
            loaded[file] = formats.load(CORPUS / file, how)
        name = words[words.index("--checker") + 1]
        checker = registry.find("checker", name).factory(options_of(words))
        result = checker.check(loaded[file], Limits(time_s=60))
        if str(result.verdict) not in expected.split("|"):
            wrong.append(f"{file} {words}: {result.verdict}, not {expected}")
    assert loaded
    assert not wrong, "\n".join(wrong)


# Histories too long to be held


@pytest.mark.parametrize("lists", [True, False])
def test_a_history_left_in_its_file_gets_the_same_answer(
    lists: bool, tmp_path: Path
) -> None:
    for seed in range(6):
        rng = random.Random(seed)
        history = Simulation(
            lists, rng, keys=5, crashes=0.05, skew=seed % 2 == 1
        ).history(60, 5)
        for _ in range(seed):
            history = corrupt(history, rng)
        path = tmp_path / f"{seed}.jsonl"
        formats.dump(history, path)
        check = check_lists if lists else check_registers
        eager, lean = (
            check(formats.load(path, lean=lean), consistency="serializable")
            for lean in (False, True)
        )
        assert lean.verdict == eager.verdict, seed
        assert lean.not_models == eager.not_models, seed
        assert {a.name for a in lean.anomalies} == {a.name for a in eager.anomalies}


@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize(
    ("line", "committed"), [("ax1 ; ax2", 2), ("ax1 ; ax2rx?", 1), ("ax1 ; ax2rx!", 1)]
)
def test_without_a_committed_read_there_is_nothing_to_judge(
    line: str, committed: int, *, lists: bool
) -> None:
    history = transactions(line if lists else line.replace("a", "w"), lists=lists)
    checker = (list_append if lists else rw_register).build({})
    result = checker.check(history, Limits())
    assert result.verdict is Verdict.UNKNOWN
    assert result.vacuous
    assert f"none of {committed} committed transactions" in result.reason
    assert judge(checker, history).verdict is Verdict.VALID
