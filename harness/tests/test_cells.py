"""Requests on cells mean what they mean to the reference store."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import NodeReply
from harness.systems import cells
from reference_impls import kv

KEYS = st.sampled_from([0, 1, "1", "a"])
VALUES = st.sampled_from([None, 0, 1, True, "x", [1], [], {"b": 1, "a": 2}])
MICRO_OPS = st.one_of(
    st.tuples(st.just("r"), KEYS, st.none()),
    st.tuples(st.just("w"), KEYS, VALUES),
    st.tuples(st.just("append"), KEYS, VALUES),
    st.tuples(st.just("add"), KEYS, st.integers(-3, 3)),
    st.tuples(st.just("pop"), KEYS, st.none()),
).map(list)
REQUESTS = st.one_of(
    st.fixed_dictionaries({"type": st.just("read"), "key": KEYS}),
    st.fixed_dictionaries({"type": st.just("write"), "key": KEYS, "value": VALUES}),
    st.fixed_dictionaries(
        {"type": st.just("cas"), "key": KEYS, "from": VALUES, "to": VALUES}
    ),
    st.fixed_dictionaries(
        {"type": st.just("txn"), "txn": st.lists(MICRO_OPS, min_size=1, max_size=4)}
    ),
    st.fixed_dictionaries({"type": st.just("acquire"), "key": KEYS}),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["use", "release"]),
            "key": KEYS,
            "token": st.integers(0, 3),
        }
    ),
)
ODD = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)
ODD_REQUESTS = st.dictionaries(
    st.sampled_from(["type", "key", "value", "txn", "token"]),
    ODD | st.sampled_from([*cells.FIELDS, "", [["r", [], None]], [["add", 1, "1"]]]),
)


def carried_out(held: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """The answer, as a system gives it that keeps its cells in a dict."""
    try:
        names = cells.cells_of(request)
        seen = {name: held[name] for name in names if name in held}
        answer, writes = cells.decide(request, seen)
    except NodeReply as refused:
        return {"type": "error", "code": refused.code, "definite": refused.definite}
    assert set(writes) <= set(names)
    assert not (writes and cells.is_read(request))
    held.update(json.loads(json.dumps(writes)))
    return answer


@given(st.lists(REQUESTS | ODD_REQUESTS, max_size=12))
def test_a_store_on_cells_answers_as_the_reference_store(
    requests: list[dict[str, Any]],
) -> None:
    held: dict[str, Any] = {}
    store = kv.KeyValueStore()
    for request in requests:
        command, flaw = kv.parse(request)
        told = flaw if command is None else store.apply(command)
        assert told is not None
        answer = carried_out(held, request)
        if told.pop("text", None):
            told["definite"] = True
        assert json.dumps(answer) == json.dumps(told), request


def test_keys_that_are_other_json_are_other_cells() -> None:
    def cell(key: Any) -> str:
        (name,) = cells.cells_of({"type": "read", "key": key})
        return name

    assert len({cell(1), cell("1"), cell('"1"'), cell("é"), cell("")}) == 5
    with pytest.raises(NodeReply):
        cell(True)
