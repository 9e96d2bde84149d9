"""The controller: runs one test in a world that has been set up, and records it.

It is the same for both worlds, and knows them by the interfaces of `harness.worlds`
alone. It runs under asyncio, in one thread, and records every failure in the run
folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import traceback
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from harness.errors import HarnessError, NodeReply, Timeout
from harness.faults.cluster import Cluster, ClusterNeverUpError
from harness.faults.leadership import Leadership, leader_line, names_of
from harness.faults.watchdog import Watchdog
from harness.history.formats.jsonl import HistoryWriter
from harness.run import programs
from harness.run.gauges import Gauges
from harness.run.interpreter import Outcome, interpret
from harness.run.records import VERSION, Conviction, RunRecord
from harness.systems.abilities import (
    PREPARE_LIMIT_S,
    Cast,
    Counted,
    Inspected,
    Prepared,
)
from harness.workload import OP_TIMEOUT_S, Settling, op_timeout_s
from harness.workload import generator as gen
from harness.worlds.events import Passed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness.data import Json
    from harness.faults import Schedule
    from harness.history import Op
    from harness.run.assembling import Parts
    from harness.run.monitor import Watch
    from harness.run.spec import TestSpec
    from harness.run.store import RunFolder
    from harness.worlds.clocks import ClockReading
    from harness.worlds.events import Event, Where
    from harness.worlds.world import World, Written

GRACE_S = 0.5
"""Quiet time between the healing and the final operations, at least."""
CLOCK_SAMPLE_S = 1.0
FINAL_S = 10.0
"""Limit of the final operations, in case the system does not come back to life. Where
operations take longer than usual to time out, the limit is longer by as much."""

OUTCOME_COUNTERS = (
    "timeouts",
    "no_client",
    "client_crashes",
    "late_replies",
    "abandoned",
    "close_errors",
    "nemesis_ops",
)


@dataclass(frozen=True)
class Progress:
    """How far a run is, for the progress line."""

    seconds: float
    seconds_limit: float
    ok: int
    fail: int
    info: int
    faults: tuple[str, ...]


class Controller:
    """Runs one test against a world that has been set up."""

    def __init__(
        self,
        spec: TestSpec,
        parts: Parts,
        schedule: Schedule,
        folder: RunFolder,
        world: World,
        show: Callable[[Progress], None] | None = None,
        watch: Watch | None = None,
        *,
        hasty: bool = False,
    ) -> None:
        self.spec = spec
        self.parts = parts
        self.schedule = schedule
        self.folder = folder
        self.world = world
        self._show = show
        self._watch = watch
        self._hasty = hasty  # ends at its conviction, without final operations
        self.convicted: Conviction | None = None
        self._unjudged: HarnessError | None = None
        self.errors: list[str] = []
        self.never_up = ""
        self.ended = "failed"
        self.outcome: Outcome | None = None
        self._start_ns = world.time.monotonic_ns()
        self._faults = folder.lines("faults.jsonl")
        self._clocks = folder.lines("clocks.jsonl")
        self._crashes = folder.lines("errors.jsonl")
        line = leader_line(parts.system)
        self._events = {*schedule.events, *([line] if line else [])}
        self._leadership = Leadership(
            spec.node_names,
            parts.workload.idempotent,
            spec.seed,
            functools.partial(world.watcher.last_logged, line) if line else None,
            names_of(world.network.places),
        )
        self._in_force: dict[Json, str] = {}  # by the number of the step
        self._in_flight: Counter[str] = Counter()  # client operations by function
        self._completed = 0  # client operations
        self._kept_down: dict[str, str] = {}
        self._roles: dict[str, str] = {}
        self._programs: dict[str, str] = {}
        self._written_at_start: dict[str, Written] = {}
        self._op_timeout_s = op_timeout_s(parts.workload, spec.op_timeout_s)

    def now_ns(self) -> int:
        """Nanoseconds since the start of the run."""
        return self.world.time.monotonic_ns() - self._start_ns

    async def conduct(self) -> None:
        """Carry out the whole run. Every failure ends up in run.json; none is raised.

        If run.json can't be written it is missing, and its readers say so.
        """
        stop = asyncio.Event()
        world = self.world
        world.on_interrupt(stop.set)
        cluster = Cluster(
            self.parts.system,
            world.network,
            world.processes,
            world.clocks,
            self.note,
            world.time,
            self._leadership,
            world.disks,
        )
        cluster.clock_samples = self._clock_sample
        self._kept_down = cluster.kept_down
        # A world that has lost a part ends the run. `guard.result()` raises the cause,
        # which tells this end from an interrupt.
        guard = asyncio.create_task(world.watch_over())
        guard.add_done_callback(lambda _: stop.set())
        try:
            if await self._up(cluster, stop):
                if self.spec.world == "os":  # simulated nodes have no program
                    launched = cluster.launched.values()
                    self._programs = programs.digests(launched, self.folder.path)
                self._start_ns = world.time.monotonic_ns()
                self._written_at_start = dict(world.watcher.written())
                self.outcome = await self._run(cluster, stop)
            if guard.done():
                guard.result()
            self._was_judged()
            self.ended = self.outcome.ended if self.outcome else "interrupted"
            if self.convicted is not None:
                if self.ended == "complete":
                    self.ended = "convicted"
                elif self._hasty:
                    self.ended = "cut"
        except ClusterNeverUpError as down:
            self.never_up = self._with_log(str(down))
            self.ended = "complete"
        except HarnessError as failure:
            self._failed(str(failure))
        except Exception as failure:
            # A bug of ours or of a plug-in. What was recorded is still worth keeping,
            # and nodes have to be taken down; the traceback goes to errors.jsonl.
            self._failed(f"{type(failure).__name__}: {failure}", traceback.format_exc())
        finally:
            guard.cancel()
            await asyncio.gather(guard, return_exceptions=True)
            await self._finish()

    def _was_judged(self) -> None:
        """See that the judge beside the run did not fail, if there was one.

        Raises:
            HarnessError: It did.
        """
        if self._unjudged is not None:
            raise self._unjudged

    async def _up(self, cluster: Cluster, stop: asyncio.Event) -> bool:
        """Start the cluster; False if a stop came before all nodes served."""
        starting = asyncio.create_task(self._start(cluster))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if starting.done():
            starting.result()
            return True
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False

    async def _start(self, cluster: Cluster) -> None:
        """Start the nodes, and prepare the cluster if its system asks for that.

        Raises:
            ClusterNeverUpError: A node never served, or the preparation failed.
        """
        self.world.watcher.follow(
            event for event in self._events if not isinstance(event, Passed)
        )
        await cluster.start()
        system, places = self.parts.system, cluster.places
        if isinstance(system, Cast):
            self._roles = {name: system.role(place) for name, place in places.items()}
            told = ", ".join(f"{name} {role}" for name, role in self._roles.items())
            self.note("roles", cluster.nodes, f"roles: {told}", self._roles)
        if not isinstance(system, Prepared):
            return
        try:
            async with asyncio.timeout(PREPARE_LIMIT_S):
                await system.prepare(list(places.values()))
        except TimeoutError:
            why = f"it took more than {PREPARE_LIMIT_S:g} s"
        except (NodeReply, Timeout) as refused:
            why = str(refused)
        except Exception as bug:
            # A system's code may raise anything; the traceback goes to errors.jsonl.
            self._crash("harness", None, traceback.format_exc())
            why = f"{type(bug).__name__}: {bug}"
            text = f"{system.name} could not be prepared: {why}"
            raise HarnessError(text) from bug
        else:
            self.note("prepared", cluster.nodes, "the cluster was prepared", {})
            return
        raise ClusterNeverUpError(f"{system.name} could not be prepared: {why}")

    async def _run(self, cluster: Cluster, stop: asyncio.Event) -> Outcome:
        conductor = self.schedule.conductor(cluster, self._fault)
        history = HistoryWriter(self.folder.path / "history.jsonl")

        def record(op: Op) -> Op:
            self._leadership.watch(op)
            if op.is_client:
                self._in_flight[op.f] += 1 if op.type == "invoke" else -1
                self._completed += op.type != "invoke"
            return history.record(op)

        watchdog = Watchdog(cluster, self.note) if self.spec.watchdog else None
        beside = [asyncio.create_task(conductor.look_ahead())]
        if self._events:
            beside.append(asyncio.create_task(self.world.watcher.poll()))
        if self.schedule.needs.clocks:
            beside.append(asyncio.create_task(self._sample_clocks(cluster)))
        gauges = Gauges(self.folder, self.world, self.now_ns)
        if (
            self.spec.world == "os"
        ):  # simulated nodes use nothing that could be measured
            watches = gauges.watch_usage(), gauges.watch_logs()
            beside += [asyncio.create_task(watch) for watch in watches]
        enough = asyncio.Event()
        if self._watch is not None:
            beside.append(asyncio.create_task(self._convict(self._watch, enough, stop)))
        try:
            return await interpret(
                self._generator(),
                concurrency=self.spec.concurrency,
                nodes=list(cluster.places.values()),
                open_client=lambda: self.parts.system.client(self.parts.workload),
                nemesis=conductor,
                record=record,
                op_timeout_s=self._op_timeout_s,
                idempotent=self.parts.workload.idempotent,
                seed=self.spec.seed,
                crash=self._crash,
                stop=stop,
                prod=enough,
                now_ns=self.now_ns,
                on_progress=self._shower(),
            )
        finally:
            for task in beside:
                task.cancel()
            ended = asyncio.gather(*beside, conductor.close(), return_exceptions=True)
            for result in await ended:
                # What ended the run may be what ended work beside it.
                if isinstance(result, HarnessError):
                    if str(result) not in self.errors:
                        self._failed(str(result))
                elif isinstance(result, Exception):
                    self._failed(f"{type(result).__name__}: {result}")
            for problem in self.world.watcher.problems:
                self.note("trigger", [], problem, {})
            if watchdog is not None:
                await watchdog.close()
            gauges.close()
            history.close()

    async def _convict(
        self, watch: Watch, enough: asyncio.Event, stop: asyncio.Event
    ) -> None:
        """Wait until the run is known to be invalid, and have it come to its end.

        A hasty run ends at once; any other heals, and reads what is left.
        If the judge fails, that ends the run at once.
        """
        try:
            charge = await watch.charge()
        except HarnessError as failure:
            self._unjudged = failure
            stop.set()
            return
        self.convicted = Conviction(
            after_s=round(self.now_ns() / 1e9, 3),
            ops=self._completed,
            checker=charge.checker,
            anomaly=charge.anomaly,
            events=charge.events,
        )
        (stop if self._hasty else enough).set()

    def _generator(self) -> gen.Generator:
        """Clients and nemesis side by side; then heal, settle, and final operations."""
        spec = self.spec
        clients = self.parts.workload.generator(spec.concurrency)
        if spec.ops is not None:
            clients = gen.limit(spec.ops, clients)
        if spec.rate is not None:
            clients = gen.rate(spec.rate, clients)
        main = gen.beside(clients, self.schedule.generator(self._sightings))
        main = gen.until(lambda: self.convicted is not None, main)
        final = self.parts.workload.final_generator(spec.concurrency)
        phases = [
            gen.time_limit(spec.time_limit_s, main),
            gen.nemesis(self.schedule.heal()),
        ]
        if final is not None:
            longer_s = max(0.0, self._op_timeout_s - OP_TIMEOUT_S)
            closing = gen.clients(gen.time_limit(FINAL_S + longer_s, final))
            phases += [gen.sleep(self._settle_s()), closing]
        return gen.phases(*phases)

    def _settle_s(self) -> float:
        """How long nothing is asked before the final operations."""
        workload = self.parts.workload
        asked_s = workload.settle_s if isinstance(workload, Settling) else 0.0
        return max(GRACE_S, asked_s)

    def _sightings(self, event: Event) -> Mapping[Where, int]:
        """How often an event of a trigger was seen so far, by where it happened."""
        if isinstance(event, Passed):
            return self.world.network.passed(event)
        return self.world.watcher.sightings(event)

    # Recording

    def _fault(self, line: Mapping[str, Json]) -> None:
        told: dict[str, Json] = {"time": self.now_ns(), **line}
        if line["event"] == "start":
            self._in_force[line["id"]] = str(line["title"])
        elif line["event"] in {"end", "failed"}:
            self._in_force.pop(line["id"], None)
        if line["event"] in {"start", "end"}:
            told["in_flight"] = {f: n for f, n in self._in_flight.items() if n}
        if line["event"] in {"asked", "end"}:
            written = self.world.watcher.written()
            told["written"] = {
                node: {name: n for name, n in asdict(each).items() if n is not None}
                for node, each in written.items()
            }
        self._faults.append(told)

    def note(
        self, kind: str, nodes: Sequence[str], title: str, evidence: Mapping[str, Json]
    ) -> None:
        """Record an event of nodes that no strike reports, such as an exit."""
        self._fault(
            {
                "id": None,
                "event": "note",
                "kind": kind,
                "title": title,
                "nodes": nodes,
                "evidence": evidence,
            }
        )

    def _clock_sample(self, node: str, reading: ClockReading) -> None:
        self._clocks.append(
            {
                "time": self.now_ns(),
                "node": node,
                "wall_offset_ms": round(reading.wall_offset_ns / 1e6, 3),
                "mono_offset_ms": round(reading.mono_offset_ns / 1e6, 3),
                "proof": reading.proof,
            }
        )

    async def _sample_clocks(self, cluster: Cluster) -> None:
        while True:
            await asyncio.gather(*(cluster.read_clock(n) for n in cluster.nodes))
            await asyncio.sleep(CLOCK_SAMPLE_S)

    def _crash(self, where: str, op: int | None, trace: str) -> None:
        self._crashes.append(
            {"time": self.now_ns(), "where": where, "op": op, "traceback": trace}
        )

    def _failed(self, text: str, trace: str = "") -> None:
        self.errors.append(text)
        # If the failure is a full disk, these lines can't be written either.
        with contextlib.suppress(HarnessError):
            self._crash("harness", None, trace or text)
            self.note("harness-error", [], text, {})

    def _with_log(self, text: str) -> str:
        """`text`, and the end of the log of the node that it begins with."""
        tail = self.folder.tail_of_log(text.partition(" ")[0])
        return f"{text}; its log ends: {tail.splitlines()[-1]}" if tail else text

    def _shower(self) -> Callable[[Outcome], None] | None:
        show = self._show
        if show is None:
            return None

        def on_progress(outcome: Outcome) -> None:
            show(
                Progress(
                    self.now_ns() / 1e9,
                    self.spec.time_limit_s,
                    outcome.ok,
                    outcome.fail,
                    outcome.info,
                    tuple(self._in_force.values()),
                )
            )

        return on_progress

    def _inspect_disks(self) -> None:
        """Record what nodes left on their disks, for the checkers of invariants."""
        system = self.parts.system
        if not isinstance(system, Inspected):
            return
        for name, place in self.world.network.places.items():
            lines = self.folder.lines_anew(f"nodes/{name}/on_disk.jsonl")
            for told in system.on_disk(place):
                lines.append({"node": name, "kind": told.kind, **told.fields})
            lines.close()

    @contextlib.contextmanager
    def _failures_kept(self) -> Iterator[None]:
        """Add a failure within to the run's errors, unless it stands there already."""
        try:
            yield
        except HarnessError as failure:
            if str(failure) not in self.errors:
                self.errors.append(str(failure))

    async def _finish(self) -> None:
        """Count, take everything down, and write run.json."""
        seconds = self.now_ns() / 1e9
        links: dict[str, dict[str, int]] = {}
        with self._failures_kept():
            counters = await self.world.network.counters()
            links = {f"{a}->{b}": asdict(c) for (a, b), c in counters.items()}
        if self._watch is not None:
            self._watch.close()
        with self._failures_kept():
            await self.world.close()
        with self._failures_kept():
            self._inspect_disks()
        outcome = self.outcome or Outcome()
        system = self.parts.system
        with self._failures_kept():
            self.folder.write_run(
                RunRecord(
                    version=VERSION,
                    ended=self.ended,
                    seconds=round(seconds, 3),
                    start_mono_ns=self._start_ns,
                    never_up=self.never_up,
                    ops={
                        "ok": outcome.ok,
                        "fail": outcome.fail,
                        "info": outcome.info,
                    },
                    counters={
                        **{name: getattr(outcome, name) for name in OUTCOME_COUNTERS},
                        **(
                            system.counters.as_json()
                            if isinstance(system, Counted)
                            else {}
                        ),
                    },
                    network=links,
                    kept_down=self._kept_down,
                    roles=self._roles,
                    written_at_start=self._written_at_start,
                    programs=self._programs,
                    errors=self.errors,
                    convicted=self.convicted,
                )
            )
