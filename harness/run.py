"""One run in the os world: set up, break, record, tear down.

The order matters. Everything that forks (namespaces, switch, warden) happens in a
process with one thread and before there is an event loop; only then the controller
starts, which is asyncio and nothing else. Whatever way the controller ends, the kernel
ends what it started: it is pid 1 of its own pid namespace, and the warden watches its
pipe.
"""

from __future__ import annotations

import asyncio
import datetime
import importlib
import platform
import shlex
import signal
import subprocess
import time
import traceback
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop

from harness import doctor
from harness import generator as gen
from harness.cluster import Cluster, ClusterNeverUpError
from harness.errors import HarnessError, UsageError
from harness.formats.jsonl import HistoryWriter
from harness.interpreter import Outcome, interpret
from harness.osworld import vdso
from harness.osworld.namespaces import run_isolated
from harness.osworld.proxy import ProxyNetwork
from harness.osworld.switch import SwitchNetwork
from harness.osworld.warden import Warden
from harness.spec import Parts, TestSpec, assemble, options_for
from harness.store import RunFolder
from harness.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.network import Network
    from harness.processes import ClockReading

OP_TIMEOUT_S = 2.0
NODE_PORT = 7000
GRACE_S = 0.5
"""Between the healing and the final operations."""
CLOCK_SAMPLE_S = 1.0
FINAL_S = 10.0
"""For the final operations, in case the system does not come back to life."""

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


def prepare(spec: TestSpec) -> tuple[Parts, Any, str]:
    """Check `spec` against systems, plug-ins and this machine: (parts, schedule, rung).

    Raises:
        UsageError: The run is impossible, and why.
    """
    written = spec.plan
    schedules = importlib.import_module("nemesis.schedule")
    if written is not None and not spec.nemesis:
        spec.nemesis = schedules.kinds(written)
    parts = assemble(spec)
    rung = doctor.choose_rung(spec.network)
    if rung not in parts.system.rungs:
        wanted = " or ".join(sorted(parts.system.rungs))
        # Asking for it by name makes the doctor say why it can't be had.
        if spec.network != "auto":
            raise UsageError(
                f"{parts.system.name} can't run on the {rung} network; "
                f"use --network {wanted}"
            )
        rung = doctor.choose_rung(min(parts.system.rungs))
    schedule = schedules.build(
        parts.nemeses,
        spec.node_names,
        seed=spec.seed,
        time_limit_s=spec.time_limit_s,
        written=written,
    )
    if "clocks" in schedule.needs:
        why = vdso.why_not()
        if why:
            raise UsageError(f"--nemesis clock can't be had here: {why}")
    return parts, schedule, rung


def run(
    spec: TestSpec, results: Path, show: Callable[[Progress], None] | None = None
) -> RunFolder:
    """Carry out `spec` and return the folder that holds what happened.

    Raises:
        UsageError: The run is impossible; nothing was started or written.
        HarnessError: The run could not be set up.
    """
    parts, schedule, rung = prepare(spec)
    folder = RunFolder.create(results, spec.folder_name, spec.seed)
    plan = folder.path / "plan.yaml"
    plan.write_text(schedule.yaml(), encoding="utf-8")
    repro = (
        spec.command() if spec.plan is None else [*spec.command(), "--plan", str(plan)]
    )
    folder.write_yaml(
        "test.yaml",
        {
            **describe(spec, rung),
            "repro": shlex.join(repro),
            "invariants": list(parts.system.invariants),
        },
    )

    def main() -> int:
        return execute(spec, parts, schedule, folder, rung, show)

    try:
        status = run_isolated(main) if rung == "switch" else main()
        failed = f"the controller ended with status {status}" if status else ""
    except HarnessError as failure:
        failed = str(failure)
    if failed:
        # What was recorded until now stays, and its analysis will say why it ends.
        done = folder.read_json("run.json") or {"ended": "failed"}
        done.setdefault("errors", []).append(failed)
        folder.write_json("run.json", done)
    return folder


