"""The g_set workload: reads of a growing set don't take ever more of a run."""

from __future__ import annotations

from harness.workload.generator import Board, Context, Invocation, Seeds
from harness.workload.generator.flow import NS_PER_S
from workloads.g_set import ADDS_MAX, READ_RARER, READ_SHARE, GSet


def test_answers_do_not_outgrow_the_run_and_a_full_set_is_only_read() -> None:
    flow = GSet({}).generator(1).start(Seeds("0"))
    board = Board(1, 0)
    added = answered = reads = 0
    now_ns = 0
    while added < ADDS_MAX or reads < 5:
        step = flow.next(Context(now_ns, 1, 1, board))
        assert isinstance(step, Invocation)
        assert step.time_ns is not None
        if added == ADDS_MAX:
            assert step.f == "read"
            reads += 1
        now_ns = max(now_ns, step.time_ns)
        flow.take(step)
        if step.f == "add":
            added += 1
        elif added < ADDS_MAX:
            answered += added
    assert 0 < answered < 1.5 * READ_SHARE * READ_RARER * ADDS_MAX
    assert now_ns > 3 * NS_PER_S, "reads of a full set keep their distance"
