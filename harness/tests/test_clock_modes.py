"""Clocks that freeze, jump at random, wander, repeat a second or begin behind.

The same plan is carried out in both worlds, and what faults.jsonl says is compared with
what each mode means. What programs see is asked of processes, by a warden.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any, Literal

import pytest

from harness.errors import HarnessError, UsageError
from harness.run import assembling, execution
from harness.run.completing import complete
from harness.run.spec import TestSpec
from harness.worlds.capabilities import CLOCKS, Capabilities
from harness.worlds.clocks import ClockLine, ClockSetting
from harness.worlds.os import vdso
from harness.worlds.os.offer import offer
from harness.worlds.os.warden import Warden
from harness.worlds.places import Endpoint, Launch, NodePlace

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from harness.data import Json

skewed = pytest.mark.skipif(bool(vdso.why_not()), reason="clocks can't be skewed here")

HELD_MS = 1200.0
EVERY: dict[str, dict[str, Json]] = {
    "wall stands still": {"mode": "freeze", "clock": "wall"},
    "mono stands still": {"mode": "freeze", "clock": "mono"},
    "scramble": {"mode": "scramble", "clock": "wall", "offset_ms": 5000, "seed": 1},
    "wall wanders": {"mode": "wander", "clock": "wall", "rate": 4, "seed": 2},
    "mono wanders": {"mode": "wander", "clock": "mono", "rate": 4, "seed": 3},
    "leap": {"mode": "leap", "clock": "wall"},
    "restart": {"mode": "restart", "clock": "wall", "offset_ms": -9000},
}


def plan(*faults: dict[str, Json], every_s: float) -> list[dict[str, Any]]:
    """One fault after another on n1, each in force for HELD_MS."""
    return [
        {
            "at": {"time_s": 0.2 + every_s * i},
            "fault": {"kind": "clock", "target": ["n1"], **fault},
            "heal": {"after_s": HELD_MS / 1000},
        }
        for i, fault in enumerate(faults)
    ]


def carried_out(
    world: Literal["os", "sim"],
    results: Path,
    written: list[dict[str, Any]],
    time_limit_s: float,
) -> list[dict[str, Any]]:
    """The ends of clock faults in a run of three nodes, in the order of the plan."""
    spec = TestSpec(
        system="raft",
        workload="register",
        nemesis=sorted({step["fault"]["kind"] for step in written}),
        nodes=3,
        rate=20.0,
        time_limit_s=time_limit_s,
        seed=4,
        world=world,
    )
    complete(spec, planned=True)
    folder = execution.run(spec, results, plan=written)
    ran = folder.run()
    assert ran is not None
    assert (ran.ended, ran.errors) == ("complete", [])
    told = map(json.loads, (folder.path / "faults.jsonl").read_text().splitlines())
    ends = [each for each in told if (each["event"], each["kind"]) == ("end", "clock")]
    return sorted(ends, key=lambda each: int(each["id"]))


def offset_ms(end: dict[str, Any], when: str, clock: str) -> float:
    return float(end["evidence"][when]["n1"][f"{clock}_offset_ms"])


def test_every_mode_does_what_it_is_called_for_and_is_healed(tmp_path: Path) -> None:
    written = plan(*EVERY.values(), every_s=3.0)
    ends = dict(zip(EVERY, carried_out("sim", tmp_path, written, 22.0), strict=True))
    assert all(end["bit"] for end in ends.values()), ends
    for name, clock, least in (
        ("wall stands still", "wall", -HELD_MS),
        ("mono stands still", "mono", -0.99 * HELD_MS),
        ("leap", "wall", -1000.0),
        ("restart", "wall", -9000.0),
    ):
        got = offset_ms(ends[name], "before_healing", clock)
        # A reading is asked for, which takes a while.
        assert got == pytest.approx(least, abs=30.0), name
    for name in ("scramble", "wall wanders", "mono wanders"):
        assert ends[name]["evidence"]["changes"] >= 2, name
    for fault, end in zip(EVERY.values(), ends.values(), strict=True):
        other = "mono" if fault["clock"] == "wall" else "wall"
        assert abs(offset_ms(end, "before_healing", other)) < 30
        if fault["clock"] == "wall":
            assert abs(offset_ms(end, "healed", "wall")) < 30
    # A monotonic clock is on its way back after its heal, and true before the next.
    for later in ("scramble", "leap"):
        assert offset_ms(ends[later], "before", "mono") == 0
    restarted = ends["restart"]["evidence"]
    assert restarted["killed"]["n1"]
    assert restarted["restarted"]["n1"]["served_after_ms"] < 9000


@skewed
def test_a_real_node_comes_back_earlier_than_it_went(tmp_path: Path) -> None:
    written = plan(EVERY["restart"], every_s=1.0)
    [end] = carried_out("os", tmp_path, written, 2.0)
    assert end["bit"] is True
    assert offset_ms(end, "after", "wall") == pytest.approx(-9000, abs=50)
    assert abs(offset_ms(end, "healed", "wall")) < 50


def test_a_restart_that_takes_longer_than_its_clock_is_set_back_did_not_bite(
    tmp_path: Path,
) -> None:
    short = {**EVERY["restart"], "offset_ms": -1}
    [end] = carried_out("sim", tmp_path, plan(short, every_s=1.0), 3.0)
    assert end["bit"] is False


def test_a_node_that_another_fault_holds_down_begins_with_a_true_clock(
    tmp_path: Path,
) -> None:
    kill = {
        "at": {"time_s": 0.1},
        "fault": {"kind": "kill", "target": ["n1"]},
        "heal": {"after_s": 0.5},
    }
    both: dict[str, Json] = {**EVERY["restart"], "target": ["n1", "n2"]}
    written = [kill, *plan(both, every_s=1.0)]
    [end] = carried_out("sim", tmp_path, written, 3.0)
    assert end["bit"] is True
    assert set(end["evidence"]["restarted"]) == {"n2"}
    assert end["evidence"]["left_to_others"] == ["n1"]
    assert abs(offset_ms(end, "before_healing", "wall")) < 30
    behind = end["evidence"]["before_healing"]["n2"]["wall_offset_ms"]
    assert behind == pytest.approx(-9000, abs=30)


# What programs see


def on_warden(
    code: str,
    folder: Path,
    story: Callable[[Warden, NodePlace, Launch], Coroutine[object, object, None]],
) -> list[int]:
    """What a node running `code` printed by the end of `story`."""
    endpoint = Endpoint("127.0.0.1", 1)
    place = NodePlace("n1", endpoint, {}, folder, folder / "log", {"n1": endpoint})
    warden = Warden.fork({})

    async def whole() -> None:
        try:
            await story(warden, place, Launch([sys.executable, "-S", "-c", code]))
        finally:
            await warden.close()

    asyncio.run(whole())
    return [int(line) for line in place.log_path.read_text().splitlines()]


async def lines(place: NodePlace, count: int) -> None:
    deadline_s = time.monotonic() + 60
    while printed(place) < count:
        assert time.monotonic() < deadline_s, f"{count} lines"
        await asyncio.sleep(0.01)


def printed(place: NodePlace) -> int:
    return place.log_path.read_text().count("\n") if place.log_path.exists() else 0


@skewed
def test_a_program_reads_the_earlier_time_from_its_start_on(tmp_path: Path) -> None:
    year_ns = 365 * 86400 * 10**9

    async def story(warden: Warden, place: NodePlace, launch: Launch) -> None:
        warden.begin_with("n1", ClockSetting(wall=ClockLine(-year_ns)))
        await warden.start(place, launch)
        await lines(place, 1)
        reading = await warden.read_clock("n1")
        assert reading is not None
        assert (reading.wall_offset_ns, reading.mono_offset_ns) == (-year_ns, 0)
        await warden.kill("n1")
        # A program that is done before anybody could have stopped it.
        await warden.start(place, Launch(["date", "+%s%N"]))
        await lines(place, 2)
        warden.begin_with("n1", None)
        await warden.start(place, launch)
        await lines(place, 3)

    code = "import time; print(time.time_ns(), flush=True); time.sleep(60)"
    behind, date, true = on_warden(code, tmp_path, story)
    assert abs(true - time.time_ns()) < 60 * 10**9
    for shown in (behind, date):
        assert 0 < true - shown - year_ns < 60 * 10**9


@skewed
@pytest.mark.parametrize(("clock", "rate"), [("wall", 0.0), ("mono", 0.01)])
def test_a_frozen_clock_stands_still_and_goes_on_from_there(
    clock: str, rate: float, tmp_path: Path
) -> None:
    call = {"wall": "time_ns", "mono": "monotonic_ns"}[clock]
    code = f"""
