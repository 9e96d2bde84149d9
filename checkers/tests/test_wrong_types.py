"""Values of the wrong type: bad input with its place, never an anomaly, never a crash.

Each checker has a history that it finds valid. In it, answers get types that nobody
asked for: a text where a number is due, a list where a map is. What remains an anomaly
is what a system may have answered wrong with the right type, or with nil.
"""

from __future__ import annotations

import copy
import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkers.tests.histories import EXAMPLES, history
from checkers.values import kind
from harness import registry
from harness.history import History, Op
from harness.tests.checking import assert_sane, judged
from harness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

REGISTER = """
    0 invoke write 1
    0 ok write 1
    1 invoke read
    1 ok read 1
    1 invoke cas [1, 2]
    1 ok cas [1, 2]
    0 invoke read
    0 ok read 2
"""
QUEUE = """
    0 invoke enqueue 1
    0 ok enqueue 1
    0 invoke enqueue 2
    0 ok enqueue 2
    1 invoke dequeue
    1 ok dequeue 1
    1 invoke {}
    1 ok {} {}
"""
SET = """
    0 invoke add 1
    0 ok add 1
    1 invoke add 2
    1 info add 2
    0 invoke read
    0 ok read [1, 2]
    2 invoke add 3
    2 fail add 3
"""
SAMPLES = {
    "adya-g2": """
        0 invoke insert [1, [2, None]]
        0 ok insert [1, [2, None]]
        1 invoke insert [3, [None, 4]]
        1 ok insert [3, [None, 4]]
    """,
    "atomic_commit": """
        0 invoke txn {"id": "a", "txn": [["w", "x", 1]]}
        0 ok txn {"id": "a", "txn": [["w", "x", 1]]}
        1 invoke txn {"id": "b", "txn": [["w", "x", 2]]}
        1 fail txn {"id": "b", "txn": [["w", "x", 2]]}
        0 invoke decisions
        0 ok decisions {"decisions": {"a": "commit", "b": "abort"},\
            "votes": {"a": "yes", "b": "no"}, "coordinated": {"a": "commit"}}
        1 invoke decisions
        1 ok decisions {"decisions": {"a": "commit"}, "votes": {"a": "yes"}}
        n1 info voted {"id": "a", "vote": "yes"}
        n1 info precommitted {"id": "a"}
        n1 info in_doubt {"id": "a"}
        n1 info decided {"id": "a", "decision": "commit", "role": "coordinator"}
        n1 info resolved {"id": "a", "waited_ms": 3}
        n1 info recovered {"undecided": [], "pre_committed": [], "turned_back": []}
    """,
    "availability": REGISTER,
    "bank": """
        0 invoke read
        0 ok read {"a": 60, "b": 40}
        1 invoke transfer {"from": "a", "to": "b", "amount": 10}
        1 ok transfer {"from": "a", "to": "b", "amount": 10}
        0 invoke read
        0 ok read {"a": 50, "b": 50}
    """,
    "causal": """
        0 invoke read-init
        0 ok read-init 0
        0 invoke write 1
        0 ok write 1
        0 invoke read
        0 ok read 1
    """,
    "causal-reverse": """
        0 invoke write 1
        0 ok write 1
        0 invoke write 2
        0 ok write 2
        1 invoke read
        1 ok read [1, 2]
    """,
    "consensus": """
        0 invoke propose 1
        1 invoke propose 2
        0 ok propose 1
        1 ok propose 1
        2 invoke learn
        2 ok learn 1
        n1 info promised {"ballot": [1, "n1"], "accepted": None}
        n1 info accepted {"ballot": [1, "n1"], "value": 1}
        n1 info chosen {"ballot": [1, "n1"], "value": 1}
        n1 info recovered {"ballot": [1, "n1"]}
    """,
    "counter": """
        0 invoke add 2
        0 ok add 2
        1 invoke add 3
        1 info add 3
        0 invoke read
        0 ok read 5
    """,
    "echo": """
        0 invoke echo "x"
        0 ok echo "x"
    """,
    "fencing": """
        0 invoke acquire
        0 ok acquire 1
        0 invoke use 1
        0 ok use 1
        0 invoke release 1
        0 ok release 1
        1 invoke acquire
        1 ok acquire 2
    """,
    "kafka": """
        0 invoke assign ["x"]
        0 ok assign ["x"]
        0 invoke send [["send", "x", 1]]
        0 ok send [["send", "x", [0, 1]]]
        0 invoke txn [["send", "x", 2], ["poll"]]
        0 ok txn [["send", "x", [1, 2]], ["poll", {"x": [[0, 1]]}]]
        0 invoke poll [["poll"]]
        0 ok poll [["poll", {"x": [[1, 2]]}]]
    """,
    "linearizable": REGISTER,
    "list-append": """
        0 invoke txn [["append", "x", 1], ["r", "y", None]]
        0 ok txn [["append", "x", 1], ["r", "y", None]]
        1 invoke txn [["r", "x", None], ["append", "x", 2]]
        1 ok txn [["r", "x", [1]], ["append", "x", 2]]
        0 invoke txn [["r", "x", None]]
        0 ok txn [["r", "x", [1, 2]]]
    """,
    "long-fork": """
        0 invoke txn [["w", "x", 1]]
        0 ok txn [["w", "x", 1]]
        1 invoke txn [["r", "x", None], ["r", "y", None]]
        1 ok txn [["r", "x", 1], ["r", "y", None]]
        0 invoke txn [["w", "y", 2]]
        0 ok txn [["w", "y", 2]]
        1 invoke txn [["r", "x", None], ["r", "y", None]]
        1 ok txn [["r", "x", 1], ["r", "y", 2]]
    """,
    "monotonic": """
        0 invoke read
        0 ok read {"x": 1, "y": 1}
        1 invoke read
        1 ok read {"x": 2, "y": 1}
    """,
    "one_leader": """
        0 invoke status
        0 ok status {"role": "leader", "term": 1}
        1 invoke status
        1 ok status {"role": "follower", "term": 1}
    """,
    "pn-counter": """
        0 invoke add 2
        0 ok add 2
        1 invoke add -1
        1 info add -1
        0 invoke final-read
        0 ok final-read 1
    """,
    "queue": QUEUE.format("dequeue", "dequeue", 2),
    "raft_invariants": """
        n1 info became_candidate {"term": 1}
        n2 info voted {"term": 1, "candidate": "n1", "last_log_index": 0,\
            "last_log_term": 0}
        n1 info became_leader {"term": 1, "last_log_index": 0}
        n1 info appended {"first": 1, "entries": [[1, "x"]]}
        n2 info became_follower {"term": 1, "leader": "n1"}
        n2 info appended {"first": 1, "entries": [[1, "x"]]}
        n1 info committed {"first": 1, "last": 1}
        n1 info appended {"first": 2, "entries": [[1, {"members": ["n1"]}]]}
        n1 info applied {"index": 1, "term": 1, "hash": "h"}
        n2 info truncated {"first": 2, "last": 2}
        n2 info restarted {}
        n2 info recovered {"term": 1, "voted_for": "n1", "last_log_index": 1,\
            "last_log_term": 1}
        n2 info installed_snapshot {"index": 1, "term": 1, "last_log_index": 1}
        n2 info became_leader {"term": 2, "last_log_index": 1}
        n2 info on_disk {"first": 2, "entries": [], "last_log_index": 1, "term": 2,\
            "prev_log_term": 1, "voted_for": "n2", "last_log_term": 1}
    """,
    "rw-register": """
        0 invoke txn [["w", "x", 1], ["r", "y", None]]
        0 ok txn [["w", "x", 1], ["r", "y", None]]
        1 invoke txn [["r", "x", None], ["w", "x", 2]]
        1 ok txn [["r", "x", 1], ["w", "x", 2]]
        0 invoke txn [["r", "x", None]]
        0 ok txn [["r", "x", 2]]
    """,
    "sequential": REGISTER,
    "set": SET,
    "set-full": SET,
    "stats": REGISTER,
    "total_order": """
        0 invoke broadcast "a"
        0 ok broadcast "a"
        1 invoke broadcast "b"
        1 ok broadcast "b"
        0 invoke delivered [0, 9]
        0 ok delivered {"from": 0, "messages": [[1, 1, "a"], [1, 2, "b"]],\
            "more": False}
        1 invoke delivered [0, 9]
        1 ok delivered {"from": 0, "messages": [[1, 1, "a"]], "more": True}
        n1 info new_epoch {"epoch": 1, "leader": "n1", "last_zxid": [0, 0],\
            "current_epoch": 0}
        n1 info synchronizing {"term": 1, "promised": ["n1"], "last_zxid": [0, 0],\
            "current_epoch": 0}
        n1 info became_leader {"term": 1, "acked": ["n1"], "last_zxid": [0, 0]}
        n1 info delivered {"epoch": 1, "counter": 1, "message": "a"}
        n1 info delivered {"epoch": 1, "counter": 2, "message": "b"}
        n1 info recovered {"accepted_epoch": 1}
    """,
    "total-queue": QUEUE.format("drain", "drain", [2]),
    "unhandled-exceptions": REGISTER,
    "unique-ids": """
        0 invoke generate
        0 ok generate 1
        0 invoke generate
        0 ok generate 2
    """,
}
OPTIONS = {"set-full": {"linearizable": "true"}}
POSITIONS = {1: ("init", 1), 3: (1, 2), 5: (2, 3)}
"""Link and position of the causal checker's ops."""

