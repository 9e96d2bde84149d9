"""Clock faults: jumps, drift and strobing, wall and monotonic clocks apart.

Wall clocks jump either way, drift, and strobe (jump to and fro many times a second), as
administrators, virtual machines and bad time servers make them. Monotonic clocks only
do what hardware can do to them: run at a wrong rate, or leap forward (a VM that was
suspended).

Healing sets wall clocks right. Monotonic clocks never run backwards, so they return: a
clock that leapt ahead all but stands still until true time has caught up; a clock that
drifted drifts back. A clock left ahead would break its node for good: the kernel keeps
true time, so a sleep until a moment of a clock that is 10 s ahead (every sleep of
CPython, Java and pthreads) lasts 10 s longer. A return takes time. So leaps are small,
plans leave time for the return before the next clock fault, and a run waits for the end
of it.

A drift r is undone at the rate 1/r and no faster. A system that allows for a drift
allows for the same in the other direction; standing still would break its leases.

A leader with a slow monotonic clock believes in its lease for too long. Drift beyond
the bound that a system allows for must break lease reads; drift within it must not.

Evidence: the node's clocks read back before the fault, after the strike and before the
healing. A fault that moved no clock did not bite.

If several strikes hold a clock, jumps add up and rates multiply; `harness.faults.force`
says what the heal of each does.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.faults.fault import (
    Fault,
    NodeNames,
    Strike,
    require_number,
    require_params,
)
from harness.faults.force import RETURN_RATE, Skew
from harness.faults.nemesis import Nemesis
from harness.faults.targets import (
    TARGETS,
    aimed,
    draw_target,
    resolve_target,
    validate_target,
    who,
)
from harness.options import Number, Words
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.worlds.capabilities import CLOCKS, Capabilities

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.data import Json
    from harness.faults.force import Grip
    from harness.faults.nemesis import NemesisFactory
    from harness.worlds.capabilities import ClockName
    from harness.worlds.clocks import ClockReading

MODES = ("bump", "drift", "strobe")
BITES_FROM_MS = 20.0
"""Least move that counts, as a single reading may be off by half of this."""

JUMP_S_MAX = 1e9
"""Largest jump of a wall clock: about 32 years, which 64-bit clocks bear either way."""
LEAP_S_MAX = 60.0
"""Largest leap of a monotonic clock, which takes as long to return."""
JUMPS_MS = {
    "wall": Number(-1000 * JUMP_S_MAX, 1000 * JUMP_S_MAX),
    "mono": Number(0.0, 1000 * LEAP_S_MAX),
}
SMALLEST_JUMP = 1 / 60
"""Smallest jump to draw, as a part of the largest. Most real jumps are small."""
RATE = Number(0.001, 1001.0)
PERIOD_MS = Number(1.0, 3_600_000.0)

OPTIONS = (
    Option(
        "modes",
        "+".join(MODES),
        "jump once, run at a wrong rate, jump to and fro",
        Words(MODES),
    ),
    Option(
        "clocks",
        "+".join(CLOCKS),
        "which clocks to break (strobing is wall only)",
        Words(CLOCKS),
    ),
    Option("targets", "+".join(TARGETS), "sets of nodes to draw from", Words(TARGETS)),
    Option(
        "bump_max_s", "60", "largest jump of a wall clock, s", Number(0.001, JUMP_S_MAX)
    ),
    Option(
        "leap_max_s",
        "5",
        "largest leap of a monotonic clock, s (it takes as long to return)",
        Number(0.001, LEAP_S_MAX),
    ),
    Option(
        "drift",
        "1.0",
        "largest drift: rates lie in 1/(1+drift) to 1+drift",
        Number(1e-6, RATE.most - 1),
    ),
    Option("strobe_period_ms", "50", "time between two jumps of a strobe", PERIOD_MS),
)

PARAMS = ("mode", "clock", "target", "offset_ms", "rate", "period_ms")


def return_rate(fault: Fault) -> float:
    """The rate at which a monotonic clock returns from `fault`, or its inverse.

    The clock takes whichever of the two leads back to true time (`ClockLine.returns`).
    """
    drift = fault.params["mode"] == "drift" and fault.params["rate"] != 1
    return fault.number("rate") if drift else RETURN_RATE


def moved(
    before: Mapping[str, ClockReading | None], after: Mapping[str, ClockReading | None]
) -> bool:
    """Whether a clock of any node moved between two readings."""
    return any(moved_ms(before[n], after[n]) >= BITES_FROM_MS for n in before)


def moved_ms(before: ClockReading | None, after: ClockReading | None) -> float:
    """How far either clock moved between two readings, milliseconds."""
    if before is None or after is None:
        return 0.0
    return (
        max(
            abs(after.wall_offset_ns - before.wall_offset_ns),
            abs(after.mono_offset_ns - before.mono_offset_ns),
        )
        / 1e6
    )


class Clock(Nemesis):
    """Breaks clocks."""

    kind = "clock"
    needs = Capabilities(clocks=frozenset(CLOCKS))
    background = True

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.kind, OPTIONS, options)
        self.modes: tuple[str, ...] = given["modes"]
        self.clocks: tuple[str, ...] = given["clocks"]
        self.targets: tuple[str, ...] = given["targets"]
        self.jump_max_s = {"wall": given["bump_max_s"], "mono": given["leap_max_s"]}
        self.drift: float = given["drift"]
        self.period_ms: float = given["strobe_period_ms"]
        if self.modes == ("strobe",) and "wall" not in self.clocks:
            raise UsageError("clock: modes=strobe is for wall clocks: add clocks=wall")

    @override
    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random mode, clock, target and amount."""
        clock = random.choice(self.clocks)
        mode = random.choice([m for m in self.modes if clock == "wall" or m != "strobe"]
                             or ["drift"])  # fmt: skip
        params: dict[str, Json] = {
            "mode": mode,
            "clock": clock,
            "target": draw_target(random, random.choice(self.targets), nodes),
        }
        if mode == "drift":
            rate = (1 + self.drift) ** random.uniform(0.5, 1.0)
            params["rate"] = round(random.choice((rate, 1 / rate)), 6)
        else:
            sign = random.choice((1, -1)) if clock == "wall" else 1
            # Every order of magnitude is equally likely.
            part = SMALLEST_JUMP ** random.uniform(0.0, 1.0)
            params["offset_ms"] = round(sign * 1000 * self.jump_max_s[clock] * part, 3)
        if mode == "strobe":
            params["period_ms"] = self.period_ms
        return Fault(self.kind, params)

    @override
    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """Require a known mode and clock, their amount, and a target."""
        require_params(fault, PARAMS)
        params = fault.params
        for name, allowed in (("mode", MODES), ("clock", CLOCKS)):
            if params.get(name) not in allowed:
                raise UsageError(
                    f"plan: clock: {name} must be one of {', '.join(allowed)}, "
                    f"not {params.get(name)!r:.60}"
                )
        validate_target(self.kind, params.get("target"), nodes)
        amount = "rate" if params["mode"] == "drift" else "offset_ms"
        jump = JUMPS_MS["wall"]
        for name, kind in (
            ("offset_ms", jump),
            ("rate", RATE),
            ("period_ms", PERIOD_MS),
        ):
            if name in params or name == amount:
                require_number(fault, name, kind)
        if params["clock"] == "mono":
            if params["mode"] == "strobe" or fault.number("offset_ms", 0) < 0:
                raise UsageError("plan: clock: a monotonic clock never jumps backwards")
            if params["mode"] == "bump":
                require_number(fault, "offset_ms", JUMPS_MS["mono"])

    def lingers_s(self, fault: Fault, lasted_s: float) -> float:
        """Seconds from its healing until a monotonic clock has returned."""
        if fault.params["clock"] == "wall":
            return 0.0
        if fault.params["mode"] == "bump":
            return fault.number("offset_ms") / 1000 / (1 - RETURN_RATE)
        return lasted_s * fault.number("rate")

    @override
    async def strike(self, fault: Fault, cluster: Grip) -> Strike:
        """Move the target's clocks and read them back."""
        nodes, why = await resolve_target(fault.target, cluster)
        mode, clock = fault.text("mode"), clock_of(fault)
        if clock == "mono" and mode == "drift":
            # Another clock that is still returning runs the other way. The two would
            # drift apart by more than the fault's rate.
            await cluster.settle()
        before = await cluster.read_clocks(nodes)
        for node in nodes:
            await cluster.skew(node, clock, skew(fault), offset_ns(before[node], clock))
        if mode == "strobe":
            cluster.meanwhile(self._strobe(fault, nodes, cluster))
        after = await cluster.read_clocks(nodes)
        amount = (
            f"at rate {fault.number('rate'):g}"
            if mode == "drift"
            else f"by {fault.number('offset_ms') / 1000:+.3f} s"
        )
        return Strike(
            fault,
            f"{clock} clock {mode} {amount}: {who(nodes, why)}",
            nodes,
            {"before": shown(before), "after": shown(after), **aimed(why)},
            # None: a drift has hardly begun, so the reading before the healing decides.
            bit=moved(before, after) or None,
        )

    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Set wall clocks right, and have monotonic clocks return."""
        last = await cluster.read_clocks(strike.nodes)
        for node in strike.nodes:
            await cluster.set_right(
                node, clock_of(strike.fault), return_rate(strike.fault)
            )
        healed = await cluster.read_clocks(strike.nodes)
        return strike.proven(
            {"before_healing": shown(last), "healed": shown(healed)},
            bit=bool(strike.bit) or moved(cluster.first_readings, last),
        )

    async def _strobe(self, fault: Fault, nodes: NodeNames, cluster: Grip) -> None:
        """Jump to and fro until cancelled."""
        there, before = True, cluster.first_readings
        while True:
            await asyncio.sleep(fault.number("period_ms", self.period_ms) / 1000)
            there = not there
            for node in nodes:
                # Back means to true time, not to what the first reading was wrong by.
                to = skew(fault) if there else Skew(0)
                base_ns = offset_ns(before[node], "wall") if there else 0
                await cluster.skew(node, "wall", to, base_ns)


def clock_of(fault: Fault) -> ClockName:
    """The clock that `fault` breaks."""
    return "wall" if fault.params["clock"] == "wall" else "mono"


def skew(fault: Fault) -> Skew:
    """The skew that `fault` gives a clock."""
    drifts = fault.params["mode"] == "drift"
    jump_ns = None if drifts else int(fault.number("offset_ms") * 1e6)
    return Skew(jump_ns, float(fault.number("rate", 1.0)))


def offset_ns(reading: ClockReading | None, clock: ClockName) -> int:
    """How far `clock` was ahead; 0 if there was no reading."""
    return 0 if reading is None else reading.offset_ns(clock)


def shown(readings: Mapping[str, ClockReading | None]) -> dict[str, Json]:
    """Readings as evidence: milliseconds, and how they were read."""
    return {
        node: None
        if reading is None
        else {
            "wall_offset_ms": round(reading.wall_offset_ns / 1e6, 3),
            "mono_offset_ms": round(reading.mono_offset_ns / 1e6, 3),
            "proof": reading.proof,
        }
        for node, reading in readings.items()
    }


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "clock",
    "skew wall and monotonic clocks apart: bump, drift rate, strobe",
    Clock,
    OPTIONS,
)
