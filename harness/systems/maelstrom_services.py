"""Maelstrom's services: stores and a clock that its nodes may use as building blocks.

    lin-kv    a linearizable key-value store
    seq-kv    a sequentially consistent one: reads may be stale
    lww-kv    an eventually consistent one, in which the last write wins
    lin-tso   timestamps that grow

They answer the requests of Maelstrom's `lin-kv` workload: read, write, and cas, which
with `create_if_not_exists` makes a missing key; and `ts`. Each is one object in the
harness, whatever the links between nodes do: Maelstrom's partitions lie between nodes,
and don't reach its services.

`seq-kv` keeps its last STATES_MAX states. An operation that changes nothing (a read, a
cas that fails, a write of what is there) may act on any of these that is no older than
the one that the same client acted on before; every other one acts on the newest. So all
operations have one order, by the states that they acted on, which every client agrees
with; and nobody is owed a fresh answer.

`lww-kv` has REPLICAS replicas. Each request goes to one of them, by chance. A write is
stamped with the replica's clock, which is wrong by up to SKEW_S, and at each request
one replica tells another all that it has: for each key, the higher stamp wins. So
writes that were acknowledged may vanish, and reads go back in time.
"""

from __future__ import annotations

import abc
from collections import deque
from typing import TYPE_CHECKING, Any

from harness.override import override
from harness.systems.wire import ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

STATES_MAX = 32
REPLICAS = 5
SKEW_S = 0.1

NOT_SUPPORTED, MALFORMED, NO_KEY, NOT_FROM = 10, 12, 20, 22

Body = dict[str, Any]


