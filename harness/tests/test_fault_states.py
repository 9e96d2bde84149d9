"""From lines of faults.jsonl to what became of each fault, and of clients meanwhile."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from harness.faults.fault import Fault, Strike
from harness.history import History, Op, OpType
from harness.judge.analysis import fault_summary
from harness.judge.effects import strikes
from harness.run.lifecycle import lives
from harness.run.records import Activation, FaultLine, FaultRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import Json

MS = 1_000_000

LIVES: dict[str, Sequence[dict[str, Any]]] = {
    "bit": (
        {"event": "asked"},
        {"event": "start", "bit": None},
        {"event": "leader", "at": "start", "leader": "n1"},
        {"event": "end", "bit": True},
    ),
    "bit, never healed": ({"event": "asked"}, {"event": "start", "bit": True}),
    "no-effect": ({"event": "start", "bit": True}, {"event": "end", "bit": False}),
    "indeterminate": ({"event": "asked"}, {"event": "start"}, {"event": "end"}),
    "indeterminate, never applied": ({"event": "asked"},),
    "skipped": ({"event": "asked"}, {"event": "skipped"}),
    "failed": ({"event": "asked"}, {"event": "failed"}),
    "failed, healed": (
        {"event": "asked"},
        {"event": "start", "bit": True},
        {"event": "failed", "evidence": {"released": True}},
    ),
}
"""Effect and remark -> the lines of a fault."""


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[FaultLine], list[str]]:
    """Lines of several faults, those of each in their order; and the faults' names."""
    names = draw(st.lists(st.sampled_from(list(LIVES)), max_size=6))
    rest = [list(LIVES[name]) for name in names]
    lines, order = [], []
    while any(rest):
        step = draw(st.sampled_from([i for i, left in enumerate(rest) if left]))
        if step not in order:
            order.append(step)
        lines.append(FaultLine(id=step, kind="kill", **rest[step].pop(0)))
        if draw(st.booleans()):
            lines.append(FaultLine(event="note", kind="node-exit"))
    return lines, [names[step] for step in order]


@given(runs())
def test_every_fault_that_was_asked_for_has_one_effect(
    run: tuple[list[FaultLine], list[str]],
) -> None:
    lines, names = run
    found, notes = lives(lines)
    assert [life.effect for life in found] == [n.partition(",")[0] for n in names]
    assert len(notes) == sum(line.event == "note" for line in lines)
    summary = fault_summary({"kill": 7}, found)["kill"]
    told = (summary.bit, summary.no_effect, summary.indeterminate)
    others = (summary.failed, summary.skipped, summary.not_reached)
    assert sum(told) + sum(others) == summary.asked == 7
    started = sum(line.event == "start" for line in lines)
    assert summary.applied == summary.count == started
    undone = {"bit", "no-effect", "indeterminate", "failed, healed"}
    assert summary.healed == sum(name in undone for name in names)


def test_a_step_of_that_number_which_begins_again_is_another_fault() -> None:
    lines = [FaultLine(id=0, event=event) for event in ("start", "end", "start", "end")]
    assert len(lives(lines)[0]) == 2
    assert lives([FaultLine(id=0, event="end")]) == ([], [])


def test_knobs_are_the_words_among_parameters_and_each_may_bite_by_itself() -> None:
    fault = Fault("power", {"torn": True, "names": False, "kept": 0.5, "files": "*"})
    assert fault.knobs == ("torn",)
    assert Fault("kill", {"target": "leader"}).knobs == ("target leader",)
    targeted: dict[str, Json] = {"target": {"keep-majority": ["n3", "leader"]}}
    assert Fault("kill", targeted).knobs == ("target keep-majority",)
    assert Fault("clock", {"clock": "wall", "rate": 2}).knobs == ("wall",)
    strike = Strike(fault, "", ()).proven({}, bit=True, knobs={"bytes": False})
    assert strike.all_knobs == {"torn": True, "bytes": False}
    told: list[tuple[int, str, bool | None, dict[str, bool | None]]] = [
        (0, "asked", None, {"torn": None}),
        (0, "start", True, {"torn": False}),
        (0, "end", True, {"torn": True, "names": None}),
        (1, "asked", None, {"torn": None}),
        (1, "skipped", None, {}),
    ]
    lines = [
        FaultLine(id=i, event=event, kind="power", bit=bit, knobs=knobs)
        for i, event, bit, knobs in told
    ]
    assert fault_summary({"power": 3}, lives(lines)[0]) == {
        "power": FaultRecord(
            asked=3,
            applied=1,
            count=1,
            bit=1,
            healed=1,
            skipped=1,
            not_reached=1,
            knobs={
                "torn": Activation(asked=2, applied=1, bit=1),
                "names": Activation(asked=1, applied=1, bit=0),
            },
        )
    }


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9), st.booleans())),
    st.integers(0, 40),
    st.integers(0, 20),
)
def test_availability_during_a_fault_is_as_counted_one_by_one(
    calls: list[tuple[int, int, bool]], start: int, lasted: int
) -> None:
    events: list[tuple[int, int, int, OpType]] = []
    for process, (begun, took, ok) in enumerate(calls):
        done: OpType = "ok" if ok else "info"
        events += [(begun, 0, process, "invoke"), (begun + took, 1, process, done)]
    history = History(
        [
            Op(index, time * MS, process, kind, "read")
            for index, (time, _, process, kind) in enumerate(sorted(events))
        ]
    )
    end = start + lasted
    lines = [
        FaultLine(
            id=4, event="start", kind="kill", time=start * MS, in_flight={"read": 2}
        ),
        FaultLine(id=4, event="leader", at="start", leader="n1"),
        FaultLine(id=4, event="end", kind="kill", time=end * MS, bit=True),
        FaultLine(id=4, event="leader", at="end"),
    ]
    [strike] = strikes(lives(lines)[0], history)
    during = [ok for begun, _, ok in calls if start <= begun <= end]
    assert (strike.ops, strike.ok) == (len(during), sum(during))
    good = sorted(b + t for b, t, ok in calls if ok and start <= b + t <= end)
    marks = [start, *good, end]
    longest_ms = max(later - earlier for earlier, later in pairwise(marks))
    assert strike.longest_gap_s == longest_ms / 1000
    assert (strike.id, strike.effect, strike.in_flight) == (4, "bit", {"read": 2})
    assert (strike.leader_before, strike.leader_after) == ("n1", None)


def test_a_fault_without_an_end_lasts_until_the_last_operation() -> None:
    ops = [Op(0, 10, 0, "invoke", "read"), Op(1, 10**9, 0, "ok", "read")]
    line = FaultLine(id=0, event="start", kind="kill", time=0)
    [strike] = strikes(lives([line])[0], History(ops))
    assert (strike.end_s, strike.effect) == (1.0, "indeterminate")
    [blind] = strikes(lives([line])[0], None)
    assert (blind.ops, blind.longest_gap_s) == (0, 0.0)
