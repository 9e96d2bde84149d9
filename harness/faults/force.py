"""The force of all strikes on a cluster, and the grip of each of them.

A nemesis acts on the cluster through a `Grip`, one for each strike. The grip remembers
what its strike has taken hold of, and all grips share one `Force`, which counts. So
several strikes of one kind, or of many, may be in force at once: a node is started or
resumed, a link is mended and a clock is set right when the last strike that holds it is
healed, and until then all that hold it add up.

    links      rules combine (`harness.worlds.network.merge`)
    nodes      are down while any strike holds them down, by a kill or without power
    disks      do all that the rules of any strike say; delays add up. What is damaged
               is repaired when the last strike that damaged it is healed
    processes  are stopped while any strike stops them, and have the lowest of the
               limits that strikes set; no strike holds a killed process, and the one
               that a restart begins runs freely
    shares     of the time in which nodes may run multiply. They are the node's, as if
               its machine were busy: a process that is started meanwhile is starved
    clocks     jumps add up, rates multiply: a frozen clock that jumps stands still
               where it arrives, and no drift moves it. The heal of one strike of
               several takes its rate away, and its jump if it is a wall clock; what
               drifts have added stays until the last heal. A monotonic clock never runs
               backwards, so only the last heal makes it return, at the rate of the
               fastest of those strikes. A process that ends takes its clocks' faults
               along, except that a restart may give it a wrong clock to begin with
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeAlias, get_args

from harness.errors import HarnessError
from harness.faults.holds import Holds, How, Thing
from harness.faults.quorum import Standing
from harness.worlds.capabilities import CLOCKS
from harness.worlds.clocks import ClockLine, ClockSetting
from harness.worlds.network import LinkCounters, LinkRule, merge
from harness.worlds.processes import Resource

if TYPE_CHECKING:
    from collections.abc import (
        Awaitable,
        Callable,
        Collection,
        Coroutine,
        Mapping,
        Sequence,
    )

    from harness.data import Json
    from harness.faults.cluster import Cluster
    from harness.systems.abilities import Administered, Change
    from harness.worlds.capabilities import ClockName
    from harness.worlds.clocks import ClockReading
    from harness.worlds.disks import (
        Damage,
        Decayed,
        DiskCounters,
        DiskRule,
        Loss,
        Lost,
    )
    from harness.worlds.network import Link
    from harness.worlds.processes import Ended, Exit, Limit, Starvation

SHARE_MIN = 0.01
"""What is left to a node at least, however many strikes starve it."""
RESOURCES: tuple[Resource, ...] = get_args(Resource)
Debt: TypeAlias = "Callable[[], Awaitable[tuple[str, dict[str, Json]]]]"

BACK_WITHIN_NS = 1_000_000
"""A clock counts as true when it is this near to true time."""
RETURN_RATE = 0.01
"""How fast a monotonic clock that leapt ahead runs until true time has caught up.