class RefusedError(Exception):
    """A request is answered with an error.

    Args:
        code: Maelstrom's code.
        text: Words about it.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Service(abc.ABC):
    """Answers requests of nodes."""

    def answer(self, client: str, body: Mapping[str, Any]) -> Body:
        """The body that answers a request; an error if it makes no sense."""
        try:
            out = self.handle(client, body)
        except RefusedError as refused:
            out = {"type": "error", "code": refused.code, "text": str(refused)}
        return {**out, "in_reply_to": body.get("msg_id")}

    @abc.abstractmethod
    def handle(self, client: str, body: Mapping[str, Any]) -> Body:
        """The answer to a request of `client`.

        Raises:
            RefusedError: It can't be done.
        """


class Timestamps(Service):
    """`lin-tso`: whole numbers from 0 on, each given out once."""

    def __init__(self) -> None:
        self._next = 0

    @override
    def handle(self, client: str, body: Mapping[str, Any]) -> Body:
        if body.get("type") != "ts":
            raise RefusedError(NOT_SUPPORTED, f"no {body.get('type')!r:.60} here")
        self._next += 1
        return {"type": "ts_ok", "ts": self._next - 1}


Key = tuple[str, Any]


def key_of(body: Mapping[str, Any]) -> Key:
    """The request's key, so that 1, true and "1" are three.

    Raises:
        RefusedError: There is none, or it is nothing that a key may be.
    """
    if "key" not in body:
        raise RefusedError(MALFORMED, "there is no key in the request")
    key = body["key"]
    if isinstance(key, list | dict):
        return "JSON", repr(key)
    return type(key).__name__, key


def given(body: Mapping[str, Any], name: str) -> Any:
    """A member of the request. Raises RefusedError if it lacks it."""
    if name not in body:
        raise RefusedError(MALFORMED, f"there is no {name} in the request")
    return body[name]


def same(a: Any, b: Any) -> bool:
    """Whether two JSON values are equal; 1 and true are not."""
    if isinstance(a, bool) != isinstance(b, bool):
        return False
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    return bool(a == b)


MISSING = object()
"""The value of a key that nobody wrote."""


def change(body: Mapping[str, Any], now: Any) -> tuple[Body, Any]:
    """The answer to a request for a key whose value is `now`, and its new value.

    Raises:
        RefusedError: The request makes no sense, or a cas fails.
    """
    match body.get("type"):
        case "read":
            if now is MISSING:
                raise RefusedError(NO_KEY, ERRORS[NO_KEY].name)
            return {"type": "read_ok", "value": now}, now
        case "write":
            return {"type": "write_ok"}, given(body, "value")
        case "cas":
            before, after = given(body, "from"), given(body, "to")
            if now is MISSING and body.get("create_if_not_exists") is not True:
                raise RefusedError(NO_KEY, ERRORS[NO_KEY].name)
            if now is not MISSING and not same(now, before):
                text = f"current value {now!r:.100} is not {before!r:.100}"
                raise RefusedError(NOT_FROM, text)
            return {"type": "cas_ok"}, after
        case other:
            raise RefusedError(NOT_SUPPORTED, f"no {other!r:.60} here")


class Linearizable(Service):
    """`lin-kv`: requests act on one store, in the order in which they come."""

    def __init__(self) -> None:
        self._values: dict[Key, Any] = {}

    @override
    def handle(self, client: str, body: Mapping[str, Any]) -> Body:
        key = key_of(body)
        answer, after = change(body, self._values.get(key, MISSING))
        self._values[key] = after
        return answer


class Sequential(Service):
    """`seq-kv`: as the module says.

    Args:
        random: Chooses the states that requests act on.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._newest = 0
        # Key -> its value from each of the latest states on in which it changed.
        self._versions: dict[Key, deque[tuple[int, Any]]] = {}
        self._seen: dict[str, int] = {}  # client -> the state it acted on last

    @override
    def handle(self, client: str, body: Mapping[str, Any]) -> Body:
        key = key_of(body)
        oldest = max(self._seen.get(client, 0), self._newest - STATES_MAX + 1, 0)
        state = self._random.randint(oldest, self._newest)
        now = self._at(key, state)
        try:
            answer, after = change(body, now)
            if after is now or (now is not MISSING and same(after, now)):
                self._seen[client] = state
                return answer
            state = self._newest
            answer, after = change(body, self._at(key, state))
        except RefusedError:
            self._seen[client] = state
            raise
        self._newest += 1
        self._seen[client] = self._newest
        versions = self._versions.setdefault(key, deque())
        versions.append((self._newest, after))
        while len(versions) > 1 and versions[1][0] <= self._newest - STATES_MAX:
            versions.popleft()
        return answer

    def _at(self, key: Key, state: int) -> Any:
        """The key's value in a state."""
        for since, value in reversed(self._versions.get(key, ())):
            if since <= state:
                return value
        return MISSING


class LastWriteWins(Service):
    """`lww-kv`: as the module says.

    Args:
        random: Chooses replicas, and how wrong their clocks are.
        now_s: Tells the time.
    """

    def __init__(self, random: Random, now_s: Callable[[], float]) -> None:
        self._random = random
        self._now_s = now_s
        self._skews_s = [random.uniform(-SKEW_S, SKEW_S) for _ in range(REPLICAS)]
        self._replicas: list[dict[Key, tuple[float, int, Any]]] = [
            {} for _ in range(REPLICAS)
        ]

    @override
    def handle(self, client: str, body: Mapping[str, Any]) -> Body:
        source, target = self._random.choices(self._replicas, k=2)
        for each, stamped in source.items():
            if each not in target or target[each][:2] < stamped[:2]:
                target[each] = stamped
        key = key_of(body)
        place = self._random.randrange(REPLICAS)
        replica = self._replicas[place]
        now = replica[key][2] if key in replica else MISSING
        answer, after = change(body, now)
        if body["type"] != "read":
            stamp_s = self._now_s() + self._skews_s[place]
            if key not in replica or replica[key][:2] < (stamp_s, place):
                replica[key] = stamp_s, place, after
        return answer


def services(random: Random, now_s: Callable[[], float]) -> dict[str, Service]:
    """New services by name."""
    return {
        "lin-kv": Linearizable(),
        "seq-kv": Sequential(random),
        "lww-kv": LastWriteWins(random, now_s),
        "lin-tso": Timestamps(),
    }
