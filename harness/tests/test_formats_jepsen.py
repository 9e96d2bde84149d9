"""Jepsen's histories: EDN in and out, and the log that Porcupine ships."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.history import (
    NO_COMPLETION,
    History,
    HistoryError,
    Op,
    set_bystanders_aside,
)
from harness.history.formats import dump, jepsen_edn, load
from harness.history.formats.edn import Keyword

if TYPE_CHECKING:
    from pathlib import Path

NAMES = st.sampled_from(["read", "write", "cas", "a b", "x/y", "", "nil", "1", ":"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | TEXT.map(Keyword),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4)
    ),
    max_leaves=8,
)
TYPES: Any = st.sampled_from(["invoke", "ok", "fail", "info"])


@st.composite
def operations(draw: st.DrawFn) -> list[Op]:
    """Ops that need not make sense together: reading EDN is lenient."""
    return [
        Op(
            index=index,
            time=draw(st.integers(-1, 2**63)),
            process=draw(st.integers(-(2**40), 2**40) | TEXT.filter(bool)),
            type=draw(TYPES),
            f=draw(NAMES),
            value=draw(VALUES),
            error=draw(VALUES),
            node=draw(st.none() | TEXT),
            extra=draw(st.none() | st.just({"op-index": 3, "clock-offsets": [0.5]})),
        )
        for index in range(draw(st.integers(0, 5)))
    ]


def read(tmp_path: Path, text: str, **how: Any) -> History:
    path = tmp_path / "history.edn"
    path.write_text(text, encoding="utf-8")
    return load(path, "edn", **how)


@given(ops=operations())
@settings(deadline=None)
def test_a_history_survives_edn(
    tmp_path_factory: pytest.TempPathFactory, ops: list[Op]
) -> None:
    path = tmp_path_factory.mktemp("edn") / "history.edn"
    dump(ops, path, "edn")
    assert load(path, "edn", independent=False).ops == ops


@given(ops=operations(), keys=st.lists(VALUES.filter(lambda key: key is not None)))
@settings(deadline=None)
def test_independent_keys_survive_edn(
    tmp_path_factory: pytest.TempPathFactory, ops: list[Op], keys: list[Any]
) -> None:
    set_bystanders_aside(ops := ops[: len(keys)])
    ops = [op for op in ops if op.is_client]
    for index, (op, key) in enumerate(zip(ops, keys, strict=False)):
        op.index, op.key = index, key
    path = tmp_path_factory.mktemp("edn") / "history.edn"
    dump(ops, path, "edn")
    assert load(path, "edn", independent=True).ops == ops


@given(ops=operations())
@settings(deadline=None)
def test_every_prefix_of_whole_lines_loads(
    tmp_path_factory: pytest.TempPathFactory, ops: list[Op]
) -> None:
    path = tmp_path_factory.mktemp("edn") / "history.edn"
    lines = list(jepsen_edn.write(ops))
    for whole in range(len(lines) + 1):
        path.write_bytes(b"".join(lines[:whole]))
        assert load(path, "edn", independent=False).ops == ops[:whole]


def test_jepsen_reads_what_is_written() -> None:
    ops = [
        Op(0, 5, 3, "invoke", "cas", [1, 2], key=9, node="n1"),
        Op(1, 6, 3, "info", "cas", [1, 2], key=9, error="timeout"),
        Op(2, 7, "nemesis", "info", "start-partition", {"n1": ["n2"]}),
        Op(3, 8, 0, "invoke", "txn", [["append", "x", 1], ["r", 2, None]]),
    ]
    assert b"".join(jepsen_edn.write(ops)).decode().splitlines() == [
        "{:index 0 :time 5 :type :invoke :process 3 :f :cas :value [1 2] "
        ':key 9 :node "n1"}',
        "{:index 1 :time 6 :type :info :process 3 :f :cas :value [1 2] "
        ':key 9 :error "timeout"}',
        "{:index 2 :time 7 :type :info :process :nemesis :f :start-partition "
        ':value {"n1" ["n2"]}}',
        "{:index 3 :time 8 :type :invoke :process 0 :f :txn "
        ':value [[:append "x" 1] [:r 2 nil]]}',
    ]


CALL = "{:type :invoke, :process 0, :f :read}"
RETURN = "{:type :ok, :process 0, :f :read, :value 3}"
LAYOUTS = {
    "lines": f"{CALL}\n{RETURN}",
    "vector": f"[{CALL}\n {RETURN}]",
    "multi-line maps": f"({CALL}\n {RETURN})\n".replace(", ", "\n"),
    "one line": f"{CALL}{RETURN}",
    "comment": f"; a comment\n\n#_ {{:not this}}\n{CALL} ; and\n{RETURN}",
    "records": f"#jepsen.history.Op{CALL}\r\n#jepsen.history.Op{RETURN}\r\n",
    "strings": f"{CALL}\n{RETURN}".replace(":type", '"type"').replace(":f", '"f"'),
}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_layout_in_circulation_reads_alike(tmp_path: Path, text: str) -> None:
    history = read(tmp_path, text)
    assert history.ops == [
        Op(0, -1, 0, "invoke", "read"),
        Op(1, -1, 0, "ok", "read", 3),
    ]
    assert history.completion == [1, 0]


def test_the_order_of_the_lines_is_the_order_of_events(tmp_path: Path) -> None:
    history = read(
        tmp_path,
        "{:index -1 :time -1 :type :invoke :process 0 :f :read}\n"
        "{:index 7 :type :ok :process 0 :f :read :value 1}\n"
        "{:index 3 :time nil :type :invoke :process 0 :f :read}\n",
    )
    assert [(op.index, op.time) for op in history] == [(0, -1), (1, -1), (2, -1)]
    assert history.completion == [1, 0, NO_COMPLETION]


def test_without_processes_an_invocation_belongs_to_the_next_completion(
    tmp_path: Path,
) -> None:
    history = read(
        tmp_path,
        "{:type :invoke :value [[:r 1 nil]]}\n{:type :ok :value ([:r 1 nil])}\n"
        "{:type :ok :process 4 :f :x}\n"
        "{:type :invoke :value []}\n{:type :invoke :value []}\n{:type :ok :value []}\n",
    )
    assert [op.process for op in history] == [5, 5, 4, 6, 7, 7]
    assert [op.f for op in history] == ["txn", "txn", "x", "txn", "txn", "txn"]
    assert history.completion == [1, 0, NO_COMPLETION, NO_COMPLETION, 5, 4]


def test_a_history_of_completions_says_so_and_strictness_refuses_it(
    tmp_path: Path,
) -> None:
    text = "\n{:type :ok :process 0 :f :txn :value [[:append :x 1]]}\n"
    assert read(tmp_path, text).completions_only
    with pytest.raises(
        HistoryError, match=r"history\.edn:2: .* without having invoked"
    ):
        read(tmp_path, text, strict=True)


def test_nemesis_operations_keep_their_name_and_are_no_clients(tmp_path: Path) -> None:
    history = read(
        tmp_path,
        "{:type :info :process :nemesis :f :start}\n"
        "{:type :info :process :nemesis}\n"
        '{:type :info :process :nemesis :f [:kill :all] :value "cut"}\n',
        independent=True,
    )
    assert [op.process for op in history] == ["nemesis"] * 3
    assert [op.f for op in history] == ["start", "", "[:kill :all]"]
    assert not any(op.is_client for op in history)
    assert not history.completions_only


def test_keys_stand_in_a_field_of_their_own(tmp_path: Path) -> None:
    history = read(
        tmp_path,
        '{:process 9, :type :invoke, :f :append, :key "0", :value "x"}\n',
    )
    assert (history[0].key, history[0].value) == ("0", "x")


def test_what_else_a_history_says_is_kept(tmp_path: Path) -> None:
    history = read(
        tmp_path,
        "{:process 0 :type :invoke :f :add :node n1 "
        ":op-index 7 :clock-offsets {1 0.5}}\n"
        "{:process 0 :type :info :f :add :node 7 :error [:no-client x] 3 4}\n",
    )
    assert history[0].node == "n1"
    assert history[0].extra == {"op-index": 7, "clock-offsets": {1: 0.5}}
    assert history[1].error == ["no-client", "x"]
    assert history[1].extra == {"node": 7, "3": 4}


@pytest.mark.parametrize(
    ("text", "number", "reason"),
    [
        ("\n[]\n{:type :ok}", 3, "'{' after the end of the vector"),
        ("[] nil", 1, "'nil' after the end of the vector"),
        ("[] :ok", 1, "':ok' after the end of the vector"),
        ("{:process 0}", 1, ":type is nil"),
        ("{:type :start :process 0}", 1, ":type is :start"),
        ("{:type [:ok] :process 0}", 1, ":type is [:ok]"),
        ("{:type :ok :process 1.5}", 1, ":process is 1.5"),
        ("{:type :ok :process true}", 1, ":process is true"),
        ("{:type :ok :process 1}\n\n:ok", 3, "an operation is a map, not :ok"),
        (
            "{:type :ok :process 1}\n{:type :ok",
            2,
            "ends inside of what begins in line 2",
        ),
        ('{:type :ok\n :value "never}\n', 2, "doesn't end"),
        ("{:type :ok :process 1}}", 1, "closes nothing"),
        ("[{:type :ok :process 1}\n", 1, "ends inside"),
        ("\x00\x01\x02", 1, "is not EDN"),
    ],
)
def test_what_is_no_history_is_refused_in_one_line_with_file_line_and_reason(
    tmp_path: Path, text: str, number: int, reason: str
) -> None:
    with pytest.raises(HistoryError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'history.edn'}:{number}: ")
    assert reason in message
    assert "\n" not in message


def test_a_value_that_is_no_pair_has_no_independent_key(tmp_path: Path) -> None:
    text = "{:type :invoke :process 0 :f :read :value [1 nil]}\n"
    assert read(tmp_path, text, independent=True)[0].key == 1
    with pytest.raises(HistoryError, match=r":2: :value is 3, not \[key value\]"):
        read(
            tmp_path,
            text + "{:type :ok :process 0 :f :read :value 3}",
            independent=True,
        )


FUZZ = st.binary(max_size=100) | st.text(
    alphabet='{}[]()#_":\\ \n,;invokeoktypeprocessf0123-.', max_size=100
).map(str.encode)


@given(content=FUZZ)
@settings(deadline=None, max_examples=2 * settings().max_examples)
@pytest.mark.parametrize("format_name", ["edn", "jepsen-log", "plume", "auto"])
def test_any_bytes_load_or_are_refused_with_a_history_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, format_name: str
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "history"
    path.write_bytes(content)
    try:
        history = load(path, format_name)
    except HistoryError as refusal:
        message = str(refusal)
    else:
        assert [op.index for op in history] == list(range(len(history)))
        return
    assert message.startswith(f"{path}:")
    assert "\n" not in message


# Jepsen's log


LOG = """\
INFO  jepsen.util - 1\t:invoke\t:write\t1
INFO  jepsen.util - 2 :invoke :cas [2 4]
INFO  jepsen.util - :nemesis :info :start "cut off"
INFO  jepsen.util - 1\t:ok\t:write\t1

