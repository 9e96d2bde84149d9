"""Damage for fuzzers: valid documents, with something about them wrong.

Structure first (`damaged`): a value becomes another's, a key goes, a list grows, a text
becomes a date. Then bytes (`spoiled`): cut, spliced, repeated. What comes out is nearly
what a person would write, so it gets past the first checks.
"""

from __future__ import annotations

import copy
import datetime
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from random import Random

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1.5, -0.0, 10**9, 10**30, 2**63, 1e308),
    *(float("nan"), float("inf"), float("-inf"), datetime.date(2001, 2, 3)),
    *("", " ", "yes", "nan", "[]", "x" * 5_000, "\x00", "\x1b[31m", "‮", "\ufeff"),
    *("../../etc/passwd", "/dev/zero", "raft", "kill", "n1", "launch:true", "all"),
    *([], {}, [[]], [None], {"kind": "kill"}, {5: "x"}, {"": ""}, [[["n1", "n2"]]]),
    *(["n1", "n1"], {"a": {"b": {"c": []}}}, b"\xff", [1] * 500),
)
SPLICES = (
    *(b"\xff", b"\x00", b"\n", b"{", b"[" * 3_000, b"]", b": ", b"- ", b"&a ", b"*a"),
    *(b"!!python/object:os.system ", b"!!binary aGk=", b"null", b"[1]", b"1e999"),
    *(b"---\n", b"...\n", b"<<: ", b"\xe2\x80\xae", b"\xed\xa0\x80", b"'", b'"', b"\t"),
    *(b'{"a":1}\n', b"2001-01-01", b"? ", b"NaN", b"9" * 5_000),
)

randoms = st.randoms(use_true_random=False)


def damaged(random: Random, data: Any, changes: int) -> Any:
    """`data` with so many changes somewhere inside."""
    data = copy.deepcopy(data)
    for _ in range(changes):
        data = _damaged(random, data)
    return data


def _damaged(random: Random, data: Any) -> Any:
    inside = list(data) if isinstance(data, dict) else range(len(data or ())) \
        if isinstance(data, list) else []  # fmt: skip
    if not inside or random.random() < 0.15:
        return copy.deepcopy(random.choice(ODD))
    at = random.choice(list(inside))
    match random.randrange(8):
        case 0:
            del data[at]
        case 1 if isinstance(data, dict):
            data[random.choice(["", "kind", "at", 5, None, True, "x"])] = data.pop(at)
        case 1 | 2 if isinstance(data, list):
            data.insert(at, copy.deepcopy(data[at]))
        case 3:
            value = data[at]
            for _ in range(random.choice((1, 60, 300))):
                value = [value]
            data[at] = value
        case _:
            data[at] = _damaged(random, data[at])
    return data


def spoiled(random: Random, data: bytes, changes: int) -> bytes:
    """`data` with so many of its bytes, or pieces, changed."""
    for _ in range(changes):
        at = random.randint(0, len(data))
        until = min(len(data), at + random.choice((0, 1, 10, 1_000)))
        match random.randrange(4):
            case 0:
                data = data[:at]
            case 1:
                data = data[:at] + data[at:until] * 3 + data[until:]
            case 2:
                data = data[:at] + data[until:]
            case _:
                data = data[:at] + random.choice(SPLICES) + data[until:]
    return data