import select, time
while True:
    print(time.{call}(), flush=True)
    select.select([], [], [], 0.005)  # the kernel's clock is true
"""

    async def story(warden: Warden, place: NodePlace, launch: Launch) -> None:
        await warden.start(place, launch)
        await lines(place, 3)
        frozen = ClockLine(None, rate)
        await warden.set_clock("n1", ClockSetting(**{clock: frozen}))
        await lines(place, printed(place) + 20)

    shown = on_warden(code, tmp_path, story)
    assert shown == sorted(shown)
    stood = shown[-15:]
    # In true time, 14 turns of 5 ms.
    assert stood[-1] - stood[0] <= rate * 60e9
    if rate == 0:
        assert len(set(stood)) == 1
    else:
        assert len(set(stood)) == len(stood), "a program may divide by what passes"


# Refused


@pytest.mark.parametrize("machine", ["aarch64", "riscv64"])
def test_other_processors_are_refused_with_the_reason(
    machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    needs = Capabilities(clocks=frozenset(CLOCKS))
    for rung in ("switch", "proxy"):
        why = offer(rung, needs).refusal(needs)
        assert machine in why
        assert "x86-64" in why
        assert "--world sim" in why
    spec = TestSpec(
        system="raft", workload="register", nemesis=["clock"], network="proxy"
    )
    complete(spec)
    with pytest.raises(UsageError, match=f"--nemesis clock can't be had .*{machine}"):
        assembling.prepare(spec)
    spec.nemesis = ["all"]
    parts, _, _ = assembling.prepare(spec)
    assert "clock" not in parts.nemeses
    warden = Warden.fork({})
    try:
        assert machine in warden.why_no_clocks
        with pytest.raises(HarnessError, match="x86-64"):
            warden.begin_with("n1", ClockSetting(wall=ClockLine(1)))
    finally:
        warden.close_now()