It is not 0, as programs divide by the time that has passed.
"""


@dataclass(frozen=True)
class Skew:
    """The effect of one strike on a clock: it jumps, and runs at a rate from then on.

    Attributes:
        jump_ns: How far it jumps from the time it shows; None if it doesn't jump.
        rate: Seconds a second; the rates of several strikes multiply.
    """

    jump_ns: int | None = None
    rate: float = 1.0


class Force:
    """Everything that is in force on one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.links: Holds[Link, LinkRule] = Holds("->".join, LinkRule.overlaps)
        self.down: Holds[str, bool] = Holds(str)
        self.paused: Holds[str, bool] = Holds(str)
        self.starved: Holds[str, float] = Holds(str)
        self.limited: Holds[tuple[str, Resource], int] = Holds(" ".join)
        self.clocks: Holds[tuple[str, ClockName], Skew] = Holds(" ".join)
        self.disks: Holds[str, tuple[DiskRule, ...]] = Holds(disk_of)
        self.damaged: Holds[str, bool] = Holds(disk_of)  # True once it really is
        self.names: Holds[str, bool] = Holds(str)
        self.sorts = (
            *(self.links, self.down, self.paused, self.clocks),
            *(self.starved, self.limited),
            *(self.disks, self.damaged, self.names),
        )
        self.firsts: dict[str, Json] = {}
        self.leaving: set[str] = set()
        """Nodes that an operator removes, of a system that ends those. They may also
        end when they join anew, as long as the others may still refuse them."""
        self.debts: dict[str, Debt] = {}
        """What is to be brought back once no strike is in force, by its name."""
        self._owed: dict[str, float] = {}
        """node -> rate at which its monotonic clock will return once no strike holds
        it."""
        self._returning: dict[str, float] = {}
        """node -> rate at which its monotonic clock is now returning."""
        self._excuses: dict[str, str] = {}
        """node -> what its process met that explains its end, though it is healed."""
        cluster.processes.on_exit(self._exited)
        cluster.why_it_may_end = self._why_it_may_end
        cluster.held_down = self._keeps_down

    def grip(self, owner: int) -> Grip:
        """A grip for the strike of step `owner`."""
        return Grip(self, owner)

    async def pay_debts(self) -> list[tuple[str, dict[str, Json]]]:
        """Bring back what strikes could not while others were in force.

        Returns:
            A sentence about each, and evidence.
        """
        debts, self.debts = self.debts, {}
        return [await debt() for debt in debts.values()]

    def holds_nothing(self) -> bool:
        """Whether no strike holds anything."""
        return not any(sort.things() for sort in self.sorts)

    async def apply_links(self) -> None:
        """Put the rules of all links in force, those of several strikes combined."""
        rules: dict[Link, LinkRule] = {}
        merged: dict[tuple[int, ...], LinkRule] = {}
        for link in sorted(self.links.things()):
            held = self.links.of(link)
            # Most faults put one rule on many links, and to combine them takes long.
            alike = tuple(map(id, held))
            if alike not in merged:
                merged[alike] = held[0] if len(held) == 1 else merge(held)
            rules[link] = merged[alike]
        await self.cluster.network.set_rules(rules)

    async def apply_disks(self) -> None:
        """Put the rules of all disks in force, those of several strikes together."""
        rules = {
            node: [rule for rules in self.disks.of(node) for rule in rules]
            for node in sorted(self.disks.things())
        }
        await self.cluster.disks.set_rules(rules)

    async def apply_shares(self, nodes: Sequence[str]) -> None:
        """Let each node run for what the strikes that starve it leave of the time."""
        for node in nodes:
            share = max(SHARE_MIN, math.prod(self.starved.of(node)))
            await self.cluster.processes.starve(node, share)

    async def apply_limit(self, node: str, resource: Resource) -> Mapping[str, Limit]:
        """Set the lowest of the limits that strikes want, or give back the own one."""
        spare = min(self.limited.of((node, resource)), default=None)
        return await self.cluster.processes.limit(node, resource, spare)

    async def skew(
        self, owner: int, node: str, clock: ClockName, skew: Skew, now_ns: int
    ) -> None:
        """Have a clock that is `now_ns` ahead go wrong as `skew` says.

        A second skew of the same owner replaces its first. A node that isn't running
        has no clock, and nothing happens.
        """
        if self.cluster.processes.pid(node) is None:
            return
        jump_ns, before = skew.jump_ns, self.clocks.how(owner, (node, clock)) or Skew()
        self.clocks.take(owner, (node, clock), skew)
        if self.clocks.shared(owner, (node, clock)) and jump_ns is not None:
            # What the clock shows is not the work of this strike alone.
            jump_ns -= before.jump_ns or 0
            now_ns = await self._ahead_ns(node, clock)
        rate = math.prod(each.rate for each in self.clocks.of((node, clock)))
        to_ns = None if jump_ns is None else now_ns + jump_ns
        await self._set_clock(node, clock, ClockLine(to_ns, rate))

    async def set_right(
        self, owner: int, node: str, clock: ClockName, return_rate: float
    ) -> None:
        """End what `owner` did to a clock; if no other strike holds it, make it true.

        A monotonic clock returns at `return_rate`, or at that of a strike healed before
        if this is faster.
        """
        mine = self.clocks.how(owner, (node, clock))
        if clock == "mono":
            return_rate = max(
                self._owed.get(node, 1.0), return_rate, key=lambda r: abs(math.log(r))
            )
        if self.clocks.let_go(owner, (node, clock)):
            if clock == "wall":
                await self._set_clock(node, clock, ClockLine())
                return
            self._owed.pop(node, None)
            self._returning[node] = return_rate
            line = ClockLine(None, return_rate, returns=True)
            await self._set_clock(node, clock, line)
        elif mine is not None:
            if clock == "mono":
                self._owed[node] = return_rate
            to_ns = None
            if clock == "wall" and mine.jump_ns is not None:
                to_ns = await self._ahead_ns(node, clock) - mine.jump_ns
            rate = math.prod(other.rate for other in self.clocks.of((node, clock)))
            await self._set_clock(node, clock, ClockLine(to_ns, rate))

    async def restart_skewed(
        self, owner: int, nodes: Sequence[str], skew: Skew
    ) -> dict[str, dict[str, Json]]:
        """Start those of `nodes` that aren't running, with wall clocks that are wrong.

        They jump from true time: a clock begins anew with its process.
        """
        cluster = self.cluster
        line = ClockLine(skew.jump_ns or 0, skew.rate)
        for node in nodes:
            self.clocks.take(owner, (node, "wall"), skew)
            cluster.clocks.begin_with(node, ClockSetting(wall=line))
        try:
            return await cluster.restart(nodes)
        finally:
            for node in nodes:
                cluster.clocks.begin_with(node, None)
                if cluster.processes.pid(node) is None:
                    self.clocks.let_go(owner, (node, "wall"))

    async def settle(self) -> None:
        """Wait until every monotonic clock that returns shows true time again.

        Other strikes may take hold of one meanwhile; it is theirs to bring back then.

        Raises:
            HarnessError: A clock has not returned in time; names the node.
        """
        while self._returning:
            node = next(iter(self._returning))
            rate = self._returning.pop(node)
            if self.clocks.of((node, "mono")):
                continue
            ahead_ns = await self._told_ahead_ns(node)
            pace = abs(1 - ClockLine(None, rate, returns=True).rate_from(ahead_ns))
            await asyncio.sleep(abs(ahead_ns) / 1e9 / pace)
            left_ns = await self._told_ahead_ns(node)
            if self.clocks.of((node, "mono")) or node in self._returning:
                continue
            if abs(left_ns) > BACK_WITHIN_NS:
                raise HarnessError(
                    f"{node}: its monotonic clock was to be true again, and is "
                    f"{left_ns / 1e9:+.3f} s from it"
                )

    async def _set_clock(self, node: str, clock: ClockName, line: ClockLine) -> None:
        wall = clock == "wall"
        setting = ClockSetting(wall=line) if wall else ClockSetting(mono=line)
        await self.cluster.set_clock(node, setting)

    async def _ahead_ns(self, node: str, clock: ClockName) -> int:
        """How far a clock is ahead, from the memory that the node reads it from."""
        reading = await self.cluster.clocks.read_clock(node)
        return 0 if reading is None else reading.offset_ns(clock)

    async def _told_ahead_ns(self, node: str) -> int:
        """How far a monotonic clock is ahead, as `Cluster.read_clock` also records."""
        reading = await self.cluster.read_clock(node)
        return 0 if reading is None else reading.mono_offset_ns

    def _why_it_may_end(self, node: str) -> str:
        """What a node must not go on with, if anything: to end itself is right then."""
        return self._why_now(node) or self._excuses.get(node, "")

    def _keeps_down(self, node: str) -> bool:
        """Whether a strike in force holds a node down, or would make it end again."""
        return bool(self.down.of(node) or self._why_now(node))

    def _why_now(self, node: str) -> str:
        """What of the strikes in force explains that a node ends itself."""
        if any(rule.error for rules in self.disks.of(node) for rule in rules):
            return "as its disk failed"
        for resource in RESOURCES:
            if self.limited.of((node, resource)):
                return f"while its {resource} had a low limit"
        if any(self.damaged.of(node)):
            return "as its disk was damaged"
        return "as it was removed from the cluster" if node in self.leaving else ""

    def excuse(self, nodes: Collection[str]) -> None:
        """Remember what explains the ends of these nodes, as it is about to be healed.

        A process may end itself later for what it met: what it read is not unread.
        """
        for node in nodes:
            why = self._why_it_may_end(node)
            if why and node not in self.cluster.dead():
                self._excuses[node] = why

    def _exited(self, exited: Exit) -> None:
        """Drop all holds of a process that has exited: pause, limits and clocks."""
        self._excuses.pop(exited.node, None)
        self.paused.drop(exited.node)
        for resource in RESOURCES:
            self.limited.drop((exited.node, resource))
        self._owed.pop(exited.node, None)
        for clock in CLOCKS:
            self.clocks.drop((exited.node, clock))


