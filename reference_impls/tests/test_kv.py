"""The key-value store against a plain dict, and its idea of equality."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_impls import kv
from reference_impls.kv import KeyValueStore, parse, same
from reference_impls.zab.service import Service

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
    """The answer by a dict keyed by JSON text: (reply's type, value or code)."""
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
        ({"type": "acquire"}, 12),
        ({"type": "use", "key": 1}, 12),
        ({"type": "release", "key": 1, "token": None}, 12),
        ({"type": "release", "key": 1, "token": True}, 12),
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


# --- sessions (thesis 6.3) ----------------------------------------------------------


def add(key: int, seq: int, first: int | None = None, client: str = "c1") -> Any:
    """Add one to the counter `key`, as the client's request number `seq`."""
    retry: dict[str, Any] = {"client": client, "seq": seq}
    if first is not None:
        retry["first"] = first
    command, flaw = parse({"type": "txn", "txn": [["add", key, 1]], "retry": retry})
    assert flaw is None
    return command


def test_a_retried_command_takes_effect_once_and_is_answered_again() -> None:
    store = KeyValueStore()
    replies = [store.apply(add(1, seq)) for seq in (1, 1, 2, 2, 2)]
    assert [r["txn"][0][2] for r in replies] == [1, 1, 2, 2, 2]
    assert store.data == {1: 2}


def test_a_copy_that_its_client_no_longer_awaits_is_not_done() -> None:
    store = KeyValueStore()
    store.apply(add(1, 5))
    reply = store.apply(add(1, 4))
    assert reply["code"] == 13, "an earlier copy may have been done"
    assert store.data == {1: 1}


def test_a_client_may_have_several_requests_under_way_in_any_order() -> None:
    store = KeyValueStore()
    for seq in (3, 1, 2, 3, 1, 2):
        store.apply(add(1, seq, first=1))
    assert store.data == {1: 3}
    store.apply(add(1, 4, first=4))
    assert list(store.sessions.by_client["c1"].replies) == [4], "the rest is forgotten"


def test_clients_do_not_share_numbers() -> None:
    store = KeyValueStore()
    for client in ("c1", "c2"):
        store.apply(add(1, 1, client=client))
    assert store.data == {1: 2}


@given(
    st.lists(
        st.tuples(st.sampled_from(["c1", "c2"]), st.integers(0, 4), st.integers(0, 2)),
        max_size=30,
    ),
    st.integers(0, 30),
)
def test_a_store_that_was_saved_goes_on_as_if_it_had_not(
    requests: list[tuple[str, int, int]], at: int
) -> None:
    whole, saved = KeyValueStore(), KeyValueStore()
    for i, (client, seq, key) in enumerate(requests):
        if i == at:
            saved = KeyValueStore.from_data(json.loads(json.dumps(saved.as_data())))
        first = max(0, seq - 1)
        command = add(key, seq, first, client)
        assert saved.apply(command) == whole.apply(command)
    assert json.dumps(saved.as_data()) == json.dumps(whole.as_data())


def test_keys_keep_their_kind_in_a_snapshot() -> None:
    store = KeyValueStore()
    for key in (1, "1"):
        store.apply({"type": "write", "key": key, "value": key})
    data = json.loads(json.dumps(store.as_data()))
    assert KeyValueStore.from_data(data).data == {1: 1, "1": "1"}


@pytest.mark.parametrize(
    "retry",
    [
        None,
        [],
        {},
        {"client": "c1"},
        {"seq": 1},
        {"client": 1, "seq": 1},
        {"client": "", "seq": 1},
        {"client": "c" * 1000, "seq": 1},
        {"client": "c1", "seq": -1},
        {"client": "c1", "seq": True},
        {"client": "c1", "seq": 1.0},
        {"client": "c1", "seq": 1, "first": 2},
        {"client": "c1", "seq": 1, "first": None},
    ],
)
def test_a_retry_that_makes_no_sense_is_malformed(retry: Any) -> None:
    command, flaw = parse({"type": "read", "key": 1, "retry": retry})
    assert command is None
    assert flaw is not None
    assert flaw["code"] == 12


# --- locks --------------------------------------------------------------------------


def ask(store: KeyValueStore, kind: str, key: Any = 1, token: int | None = None) -> Any:
    body = {"type": kind, "key": key}
    command, flaw = parse(body if token is None else {**body, "token": token})
    assert command is not None, flaw
    reply = store.apply(command)
    return reply.get("token", reply.get("code", reply["type"]))


def test_a_lock_has_one_holder_and_a_greater_token_for_each() -> None:
    store = KeyValueStore()
    first = ask(store, "acquire")
    assert ask(store, "acquire") == 22, "it is held"
    assert ask(store, "acquire", key="another") not in {22, None}
    assert ask(store, "release", token=first) == "release_ok"
    assert ask(store, "acquire") > first


def test_a_token_that_holds_nothing_any_more_is_refused() -> None:
    store = KeyValueStore()
    first = ask(store, "acquire")
    assert ask(store, "use", token=first) == "use_ok"
    assert ask(store, "release", token=first) == "release_ok"
    assert ask(store, "use", token=first) == ask(store, "release", token=first) == 22
    second = ask(store, "acquire")
    assert ask(store, "use", token=first) == ask(store, "release", token=first) == 22
    assert ask(store, "use", token=second) == "use_ok"


def test_locks_are_part_of_a_snapshot_and_apart_from_values() -> None:
    store = KeyValueStore()
    store.apply({"type": "write", "key": 1, "value": "v"})
    token = ask(store, "acquire")
    other = KeyValueStore.from_data(json.loads(json.dumps(store.as_data())))
    assert ask(other, "acquire") == 22
    assert ask(other, "release", token=token) == "release_ok"
    assert other.apply({"type": "read", "key": 1})["value"] == "v"
    assert ask(store, "acquire") == 22, "copies share nothing"


def test_locks_are_part_of_what_zab_s_leader_sends_a_follower() -> None:
    one, other = Service(), Service()
    for key in range(600):
        one.store.apply({"type": "acquire", "key": key})
    for part in one.parts():
        other.add_part(json.loads(json.dumps(part)))
    assert other.store.as_data() == one.store.as_data()
