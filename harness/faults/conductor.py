"""Carries out a plan: strikes, heals, and records the evidence.

The interpreter hands nemesis operations to the conductor one at a time: `start-KIND`
and `stop-KIND` for the steps of the plan, and at the end `heal` for all that is still
broken. The conductor keeps the strikes in force by the tracks of the plan, so any
number of them may be in force, even of one kind. The evidence of a fault goes to
faults.jsonl, a line for each state that the fault comes to (`states`); the history only
holds the operations.

A heal that starts nodes may have to wait for them. After a second the conductor goes on
with the plan, and the wait goes on beside the run; the line of its end comes when it is
over. At the end of the run all waits together last no longer than one.

If strikes hold the same thing, evidence says so: `left_to_others` names what a strike
let go of while others held it, `held_for_longer` what others let go of before.

A nemesis may find that there is nothing to strike now (`Skip`). Then its operation
completes at once, so that it holds up no other step, and the strike is tried again
beside whatever else happens, until its time to heal has come. Strikes never overlap
while they begin or end: a trial waits for its turn like an operation, and lets
operations go first.

Who leads is asked for beside, too: a system may need a second to tell, and a fault must
not wait for that. For a step whose time is known, nodes are asked shortly before it,
as a leader that was killed meanwhile would not answer.

If a nemesis raises, what its strike held is released, and the run fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.faults.fault import Skip
from harness.faults.force import Force
from harness.faults.nemesis import Lengthy
from harness.faults.plan import tracks
from harness.faults.targets import aim
from harness.workload.generator import HEAL, START

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import Json
    from harness.faults.cluster import Cluster
    from harness.faults.fault import Fault, Strike
    from harness.faults.force import Grip
    from harness.faults.nemesis import Nemesis
    from harness.faults.plan import Plan
    from harness.faults.states import Event, Moment
    from harness.history import Op
    from harness.worlds.events import Where

RETRY_S = 0.2
"""How long to wait before a strike that had nothing to strike is tried again."""
HEAL_PATIENCE_S = 1.0
"""How long the plan waits for a heal that can go on beside the run."""

AHEAD_S = 0.1
"""How long before a step nodes are asked who leads; most answer within milliseconds."""
FRESH_S = 0.5
"""An answer that was asked for longer ago than this says nothing about now."""

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


@dataclass
class Delayed:
    """A strike that is tried again, as there was nothing to strike.

    Attributes:
        reason: Why there was nothing at the last trial.
        trials: How many there were so far.
        under_way: Whether one is being made.
        task: Tries again; None before it has begun.
    """

    step: int
    fault: Fault
    reason: str
    trials: int = 1
    under_way: bool = False
    task: asyncio.Task[None] | None = None


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
        self._struck: dict[int, tuple[int, Strike, Grip]] = {}  # by track
        self._healing: dict[asyncio.Task[None], str] = {}
        """Heals that go on beside the run, and their kinds."""
        self._delayed: dict[int, Delayed] = {}  # by track
        self._turn = asyncio.Lock()
        self._asking: set[asyncio.Task[None]] = set()
        self._foreseen: tuple[float, str | None] | None = None  # asked when; the leader
        self._broken: Exception | None = None  # what work beside operations raised

    async def invoke(self, op: Op) -> Op:
        """Carry out `start-KIND`, `stop-KIND` or `heal`.

        The operation's value is the step's number, or [number, node, ...] for a step
        that an event at these nodes set off. The completion's value is the strike's
        title; for a strike that is tried again the reason for that.
        """
        self._collect()
        self._raise_broken()
        if op.f == HEAL:
            async with self._turn:
                await self._heal_all()
            return op.info("all faults healed")
        step, where = numbered(op.value)
        done = op.info()
        if op.f.startswith(START):
            fault = aim(self._plan[step].fault, where)
            self._write_asked(step, fault)
            self._ask_for_leader([step], "start")
            async with self._turn:
                done.value = await self._start(step, fault)
        else:
            async with self._turn:
                done.value = await self._stop(step)
        return done

    def in_force(self) -> frozenset[str]:
        """The kinds of fault in force."""
        struck = (strike.fault.kind for _, strike, _ in self._struck.values())
        return frozenset((*struck, *self._healing.values()))

    async def look_ahead(self) -> None:
        """Ask who leads before each step whose time is known; ends with the last one.

        To be started as the run begins, and run beside it.
        """
        if not self._cluster.tells_leader:
            return
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        times_s = (step.at.time_s for step in self._plan)
        for time_s in sorted(time_s for time_s in times_s if time_s is not None):
            ahead_s = begun_s + time_s - AHEAD_S - loop.time()
            if ahead_s < 0 and self._foreseen is not None:
                continue  # the answer before serves this step, too
            await asyncio.sleep(ahead_s)
            asked_s = loop.time()
            self._foreseen = asked_s, await self._cluster.leader()

    async def close(self) -> None:
        """End all work beside operations. Strikes in force stay: the world ends them.

        Raises:
            Exception: What such work raised, if no operation has raised it yet.
        """
        for delayed in list(self._delayed.values()):
            await self._skip(delayed)
        for _, _, grip in self._struck.values():
            try:
                await grip.stop_work()
            except Exception as failure:  # no heal has come to raise it
                self._broken = self._broken or failure
        beside = [*self._asking, *self._healing]
        self._collect()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        self._raise_broken()

    def _collect(self) -> None:
        """Take in the heals that have ended beside the run."""
        for healing in [task for task in self._healing if task.done()]:
            del self._healing[healing]
            if not healing.cancelled():
                failure = healing.exception()
                if isinstance(failure, Exception):
                    self._broken = failure

    def _raise_broken(self) -> None:
        broken, self._broken = self._broken, None
        if broken is not None:
            raise broken

    async def _start(self, step: int, fault: Fault) -> str:
        """Strike, or see to it that the strike is tried again; the title of either."""
        # In a run that is late, the step before on this track may still be in force.
        await self._stop(step)
        try:
            return await self._strike(step, fault)
        except Skip as nothing:
            delayed = Delayed(step, fault, nothing.reason)
            self._delayed[self._tracks[step]] = delayed
            delayed.task = asyncio.create_task(self._try_again(delayed))
            return f"put off: {nothing.reason}"

    async def _strike(self, step: int, fault: Fault) -> str:
        """Apply a fault, and return its title.

        Raises:
            Skip: There is nothing to strike now.
            Exception: The nemesis failed; what it held was released.
        """
        grip = self._force.grip(step)
        try:
            strike = await self._nemeses[fault.kind].strike(fault, grip)
        except Skip:
            raise
        except Exception as failure:  # half of it may be in force
            await self._give_up(step, fault, grip, "strike", failure)
            raise
        self._struck[self._tracks[step]] = step, strike, grip
        self._write("start", step, strike)
        return strike.title

    async def _try_again(self, delayed: Delayed) -> None:
        """Try a strike again and again, until it is made, or this task is cancelled."""
        while True:
            await asyncio.sleep(RETRY_S)
            if self._turn.locked():
                continue
            async with self._turn:
                delayed.under_way = True
                try:
                    await self._strike(delayed.step, delayed.fault)
                except Skip as nothing:
                    delayed.under_way = False
                    delayed.reason = nothing.reason
                    delayed.trials += 1
                    continue
                except Exception as failure:  # the next operation raises it
                    self._broken = failure
                del self._delayed[self._tracks[delayed.step]]
                return

    async def _skip(self, delayed: Delayed) -> None:
        """Give a strike up for which there never was anything to strike.

        If a run is closed amid a trial, nobody knows what of it is in force: then no
        line says that the strike was skipped.
        """
        del self._delayed[self._tracks[delayed.step]]
        assert delayed.task is not None
        delayed.task.cancel()
        await asyncio.gather(delayed.task, return_exceptions=True)
        if delayed.under_way:
            return
        kind = delayed.fault.kind
        title = f"{kind} skipped: {delayed.reason}"
        evidence: dict[str, Json] = {
            "reason": delayed.reason,
            "trials": delayed.trials,
        }
        self._write_line("skipped", delayed.step, kind, title, evidence)

    async def _stop(self, step: int) -> str | None:
        """End the strike on that step's track; its title, or None if there is none."""
        track = self._tracks[step]
        if track in self._delayed:
            await self._skip(self._delayed[track])
        if track not in self._struck:
            return None
        self._ask_for_leader([self._struck[track][0]], "end")
        return await self._heal(track, HEAL_PATIENCE_S)

    async def _heal(self, track: int, patience_s: float) -> str:
        """Heal the strike on a track, and return its title.

        A lengthy heal goes on beside the run when the patience is over.

        Raises:
            Exception: The nemesis failed; what the strike held was released.
        """
        step, strike, grip = self._struck.pop(track)
        nemesis = self._nemeses[strike.fault.kind]
        healing = asyncio.create_task(self._end(step, strike, grip))
        self._healing[healing] = strike.fault.kind
        if isinstance(nemesis, Lengthy) and nemesis.heals_beside:
            await asyncio.wait({healing}, timeout=patience_s)
            if not healing.done():
                return strike.title
        try:
            await healing
        finally:
            del self._healing[healing]
        return strike.title

    async def _end(self, step: int, strike: Strike, grip: Grip) -> None:
        """Heal a strike, and write its end.

        Raises:
            Exception: The nemesis failed; what the strike held was released.
        """
        try:
            await grip.stop_work()
            strike = await self._nemeses[strike.fault.kind].heal(strike, grip)
            await grip.release()
        except Exception as failure:  # some of it may still be in force
            await self._give_up(step, strike.fault, grip, "heal", failure)
            raise
        evidence: dict[str, Json] = {
            "left_to_others": grip.left_to_others,
            "held_for_longer": grip.held_for_longer,
        }
        shared = {name: things for name, things in evidence.items() if things}
        strike = strike.proven(shared, bit=strike.bit)
        self._write("end", step, strike)

    async def _heal_all(self) -> None:
        """End all strikes, restart nodes that died by themselves, let clocks settle."""
        self._cluster.hurry()
        for delayed in list(self._delayed.values()):
            await self._skip(delayed)
        self._ask_for_leader([step for step, _, _ in self._struck.values()], "end")
        failures = []
        for track in list(self._struck):
            try:
                await self._heal(track, patience_s=0)
            except Exception as failure:  # the others must be healed all the same
                failures.append(failure)
        beside = [self._start_dead(), *self._healing]
        ends = await asyncio.gather(*beside, return_exceptions=True)
        failures += [end for end in ends if isinstance(end, Exception)]
        self._healing.clear()
        if failures:
            raise failures[0]
        assert self._force.holds_nothing()
        for title, evidence in await self._force.pay_debts():
            self._record(
                {
                    "id": None,
                    "event": "note",
                    "kind": "brought-back",
                    "title": title,
                    "nodes": list(self._cluster.nodes),
                    "evidence": evidence,
                }
            )
        await self._start_dead()
        await self._force.settle()

    async def _start_dead(self) -> None:
        """Start the nodes that are down though no strike holds them."""
        dead = [n for n in self._cluster.dead() if not self._force.down.of(n)]
        if not dead:
            return
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

    async def _give_up(
        self, step: int, fault: Fault, grip: Grip, doing: str, failure: Exception
    ) -> None:
        """Release what a strike holds whose nemesis failed, and record the failure."""
        why = f"{type(failure).__name__}: {failure}"
        evidence: dict[str, Json] = {"doing": doing, "error": why, "released": True}
        try:
            await grip.release()
        except Exception as worse:  # the world's end is then what heals
            released = f"not all of it: {type(worse).__name__}: {worse}"
            evidence["released"] = released
        title = f"{fault.kind} failed at its {doing}: {why}"
        self._write_line("failed", step, fault.kind, title, evidence)

    # The leader

    def _ask_for_leader(self, steps: Sequence[int], at: Moment) -> None:
        """Have somebody find out who leads now, and write that down for these steps."""
        now_s = asyncio.get_running_loop().time()
        foreseen = self._foreseen
        if at == "start" and foreseen is not None and now_s - foreseen[0] <= FRESH_S:
            self._write_leader(steps, at, foreseen[1])
        elif steps and self._cluster.tells_leader:
            asking = asyncio.create_task(self._tell_leader(steps, at))
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)

    async def _tell_leader(self, steps: Sequence[int], at: Moment) -> None:
        try:
            leader = await self._cluster.leader()
        except Exception as failure:  # a plug-in's; the next operation raises it
            self._broken = failure
        else:
            self._write_leader(steps, at, leader)

    def _write_leader(
        self, steps: Sequence[int], at: Moment, leader: str | None
    ) -> None:
        who = "no node says" if leader is None else f"{leader} says"
        for step in steps:
            self._record(
                {
                    "id": step,
                    "event": "leader",
                    "kind": self._plan[step].fault.kind,
                    "title": f"{who} that it leads",
                    "nodes": [] if leader is None else [leader],
                    "leader": leader,
                    "at": at,
                }
            )

    # Lines

    def _write_asked(self, step: int, fault: Fault) -> None:
        self._record(
            {
                "id": step,
                "event": "asked",
                "kind": fault.kind,
                "title": f"{fault.kind} asked for",
                "nodes": [],
                "evidence": fault.params,
                "knobs": dict.fromkeys(fault.knobs),
            }
        )

    def _write(self, event: Event, step: int, strike: Strike) -> None:
        self._record(
            {
                "id": step,
                "event": event,
                "kind": strike.fault.kind,
                "title": strike.title,
                "nodes": strike.nodes,
                "evidence": strike.evidence,
                "bit": strike.bit,
                "knobs": strike.all_knobs,
            }
        )

    def _write_line(
        self,
        event: Event,
        step: int,
        kind: str,
        title: str,
        evidence: Mapping[str, Json],
    ) -> None:
        self._record(
            {
                "id": step,
                "event": event,
                "kind": kind,
                "title": title,
                "nodes": [],
                "evidence": evidence,
            }
        )
