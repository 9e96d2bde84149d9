"""Clock faults: jumps, drift, frozen clocks, wall and monotonic clocks apart.

Wall clocks jump either way, drift, stand still, strobe (jump to and fro many times a
second) and are scrambled, as administrators, virtual machines and bad time servers make
them; `nemesis.clock_modes` tells what each mode does. Monotonic clocks only do what
hardware can do to them: run at a wrong rate, all but stand still, or leap forward (a VM
that was suspended).

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
healing, and after each change of a clock that is scrambled or wanders. A fault that
moved no clock did not bite; nor did a restart that took longer than its clock was set
back by.

If several strikes hold a clock, jumps add up and rates multiply, so a clock that one of
them has frozen jumps and stands still; `harness.faults.force` says what the heal of
each does. A process that ends takes the faults of its clock with it.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.faults.fault import (
    Fault,
    NodeNames,
    Skip,
    Strike,
    require_number,
    require_params,
)
from harness.faults.nemesis import Nemesis
from harness.faults.targets import (
    LEADER,
    TARGETS,
    WORDS,
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
from nemesis import clock_modes
from nemesis.clock_modes import (
    JUMP_S_MAX,
    LEAP_MS,
    MODES,
    PERIOD_MS,
    RATE,
    SECOND_NS,
    SEED,
    Shift,
    clock_of,
    offset_ns,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from random import Random

    from harness.data import Json
    from harness.faults.force import Grip
    from harness.faults.nemesis import NemesisFactory
    from harness.worlds.capabilities import ClockName
    from harness.worlds.clocks import ClockReading

BITES_FROM_MS = 20.0
"""Least move that counts, as a single reading may be off by half of this."""
USUAL_MODES = tuple(mode for mode in MODES if mode != "restart")
"""A restart has to be asked for: it kills nodes, which not every system bears."""

OPTIONS = (
    Option(
        "modes",
        "+".join(USUAL_MODES),
        "jump once, run at a wrong rate, jump to and fro, stand still, jump at random, "
        "run at changing rates, repeat a second; restart: come back with an earlier "
        "time",
        Words(tuple(MODES)),
    ),
    Option(
        "clocks",
        "+".join((*CLOCKS, "mono")),
        "which clocks to break (monotonic ones: bump, drift, freeze and wander only); "
        "one that is named twice is drawn twice as often",
        Words(CLOCKS),
    ),
    Option(
        "targets",
        "+".join((*TARGETS, LEADER, LEADER)),
        "sets of nodes to draw from; one that is named twice is drawn twice as often",
        Words(WORDS),
    ),
    Option(
        "bump_max_s",
        "60",
        "largest jump of a wall clock, s",
        Number(0.001, JUMP_S_MAX),
        amount=60.0,
    ),
    Option(
        "leap_max_s",
        "5",
        "largest leap of a monotonic clock, s (it takes as long to return)",
        Number(0.001, LEAP_MS.most / 1000),
        amount=5.0,
    ),
    Option(
        "drift",
        "1.0",
        "largest drift: rates lie in 1/(1+drift) to 1+drift",
        Number(1e-6, RATE.most - 1),
        amount=1.0,
    ),
    Option("strobe_period_ms", "50", "time between two jumps of a strobe", PERIOD_MS),
)

AMOUNTS = ("offset_ms", "rate", "period_ms", "seed")
PARAMS = ("mode", "clock", "target", *AMOUNTS)


def moved(
    before: Mapping[str, ClockReading | None], after: Mapping[str, ClockReading | None]
) -> bool:
    """Whether a clock of any node moved between two readings."""
    return any(moved_ms(before[n], after[n]) >= BITES_FROM_MS for n in after)


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
        self.targets: tuple[str, ...] = given["targets"]
        self.jump_max_s = {"wall": given["bump_max_s"], "mono": given["leap_max_s"]}
        self.drift: float = given["drift"]
        self.period_ms: float = given["strobe_period_ms"]
        self.clocks = [clock for clock in given["clocks"] if self._modes_of(clock)]
        if not self.clocks:
            modes = "+".join(self.modes)
            raise UsageError(
                f"clock: modes={modes} is for wall clocks: add clocks=wall"
            )
        if "restart" in self.modes:
            self.needs = replace(self.needs, processes=frozenset({"kill"}))

    def _modes_of(self, clock: str) -> list[str]:
        return [mode for mode in self.modes if clock in MODES[mode].clocks]

    @override
    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random mode, clock, target and amount."""
        clock = random.choice(self.clocks)
        mode = random.choice(self._modes_of(clock))
        params: dict[str, Json] = {
            "mode": mode,
            "clock": clock,
            "target": draw_target(random, random.choice(self.targets), nodes),
        }
        most_ms = 1000 * self.jump_max_s[clock]
        match mode:
            case "drift":
                rate = (1 + self.drift) ** random.uniform(0.5, 1.0)
                params["rate"] = round(random.choice((rate, 1 / rate)), 6)
            case "wander":
                params["rate"] = round(1 + self.drift, 6)
            case "scramble":
                params["offset_ms"] = most_ms
            case "restart":
                back_ms = clock_modes.jump_ms(random, most_ms, signed=False)
                params["offset_ms"] = -back_ms
            case "bump" | "strobe":
                signed = clock == "wall"
                jump_ms = clock_modes.jump_ms(random, most_ms, signed=signed)
                params["offset_ms"] = jump_ms
            case _:  # a freeze or a leap second has no amount
                pass
        if mode == "strobe":
            params["period_ms"] = self.period_ms
        if "seed" in MODES[mode].may:
            params["seed"] = random.randrange(SEED.most + 1)
        return Fault(self.kind, params)

    @override
    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """Require a known mode and clock, their amount, and a target."""
        require_params(fault, PARAMS)
        params = fault.params
        for name, allowed in (("mode", (*MODES,)), ("clock", CLOCKS)):
            if params.get(name) not in allowed:
                raise UsageError(
                    f"plan: clock: {name} must be one of {', '.join(allowed)}, "
                    f"not {params.get(name)!r:.60}"
                )
        validate_target(self.kind, params.get("target"), nodes)
        named, clock = fault.text("mode"), clock_of(fault)
        mode = MODES[named]
        amounts = {**mode.may, **mode.needs}
        for name in AMOUNTS:
            if name in params and name not in amounts:
                raise UsageError(f"plan: clock: mode {named} takes no {name}")
            if name in params or name in mode.needs:
                require_number(fault, name, amounts[name])
        back = named == "bump" and fault.number("offset_ms") < 0
        if clock == "mono" and (back or clock not in mode.clocks):
            raise UsageError(
                f"plan: clock: mode {named} is for wall clocks here: a monotonic clock "
                "never jumps backwards"
            )
        if clock == "mono" and named == "bump":
            require_number(fault, "offset_ms", LEAP_MS)

    def lingers_s(self, fault: Fault, lasted_s: float) -> float:
        """Seconds from its healing until a monotonic clock has returned."""
        return clock_modes.lingers_s(fault, lasted_s)

    @override
    async def strike(self, fault: Fault, cluster: Grip) -> Strike:
        """Move the target's clocks and read them back."""
        nodes, why = await resolve_target(fault.target, cluster)
        mode, clock = fault.text("mode"), clock_of(fault)
        if clock == "mono" and mode in {"drift", "wander"}:
            # Another clock that is still returning runs the other way. The two would
            # drift apart by more than the fault's rate.
            await cluster.settle()
        begun_ns, before = cluster.wall_ns(), await cluster.read_clocks(nodes)
        if not any(before.values()):
            raise Skip(f"no clock to skew: {' and '.join(nodes)} down")
        evidence: dict[str, Json] = {}
        if mode == "restart":
            evidence["killed"] = dict(await cluster.kill(nodes))
            started = await cluster.restart_skewed(nodes, clock_modes.skew(fault))
            evidence["restarted"] = dict(started)
        elif mode == "leap":
            cluster.meanwhile(repeat_a_second(fault, before, cluster))
        else:
            shifts = clock_modes.shifts(fault, nodes, before)
            await put(next(shifts), clock, cluster)
            if MODES[mode].every_ms:
                cluster.meanwhile(self._go_on(fault, shifts, cluster))
        after = await cluster.read_clocks(nodes)
        bit: bool | None
        if mode == "restart":
            bit = went_back(before, after, cluster.wall_ns() - begun_ns)
        else:
            # None: a drift has hardly begun, so the reading before the healing decides.
            bit = moved(before, after) or None
        return Strike(
            fault,
            f"{clock} clock {clock_modes.amount(fault)}: {who(nodes, why)}",
            nodes,
            {"before": shown(before), "after": shown(after), **evidence, **aimed(why)},
            bit,
        )

    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Set wall clocks right, and have monotonic clocks return."""
        fault = strike.fault
        last = await cluster.read_clocks(strike.nodes)
        for node in strike.nodes:
            await cluster.set_right(
                node, clock_of(fault), clock_modes.return_rate(fault)
            )
        healed = await cluster.read_clocks(strike.nodes)
        evidence: dict[str, Json] = {
            "before_healing": shown(last),
            "healed": shown(healed),
        }
        if changes := cluster.tally["changes"]:
            evidence["changes"] = changes
        bit = bool(strike.bit or cluster.tally["moved"])
        if fault.params["mode"] != "restart":
            bit = bit or moved(cluster.first_readings, last)
        return strike.proven(evidence, bit=bit)

    async def _go_on(
        self, fault: Fault, shifts: Iterator[Mapping[str, Shift]], cluster: Grip
    ) -> None:
        """Change clocks again and again, until cancelled."""
        every_ms = MODES[fault.text("mode")].every_ms
        if fault.params["mode"] == "strobe":
            every_ms = self.period_ms
        every_s = fault.number("period_ms", every_ms) / 1000
        for each in shifts:
            await asyncio.sleep(every_s)
            await put(each, clock_of(fault), cluster)
            cluster.tally["changes"] += 1
            if fault.params["mode"] != "strobe":  # which is too fast to be read
                await note(tuple(each), cluster)


async def repeat_a_second(
    fault: Fault, before: Mapping[str, ClockReading | None], cluster: Grip
) -> None:
    """Set each clock back by a second when it comes to a whole one."""
    now_ns = cluster.wall_ns()
    left_ns = {
        node: -(now_ns + offset_ns(reading, "wall")) % SECOND_NS
        for node, reading in before.items()
    }
    for node in sorted(left_ns, key=left_ns.__getitem__):
        await asyncio.sleep((now_ns + left_ns[node] - cluster.wall_ns()) / 1e9)
        leap = Shift(clock_modes.skew(fault), offset_ns(before[node], "wall"))
        await put({node: leap}, "wall", cluster)
        cluster.tally["changes"] += 1
        await note((node,), cluster)


async def put(shifts: Mapping[str, Shift], clock: ClockName, cluster: Grip) -> None:
    """Change the clocks of several nodes at once: to slow one down takes a while."""
    ended = await asyncio.gather(
        *(cluster.skew(node, clock, *shift) for node, shift in shifts.items()),
        return_exceptions=True,  # so that none is under way when this fails
    )
    for failure in ended:
        if failure is not None:
            raise failure


async def note(nodes: NodeNames, cluster: Grip) -> None:
    """Read clocks back, and count it if one has moved since the strike."""
    cluster.tally["moved"] += moved(
        cluster.first_readings, await cluster.read_clocks(nodes)
    )


def went_back(
    before: Mapping[str, ClockReading | None],
    after: Mapping[str, ClockReading | None],
    took_ns: int,
) -> bool:
    """Whether a wall clock showed an earlier time at the second reading.

    `took_ns` is the true time between the two, or more.
    """
    return any(
        now.wall_offset_ns + took_ns < then.wall_offset_ns
        for node, now in after.items()
        if now is not None and (then := before[node]) is not None
    )


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
    "skew wall and monotonic clocks apart: bump, drift, strobe, freeze, scramble, ...",
    Clock,
    OPTIONS,
)