def execute(
    spec: TestSpec,
    parts: Parts,
    schedule: Any,
    folder: RunFolder,
    rung: str,
    show: Callable[[Progress], None] | None,
) -> int:
    """Build the world and run the controller in it; as the controller."""
    network: SwitchNetwork | ProxyNetwork = (
        SwitchNetwork.create(
            spec.node_names, folder.path, port=NODE_PORT, seed=spec.seed
        )
        if rung == "switch"
        else ProxyNetwork.create(spec.node_names, folder.path, seed=spec.seed)
    )
    warden = Warden.fork(network.netns_fds)
    controller = Controller(spec, parts, schedule, folder, network, warden)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(controller.conduct(show))
    return 0


def describe(spec: TestSpec, rung: str) -> dict[str, Any]:
    """What stands in test.yaml: the spec, and what it ran on."""
    return {
        "name": spec.name or spec.folder_name,
        "system": spec.system,
        "system_options": options_for(spec)[0],
        "workload": spec.workload,
        "nemesis": spec.nemesis,
        "nodes": spec.node_names,
        "concurrency": spec.concurrency,
        "rate": spec.rate,
        "time_limit_s": spec.time_limit_s,
        "seed": spec.seed,
        "world": spec.world,
        "rung": rung,
        "expected": spec.expect,
        "spec": msgspec.to_builtins(spec),
        "versions": {
            "splitbrain": version("splitbrain"),
            "commit": commit(),
            "python": platform.python_version(),
            "kernel": platform.release(),
        },
        "started_utc": datetime.datetime.now(datetime.UTC).isoformat(),
    }


def commit() -> str:
    """The commit of the harness, where it runs from a checkout; else empty."""
    here = Path(__file__).resolve().parent
    try:
        described = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=False,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return described.stdout.strip()


