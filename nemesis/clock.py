"""Clock faults: jumps, drift and strobing, wall and monotonic clocks apart.

Wall clocks jump either way, drift, and strobe (jump to and fro many times a second), as
administrators, virtual machines and bad time servers make them. Monotonic clocks only
do what hardware can do to them: run at a wrong rate, or leap forward (a VM that was
suspended). They never run backwards, so healing gives a monotonic clock its true rate
again and leaves it where it is; wall clocks are set right.

A slow monotonic clock on a leader is what outlives a lease: drift beyond the bound that
a system allows for must break lease reads, drift within it must not.

Evidence: the node's clocks read back before the fault, after the strike and before the
healing. A fault that moved no clock did not bite.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.options import Number, Words
from harness.processes import ClockReading, ClockSetting
from harness.registry import Option, Plugin, settings
from nemesis.fault import (
    TARGETS,
    Fault,
    NemesisFactory,
    NodeNames,
    Strike,
    aimed,
    draw_target,
    require_number,
    require_params,
    resolve_target,
    validate_target,
    who,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.cluster import Cluster

MODES = ("bump", "drift", "strobe")
CLOCKS = ("wall", "mono")
BITES_FROM_MS = 20.0
"""A clock that moved by less than this did not move: a reading may be off by half."""

JUMP_S_MAX = 1e9
"""Thirty years: from 2000 to 2060 every clock stays where a 64-bit one can go."""
JUMP_MS = Number(-1000 * JUMP_S_MAX, 1000 * JUMP_S_MAX)
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
    Option("bump_max_s", "60", "largest jump, seconds", Number(0.001, JUMP_S_MAX)),
    Option(
        "drift",
        "1.0",
        "largest drift: rates lie in 1/(1+drift) to 1+drift",
        Number(1e-6, RATE.most - 1),
    ),
    Option("strobe_period_ms", "50", "time between two jumps of a strobe", PERIOD_MS),
)

AMOUNTS = {"offset_ms": JUMP_MS, "rate": RATE, "period_ms": PERIOD_MS}
PARAMS = ("mode", "clock", "target", *AMOUNTS)


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


class Clock:
    """Breaks clocks; at most one clock fault is in force at a time."""

    kind = "clock"
    needs = frozenset({"clocks"})
    background = True

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.kind, OPTIONS, options)
        self.modes: tuple[str, ...] = given["modes"]
        self.clocks: tuple[str, ...] = given["clocks"]
        self.targets: tuple[str, ...] = given["targets"]
        self.bump_max_s: float = given["bump_max_s"]
        self.drift: float = given["drift"]
        self.period_ms: float = given["strobe_period_ms"]
        if self.modes == ("strobe",) and "wall" not in self.clocks:
            raise UsageError("clock: modes=strobe is for wall clocks: add clocks=wall")
        self._strike: Strike | None = None
        self._before: dict[str, ClockReading | None] = {}
        self._after: dict[str, ClockReading | None] = {}
        self._strobing: asyncio.Task[None] | None = None

    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random mode, clock, target and amount."""
        clock = random.choice(self.clocks)
        mode = random.choice([m for m in self.modes if clock == "wall" or m != "strobe"]
                             or ["drift"])  # fmt: skip
        params: dict[str, Any] = {
            "mode": mode,
            "clock": clock,
            "target": draw_target(random, random.choice(self.targets), nodes),
        }
        if mode == "drift":
            rate = (1 + self.drift) ** random.uniform(0.5, 1.0)
            params["rate"] = round(random.choice((rate, 1 / rate)), 6)
        else:
            sign = random.choice((1, -1)) if clock == "wall" else 1
            # Most real jumps are small; the logarithm gives every size its chance.
            amount_ms = 1000 * self.bump_max_s ** random.uniform(0.0, 1.0)
            params["offset_ms"] = round(sign * amount_ms, 3)
        if mode == "strobe":
            params["period_ms"] = self.period_ms
        return Fault(self.kind, params)

    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """See `Nemesis.validate`: a known mode and clock with their amount."""
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
        for name, kind in AMOUNTS.items():
            if name in params or name == amount:
                require_number(fault, name, kind)
        if params["clock"] == "mono" and (
            params["mode"] == "strobe" or params.get("offset_ms", 0) < 0
        ):
            raise UsageError("plan: clock: a monotonic clock never jumps backwards")

    async def strike(self, fault: Fault, cluster: Cluster) -> Strike:
        """Move the target's clocks and read them back."""
        nodes, why = await resolve_target(fault.params["target"], cluster)
        mode, clock = fault.params["mode"], fault.params["clock"]
        self._before = {n: await cluster.read_clock(n) for n in nodes}
        for node in nodes:
            await cluster.set_clock(node, self._setting(fault, self._before[node]))
        if mode == "strobe":
            self._strobing = asyncio.create_task(self._strobe(fault, nodes, cluster))
        self._after = {n: await cluster.read_clock(n) for n in nodes}
        amount = (
            f"at rate {fault.params['rate']:g}"
            if mode == "drift"
            else f"by {fault.params['offset_ms'] / 1000:+.3f} s"
        )
        self._strike = Strike(
            f"{clock} clock {mode} {amount}: {who(nodes, why)}",
            nodes,
            {
                "before": shown(self._before),
                "after": shown(self._after),
                **aimed(why),
            },
            # A drift has hardly begun; the reading before the healing will tell.
            bit=self._moved(self._after) or None,
        )
        return self._strike

    async def heal(self, cluster: Cluster) -> Strike | None:
        """Set wall clocks right, give monotonic clocks their true rate."""
        if self._strike is None:
            return None
        if self._strobing is not None:
            self._strobing.cancel()
            with suppress(asyncio.CancelledError):
                await self._strobing
            self._strobing = None
        strike, self._strike = self._strike, None
        last = {n: await cluster.read_clock(n) for n in strike.nodes}
        for node in strike.nodes:
            reading = last[node]
            mono = 0 if reading is None else reading.mono_offset_ns
            await cluster.set_clock(node, ClockSetting(mono_offset_ns=mono))
        healed = {n: await cluster.read_clock(n) for n in strike.nodes}
        evidence = {
            **strike.evidence,
            "before_healing": shown(last),
            "healed": shown(healed),
        }
        bit = bool(strike.bit) or self._moved(last)
        return Strike(strike.title, strike.nodes, evidence, bit=bit)

    def _moved(self, after: Mapping[str, ClockReading | None]) -> bool:
        return any(
            moved_ms(self._before[n], after[n]) >= BITES_FROM_MS for n in self._before
        )

    def _setting(self, fault: Fault, now: ClockReading | None) -> ClockSetting:
        """The setting that `fault` means for a node whose clocks now read `now`.

        The clock that is not meant keeps its offset and its true rate.
        """
        wall = 0 if now is None else now.wall_offset_ns
        mono = 0 if now is None else now.mono_offset_ns
        rate = float(fault.params.get("rate", 1.0))
        jump = int(fault.params.get("offset_ms", 0) * 1e6)
        if fault.params["clock"] == "wall":
            return ClockSetting(wall + jump, rate, mono, 1.0)
        return ClockSetting(wall, 1.0, mono + jump, rate)

    async def _strobe(self, fault: Fault, nodes: NodeNames, cluster: Cluster) -> None:
        """Jump to and fro until cancelled."""
        there = True
        while True:
            await asyncio.sleep(fault.params.get("period_ms", self.period_ms) / 1000)
            there = not there
            for node in nodes:
                before = self._before[node]
                mono = 0 if before is None else before.mono_offset_ns
                setting = (
                    self._setting(fault, before)
                    if there
                    else ClockSetting(mono_offset_ns=mono)
                )
                await cluster.set_clock(node, setting)


def shown(readings: Mapping[str, ClockReading | None]) -> dict[str, Any]:
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