def disk_of(node: str) -> str:
    """What a node's disk is called in evidence."""
    return f"disk of {node}"


class Grip:
    """One strike's hold on the cluster; a nemesis acts through it.

    Attributes:
        tally: Counts that a nemesis keeps between strike and heal.
    """

    def __init__(self, force: Force, owner: int) -> None:
        self.tally: Counter[str] = Counter()
        self._force = force
        self._cluster = force.cluster
        self._owner = owner
        self._before: Mapping[Link, LinkCounters] = {}
        self._readings: dict[str, ClockReading | None] = {}
        self._disks_before: Mapping[str, DiskCounters] = {}
        self._starved_before: dict[str, Starvation] = {}
        self._work: asyncio.Task[None] | None = None

    # Who is there

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes."""
        return self._cluster.nodes

    def standing(self) -> Standing:
        """What is left of the cluster now, with all strikes in force."""
        force, pid = self._force, self._cluster.processes.pid
        down = {*force.down.things(), *force.paused.things()}
        return Standing(
            self.nodes,
            [n for n in self.nodes if n not in down and pid(n) is not None],
            {link for link in force.links.things() if merge(force.links.of(link)).cut},
        )

    async def leader(self) -> str | None:
        """The node that says it leads; None if none says so within a second."""
        return await self._cluster.leader()

    def seems_to_lead(self) -> tuple[str, str]:
        """A node that may lead though none says so, and why it may be that one."""
        return self._cluster.seems_to_lead()

    # Members

    @property
    def operated(self) -> Administered:
        """The system, as an operator sees it; raises HarnessError if it has none."""
        return self._cluster.operated

    async def members(self) -> list[str]:
        """The members, in order, by what nodes say; empty if nobody tells."""
        return await self._cluster.members()

    async def change(
        self, change: Change, node: str, through: str, timeout_s: float
    ) -> None:
        """Ask a node to change the members, or who leads.

        Raises:
            NodeReply: It refused, or nobody knows.
            Timeout: It is not known to be done in time.
        """
        if change == "remove" and not self.operated.rejoins:
            self._force.leaving.add(node)  # it may end before this is known to be done
        await self._cluster.change(change, node, through, timeout_s)

    def settled(self, members: Collection[str]) -> None:
        """Whoever is a member again has no reason to end, even if it was removed."""
        self._force.leaving.difference_update(members)

    async def empty(self, node: str) -> int:
        """Take away what is on the disk of a node that is down; how many bytes.

        From then on it joins the cluster that there is. Only for a node that was
        removed: a member that forgets what it promised breaks any protocol.
        """
        return await self._cluster.empty(node)

    # Processes

    async def kill(self, nodes: Sequence[str]) -> dict[str, int]:
        """SIGKILL all of `nodes` at once; node -> its pid, 0 if it wasn't running."""
        self._hold_down(nodes)
        return await self._cluster.kill(nodes)

    async def end(
        self, nodes: Sequence[str], patience_s: float = 0.0
    ) -> Mapping[str, Ended]:
        """End all of `nodes` at once, and hold them down.

        With some patience they are sent SIGTERM, and SIGKILL when it is over.
        """
        self._hold_down(nodes)
        return await self._cluster.end(nodes, patience_s)

    async def try_start(self, nodes: Sequence[str]) -> dict[str, dict[str, Json]]:
        """Start nodes that this strike alone holds down, and go on holding them."""
        mine = [n for n in nodes if len(self._force.down.of(n)) == 1]
        return await self._cluster.restart(mine)

    async def rest(self, seconds: float) -> bool:
        """Let time pass; False, and at once, when the run's time is up."""
        return seconds <= 0 or await self._cluster.rest(seconds)

    def _hold_down(self, nodes: Sequence[str]) -> None:
        for node in nodes:
            self._force.down.take(self._owner, node, True)

    async def restart(self, nodes: Sequence[str]) -> dict[str, dict[str, Json]]:
        """Start those of `nodes` that no other strike holds down; wait for them."""
        return await self._cluster.restart(self._freed(self._force.down, nodes))

    async def pause(self, nodes: Sequence[str]) -> dict[str, Mapping[str, str]]:
        """SIGSTOP all of `nodes`; the states of their processes as read back."""
        states = await self._cluster.pause(nodes)
        for node in nodes:
            if states[node]:
                self._force.paused.take(self._owner, node, True)
        return states

    async def resume(self, nodes: Sequence[str]) -> None:
        """Let those of `nodes` go on that no other strike stops."""
        await self._cluster.resume(self._freed(self._force.paused, nodes))

    async def restart_skewed(
        self, nodes: Sequence[str], skew: Skew
    ) -> dict[str, dict[str, Json]]:
        """Do what `restart` does, and have wall clocks begin wrong as `skew` says.

        A node that another strike holds down begins with true clocks, once that lets it
        go.
        """
        freed = self._freed(self._force.down, nodes)
        return await self._force.restart_skewed(self._owner, freed, skew)

    async def starve(self, nodes: Sequence[str], share: float) -> None:
        """Let `nodes` run for `share` of the time, times what other strikes leave."""
        processes = self._cluster.processes
        for node in nodes:
            self._starved_before[node] = await processes.starvation(node)
            self._force.starved.take(self._owner, node, share)
        await self._force.apply_shares(nodes)

    async def feed(self) -> dict[str, tuple[Starvation, Starvation]]:
        """End this strike's part; node -> what it had been kept from before and now."""
        nodes = self._force.starved.things(self._owner)
        self._freed(self._force.starved, nodes)
        await self._force.apply_shares(nodes)
        processes = self._cluster.processes
        return {
            node: (self._starved_before[node], await processes.starvation(node))
            for node in nodes
        }

    async def limit(
        self, node: str, resource: Resource, spare: int
    ) -> Mapping[str, Limit]:
        """Leave a node's processes so much more than they use; pid -> its limit."""
        if self._cluster.processes.pid(node) is None:
            return {}
        self._force.limited.take(self._owner, (node, resource), spare)
        return await self._force.apply_limit(node, resource)

    async def unlimit(self) -> dict[str, Mapping[str, Limit]]:
        """End this strike's limits; node -> pid -> what the limit is then."""
        things = self._force.limited.things(self._owner)
        self._force.excuse({node for node, _ in things})
        self._freed(self._force.limited, things)
        return {
            node: await self._force.apply_limit(node, resource)
            for node, resource in things
        }

    # Disks

    async def cut_power(self, losses: Mapping[str, Loss]) -> Mapping[str, Lost]:
        """Cut the power of these nodes at once; what each lost."""
        for node in losses:
            self._force.down.take(self._owner, node, True)
        return await self._cluster.disks.cut_power(losses)

    async def rule_disks(self, nodes: Sequence[str], rules: Sequence[DiskRule]) -> None:
        """Put `rules` in force on each node's disk, beside those of other strikes."""
        self._disks_before = await self._cluster.disks.counters()
        for node in nodes:
            self._force.disks.take(self._owner, node, tuple(rules))
        await self._force.apply_disks()

    async def free_disks(self) -> dict[str, DiskCounters]:
        """Take this strike's rules away; what the disks did while they were there.

        Where other strikes have rules on a disk too, what came of those is counted in.
        """
        nodes = self._force.disks.things(self._owner)
        now = await self._cluster.disks.counters()
        self._force.excuse(nodes)
        self._freed(self._force.disks, nodes)
        await self._force.apply_disks()
        return {node: now[node] - self._disks_before[node] for node in nodes}

    async def snapshot(self, node: str, damage: Damage) -> int:
        """Keep what `damage` may restore of a node's disk; the number of files.

        The disk counts as damaged from then on, but excuses nobody: nothing is amiss.
        """
        self._force.damaged.take(self._owner, node, False)
        return await self._cluster.disks.snapshot(node, damage)

    async def damage(self, node: str, damage: Damage) -> Decayed:
        """Damage what is durable of a node's disk."""
        damaged, owner = self._force.damaged, self._owner
        before = damaged.how(owner, node) or False
        damaged.take(owner, node, before)
        done = await self._cluster.disks.damage(node, damage)
        damaged.take(owner, node, before or bool(done.file))
        return done

    def damaged(self) -> set[str]:
        """The nodes whose disks any strike has damaged."""
        return set(self._force.damaged.things())

    async def repair(self, nodes: Sequence[str]) -> dict[str, int]:
        """Undo the damage to those that no other strike holds; how many places each."""
        self._force.excuse(nodes)
        return {
            node: await self._cluster.disks.repair(node)
            for node in self._freed(self._force.damaged, nodes)
        }

    def stopped(self, nodes: Sequence[str]) -> list[str]:
        """Those of `nodes` that don't run, though no strike holds them down."""
        dead = self._cluster.dead()
        return [n for n in nodes if n in dead and not self._force.down.of(n)]

    async def revive(self, nodes: Sequence[str]) -> dict[str, dict[str, Json]]:
        """Start those of `nodes` that don't run, though no strike holds them down."""
        return await self._cluster.restart(self.stopped(nodes))

    # Links

    async def shape_links(self, rules: Mapping[Link, LinkRule]) -> None:
        """Put `rules` in force, beside those of other strikes.

        They take the place of rules that this strike has put in force before. A link
        that had one and has none now is healthy as far as this strike goes, and what
        happens on it is still counted as the strike's.
        """
        if not self._before:
            self._before = await self._cluster.network.counters()
        healthy = dict.fromkeys(self._force.links.things(self._owner), LinkRule())
        for link, rule in {**healthy, **rules}.items():
            self._force.links.take(self._owner, link, rule)
        await self._force.apply_links()

    async def mend_links(self) -> LinkCounters:
        """Take this strike's rules away; counts of their links since they began."""
        links = self._force.links.things(self._owner)
        now = await self._cluster.network.counters()
        counts = {
            field.name: sum(
                getattr(now[link], field.name)
                - getattr(self._before.get(link, LinkCounters()), field.name)
                for link in links
                if link in now
            )
            for field in fields(LinkCounters)
        }
        self._before = {}
        self._freed(self._force.links, links)
        await self._force.apply_links()
        return LinkCounters(**counts)

    # Clocks

    async def read_clocks(self, nodes: Sequence[str]) -> dict[str, ClockReading | None]:
        """The clocks of each node, read in turn; None for one that isn't running."""
        readings = {node: await self._cluster.read_clock(node) for node in nodes}
        self._readings = self._readings or readings
        return readings

    @property
    def first_readings(self) -> Mapping[str, ClockReading | None]:
        """The first reading of each node's clocks by this strike."""
        return self._readings

    async def skew(self, node: str, clock: ClockName, skew: Skew, now_ns: int) -> None:
        """Have a clock that is `now_ns` ahead go wrong as `skew` says.

        It replaces an earlier skew of this strike.
        """
        await self._force.skew(self._owner, node, clock, skew, now_ns)

    async def set_right(
        self, node: str, clock: ClockName, return_rate: float = RETURN_RATE
    ) -> None:
        """Undo what this strike did to a clock, as `Force.set_right` describes."""
        await self._force.set_right(self._owner, node, clock, return_rate)

    async def settle(self) -> None:
        """Wait until every monotonic clock that returns shows true time again."""
        await self._force.settle()

    def wall_ns(self) -> int:
        """True wall time, in nanoseconds since 1970."""
        return self._cluster.time.wall_ns()

    # What only one kind of fault knows

    def take(self, name: str) -> None:
        """Hold a thing that only this kind of fault knows, by a name that it gives."""
        self._force.names.take(self._owner, name, True)

    def let_go(self, name: str) -> bool:
        """Let go of the thing of that name; True if no other strike holds it."""
        return bool(self._freed(self._force.names, [name]))

    def first(self, name: str, value: Json) -> Json:
        """The first value, other than an empty one, that any strike gave this name."""
        if value:
            self._force.firsts.setdefault(name, value)
        return self._force.firsts.get(name, value)

    def owe(self, name: str, debt: Debt | None) -> None:
        """Leave something to be brought back until no strike is in force any more.

        Args:
            name: What it is; there is one debt of that name.
            debt: Brings it back, and tells what came of that, in a sentence and as
                evidence. None: it is back.
        """
        self._force.debts.pop(name, None)
        if debt is not None:
            self._force.debts[name] = debt

    def meanwhile(self, work: Coroutine[None, None, None]) -> None:
        """Run `work` in the background until it is done or the strike is healed.

        If it fails, `stop_work` says so.
        """
        assert self._work is None
        self._work = asyncio.create_task(work)
        # A run that ends before the heal never asks, and asyncio would print that.
        self._work.add_done_callback(lambda t: t.cancelled() or t.exception())

    # Healing

    @property
    def left_to_others(self) -> list[str]:
        """Things that this strike let go of while others held them alike, by name."""
        return [x for sort in self._force.sorts for x in sort.left_by(self._owner)]

    @property
    def held_for_longer(self) -> list[str]:
        """Things that others let go of while this strike held them alike, by name."""
        return [x for sort in self._force.sorts for x in sort.left_to(self._owner)]

    async def stop_work(self) -> None:
        """End the work that `meanwhile` began; raises the error that it failed with."""
        work, self._work = self._work, None
        if work is not None:
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work

    async def release(self) -> None:
        """Let go of all that is still held: what the nemesis' own heal has left."""
        force, owner = self._force, self._owner
        await self.stop_work()
        if force.links.things(owner):
            await self.mend_links()
        if paused := force.paused.things(owner):
            await self.resume(paused)
        await self.feed()
        await self.unlimit()
        for node, clock in force.clocks.things(owner):
            await self.set_right(node, clock)
        if force.disks.things(owner):
            await self.free_disks()
        if damaged := force.damaged.things(owner):
            await self.repair(damaged)
        if down := force.down.things(owner):
            await self.restart(down)
        self._freed(force.names, force.names.things(owner))

    def _freed(self, sort: Holds[Thing, How], things: Collection[Thing]) -> list[Thing]:
        """Let go of `things`; return those that no strike holds any more."""
        return [thing for thing in things if sort.let_go(self._owner, thing)]
