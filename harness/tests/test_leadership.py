"""Who seems to lead, as clients' operations tell."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.faults.fault import Skip
from harness.faults.leadership import ANSWERS_MIN, RECENT_NS, Leadership, names_of
from harness.history import Op, OpType
from harness.worlds.logs import Found
from harness.worlds.places import Endpoint, NodePlace

NODES = ("n1", "n2", "n3")
MS = 1_000_000


class Watched:
    """A cluster's leadership, and a clock."""

    def __init__(self, seed: int = 0) -> None:
        self.leadership = Leadership(NODES, {"read"}, seed)
        self.now_ns = 0

    def did(
        self, node: str, took_ms: float, f: str = "write", t: OpType = "ok"
    ) -> None:
        for kind in ("invoke", t):
            op = Op(0, self.now_ns, 0, kind, f, None, 0, node=node)
            self.leadership.watch(op)
            self.now_ns += int(took_ms * MS)

    def guess(self) -> tuple[str, str]:
        return self.leadership.guess(NODES)


def test_the_only_node_that_answers_changes_seems_to_lead() -> None:
    watched = Watched()
    for node in NODES:
        watched.did(node, 0.1, "read")
        watched.did(node, 1, t="fail")
        watched.did(node, 1, t="info")
    watched.did("n2", 9)
    assert watched.guess() == ("n2", "the only one that answers changes")


def test_the_node_that_answers_changes_soonest_seems_to_lead() -> None:
    watched = Watched()
    for _ in range(ANSWERS_MIN):
        watched.did("n1", 5)
        watched.did("n2", 4)
        watched.did("n3", 2)
    assert watched.guess() == ("n3", "answers changes soonest")


def test_who_answered_long_ago_does_not_count() -> None:
    watched = Watched()
    for _ in range(ANSWERS_MIN):
        watched.did("n1", 1)
    watched.now_ns += RECENT_NS + 1
    watched.did("n3", 7)
    assert watched.guess() == ("n3", "the only one that answers changes")


@given(seed=st.integers(0, 1000))
def test_a_leader_is_drawn_where_nothing_tells(seed: int) -> None:
    alike = Watched(seed)
    for _ in range(ANSWERS_MIN):
        for node in NODES:
            alike.did(node, 2)
    for watched in (alike, Watched(seed)):
        drawn = [watched.guess() for _ in range(40)]
        assert {node for node, _ in drawn} == set(NODES), f"seed {seed}"
        assert {why for _, why in drawn} == {"drawn, as no leader is known"}
    again = Watched(seed)
    assert [again.guess() for _ in drawn] == drawn


def test_a_node_that_is_down_does_not_seem_to_lead() -> None:
    watched = Watched()
    watched.did("n2", 1)
    assert watched.leadership.guess(["n1", "n2"])[0] == "n2"
    with pytest.raises(Skip, match="no leader is known"):
        watched.leadership.guess(["n1"])


def test_while_changes_are_asked_for_and_none_is_answered_a_leader_is_waited_for() -> (
    None
):
    watched = Watched()
    watched.did("n1", 1, "read")
    assert watched.guess()[1] == "drawn, as no leader is known"
    watched.did("n1", 1, t="info")
    with pytest.raises(Skip, match="no leader is known"):
        watched.guess()
    watched.now_ns += RECENT_NS
    watched.did("n2", 1, "read")
    assert watched.guess()[1] == "drawn, as no leader is known"


def test_where_a_node_has_led_before_a_leader_is_waited_for() -> None:
    watched = Watched()
    for _ in range(ANSWERS_MIN):
        for node in NODES:
            watched.did(node, 2)
    assert watched.guess()[1] == "drawn, as no leader is known"
    watched.leadership.told()
    with pytest.raises(Skip, match="no leader is known: no node says so now"):
        watched.guess()
    watched.did("n2", 0.1)
    for _ in range(ANSWERS_MIN):
        watched.did("n2", 0.1)
    assert watched.guess() == ("n2", "answers changes soonest")


def place(name: str, host: str, port: int) -> NodePlace:
    there = Path("nowhere")
    return NodePlace(name, Endpoint(host, port), {}, there, there, {})


def test_logs_name_nodes_by_name_or_by_an_address_of_their_own() -> None:
    places = {
        "n1": place("n1", "10.0.0.1", 7000),
        "n2": place("n2", "127.0.0.1", 7001),
        "n3": place("n3", "127.0.0.1", 7002),
    }
    assert names_of(places) == {
        "n1": "n1",
        "n2": "n2",
        "n3": "n3",
        "10.0.0.1": "n1",
        "10.0.0.1:7000": "n1",
        "127.0.0.1:7001": "n2",
        "127.0.0.1:7002": "n3",
    }


def test_what_a_log_says_counts_for_more_than_who_answers_if_that_node_runs() -> None:
    last: list[Found] = []
    leadership = Leadership(
        NODES, {"read"}, 0, lambda: last[-1] if last else None, {"10.0.0.3": "n3"}
    )
    for kind in ("invoke", "ok"):
        leadership.watch(Op(0, 0, 0, kind, "write", None, 0, node="n2"))
    answers = "the only one that answers changes"
    assert leadership.guess(NODES) == ("n2", answers)
    last.append(Found(1, "n1", None))
    assert leadership.guess(NODES) == ("n1", "its log says that it leads")
    last.append(Found(2, "n1", "10.0.0.3"))
    assert leadership.guess(NODES) == ("n3", "as the log of n1 says")
    assert leadership.guess(("n1", "n2")) == ("n2", answers)
    last.append(Found(3, "n1", "somebody"))
    assert leadership.guess(NODES) == ("n2", answers)
