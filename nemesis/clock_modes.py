"""The ways to break a clock: what each mode of a clock fault takes, and does.

    bump      jump once, and stay
    drift     run at a wrong rate
    strobe    jump to and fro, many times a second
    freeze    stand still. A monotonic clock crawls, as programs divide by the time that
              has passed
    scramble  each node jumps to a random offset again and again (Jepsen's
              clock-scrambler)
    wander    drift at a rate that changes again and again
    leap      a leap second, as Linux inserts it: at a whole second the wall clock steps
              back by one, so it shows that second twice
    restart   the node is killed, and comes back with a wall clock that is behind: a
              machine whose battery was empty, or a virtual machine on another host

A monotonic clock never runs backwards, so scramble, strobe, leap and restart are for
wall clocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from harness.faults.force import RETURN_RATE, Skew
from harness.options import Number, Whole
from harness.worlds.capabilities import CLOCKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.faults.fault import Fault
    from harness.worlds.capabilities import ClockName
    from harness.worlds.clocks import ClockReading

JUMP_S_MAX = 1e9
"""Largest jump of a wall clock: about 32 years, which 64-bit clocks bear either way."""
LEAP_S_MAX = 60.0
"""Largest leap of a monotonic clock, which takes as long to return."""
JUMP_MS = Number(-1000 * JUMP_S_MAX, 1000 * JUMP_S_MAX)
LEAP_MS = Number(0.0, 1000 * LEAP_S_MAX)
WINDOW_MS = Number(0.0, 1000 * JUMP_S_MAX)
BACK_MS = Number(-1000 * JUMP_S_MAX, 0.0)
RATE = Number(0.001, 1001.0)
PERIOD_MS = Number(1.0, 3_600_000.0)
SEED = Whole(0, 2**32 - 1)

SMALLEST_JUMP = 1 / 60
"""Smallest jump to draw, as a part of the largest. Most real jumps are small."""
SECOND_NS = 1_000_000_000
FROZEN: Mapping[ClockName, float] = {"wall": 0.0, "mono": RETURN_RATE}
"""The rate of a clock that stands still."""


@dataclass(frozen=True)
class Mode:
    """One way to break a clock.

    Attributes:
        clocks: The clocks that can be broken so.
        needs: Parameters that a fault must have.
        may: Parameters that it may have beside.
        every_ms: The time between two changes, where the fault names none; 0 for a mode
            that changes a clock once.
    """

    clocks: tuple[ClockName, ...] = CLOCKS
    needs: Mapping[str, Number | Whole] = field(default_factory=dict)
    may: Mapping[str, Number | Whole] = field(default_factory=dict)
    every_ms: float = 0.0


WALL: tuple[ClockName, ...] = ("wall",)
_ANY = {"offset_ms": JUMP_MS, "rate": RATE, "period_ms": PERIOD_MS}
_AGAIN: Mapping[str, Number | Whole] = {"period_ms": PERIOD_MS, "seed": SEED}

MODES: Mapping[str, Mode] = {
    "bump": Mode(needs={"offset_ms": JUMP_MS}, may=_ANY),
    "drift": Mode(needs={"rate": RATE}, may=_ANY),
    "strobe": Mode(WALL, {"offset_ms": JUMP_MS}, _ANY, every_ms=50),
    "freeze": Mode(),
    "scramble": Mode(WALL, {"offset_ms": WINDOW_MS}, _AGAIN, every_ms=200),
    "wander": Mode(needs={"rate": RATE}, may=_AGAIN, every_ms=400),
    "leap": Mode(WALL),
    "restart": Mode(WALL, {"offset_ms": BACK_MS}),
}


class Shift(NamedTuple):
    """One change of a clock: it goes wrong by `skew`, from `base_ns` off true time."""

    skew: Skew
    base_ns: int = 0


def shifts(
    fault: Fault, nodes: Sequence[str], before: Mapping[str, ClockReading | None]
) -> Iterator[dict[str, Shift]]:
    """The changes of the nodes' clocks, in turn: once, or without end.

    Leaps and restarts are not among these modes: they have moments of their own.
    """
    random = Random(f"clock {fault.number('seed', 0):.0f}")
    match fault.text("mode"):
        case "scramble":
            most_ms = fault.number("offset_ms")
            while True:
                jumps = ((n, jump_ms(random, most_ms, signed=True)) for n in nodes)
                yield {node: Shift(Skew(int(ms * 1e6))) for node, ms in jumps}
        case "wander":
            most = fastest(fault)
            while True:
                rates = ((n, most ** random.uniform(-1.0, 1.0)) for n in nodes)
                yield {node: Shift(Skew(None, round(r, 6))) for node, r in rates}
        case mode:
            clock, wrong = clock_of(fault), skew(fault)
            there = {n: Shift(wrong, offset_ns(before[n], clock)) for n in nodes}
            # Back means to true time, not to what the first reading was wrong by.
            back = dict.fromkeys(nodes, Shift(Skew(0)))
            yield there
            while mode == "strobe":
                yield back
                yield there


def skew(fault: Fault) -> Skew:
    """The skew that `fault` gives a clock, unless each is drawn anew."""
    match fault.text("mode"):
        case "freeze":
            return Skew(None, FROZEN[clock_of(fault)])
        case "leap":
            return Skew(-SECOND_NS)
        case "drift":
            return Skew(None, fault.number("rate"))
        case _:
            return Skew(int(fault.number("offset_ms") * 1e6), fault.number("rate", 1.0))


def jump_ms(random: Random, most_ms: float, *, signed: bool) -> float:
    """A jump of up to `most_ms`; every order of magnitude is equally likely."""
    sign = random.choice((1, -1)) if signed else 1
    part: float = SMALLEST_JUMP ** random.uniform(0.0, 1.0)
    return round(sign * most_ms * part, 3)


def fastest(fault: Fault) -> float:
    """The fastest rate of a fault that has one, be it the given one or its inverse."""
    rate = fault.number("rate")
    return max(rate, 1 / rate)


def return_rate(fault: Fault) -> float:
    """The rate at which a monotonic clock returns from `fault`, or its inverse.

    The clock takes whichever of the two leads back to true time (`ClockLine.returns`).
    """
    drifts = fault.params["mode"] in {"drift", "wander"} and fault.number("rate") != 1
    return fault.number("rate") if drifts else RETURN_RATE


def lingers_s(fault: Fault, lasted_s: float) -> float:
    """Seconds from a fault's healing until its clock is true again, at most."""
    if clock_of(fault) == "wall":
        return 0.0
    match fault.text("mode"):
        case "bump":
            return fault.number("offset_ms") / 1000 / (1 - RETURN_RATE)
        case "freeze":
            return lasted_s * RETURN_RATE
        case "wander":
            return lasted_s * fastest(fault)
        case _:
            return lasted_s * fault.number("rate")


def amount(fault: Fault) -> str:
    """How wrong the clock goes, for titles: "drift at rate 2"."""
    mode = fault.text("mode")
    match mode:
        case "drift":
            return f"{mode} at rate {fault.number('rate'):g}"
        case "wander":
            most = fastest(fault)
            return f"{mode} at rates of {1 / most:.3g} to {most:.3g}"
        case "scramble":
            return f"{mode} within {fault.number('offset_ms') / 1000:.3f} s"
        case "freeze":
            return mode
        case "leap":
            return f"{mode} second"
        case _:
            return f"{mode} by {fault.number('offset_ms') / 1000:+.3f} s"


def clock_of(fault: Fault) -> ClockName:
    """The clock that `fault` breaks."""
    return "wall" if fault.params["clock"] == "wall" else "mono"


def offset_ns(reading: ClockReading | None, clock: ClockName) -> int:
    """How far `clock` was ahead; 0 if there was no reading."""
    return 0 if reading is None else reading.offset_ns(clock)
