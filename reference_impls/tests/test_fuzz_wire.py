"""The nodes' own wire codec against lines that were damaged, and against noise."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reference_impls.json_text import encode as encode_json
from reference_impls.wire import (
    DEPTH_MAX,
    FRAME_SUFFIX,
    Frame,
    MalformedError,
    decode,
    encode_reply,
    frame_prefix,
)

ODD: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from(["\ud800", "\x00", "\u2028", 10**400, -(2**63), 0.1, -0.0]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "msg_id", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
BODIES = st.dictionaries(st.sampled_from(["type", "msg_id", "value"]), ODD)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "src": st.text(max_size=3) | ODD,
        "dest": st.text(max_size=3) | ODD,
        "body": st.builds(
            lambda body, kind: {**body, "type": kind}, BODIES, st.text(max_size=3)
        )
        | ODD,
        "more": ODD,
    },
)
SPLICES = st.binary(max_size=4) | st.sampled_from(
    [
        *(b"NaN", b"-Infinity", b"1e999", b"-1E400", b"9" * 5_000, b'"\\ud800"'),
        *(b"\xff", b"\xed\xa0\x80", b"\0", b"{}", b"}", b'"', b",", b'"type":1,'),
        *(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX, b"[" * 2_000, b'{"a":' * 2_000),
        *(b"[" * 950 + b"]" * 950, b"\xef\xbb\xbf", b"\r", b"\n"),
    ]
)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A line that is a message or nearly one, with up to three splices."""
    line = json.dumps(draw(MESSAGES), ensure_ascii=draw(st.booleans()))
    data = line.encode("utf-8", "surrogatepass")
    for _ in range(draw(st.integers(0, 3))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.integers(0, 6)))
        data = data[:begin] + draw(SPLICES) + data[end:]
    return data


@example(b'{"src":"c","dest":"n","body":{"type":"x","value":1e999}}')
@example(b'{"src":"c","dest":"n","body":{"type":"x","value":' + b"[" * 950 + b"]" * 950)
@given(lines() | st.binary(max_size=200))
def test_a_line_is_a_frame_that_can_be_passed_on_or_malformed(line: bytes) -> None:
    try:
        frame = decode(line)
    except MalformedError as bad:
        flaw = bad
    else:
        assert_can_be_passed_on(frame)
        return
    # The sender gets an answer, if the line says who that is.
    told = encode_reply("n1", flaw.src, flaw.body, {"type": "error"})
    assert decode(told).dest == flaw.src


def assert_can_be_passed_on(frame: Frame) -> None:
    assert type(frame.src) is type(frame.dest) is type(frame.body["type"]) is str
    body = encode_json(frame.body).encode()
    assert decode(frame_prefix(frame.src, frame.dest) + body + FRAME_SUFFIX) == frame
    answer = encode_reply("n1", frame.src, frame.body, {"type": "ok"})
    assert decode(answer).body.get("in_reply_to") == frame.body.get("msg_id")


@pytest.mark.parametrize("depth", [DEPTH_MAX - 2, DEPTH_MAX - 1, 500, 100_000])
@pytest.mark.parametrize("pair", ["[]", '{"a":}'])
def test_what_is_nested_deep_is_malformed_before_it_can_exhaust_a_stack(
    depth: int, pair: str
) -> None:
    value = pair[:-1] * depth + "1" + pair[-1] * depth
    line = f'{{"src":"c","dest":"n","body":{{"type":"x","value":{value}}}}}'.encode()
    if depth + 2 > DEPTH_MAX:
        with pytest.raises(MalformedError):
            decode(line)
    else:
        assert decode(line).body["type"] == "x"


def test_many_small_things_are_not_deep() -> None:
    entries = [{"term": 1, "command": {"op": ["put", n]}} for n in range(10_000)]
    line = frame_prefix("a", "b") + encode_json({"type": "x", "e": entries}).encode()
    assert len(decode(line + FRAME_SUFFIX).body["e"]) == 10_000
