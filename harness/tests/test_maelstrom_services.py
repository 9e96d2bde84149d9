"""Maelstrom's services keep what they promise, and no more than that."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkers.sequential import PLUGIN as SEQUENTIAL
from harness.history import History, Op
from harness.systems.maelstrom_services import (
    STATES_MAX,
    LastWriteWins,
    Linearizable,
    Sequential,
    Service,
    Timestamps,
    services,
)
from harness.verdict import Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator


def read(service: Service, client: str = "n1", key: Any = "x") -> Any:
    """The value that a read finds; None for none."""
    return service.answer(client, {"type": "read", "key": key}).get("value")


def write(service: Service, value: Any, client: str = "n1", key: Any = "x") -> None:
    body = {"type": "write", "key": key, "value": value}
    assert service.answer(client, body)["type"] == "write_ok"


def cas(service: Service, before: Any, after: Any, **more: Any) -> Any:
    """The type of the answer, or the code of an error."""
    body = {"type": "cas", "key": "x", "from": before, "to": after, **more}
    answer = service.answer("n1", body)
    return answer.get("code", answer["type"])


@pytest.mark.parametrize("name", ["lin-kv", "seq-kv", "lww-kv"])
def test_a_store_answers_the_requests_of_lin_kv(name: str) -> None:
    service = services(random.Random(1), lambda: 0.0)[name]
    asked = {"type": "read", "key": "x", "msg_id": 7}
    missing = service.answer("n1", asked)
    assert missing["in_reply_to"] == 7
    assert (missing["type"], missing["code"]) == ("error", 20)
    assert cas(service, 1, 2) == 20
    assert cas(service, 1, 2, create_if_not_exists=True) == "cas_ok"
    write(service, {"any": ["JSON", None, 1.5]})


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"type": "read"}, 12),
        ({"type": "write", "key": 1}, 12),
        ({"type": "cas", "key": 1, "from": 2}, 12),
        ({"type": "frobnicate", "key": 1}, 10),
        ({"type": ["read"], "key": 1}, 10),
        ({"key": {"a": [1]}}, 10),
        ({}, 12),
    ],
)
@pytest.mark.parametrize("name", ["lin-kv", "seq-kv", "lww-kv"])
def test_nonsense_is_refused(name: str, body: dict[str, Any], code: int) -> None:
    service = services(random.Random(1), lambda: 0.0)[name]
    assert service.answer("n1", body)["code"] == code


def test_keys_and_values_that_only_python_takes_for_equal_are_different() -> None:
    service = Linearizable()
    for key in (1, True, "1", 1.0, [1], [True], None):
        write(service, repr(key), key=key)
    for key in (1, True, "1", 1.0, [1], [True], None):
        assert read(service, key=key) == repr(key)
    write(service, [1, {"a": 0}])
    assert cas(service, [True, {"a": False}], 2) == 22
    assert cas(service, [1, {"a": 0}], 2) == "cas_ok"


def test_a_linearizable_store_shows_the_last_write() -> None:
    service = Linearizable()
    for value in range(100):
        write(service, value, f"n{value % 3}")
        assert read(service, f"n{value % 5}") == value
    assert cas(service, 98, 1) == 22
    assert cas(service, 99, 1) == "cas_ok"


def test_timestamps_grow_by_one_from_zero() -> None:
    service = Timestamps()
    told = [service.answer("n1", {"type": "ts", "msg_id": i}) for i in range(5)]
    assert [each["ts"] for each in told] == [0, 1, 2, 3, 4]
    assert service.answer("n1", {"type": "read", "key": 1})["code"] == 10


def test_a_sequential_store_shows_stale_values_but_never_a_client_its_own_past() -> (
    None
):
    service = Sequential(random.Random(3))
    stale = 0
    for value in range(200):
        write(service, value, "n1")
        assert read(service, "n1") == value
        seen = read(service, "n2")
        stale += seen != value
        # No state older than the last STATES_MAX is ever seen.
        assert seen is None or seen > value - STATES_MAX
    assert stale > 50


def history_of(service: Service, chance: random.Random) -> Iterator[Op]:
    """What clients see who take turns: registers that are written, read and changed."""
    for at in range(60):
        process = chance.randrange(3)
        f = chance.choice(["read", "write", "cas"])
        value: Any = at if f == "write" else None
        if f == "cas":
            value = [chance.randrange(at + 1), 1000 + at]
        key = chance.randrange(2)
        body = {"type": f, "key": key, "value": value}
        if f == "cas":
            body |= {"from": value[0], "to": value[1]}
        answer = service.answer(f"n{process}", body)
        ok = answer["type"] != "error"
        invoked = Op(2 * at, at, process, "invoke", f, value, key)
        yield invoked
        if f == "read":
            yield Op(2 * at + 1, at, process, "ok", f, answer.get("value"), key)
        else:
            yield Op(2 * at + 1, at, process, "ok" if ok else "fail", f, value, key)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_whatever_a_sequential_store_answers_is_sequentially_consistent(
    seed: int,
) -> None:
    chance = random.Random(seed)
    history = History(list(history_of(Sequential(chance), chance)))
    result = SEQUENTIAL.factory({}).check(history, Limits(time_s=10))
    assert result.verdict is Verdict.VALID, (seed, result)


def test_the_last_write_wins_by_clocks_that_are_wrong_so_writes_get_lost() -> None:
    now_s = 0.0
    service = LastWriteWins(random.Random(5), lambda: now_s)
    for value in range(300):
        now_s += 0.001  # less than clocks differ by
        write(service, value)
    now_s += 10.0
    for _ in range(300):
        read(service)  # by each of them, one replica tells another
    settled = {read(service) for _ in range(50)}
    assert len(settled) == 1
    assert settled != {299}
    write(service, "late")
    for _ in range(300):
        read(service)
    assert {read(service) for _ in range(50)} == {"late"}
