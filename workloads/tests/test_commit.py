"""The commit workload: nodes get time to decide before they count as blocked."""

from __future__ import annotations

import pytest

from harness.history import Op
from harness.workload.generator import (
    DONE,
    PENDING,
    Board,
    Context,
    Event,
    Invocation,
    Seeds,
)
from workloads.commit import PAUSES_S, Commit

CLIENTS = 3


def asked_at_s(decided_at_s: dict[int, float]) -> dict[int, list[float]]:
    """When each thread asks its node, which has decided everything at that time.

    A node that never does decides at infinity; minus one is a node that never answers.
    """
    board = Board(CLIENTS, seed=0)
    everybody = (1 << CLIENTS) - 1
    flow = Commit({}).final_generator(CLIENTS).start(Seeds("here"))
    out: dict[int, list[float]] = {thread: [] for thread in range(CLIENTS)}
    now_ns = 0
    for _ in range(1000):
        step = flow.next(Context(now_ns, everybody, everybody, board))
        if step is DONE:
            return out
        assert step is not PENDING, "nobody is at work: there is nothing to wait for"
        assert isinstance(step, Invocation)
        assert step.time_ns is not None
        assert isinstance(step.thread, int)
        now_ns = max(now_ns, step.time_ns)
        flow.take(step)
        out[step.thread].append(now_ns / 1e9)
        limit_s = decided_at_s[step.thread]
        word = "commit" if now_ns >= limit_s * 1e9 else "prepared"
        account = {"decisions": {"t1": "abort", "t2": word}, "votes": {}}
        kind = "info" if limit_s < 0 else "ok"
        op = Op(0, now_ns, step.thread, kind, step.f, account)  # type: ignore[arg-type]
        done = Context(now_ns, everybody, everybody, board)
        flow.update(done, Event(step.thread, op))
    raise AssertionError("it never ends")


def test_a_node_is_asked_once_if_it_has_decided_everything() -> None:
    assert asked_at_s(dict.fromkeys(range(CLIENTS), 0.0)) == {0: [0], 1: [0], 2: [0]}


def test_a_node_is_asked_until_it_has_decided() -> None:
    """3PC's own timeout is 1.2 s, and a paused node begins it late."""
    asked = asked_at_s({0: 1.2, 1: 0.0, 2: 0.2})
    assert asked == {0: [0, 0.5, 1.5], 1: [0], 2: [0, 0.5]}


def test_a_blocked_node_is_asked_for_some_seconds_only() -> None:
    asked = asked_at_s({0: float("inf"), 1: float("inf"), 2: 0.0})
    assert len(asked[0]) == len(asked[1]) == 1 + len(PAUSES_S)
    assert asked[0][-1] == pytest.approx(sum(PAUSES_S))


def test_a_node_that_does_not_answer_is_not_asked_again() -> None:
    assert asked_at_s({0: -1, 1: 0.0, 2: 0.0})[0] == [0]
