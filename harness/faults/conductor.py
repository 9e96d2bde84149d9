"""Carries out a plan: strikes, heals, and records the evidence.

The interpreter hands nemesis operations to the conductor one at a time: `start-KIND`
and `stop-KIND` for the steps of the plan, and at the end `heal` for all that is still
broken. The conductor keeps the strikes in force by the tracks of the plan, so any
number of them may be in force, even of one kind. The evidence of a fault goes to
faults.jsonl; the history only holds the operations.

If strikes hold the same thing, evidence says so: `left_to_others` names what a strike
let go of while others held it, `held_for_longer` what others let go of before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from harness.faults.force import Force
from harness.faults.plan import tracks
from harness.faults.targets import aim
from harness.workload.generator import HEAL, START

if TYPE_CHECKING:
    from harness.data import Json
    from harness.faults.cluster import Cluster
    from harness.faults.fault import Strike
    from harness.faults.force import Grip
    from harness.faults.nemesis import Nemesis
    from harness.faults.plan import Plan
    from harness.history import Op
    from harness.worlds.events import Where

Value = int | list[int | str]
"""The value of an operation: a step's number, or [number, node, ...] for a step that an
event at these nodes set off."""

Record = Callable[[Mapping[str, "Json"]], None]
"""Appends a line to faults.jsonl; the receiver adds the time."""


def numbered(value: Value) -> tuple[int, Where]:
    """The step of an operation, and the nodes whose event set it off."""
    if isinstance(value, int):
        return value, ()
    step, *where = value
    assert isinstance(step, int)
    return step, tuple(str(node) for node in where)


class Conductor:
    """The nemesis of a run, as the interpreter's client."""

    def __init__(
        self,
        plan: Plan,
        nemeses: Mapping[str, Nemesis],
        cluster: Cluster,
        record: Record,
    ) -> None:
        self._plan = plan
        self._nemeses = nemeses
        self._cluster = cluster
        self._record = record
        self._force = Force(cluster)
        self._tracks = tracks(plan)
        self._struck: dict[int, tuple[int, Strike, Grip]] = {}

    async def invoke(self, op: Op) -> Op:
        """Carry out `start-KIND`, `stop-KIND` or `heal`.

        The operation's value is the step's number, or [number, node, ...] for a step
        that an event at these nodes set off.
        """
        if op.f == HEAL:
            await self._heal_all()
            return op.info("all faults healed")
        step, where = numbered(op.value)
        strike = (
            await self._start(step, where)
            if op.f.startswith(START)
            else await self._stop(step)
        )
        done = op.info()
        done.value = strike.title if strike is not None else None
        return done

    def in_force(self) -> frozenset[str]:
        """The kinds of fault in force."""
        return frozenset(strike.fault.kind for _, strike, _ in self._struck.values())

    async def _start(self, step: int, where: Where) -> Strike:
        # In a run that is late, the step before on this track may still be in force.
        await self._stop(step)
        fault = aim(self._plan[step].fault, where)
        grip = self._force.grip(step)
        try:
            strike = await self._nemeses[fault.kind].strike(fault, grip)
        except Exception:  # half of it may be in force; the run fails all the same
            await grip.release()
            raise
        self._struck[self._tracks[step]] = step, strike, grip
        self._write("start", step, strike)
        return strike

    async def _stop(self, step: int) -> Strike | None:
        """End the strike on that step's track, and return it; None if there is none."""
        struck = self._struck.pop(self._tracks[step], None)
        if struck is None:
            return None
        step, strike, grip = struck
        await grip.stop_work()
        strike = await self._nemeses[strike.fault.kind].heal(strike, grip)
        await grip.release()
        evidence: dict[str, Json] = {
            "left_to_others": grip.left_to_others,
            "held_for_longer": grip.held_for_longer,
        }
        shared = {name: things for name, things in evidence.items() if things}
        strike = strike.proven(shared, bit=strike.bit)
        self._write("end", step, strike)
        return strike

    async def _heal_all(self) -> None:
        """End all strikes, restart nodes that died by themselves, let clocks settle."""
        for step, _, _ in list(self._struck.values()):
            await self._stop(step)
        assert self._force.holds_nothing()
        dead = self._cluster.dead()
        if dead:
            started = await self._cluster.restart(dead)
            self._record(
                {
                    "id": None,
                    "event": "note",
                    "kind": "node-start",
                    "title": f"started again at the end: {' '.join(dead)}",
                    "nodes": dead,
                    "evidence": started,
                }
            )
        await self._force.settle()

    def _write(self, event: str, step: int, strike: Strike) -> None:
        self._record(
            {
                "id": step,
                "event": event,
                "kind": strike.fault.kind,
                "title": strike.title,
                "nodes": strike.nodes,
                "evidence": strike.evidence,
                "bit": strike.bit,
            }
        )
