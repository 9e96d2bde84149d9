"""The modes of clock faults: what is drawn, what a plan may say, what comes of it."""

from __future__ import annotations

import itertools
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.faults.fault import Fault
from harness.worlds.clocks import ClockReading
from nemesis.clock import USUAL_MODES, Clock, went_back
from nemesis.clock_modes import MODES, fastest, shifts

if TYPE_CHECKING:
    from collections.abc import Sequence

NODES = ("n1", "n2", "n3", "n4", "n5")
EVERY = Clock({"modes": "+".join(MODES), "drift": "0.5", "bump_max_s": "30"})
SEEDS = st.integers(0, 10**6)
TRUE = dict.fromkeys(NODES, ClockReading(0, 0, "read"))


@given(seed=SEEDS)
def test_a_drawn_fault_is_one_that_a_plan_may_have(seed: int) -> None:
    fault = EVERY.draw(Random(seed), NODES)
    EVERY.validate(fault, NODES)
    assert fault == EVERY.draw(Random(seed), NODES)
    assert EVERY.lingers_s(fault, 4.5) >= 0
    if fault.params["mode"] == "restart":
        assert -30_000 <= fault.number("offset_ms") < 0


def test_every_mode_is_drawn_but_a_restart_only_if_it_is_asked_for() -> None:
    def drawn(nemesis: Clock) -> set[tuple[str, str]]:
        faults = [nemesis.draw(Random(seed), NODES) for seed in range(500)]
        return {(each.text("mode"), each.text("clock")) for each in faults}

    every = {(name, clock) for name, mode in MODES.items() for clock in mode.clocks}
    assert drawn(EVERY) == every
    assert drawn(Clock({})) == {each for each in every if each[0] in USUAL_MODES}
    assert not Clock({}).needs.processes
    assert EVERY.needs.processes == {"kill"}


@given(seed=SEEDS, rate=st.floats(1.01, 1000) | st.floats(0.001, 0.99))
def test_a_clock_that_wanders_stays_within_its_rate(seed: int, rate: float) -> None:
    params: dict[str, Any] = {"mode": "wander", "clock": "mono", "target": list(NODES)}
    fault = Fault("clock", {**params, "rate": rate, "seed": seed})
    EVERY.validate(fault, NODES)
    turns = list(itertools.islice(shifts(fault, NODES, TRUE), 5))
    assert turns == list(itertools.islice(shifts(fault, NODES, TRUE), 5))
    most = fastest(fault) * 1.000001
    rates = [shift.skew.rate for turn in turns for shift in turn.values()]
    assert all(1 / most - 1e-6 <= rate <= most + 1e-6 for rate in rates)
    assert all(shift.skew.jump_ns is None for shift in turns[0].values())


@given(seed=SEEDS, most_ms=st.floats(1, 1e9))
def test_a_scramble_gives_each_node_a_time_of_its_own_again_and_again(
    seed: int, most_ms: float
) -> None:
    params: dict[str, Any] = {"mode": "scramble", "clock": "wall", "target": ["n1"]}
    fault = Fault("clock", {**params, "offset_ms": most_ms, "seed": seed})
    turns = list(itertools.islice(shifts(fault, NODES, TRUE), 20))
    jumps = [shift.skew.jump_ns or 0 for turn in turns for shift in turn.values()]
    assert all(abs(jump) <= most_ms * 1e6 + 1e3 for jump in jumps)
    assert min(jumps) < 0 < max(jumps)
    assert len(set(jumps)) > 20


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"mode": "thaw"}, "mode must be one of bump, drift, strobe, freeze, scramble"),
        ({"mode": "freeze", "rate": 0.5}, "mode freeze takes no rate"),
        ({"mode": "freeze", "offset_ms": 1}, "mode freeze takes no offset_ms"),
        ({"mode": "leap", "clock": "mono"}, "never jumps backwards"),
        ({"mode": "leap", "offset_ms": -1000}, "mode leap takes no offset_ms"),
        ({"mode": "restart", "offset_ms": 5}, "offset_ms must be .*from -1.* to 0"),
        ({"mode": "restart"}, "offset_ms must be "),
        ({"mode": "restart", "offset_ms": -5, "clock": "mono"}, "never jumps backw"),
        ({"mode": "scramble", "offset_ms": -5}, "offset_ms must be a number from 0"),
        ({"mode": "scramble", "offset_ms": 5, "clock": "mono"}, "never jumps backw"),
        ({"mode": "scramble", "offset_ms": 5, "period_ms": 0}, "period_ms must be "),
        ({"mode": "scramble", "offset_ms": 5, "seed": -1}, "seed must be "),
        ({"mode": "wander"}, "rate must be "),
        ({"mode": "wander", "rate": 0}, "rate must be "),
        ({"mode": "bump", "offset_ms": 5, "seed": 1}, "mode bump takes no seed"),
    ],
)
def test_what_makes_no_sense_is_refused(params: dict[str, Any], reason: str) -> None:
    fault = Fault("clock", {"clock": "wall", "target": ["n1"], **params})
    with pytest.raises(UsageError, match=reason):
        EVERY.validate(fault, NODES)


@pytest.mark.parametrize("modes", ["leap", "scramble+restart", "strobe"])
def test_modes_for_wall_clocks_need_wall_clocks(modes: str) -> None:
    with pytest.raises(UsageError, match="is for wall clocks: add clocks=wall"):
        Clock({"modes": modes, "clocks": "mono"})


@pytest.mark.parametrize(
    ("offsets_ms", "took_ms", "back"),
    [((0, -5000), 400, True), ((0, -300), 400, False), ((-9000, -5000), 400, False)],
)
def test_a_clock_went_back_if_it_showed_an_earlier_time(
    offsets_ms: Sequence[int], took_ms: int, back: bool
) -> None:
    before, after = ({"n1": ClockReading(ms * 10**6, 0, "")} for ms in offsets_ms)
    assert went_back(before, after, took_ms * 10**6) is back
    assert not went_back({"n1": None}, after, 0)
    assert not went_back(before, {"n1": None}, 0)
