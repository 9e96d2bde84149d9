"""The key-value store against a plain dict, and its idea of equality."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_impls import kv
from reference_impls.kv import KeyValueStore, parse, same

keys = st.integers(0, 2) | st.sampled_from(["0", "a"])
values = st.integers(0, 2) | st.booleans() | st.none() | st.lists(st.integers(0, 1))
requests = st.one_of(
    st.fixed_dictionaries({"type": st.just("read"), "key": keys}),
    st.fixed_dictionaries({"type": st.just("write"), "key": keys, "value": values}),
    st.fixed_dictionaries(
        {"type": st.just("cas"), "key": keys, "from": values, "to": values}
    ),
)


def expected(model: dict[Any, Any], request: dict[str, Any]) -> tuple[str, Any]:
    """What a dict keyed by JSON text says: (reply's type, value or code)."""
    key = request["key"]
    if request["type"] == "write":
        model[key] = request["value"]
        return "write_ok", None
    if key not in model:
        return "error", 20
    if request["type"] == "read":
        return "read_ok", model[key]
    if repr(model[key]) != repr(request["from"]):
        return "error", 22
    model[key] = request["to"]
    return "cas_ok", None


@given(st.lists(requests, max_size=12))
def test_the_store_behaves_like_a_dict(requests: list[dict[str, Any]]) -> None:
    store, model = KeyValueStore(), dict[Any, Any]()
    for request in requests:
        command, flaw = parse({**request, "msg_id": 7, "junk": []})
        assert flaw is None
        assert command == request, "only the operation goes to the log"
        reply = store.apply(command)
        kind, value = expected(model, request)
        assert reply["type"] == kind
        assert reply.get("value", reply.get("code")) == value


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (1, 1, True),
        (1, True, False),
        (0, False, False),
        (1, 1.0, False),
        ([1, 2], [1, 2], True),
        ([1], [True], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        (None, None, True),
        (None, 0, False),
    ],
)
def test_values_are_equal_when_they_are_the_same_json(
    a: Any, b: Any, equal: bool
) -> None:
    assert same(a, b) is equal


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"type": "read"}, 12),
        ({"type": "write", "key": 1}, 12),
        ({"type": "cas", "key": 1, "from": 1}, 12),
        ({"type": "read", "key": None}, 12),
        ({"type": "read", "key": True}, 12),
        ({"type": "read", "key": 1.0}, 12),
        ({"type": "read", "key": [1]}, 12),
        ({"type": "write", "key": 1, "value": "x" * kv.VALUE_CHARS_MAX}, 12),
        ({"type": "write", "key": 1, "value": ["x" * 70_000]}, 12),
        ({"type": "delete", "key": 1}, 10),
        ({"type": 7, "key": 1}, 10),
        ({}, 10),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(body: dict[str, Any], code: int) -> None:
    command, flaw = parse(body)
    assert command is None
    assert flaw is not None
    assert flaw["code"] == code


def test_a_value_as_long_as_allowed_is_taken() -> None:
    text = "x" * (kv.VALUE_CHARS_MAX - 2)
    assert parse({"type": "write", "key": 1, "value": text})[0] is not None
    assert parse({"type": "write", "key": 1, "value": text + "x"})[0] is None