ALSO_DUE = {("total_order", ()): "a list"}
"""A page may be the bare list of its messages."""

OPAQUE = {"echo"}
"""Whatever is asked for comes back, so that another type is another answer."""

NAMES_GARBAGE = {"linearizable", "list-append", "rw-register"}
"""A value that nobody wrote, of whatever type, is a garbage read there."""


def sample(name: str) -> History:
    """A history that the checker finds valid."""
    found = history(SAMPLES[name])
    if name == "causal":
        for index, (link, position) in POSITIONS.items():
            found[index].extra = {"link": link, "position": position}
    return found


def paths(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all parts of a value, the whole included; keys of maps are kept."""
    yield way
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in parts:
            yield from paths(part, (*way, key))


def at(value: Any, way: tuple[Any, ...]) -> Any:
    """The part of a value at the end of a way."""
    for key in way:
        value = value[key]
    return value


def put(value: Any, way: tuple[Any, ...], part: Any) -> Any:
    """The value with something else at the end of the way."""
    if not way:
        return part
    value = copy.deepcopy(value)
    at(value, way[:-1])[way[-1]] = part
    return value


ALIENS: list[Any] = [True, 7, 7.5, "wrong", [], ["wrong"], {}, {"wrong": 1}]
"""No nil: that is what a system answers that lost something."""

JUNK: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(
        [
            *(None, True, 0, -1, 2, 2**63, 10**400, -(10**400), 1.5, math.nan),
            *(math.inf, Fraction(1, 3), "", "x", "n1", "commit", [], {}),
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "term", "x", "a", 1]), inner, max_size=2
        )
    ),
    max_leaves=6,
)


def test_every_checker_has_a_sample_here() -> None:
    installed = {plugin.name for plugin in registry.plugins("checker").values()}
    assert installed - {"crashes", "log-file-pattern", "messages"} == SAMPLES.keys()


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_are_valid(name: str) -> None:
    result = judged(name, sample(name), **OPTIONS.get(name, {}))
    assert (result.error, result.verdict) == ("", Verdict.VALID)


def answers(of: History) -> list[tuple[Op, tuple[Any, ...]]]:
    """All parts of all that clients were answered; what is nil has no type."""
    return [
        (op, way)
        for op in of
        if op.is_client and op.type == "ok"
        for way in paths(op.value)
        if at(op.value, way) is not None
    ]


@pytest.mark.parametrize("name", sorted(SAMPLES.keys() - OPAQUE - NAMES_GARBAGE))
def test_an_answer_of_a_wrong_type_is_never_an_anomaly(name: str) -> None:
    for number, (_, way) in enumerate(answers(sample(name))):
        for alien in ALIENS:
            wrong = sample(name)
            op, _ = answers(wrong)[number]
            as_due = {kind(at(op.value, way)), ALSO_DUE.get((name, way))}
            if kind(alien) in as_due:
                continue
            op.value = put(op.value, way, alien)
            result = judged(name, wrong, **OPTIONS.get(name, {}))
            assert_sane(result)
            assert result.verdict is not Verdict.INVALID, (op, result.result.anomalies)


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=EXAMPLES // 8)
@given(data=st.data())
def test_whatever_stands_where_something_else_is_due_is_borne(
    name: str, data: st.DataObject
) -> None:
    wrong = sample(name)
    for _ in range(data.draw(st.integers(1, 3))):
        op = data.draw(st.sampled_from(wrong.ops))
        junk = data.draw(JUNK)
        match data.draw(st.integers(0, 9)):
            case 0 if name != "linearizable":
                op.key = junk
            case 1:
                op.extra = {"link": junk, "position": junk, "rebalance-log": [junk]}
            case 2:
                op.error = junk
            case _:
                ways = list(paths(op.value))
                op.value = put(op.value, data.draw(st.sampled_from(ways)), junk)
    places = st.integers(0, len(wrong) - 1)
    gone = data.draw(st.sets(places, max_size=2 * (name != "linearizable")))
    ops = [op for op in wrong if op.index not in gone]
    for index, op in enumerate(ops):
        op.index = index
    left = History(ops, strict=False, source="wrong.edn")
    assert_sane(judged(name, left, **OPTIONS.get(name, {})))


COMPLAINTS = {
    "bank": ({"a": "60", "b": 40}, "read '60' of account 'a', which is no number"),
    "counter": ("5", "read of '5', which is no whole number"),
    "set": (["1", 2], "read gave '1', a text, but what went in was a number"),
    "sequential": ([2], "read gave [2], a list, but what went in was a number"),
    "monotonic": ([1], "read of [1], which is no map of keys to values"),
    "consensus": ("1", "learn gave '1', a text, but what went in was a number"),
}


@pytest.mark.parametrize("name", COMPLAINTS)
def test_the_complaint_says_where_and_what_was_due(name: str) -> None:
    value, complaint = COMPLAINTS[name]
    wrong = sample(name)
    last = [op for op in wrong if op.type == "ok" and op.is_client][-1]
    last.value = value
    result = judged(name, wrong)
    assert result.exit_status == 254
    assert result.as_json()["verdict"] is None
    place = f"history:{last.index + 1}: op {last.index}: "
    assert result.error.startswith(place + complaint)


@pytest.mark.parametrize(
    ("balances", "anomaly"),
    [
        ({"a": 100, "b": None}, "nil-balance"),
        ({"a": 60, "c": 40}, "unexpected-key"),
        ({"a": 110, "b": -10}, "negative-value"),
        ({"a": 60, "b": 41}, "wrong-total"),
    ],
)
def test_what_a_bank_may_have_answered_wrong_stays_an_anomaly(
    balances: Any, anomaly: str
) -> None:
    wrong = sample("bank")
    wrong[5].value = balances
    assert judged("bank", wrong).as_json()["anomalies"] == {anomaly: 1}
