"""Histories as JSON lines: what is written survives, what is damaged is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.history import HistoryError, Op
from harness.history.formats import edn, jsonl, load
from harness.history.formats.jsonl import HistoryWriter
from harness.history.formats.source import LINE_BYTES_MAX

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4)
    ),
    max_leaves=10,
)


@st.composite
def histories(
    draw: st.DrawFn, values: st.SearchStrategy[Any] = JSON_VALUES
) -> list[Op]:
    """Ops that pair up, with a nemesis among them and anything in their fields."""
    ops: list[Op] = []
    open_calls: dict[int, str] = {}
    for _ in range(draw(st.integers(0, 12))):
        process = draw(st.integers(-2, 3) | st.just("nemesis"))
        f = draw(st.sampled_from(["read", "write", "cas", "txn", "a b"]))
        kind: Any = "info"
        if isinstance(process, int):
            kind = "invoke"
            if process in open_calls:
                f = open_calls.pop(process)
                kind = draw(st.sampled_from(["ok", "fail", "info"]))
            else:
                open_calls[process] = f
        ops.append(
            Op(
                index=len(ops),
                time=draw(st.integers(-1, 2**62)),
                process=process,
                type=kind,
                f=f,
                value=draw(values),
                key=draw(values),
                error=draw(values),
                node=draw(st.none() | TEXT),
            )
        )
    return ops


LINE = (
    b'{"index":0,"time":12345,"process":0,"type":"invoke","f":"write","value":3,'
    b'"key":1,"node":"n1"}\n'
)


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "history.jsonl"
    path.write_bytes(content)
    return path


def assert_loads_or_is_refused(path: Path, **how: Any) -> None:
    """Any other exception than a HistoryError that names the file is a failure."""
    try:
        history = load(path, "jsonl", **how)
    except HistoryError as refusal:
        message = str(refusal)
    else:
        assert [op.index for op in history] == list(range(len(history)))
        return
    assert message.startswith(f"{path}:")
    assert "\n" not in message


def test_a_line_looks_as_documented() -> None:
    op = Op(0, 12345, 0, "invoke", "write", value=3, key=1, node="n1")
    assert jsonl.encode_line(op) == LINE


@given(ops=histories())
@settings(deadline=None)
def test_what_is_written_loads_as_the_same_ops(
    tmp_path_factory: pytest.TempPathFactory, ops: list[Op]
) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "history.jsonl"
    with HistoryWriter(path) as writer:
        for op in ops:
            writer.record(op)
    assert load(path, "jsonl").ops == ops


@given(ops=histories(), data=st.data())
@settings(max_examples=settings().max_examples // 2, deadline=None)
def test_every_prefix_of_whole_lines_loads_and_a_torn_tail_only_when_tolerated(
    tmp_path_factory: pytest.TempPathFactory, ops: list[Op], data: st.DataObject
) -> None:
    lines = list(jsonl.write(ops))
    whole = data.draw(st.integers(0, len(lines)))
    path = written(tmp_path_factory.mktemp("jsonl"), b"".join(lines[:whole]))
    assert load(path, "jsonl", strict=True).ops == ops[:whole]
    if whole < len(lines):
        torn = lines[whole][: data.draw(st.integers(1, len(lines[whole]) - 2))]
        path.write_bytes(b"".join(lines[:whole]) + torn)
        assert (
            load(path, "jsonl", strict=True, tolerate_torn_tail=True).ops == ops[:whole]
        )
        with pytest.raises(HistoryError, match=rf":{whole + 1}: .*cut short"):
            load(path, "jsonl", strict=True)


@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda s: s.encode("utf-8", "surrogatepass"))
)
@settings(deadline=None)
def test_any_bytes_load_or_are_refused_with_a_history_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = written(tmp_path_factory.mktemp("jsonl"), content)
    for torn in (False, True):
        assert_loads_or_is_refused(path, strict=True, tolerate_torn_tail=torn)
    assert_loads_or_is_refused(path)


@given(ops=histories(), data=st.data())
@settings(max_examples=settings().max_examples // 2, deadline=None)
def test_a_damaged_history_loads_or_is_refused_with_a_history_error(
    tmp_path_factory: pytest.TempPathFactory, ops: list[Op], data: st.DataObject
) -> None:
    content = bytearray(b"".join(jsonl.write(ops)))
    for _ in range(data.draw(st.integers(1, 3)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
            st.integers(0, 255)
        )
    path = written(tmp_path_factory.mktemp("jsonl"), bytes(content))
    assert_loads_or_is_refused(path)
    assert_loads_or_is_refused(path, strict=True)


def line(**fields: Any) -> bytes:
    op = Op(0, 1, 0, "invoke", "read")
    for name, value in fields.items():
        setattr(op, name, value)
    return jsonl.encode_line(op)


@pytest.mark.parametrize(
    ("content", "number", "reason"),
    [
        (b'{"index":0,\n', 1, "not JSON: Input data was truncated"),
        (LINE + b"{}\n", 2, "missing required field"),
        (LINE + b"\n" + LINE, 2, "the line is empty"),
        (b"\n", 1, "the line is empty"),
        (LINE.rstrip() + LINE, 1, "trailing characters"),
        (LINE.replace(b",", b",\n"), 1, "not JSON"),
        (b"[1]\n", 1, "Expected `object`"),
        (LINE.replace(b'"process":0', b'"process":true'), 1, "got `bool`"),
        (LINE.replace(b'"process":0', b'"process":1.5'), 1, "got `float`"),
        (LINE.replace(b'"process":0', b'"process":null'), 1, "got `null`"),
        (LINE.replace(b'"time":12345', b'"time":"now"'), 1, "got `str`"),
        (LINE.replace(b'"index":0', b'"index":0.5'), 1, "got `float`"),
        (LINE.replace(b'"invoke"', b'"start"'), 1, "Invalid enum value 'start'"),
        (LINE.replace(b'"f":"write"', b'"f":7'), 1, "got `int`"),
        (LINE.replace(b'"value":3', b'"value":NaN'), 1, "malformed"),
        (LINE.replace(b'"value":3', b'"vlaue":3'), 1, "unknown field `vlaue`"),
        (LINE.replace(b'"value":3', b'"value":1e999'), 1, "out of range"),
        (LINE.replace(b"n1", b"\xff"), 1, "not UTF-8"),
        (LINE.replace(b'"value":3', b'"value":' + b"[" * 100_000), 1, "nested"),
        (bytes(range(256)), 1, "malformed"),
        (LINE + LINE, 2, "index 0 is out of sequence, expected 1"),
        (LINE + line(index=2, type="ok", f="write"), 2, "out of sequence"),
        (line(type="ok"), 1, "without having invoked"),
        (LINE + line(index=1), 2, "is open"),
        (LINE + line(index=1, type="ok"), 2, "but invoked write"),
        (LINE[:-10], 1, "cut short"),
        (LINE + b"\x00" * 100, 2, "cut short"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_refused_in_one_line_with_file_line_and_reason(
    tmp_path: Path, content: bytes, number: int, reason: str
) -> None:
    path = written(tmp_path, content)
    with pytest.raises(HistoryError) as caught:
        load(path, "jsonl", strict=True)
    message = str(caught.value)
    assert message.startswith(f"{path}:{number}: ")
    assert reason in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 200


def test_a_line_number_is_right_beyond_the_first_block_of_a_big_file(
    tmp_path: Path,
) -> None:
    lines = []
    for i in range(60_000):
        kind: Any = "invoke" if i % 2 == 0 else "ok"
        lines.append(line(index=i, type=kind, value="x" * 100))
    path = written(tmp_path, b"".join(lines))
    assert path.stat().st_size > 8 << 20
    assert len(load(path, "jsonl", strict=True)) == 60_000
    lines[55_554] = lines[55_554].replace(b'"read"', b'"write"')
    path.write_bytes(b"".join(lines))
    with pytest.raises(HistoryError, match=r":55556: .*\(op 55554\)"):
        load(path, "jsonl", strict=True)
    lines[44_443] = b"{\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(HistoryError, match=r":44444: "):
        load(path, "jsonl", strict=True)


def test_a_line_longer_than_any_operation_is_refused(tmp_path: Path) -> None:
    content = LINE + b'{"index":1,"value":"' + b"x" * (LINE_BYTES_MAX + 1)
    path = written(tmp_path, content)
    with pytest.raises(HistoryError, match=r":2: the line is longer than 16 MiB"):
        load(path, "jsonl")


def test_a_long_line_within_the_limit_loads(tmp_path: Path) -> None:
    text = "x" * (10 << 20)
    path = written(tmp_path, LINE + line(index=1, process=1, value=text) + LINE[:0])
    assert load(path, "jsonl")[1].value == text


def test_leniency_lets_unpaired_events_through_but_not_damage(tmp_path: Path) -> None:
    path = written(tmp_path, line(type="ok"))
    assert load(path, "jsonl", strict=False).completions_only
    path.write_bytes(line(type="ok") + b"}\n")
    with pytest.raises(HistoryError, match=":2: "):
        load(path, "jsonl", strict=False)


# Writing


def test_the_writer_numbers_operations_and_each_is_on_disk_when_it_returns(
    tmp_path: Path,
) -> None:
    path = tmp_path / "history.jsonl"
    with HistoryWriter(path) as writer:
        for i in range(5):
            op = writer.record(Op(-1, i, i, "invoke", "read"))
            assert op.index == i
            assert [o.index for o in load(path, "jsonl")] == list(range(i + 1))


def test_the_writer_never_overwrites_a_history(tmp_path: Path) -> None:
    path = written(tmp_path, LINE)
    with pytest.raises(HarnessError, match="File exists"):
        HistoryWriter(path)
    assert path.read_bytes() == LINE


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_a_harness_error(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path / "history.jsonl")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer._fd)
    os.close(full)
    with writer, pytest.raises(HarnessError, match="No space left"):
        writer.record(Op(-1, 0, 0, "invoke", "read"))


@pytest.mark.parametrize(
    "value", [object(), "\ud800", {object(): 3}, b"x" * 20_000_000]
)
def test_a_result_that_json_cannot_hold_becomes_info(
    tmp_path: Path, value: Any
) -> None:
    with HistoryWriter(tmp_path / "history.jsonl") as writer:
        call = writer.record(Op(-1, 0, 0, "invoke", "read"))
        done = writer.record(call.ok(value))
    assert (done.type, done.value) == ("info", None)
    assert load(tmp_path, "jsonl")[1] == done


def test_an_invocation_that_json_cannot_hold_is_a_harness_error(tmp_path: Path) -> None:
    with (
        HistoryWriter(tmp_path / "history.jsonl") as writer,
        pytest.raises(HarnessError, match="object"),
    ):
        writer.record(Op(-1, 0, 0, "invoke", "write", object()))


def test_what_edn_knows_and_json_does_not_is_written_as_edn() -> None:
    value = edn.loads(r'[:k sym \c #{1 2} 1/2 1.5M #uuid "x" {:a {1 2}} {"#edn" "1"}]')
    op = Op(0, 0, 0, "invoke", "write", value)
    assert jsonl.encode_line(op).endswith(
        rb'"value":["k","sym","c",[1,2],{"#edn":"1/2"},{"#edn":"1.5M"},'
        rb'{"#edn":"#uuid \"x\""},{"a":{"#edn":"{1 2}"}},{"#edn":"{\"#edn\" \"1\"}"}]}'
        + b"\n"
    )


KILLED_WRITER = """
import os, pathlib, signal, sys
from harness.history.formats import HistoryWriter
from harness.history import Op
writer = HistoryWriter(pathlib.Path(sys.argv[1]))
for i in range(1000):
    writer.record(Op(-1, i, i, "invoke", "write", i))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_writer_killed_with_9_leaves_every_operation_it_recorded(
    tmp_path: Path,
) -> None:
    path = tmp_path / "history.jsonl"
    ended = subprocess.run(
        [sys.executable, "-c", KILLED_WRITER, str(path)], check=False, timeout=60
    )
    assert ended.returncode == -signal.SIGKILL
    assert len(load(path, "jsonl")) == 1_000
