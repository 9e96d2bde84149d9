"""Who seems to lead, as clients' operations tell."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.faults.leadership import ANSWERS_MIN, RECENT_NS, Leadership
from harness.history import Op, OpType

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
    assert watched.leadership.guess(["n1"]) == ("n1", "drawn, as no leader is known")