INFO  jepsen.util - 2\t:fail\t:cas\t[2 4]
INFO  jepsen.util - 3\t:invoke\t:read\tnil
INFO  jepsen.util - 3\t:fail\t:read\t:timed-out
INFO  jepsen.util - 3\t:invoke\t:cas\t[1 2]
INFO  jepsen.util - 3\t:info\t:cas\t:timed-out
INFO  jepsen.util - 4\t:invoke\t:cas\t[1 3]
INFO  jepsen.util - 4\t:fail\t:cas\t:timed-out
"""


def test_jepsens_log_reads(tmp_path: Path) -> None:
    path = tmp_path / "etcd.log"
    path.write_text(LOG)
    assert load(path, "jepsen-log").ops == [
        Op(0, -1, 1, "invoke", "write", 1),
        Op(1, -1, 2, "invoke", "cas", [2, 4]),
        Op(2, -1, "nemesis", "info", "start", "cut off"),
        Op(3, -1, 1, "ok", "write", 1),
        Op(4, -1, 2, "fail", "cas", [2, 4], extra={"cas_fail_is_mismatch": True}),
        Op(5, -1, 3, "invoke", "read"),
        Op(6, -1, 3, "fail", "read", error="timed-out"),
        Op(7, -1, 3, "invoke", "cas", [1, 2]),
        Op(8, -1, 3, "info", "cas", error="timed-out"),
        Op(9, -1, 4, "invoke", "cas", [1, 3]),
        Op(10, -1, 4, "fail", "cas", error="timed-out"),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("INFO  jepsen.util - 1 :began :read 1", "cut short"),
        ("INFO  jepsen.util - 1 :o", "cut short"),
        ("INFO  jepsen.util - 1 :ok :read [1", "doesn't end"),
        ("INFO  jepsen.util - 1 :ok :read 1]", "closes nothing"),
        ("INFO  jepsen.util - 9 :ok :read 1", "without having invoked"),
    ],
)
def test_a_log_line_that_makes_no_sense_is_refused(
    tmp_path: Path, line: str, reason: str
) -> None:
    path = tmp_path / "etcd.log"
    path.write_text(LOG + line + "\n")
    with pytest.raises(HistoryError) as caught:
        load(path, "jepsen-log", strict=True)
    assert reason in str(caught.value)
    assert str(caught.value).startswith(f"{path}:13: ")
