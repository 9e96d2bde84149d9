"""The codec: lines, messages, errors; and that no bytes of a node's can upset it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.systems.wire import (
    ERRORS,
    LINE_BYTES_MAX,
    LineSplitter,
    MalformedError,
    Message,
    decode,
    encode,
    reply_error,
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)
messages = st.builds(
    Message, st.text(), st.text(), st.dictionaries(st.text(), json_values, max_size=5)
)


@given(messages)
def test_a_message_survives_its_line(message: Message) -> None:
    line = encode(message)
    assert line.endswith(b"\n")
    assert b"\n" not in line[:-1]
    assert decode(line[:-1]) == message


@given(messages)
def test_a_line_is_the_json_that_anyone_would_write(message: Message) -> None:
    plain = {"src": message.src, "dest": message.dest, "body": message.body}
    assert json.loads(encode(message)) == plain
    assert decode(json.dumps(plain).encode()) == message


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_a_line_is_a_message_or_malformed_and_nothing_else(line: bytes) -> None:
    try:
        message = decode(line)
    except MalformedError:
        return
    assert isinstance(message.body, dict)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"   ",
        b"\x00\xff\xfe",
        b"ready on port 7000",
        b"null",
        b"[]",
        b'{"src": "n1", "dest": "c1"}',
        b'{"src": "n1", "dest": "c1", "body": []}',
        b'{"src": 1, "dest": "c1", "body": {}}',
        b'{"src": "n1", "dest": "\xff", "body": {}}',
        b'{"src": "n1", "dest": "\\ud800", "body": {}}',
        b'{"src": "n1", "dest": "c1", "body": {"value": NaN}}',
        b'{"src": "n1", "dest": "c1", "body": {"value": 1e999}}',
        b'{"src": "n1", "dest": "c1", "body": {"value": ' + b"9" * 5000 + b"}}",
        b'{"src": "n1", "dest": "c1", "body": {"value": ' + b"[" * 90_000 + b"}}",
        b'{"src": "n1", "dest": "c1", "body": {}} {}',
    ],
)
def test_what_is_no_message_is_malformed(line: bytes) -> None:
    with pytest.raises(MalformedError):
        decode(line)


def test_whatever_else_an_object_holds_is_ignored() -> None:
    line = b'{"id": 7, "src": "n1", "dest": "c1", "body": {"type": "x"}}\r'
    assert decode(line) == Message("n1", "c1", {"type": "x"})


def test_a_request_longer_than_a_line_may_be_is_our_own_fault() -> None:
    with pytest.raises(HarnessError, match="longer than a line"):
        encode(Message("c1", "n1", {"value": "x" * LINE_BYTES_MAX}))


@given(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b""))), st.data())
def test_lines_come_out_however_the_stream_is_cut(
    lines: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    splitter = LineSplitter()
    got: list[bytes] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += splitter.feed(stream[:size])
        stream = stream[size:]
    assert got == lines
    assert splitter.oversize == 0


@pytest.mark.parametrize("chunk", [1000, 65_536, 10 * LINE_BYTES_MAX])
def test_an_oversize_line_is_dropped_and_the_next_one_heard(chunk: int) -> None:
    stream = b"first\n" + b"x" * (LINE_BYTES_MAX + 1) + b"\nlast\n"
    splitter = LineSplitter()
    got: list[bytes] = []
    for start in range(0, len(stream), chunk):
        got += splitter.feed(stream[start : start + chunk])
    assert got == [b"first", b"last"]
    assert splitter.oversize == 1
    assert splitter.dropped_bytes == LINE_BYTES_MAX + 1


def test_the_longest_line_there_may_be_is_heard() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"x" * LINE_BYTES_MAX + b"\n") == [b"x" * LINE_BYTES_MAX]
    assert splitter.oversize == 0


def test_a_line_without_end_takes_no_memory() -> None:
    splitter = LineSplitter()
    for _ in range(40):
        assert splitter.feed(b"x" * 100_000) == []
    assert len(splitter._unfinished) <= LINE_BYTES_MAX
    assert splitter.dropped_bytes == 4_000_000


def test_errors_are_definite_as_in_maelstrom_s_table() -> None:
    definite = {code for code, error in ERRORS.items() if error.definite}
    assert definite == {1, 10, 11, 12, 14, 20, 21, 22, 30, 40}
    assert set(ERRORS) - definite == {0, 13}


@pytest.mark.parametrize(
    ("body", "definite", "code", "text"),
    [
        ({"code": 22, "text": "expected 1"}, True, 22, "expected 1"),
        ({"code": 11}, True, 11, "temporarily-unavailable"),
        ({"code": 13, "text": None}, False, 13, "crash"),
        ({"code": 40, "text": "n1 left"}, True, 40, "n1 left"),
        ({"code": 1000}, False, 1000, "error 1000"),
        ({"code": -1}, False, -1, "error -1"),
        ({"code": 22.0, "text": "no"}, False, None, "error without a code: no"),
        ({"code": True, "text": "no"}, False, None, "error without a code: no"),
        ({"code": "22"}, False, None, "error without a code: {'code': '22'}"),
        ({"text": ["?"]}, False, None, "error without a code: ['?']"),
    ],
)
def test_an_error_is_definite_only_when_the_table_says_so(
    body: dict[str, Any], definite: bool, code: int | None, text: str
) -> None:
    error = reply_error(body)
    assert (error.definite, error.code, error.text) == (definite, code, text)


@given(st.dictionaries(st.sampled_from(["code", "text"]), json_values))
def test_no_body_of_an_error_upsets_us(body: dict[str, Any]) -> None:
    error = reply_error(body)
    assert isinstance(error.text, str)
    assert not error.definite or body["code"] in ERRORS
