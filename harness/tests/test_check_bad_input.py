"""Bad input of `splitbrain check`: a clear error, never a crash, never a verdict.

And never a word against the other files.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import registry
from harness.errors import EXIT_USAGE
from harness.history import History, Op
from harness.judge.advice import _JUDGES, advice
from harness.judge.check import exit_status
from harness.judge.text import render_text
from harness.tests.checking import assert_sane, check_files, judged
from harness.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path


def lines_of(*texts: str) -> str:
    """JSON lines of operations given as "process type f value", a microsecond apart."""
    lines = []
    for index, text in enumerate(texts):
        process, kind, f, value = text.split(maxsplit=3)
        lines.append(
            f'{{"index":{index},"time":{index * 1000},"process":{process},'
            f'"type":"{kind}","f":"{f}","value":{value}}}\n'
        )
    return "".join(lines)


GOOD = lines_of("0 invoke write 1", "0 ok write 1", "1 invoke read null", "1 ok read 1")
CHECKERS = sorted(
    {p.name for p in registry.plugins("checker").values()} - {"log-file-pattern"}
)
FUNCTIONS = [
    *("read", "write", "cas", "txn", "add", "enqueue", "dequeue", "generate", "echo"),
    *("transfer", "propose", "learn", "decisions", "broadcast", "delivered", "drain"),
    *("acquire", "use", "release", "insert", "send", "poll", "assign", "subscribe"),
    *("push", "pop", "final-read", "read-init", "status", "put", "append", "contains"),
]
OBSERVED = [
    *("became_leader", "became_follower", "voted", "appended", "truncated", "applied"),
    *("committed", "installed_snapshot", "recovered", "restarted", "on_disk"),
    *("promised", "accepted", "learned", "chosen", "decided", "in_doubt", "resolved"),
    *("precommitted", "delivered", "new_epoch", "synchronizing", "kill", "start-cut"),
]
FIELDS = [
    *("id", "txn", "votes", "decisions", "coordinated", "role", "term", "candidate"),
    *("first", "last", "entries", "index", "last_log_index", "last_log_term", "hash"),
    *("ballot", "value", "accepted", "key", "epoch", "counter", "message", "acked"),
    *("last_zxid", "leader", "promised", "messages", "from", "more", "undecided"),
    *("accepted_epoch", "pre_committed", "turned_back", "waited_ms", "voted_for"),
    *("prev_log_term", "decision", "vote", "x"),
]
SCALARS: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, 0, 1, -1, 2**63, 10**400, 1.5, math.nan, math.inf, "", "x"),
        *(Fraction(1, 3), [], {}, [1], [[]], {"": None}, {1: 2, "1": 3}),
    ]
)
NESTED = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4)
        | st.tuples(
            st.sampled_from(["r", "w", "append", "read", "write", "send"]), inner, inner
        ).map(list)
        | st.tuples(st.just("poll"), st.dictionaries(st.just("x"), inner)).map(list)
    ),
    max_leaves=8,
)
EXTRAS = st.none() | st.dictionaries(
    st.sampled_from(
        [
            *("link", "position", "final?", "exception", "seek-to-beginning?"),
            "rebalance-log",
        ]
    ),
    NESTED,
    max_size=2,
)
CALLS = st.tuples(
    st.integers(0, 2),
    st.sampled_from(["invoke", "ok", "fail", "info"]),
    st.sampled_from(FUNCTIONS),
    NESTED,
    st.none() | NESTED,
    EXTRAS,
)
EVENTS_OF_NODES = st.tuples(
    st.sampled_from(["n1", "n2", "nemesis"]),
    st.just("info"),
    st.sampled_from(OBSERVED),
    st.dictionaries(st.sampled_from(FIELDS), NESTED, max_size=6) | NESTED,
    st.none(),
    st.none(),
)
EVENTS = st.lists(CALLS | CALLS | EVENTS_OF_NODES, max_size=12)


@pytest.mark.parametrize("checker", CHECKERS)
@settings(max_examples=max(15, settings().max_examples // 20))
@given(events=EVENTS)
def test_no_values_whatever_crash_a_checker(
    checker: str, events: list[tuple[int | str, str, str, Any, Any, Any]]
) -> None:
    """Types that make no sense are a verdict or bad input, and never our failure."""
    ops = [
        Op(index, index, process, kind, f, value, key, node=f"n{process}", extra=extra)  # type: ignore[arg-type]  # drawn
        for index, (process, kind, f, value, key, extra) in enumerate(events)
    ]
    result = judged(checker, History(ops, strict=False, source="any.edn"))
    assert_sane(result)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("depth", [100, 400, 700, 1100, 100_000])
def test_nesting_never_exhausts_a_checkers_stack(
    tmp_path: Path, checker: str, depth: int
) -> None:
    file = tmp_path / "deep.jsonl"
    value = nested(depth)
    file.write_text(
        lines_of(
            f"0 invoke write {value}",
            f"0 ok write {value}",
            "1 invoke read null",
            f"1 ok read {value}",
        )
    )
    (result,) = check_files([str(file)], checker, {})
    assert not result.has_crashed, result.result.reason
    assert depth < 100_000 or "deep.jsonl:1: nested too deep" in result.error


BAD = {
    "a.jsonl": ('{"index":0,"index":0', "a.jsonl:1: the last line is cut short"),
    "array.json": (
        f"[{GOOD.splitlines()[0]}",
        "array.json:1: the array doesn't end: the file is cut short",
    ),
    "nan.jsonl": (GOOD.replace("1}", "Nan}", 1), "nan.jsonl:1: not JSON"),
    "huge.jsonl": (
        GOOD.replace("1}", f"1{'0' * 5000}}}", 1),
        "huge.jsonl:1: not JSON: Exceeds the limit",
    ),
    "f.jsonl": (
        GOOD + lines_of(*["0 invoke read 1"] * 4, "0 invoke frob 1").splitlines()[4],
        "f.jsonl:5: op 4: frob: the cas-register model has no such operation",
    ),
    "results.edn": ("{:valid? true}", "results.edn:1: these are a checker's results"),
    "deep.edn": ("[" * 100_000, "deep.edn:1: nested more than 128 deep"),
    "set.edn": (
        "{:process 0 :type :invoke :f :add :value 1}\n"
        "{:process 0 :type :ok :f :add :value 1}\n"
        "{:process 0 :type :invoke :f :read}\n"
        "{:process 0 :type :ok :f :read :value #{1}}",
        "these operations look like a set's: try --checker set, or --checker set-full",
    ),
    "txn.edn": (
        "{:process 0 :type :invoke :f :txn :value [[:append 1 1]]}",
        "txn.edn:1: op 0: txn: the cas-register model has no such operation "
        "(it has read, write, cas); these operations look like transactions over "
        "lists: try --checker list-append",
    ),
}


def test_bad_input_names_file_and_line_says_what_to_do_and_hides_no_other_file(
    tmp_path: Path,
) -> None:
    (tmp_path / "good.jsonl").write_text(GOOD)
    for name, (text, _) in BAD.items():
        (tmp_path / name).write_text(text)
    files = ["good.jsonl", *BAD, "good.jsonl"]
    results = list(check_files([str(tmp_path / f) for f in files], "linearizable", {}))
    first, *bad, last = results
    assert (first.verdict, last.verdict) == (Verdict.VALID, Verdict.VALID)
    for result, (name, (_, message)) in zip(bad, BAD.items(), strict=True):
        assert result.as_json()["verdict"] is None
        assert result.exit_status == EXIT_USAGE
        assert result.error.startswith(str(tmp_path / name)), result.error
        assert message in result.error
        assert "\n" not in result.error
    assert exit_status(r.exit_status for r in results) == EXIT_USAGE


@pytest.mark.parametrize("checker", sorted(registry.plugins("checker")))
def test_a_file_without_operations_is_neither_valid_nor_a_crash(
    tmp_path: Path, checker: str
) -> None:
    options = {"pattern": "panic"} if checker == "log-file-pattern" else {}
    empty, vector = tmp_path / "empty.jsonl", tmp_path / "vector.edn"
    empty.touch()
    vector.write_text("[]")
    for result in check_files([empty, vector], checker, options):
        assert result.verdict is Verdict.UNKNOWN
        reason = "nothing to judge: the file holds no operation"
        assert result.result.reason == reason
        assert not result.has_crashed
    (told,) = check_files([empty], checker, options, "jsonl")
    assert told.exit_status == EXIT_USAGE
    assert told.error == f"{empty}: an empty file, not JSON lines: " + (
        "there is nothing to judge"
    )


TRANSACTIONS = lines_of(
    '0 invoke txn [["append","x",1]]',
    '0 ok txn [["append","x",1]]',
    '1 invoke txn [["r","x",null]]',
    '1 ok txn [["r","x",[1]]]',
)


@pytest.mark.parametrize(
    ("checker", "text"), [("linearizable", GOOD), ("list-append", TRANSACTIONS)]
)
def test_a_byte_order_mark_and_returns_of_a_carriage_are_passed_over(
    tmp_path: Path, checker: str, text: str
) -> None:
    file = tmp_path / "signed.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    (result,) = check_files([str(file)], checker, {})
    assert (result.error, result.ops, result.verdict) == ("", 4, Verdict.VALID)


def test_keys_of_jepsen_independent_show_and_are_judged_one_by_one(
    tmp_path: Path,
) -> None:
    """As one register, [1 5] would be gone once [2 6] is written."""
    file = tmp_path / "independent.edn"
    text = (
        "{:process 0 :type :invoke :f :write :value [1 5]}\n"
        "{:process 0 :type :ok :f :write :value [1 5]}\n"
        "{:process 0 :type :invoke :f :write :value [2 6]}\n"
        "{:process 0 :type :ok :f :write :value [2 6]}\n"
        "{:process 0 :type :invoke :f :read :value [1 nil]}\n"
        "{:process 0 :type :ok :f :read :value [1 5]}\n"
    )
    file.write_text(text)
    (split,) = check_files([str(file)], "linearizable", {})
    assert split.verdict is Verdict.VALID
    (whole,) = check_files([str(file)], "linearizable", {}, independent=False)
    assert whole.verdict is Verdict.INVALID
    results = check_files([str(file)], "linearizable", {})
    assert "--no-independent" in render_text(next(results))
    file.write_text(text.replace("[1 nil]", "nil"))
    (pairs,) = check_files([str(file)], "linearizable", {})
    assert pairs.verdict is Verdict.INVALID


@pytest.mark.parametrize("who", [who for *_, who in _JUDGES])
def test_what_is_advised_is_to_be_had(who: str) -> None:
    for advised in who.split(", or "):
        words = advised.split()
        assert words[::2] == ["--checker", "--model"][: len(words) // 2]
        options = {"model": words[3]} if len(words) > 2 else {}
        assert registry.find("checker", words[1]).factory(options)


def test_a_checker_that_fits_is_not_advised_against() -> None:
    """A malformed transaction is the transaction's fault."""
    history = load_text('0 invoke txn [["append","x",1]]', '0 ok txn [["append"]]')
    for name in ("list-append", "list_append"):
        assert advice(history, registry.find("checker", name).name) == ""
    assert "try --checker list-append" in advice(history, "bank")
    history = load_text("0 invoke cas [1,2]")
    assert "--model cas-register" in advice(history, "linearizable", "register")
    assert advice(history, "linearizable", "cas-register") == ""
    assert "--model cas-register" in advice(history, "set")


def load_text(*texts: str) -> History:
    ops = [msgspec.json.decode(line, type=Op) for line in lines_of(*texts).splitlines()]
    return History(ops)
