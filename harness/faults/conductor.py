"""Carries out a plan: strikes, heals, and writes down the evidence.

The interpreter hands nemesis operations to the conductor one at a time: `start-KIND`
and `stop-KIND` for the steps of the plan, and at the end `heal` for whatever is still
broken. What a fault did goes to faults.jsonl; the history only holds the operations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from harness.faults.nemesis import Lingering
from harness.faults.targets import aim
from harness.generator import HEAL, START, STOP

if TYPE_CHECKING:
    from harness.cluster import Cluster
    from harness.faults.fault import Json, Strike
    from harness.faults.nemesis import Nemesis
    from harness.faults.plan import Plan
    from harness.history import Op

Value = int | list[int | str]
"""Of an operation: a step's number; where an event set it off, [number, observer]."""

Record = Callable[[Mapping[str, "Json"]], None]
"""Appends a line to faults.jsonl; the receiver adds the time."""


def numbered(value: Value) -> tuple[int, str | None]:
    """The step of an operation, and the node whose event set it off."""
    if isinstance(value, int):
        return value, None
    step, observer = value
    assert isinstance(step, int)
    return step, str(observer)


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
        self._in_force: dict[str, int] = {}

    async def invoke(self, op: Op) -> Op:
        """Carry out `start-KIND`, `stop-KIND` or `heal`.

        The value is the step's number; where an event set it off, [number, the node
        that observed it].
        """
        if op.f == HEAL:
            await self._heal_all()
            return op.info("all faults healed")
        kind = op.f.removeprefix(START).removeprefix(STOP)
        strike = (
            await self._start(kind, *numbered(op.value))
            if op.f.startswith(START)
            else await self._stop(kind)
        )
        done = op.info()
        done.value = strike.title if strike is not None else None
        return done

    async def _start(self, kind: str, step: int, observer: str | None) -> Strike:
        # Two hand-written steps of one kind may overlap; the later one takes over.
        await self._stop(kind)
        fault = aim(self._plan[step].fault, observer)
        strike = await self._nemeses[kind].strike(fault, self._cluster)
        self._in_force[kind] = step
        self._write("start", kind, step, strike)
        return strike

    async def _stop(self, kind: str) -> Strike | None:
        step = self._in_force.pop(kind, None)
        strike = await self._nemeses[kind].heal(self._cluster)
        if strike is not None and step is not None:
            self._write("end", kind, step, strike)
        return strike

    async def _heal_all(self) -> None:
        """End what is in force and whatever the system did to itself; then settle."""
        for kind in list(self._in_force):
            await self._stop(kind)
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
        for nemesis in self._nemeses.values():
            if isinstance(nemesis, Lingering):
                await nemesis.settle(self._cluster)

    def _write(self, event: str, kind: str, step: int, strike: Strike) -> None:
        self._record(
            {
                "id": step,
                "event": event,
                "kind": kind,
                "title": strike.title,
                "nodes": strike.nodes,
                "evidence": strike.evidence,
                "bit": strike.bit,
            }
        )