class Controller:
    """Runs one test against a world that has been set up."""

    def __init__(
        self,
        spec: TestSpec,
        parts: Parts,
        schedule: Any,
        folder: RunFolder,
        network: Network,
        warden: Warden,
    ) -> None:
        self.spec = spec
        self.parts = parts
        self.schedule = schedule
        self.folder = folder
        self.network = network
        self.warden = warden
        self.errors: list[str] = []
        self.never_up = ""
        self.outcome: Outcome | None = None
        self._start_ns = time.monotonic_ns()
        self._faults = folder.lines("faults.jsonl")
        self._clocks = folder.lines("clocks.jsonl")
        self._crashes = folder.lines("errors.jsonl")
        self._in_force: dict[int, str] = {}
        self._watch = Watch(spec.node_names, folder.path)

    def now_ns(self) -> int:
        """Nanoseconds since the start of the run."""
        return time.monotonic_ns() - self._start_ns

    async def conduct(self, show: Callable[[Progress], None] | None) -> None:
        """The whole run. Whatever goes wrong ends up in run.json, never outside."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop.set)
        cluster = Cluster(self.parts.system, self.network, self.warden, self._note)
        cluster.clock_samples = self._clock_sample
        ended = "failed"
        try:
            await cluster.start()
            self._start_ns = time.monotonic_ns()
            self.outcome = await self._run(cluster, stop, show)
            ended = self.outcome.ended
        except ClusterNeverUpError as down:
            self.never_up = self._with_log(str(down))
            ended = "complete"
        except HarnessError as failure:
            self._failed(str(failure))
        except Exception as failure:
            self._failed(f"{type(failure).__name__}: {failure}", traceback.format_exc())
        finally:
            await self._finish(ended)

    async def _run(
        self,
        cluster: Cluster,
        stop: asyncio.Event,
        show: Callable[[Progress], None] | None,
    ) -> Outcome:
        conductor = self.schedule.conductor(cluster, self._fault)
        history = HistoryWriter(self.folder.path / "history.jsonl")
        beside = []
        if self.schedule.watches:
            beside.append(asyncio.create_task(self._watch.poll()))
        if "clocks" in self.schedule.needs:
            beside.append(asyncio.create_task(self._sample_clocks(cluster)))
        try:
            return await interpret(
                self._generator(),
                concurrency=self.spec.concurrency,
                nodes=list(cluster.places.values()),
                open_client=lambda: self.parts.system.client(self.parts.workload),
                nemesis=conductor,
                record=history.record,
                op_timeout_s=OP_TIMEOUT_S,
                idempotent=self.parts.workload.idempotent,
                seed=self.spec.seed,
                crash=self._crash,
                stop=stop,
                now_ns=self.now_ns,
                on_progress=self._shower(show),
            )
        finally:
            for task in beside:
                task.cancel()
            for result in await asyncio.gather(*beside, return_exceptions=True):
                if isinstance(result, Exception):
                    self._failed(f"{type(result).__name__}: {result}")
            history.close()

    def _generator(self) -> gen.Generator:
        """Clients and nemesis side by side; then heal, settle, and final operations."""
        spec = self.spec
        clients = self.parts.workload.generator(spec.concurrency)
        if spec.ops is not None:
            clients = gen.limit(spec.ops, clients)
        if spec.rate is not None:
            clients = gen.rate(spec.rate, clients)
        main = gen.beside(clients, self.schedule.generator(self._watch.sightings))
        final = self.parts.workload.final_generator(spec.concurrency)
        phases = [
            gen.time_limit(spec.time_limit_s, main),
            gen.nemesis(self.schedule.heal()),
        ]
        if final is not None:
            closing = gen.clients(gen.time_limit(FINAL_S, final))
            phases += [gen.sleep(GRACE_S), closing]
        return gen.phases(*phases)

    # What is written down

    def _fault(self, line: Mapping[str, Any]) -> None:
        if line["event"] == "start":
            self._in_force[line["id"]] = line["title"]
        elif line["event"] == "end":
            self._in_force.pop(line["id"], None)
        self._faults.append({"time": self.now_ns(), **line})

    def _note(
        self, kind: str, nodes: Sequence[str], title: str, evidence: Mapping[str, Any]
    ) -> None:
        line = {"id": None, "event": "note", "kind": kind, "title": title}
        self._fault({**line, "nodes": nodes, "evidence": evidence})

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
        self._crash("harness", None, trace or text)
        self._note("harness-error", [], text, {})

    def _with_log(self, text: str) -> str:
        """`text`, and the end of the log of the node that it begins with."""
        tail = self.folder.tail_of_log(text.partition(" ")[0])
        return f"{text}; its log ends: {tail.splitlines()[-1]}" if tail else text

    def _shower(
        self, show: Callable[[Progress], None] | None
    ) -> Callable[[Outcome], None] | None:
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

    async def _finish(self, ended: str) -> None:
        """Count, take everything down, and write run.json."""
        seconds = self.now_ns() / 1e9
        links: dict[str, Any] = {}
        try:
            counters = await self.network.counters()
            links = {f"{a}->{b}": asdict(c) for (a, b), c in counters.items()}
            await self.warden.close()
            await self.network.close()
        except HarnessError as failure:
            self.errors.append(str(failure))
        outcome = self.outcome or Outcome()
        unasked = getattr(self.parts.system, "counters", None)
        self.folder.write_json(
            "run.json",
            {
                "ended": ended,
                "seconds": round(seconds, 3),
                "never_up": self.never_up,
                "ops": {"ok": outcome.ok, "fail": outcome.fail, "info": outcome.info},
                "counters": {
                    **{name: getattr(outcome, name) for name in OUTCOME_COUNTERS},
                    **(unasked.as_json() if unasked is not None else {}),
                },
                "network": links,
                "errors": self.errors,
            },
        )
