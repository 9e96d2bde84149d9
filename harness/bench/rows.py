"""The rows of the benchmark, in groups, each with its budget.

The budgets are the project's promises for a machine with two cores. A row is measured
`repeat` times; its peer, if it has one, takes turns with us.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.bench import children, peer
from harness.bench.children import BenchError
from harness.bench.figures import Budget, Figure, PeerFigure
from harness.bench.histories import REGISTERS, Kind, Shape
from harness.errors import UsageError
from harness.run import doctor
from harness.worlds.os.disk.mounting import why_no_disks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.bench.peer import Porcupine

CHECK_LIMIT_S = 60.0
PEER_PATIENCE_S = 5.0
PEER_PATIENCE_QUICK_S = 2.0
"""A peer that takes longer is measured once, as its figure is clear enough."""
LARGE_CALLS = 100_000
"""From this size on, memory and loading have a line in the table."""
NOT_SLOWER = Budget(1, "not_slower")
MEMORY_MIB = 1536
EXTRA_TURNS = 2
"""Additional turns for small histories, each with a history of its own: the difficulty
of a search depends on luck, for the peer even more than for us."""
NS_PER_S = 1_000_000_000


class SkippedError(Exception):
    """A row can't be measured on this machine; says why."""


@dataclass(frozen=True)
class Lab:
    """The conditions under which rows are measured.

    Attributes:
        folder: A folder for files, on the disk that runs would use.
        repeat: Samples of each figure.
        quick: Whether to measure less of everything.
        porcupine: The peer; None if it can't be built.
        no_porcupine: Why it can't be built; empty if it can.
    """

    folder: Path
    repeat: int
    quick: bool
    porcupine: Porcupine | None = None
    no_porcupine: str = ""


@dataclass(frozen=True)
class Row:
    """One thing to measure; it may give several figures.

    Attributes:
        name: GROUP/NAME, by which it is chosen.
        what: The name for people.
        measure: Measures it.
        full_only: Whether it takes too long for `--quick`.
    """

    name: str
    what: str
    measure: Callable[[Lab, Row], list[Figure]]
    full_only: bool = False

    @property
    def group(self) -> str:
        """The part before the slash."""
        return self.name.partition("/")[0]

    def figure(self, quantity: str, unit: str, samples: list[float]) -> Figure:
        """A figure of this row, without a budget yet."""
        title = f"{self.what}: {quantity}" if quantity else self.what
        return Figure(f"{self.name} {quantity}".strip(), title, unit, samples)


def scratch(lab: Lab) -> tempfile.TemporaryDirectory[str]:
    """A folder for one row's files."""
    return tempfile.TemporaryDirectory(dir=lab.folder)


def column(answers: list[dict[str, Any]], name: str) -> list[float]:
    """The values of one quantity in several answers."""
    return [float(answer[name]) for answer in answers]


# Histories


def measure_write(lab: Lab, row: Row) -> list[Figure]:
    """Measure the recording of a million ops, a write() each, as in a run."""
    answers = []
    for _ in range(lab.repeat):
        with scratch(lab) as folder:
            path = str(Path(folder) / "history.jsonl")
            answers.append(
                children.measure("write", shape=asdict(MILLION_OPS), path=path)
            )
    return [
        row.figure("", "s", column(answers, "seconds")),
        replace(
            row.figure("peak memory", "MiB", column(answers, "peak_mib")), detail=True
        ),
    ]


@dataclass(frozen=True)
class Load:
    """Measures the reading of a million ops in one of the formats, and the pairing."""

    format: str
    budget: Budget | None = None
    memory: Budget | None = None

    def __call__(self, lab: Lab, row: Row) -> list[Figure]:
        """Take one sample a turn, all of the same file."""
        with scratch(lab) as folder:
            path = str(Path(folder) / f"history.{self.format}")
            children.measure(
                "make", shape=asdict(MILLION_OPS), path=path, operations=None
            )
            answers = [children.measure("load", path=path) for _ in range(lab.repeat)]
        seconds = row.figure("", "s", column(answers, "seconds"))
        memory = row.figure("peak memory", "MiB", column(answers, "peak_mib"))
        return [
            replace(seconds, budget=self.budget),
            replace(memory, budget=self.memory),
        ]


MILLION_OPS = Shape("register", 500_000, clients=100)
"""Half a million calls: an invocation and a completion each."""


# Checks


@dataclass(frozen=True)
class CheckRow:
    """Measures how one history is judged, by us and by the peer.

    Attributes:
        shape: The shape of the history, from which its verdict is known.
        budget: Budget of the time.
        fast: Budget of the time with `[fast]`; None for a history without search.
        memory: Budget of the peak memory, loading included.
        load: Budget of the time of loading it.
    """

    shape: Shape
    budget: Budget = NOT_SLOWER
    fast: Budget | None = None
    memory: Budget | None = None
    load: Budget | None = None

    def __call__(self, lab: Lab, row: Row) -> list[Figure]:
        """Measure, in turns with the peer; small histories are made anew each turn."""
        if self.shape.kind not in REGISTERS:
            lab = replace(lab, porcupine=None)  # the peer's driver has no such model
        theirs = PeerFigure(peer.NAME, remark="" if lab.porcupine else "skipped")
        is_small = self.shape.calls < LARGE_CALLS
        turns = lab.repeat + (EXTRA_TURNS if is_small else 0)
        patience_s = PEER_PATIENCE_QUICK_S if lab.quick else PEER_PATIENCE_S
        has_numba = importlib.util.find_spec("numba") is not None
        ours, fast = [], []
        with scratch(lab) as folder:
            path, operations = (
                Path(folder) / n for n in ("history.jsonl", "operations")
            )
            for turn in range(turns):
                if turn == 0 or is_small:
                    self.make(turn, path, operations if lab.porcupine else None)
                ours.append(self.ours(path))
                if self.fast is not None and has_numba:
                    fast.append(self.ours(path, compiled="always"))
                if lab.porcupine is not None and worth_another_turn(theirs, patience_s):
                    self.theirs(lab.porcupine, operations, theirs)
        return self.figures(row, ours, fast, theirs)

    def make(self, turn: int, path: Path, operations: Path | None) -> None:
        """Write the history of a turn; each turn has another seed."""
        children.measure(
            "make",
            shape=asdict(replace(self.shape, seed=self.shape.seed + turn)),
            path=str(path),
            operations=None if operations is None else str(operations),
        )

    @property
    def promised(self) -> str:
        """The verdict that the history must get."""
        return "invalid" if self.shape.planted else "valid"

    def ours(self, path: Path, compiled: str = "never") -> dict[str, Any]:
        """Take one turn of ours.

        Raises:
            BenchError: The verdict is wrong; no figure makes up for that.
        """
        answer = children.measure(
            "check",
            path=str(path),
            model=self.shape.model,
            compiled=compiled,
            time_limit_s=CHECK_LIMIT_S,
        )
        if answer["verdict"] not in {self.promised, "unknown"}:
            raise BenchError(f"our verdict is {answer['verdict']}, not {self.promised}")
        return answer

    def theirs(self, porcupine: Porcupine, path: Path, found: PeerFigure) -> None:
        """Take one turn of the peer, and add it to `found`.

        Raises:
            BenchError: The peer's verdict is another one than that of the shape.
        """
        answer = porcupine.check(path)
        found.memory_mib.append(answer["peak_mib"])
        if answer["result"] == "timeout":
            found.gave_up_after = answer["seconds"]
            found.remark = f"no answer in {porcupine.time_limit_s:g} s"
        elif answer["result"] == "memory":
            found.gave_up_after = answer["seconds"]
            limit_gib = porcupine.memory_limit_mib / 1024
            found.remark = (
                f"{limit_gib:.1f} GiB full after {answer['seconds']:.0f} s, no answer"
            )
        elif (answer["result"] == "ok") != (self.promised == "valid"):
            raise BenchError(f"{peer.NAME} says {answer['result']}: {self.shape}")
        else:
            found.samples.append(answer["seconds"])
            found.cpu.append(answer["cpu_seconds"])

    def figures(
        self,
        row: Row,
        ours: list[dict[str, Any]],
        fast: list[dict[str, Any]],
        theirs: PeerFigure,
    ) -> list[Figure]:
        """The figures of time, time with `[fast]`, memory, and loading by itself."""
        found = [self.time(row, "", ours, self.budget, theirs)]
        if self.fast is not None:
            found.append(self.time(row, "with [fast]", fast, self.fast, theirs))
            if not fast:
                found[-1] = replace(found[-1], remark="skipped: numba is not installed")
        memory = row.figure("peak memory", "MiB", column(ours, "peak_mib"))
        load = row.figure("loading it", "s", column(ours, "load_seconds"))
        load = replace(load, cpu=column(ours, "load_cpu_seconds"))
        is_small = self.shape.calls < LARGE_CALLS
        their_memory = PeerFigure(theirs.name, theirs.memory_mib)
        return [
            *found,
            replace(
                memory,
                budget=self.memory,
                peer=their_memory if theirs.memory_mib else None,
                detail=is_small,
            ),
            replace(load, budget=self.load, detail=is_small),
        ]

    def time(
        self,
        row: Row,
        quantity: str,
        answers: list[dict[str, Any]],
        budget: Budget,
        theirs: PeerFigure,
    ) -> Figure:
        """The figure of the time with or without `[fast]`; with remark if unknown."""
        unknown = next((a["reason"] for a in answers if a["verdict"] == "unknown"), "")
        seconds = row.figure(quantity, "s", column(answers, "seconds"))
        cpu = column(answers, "cpu_seconds")
        return replace(seconds, budget=budget, peer=theirs, remark=unknown, cpu=cpu)


def worth_another_turn(found: PeerFigure, patience_s: float = PEER_PATIENCE_S) -> bool:
    """Whether the peer should take another turn.

    It should not if it gave up, or takes so long that its figure is clear enough.
    """
    return found.gave_up_after is None and max(found.samples, default=0) < patience_s


# Clusters


def need_switch() -> None:
    """Refuse rows that need the switch if this machine has none.

    Raises:
        SkippedError: There is no switch rung on this machine.
    """
    try:
        doctor.choose_rung("switch")
    except UsageError as problem:
        raise SkippedError(str(problem)) from None


def need_disks() -> None:
    """Refuse rows that are about disks of ours where there are none.

    Raises:
        SkippedError: This machine has none.
    """
    if why := why_no_disks():
        raise SkippedError(why)


def measure_cluster(lab: Lab, row: Row) -> list[Figure]:
    """Measure the start of five nodes from nothing, and a restart after kill -9."""
    need_switch()
    kills = 3 if lab.quick else 10
    answers = []
    for _ in range(lab.repeat):
        with scratch(lab) as folder:
            answers.append(children.measure("cluster", folder=folder, kills=kills))
    again = [float(s) for answer in answers for s in answer["again_s"]]
    ready = row.figure("ready, from nothing", "s", column(answers, "ready_s"))
    restart = row.figure("one serves again after kill -9", "s", again)
    return [
        replace(ready, budget=Budget(0.6)),
        replace(restart, budget=Budget(0.2)),
    ]


def measure_switch(lab: Lab, row: Row) -> list[Figure]:
    """Measure the median round trip of several switches."""
    need_switch()
    samples = []
    for _ in range(lab.repeat):
        with scratch(lab) as folder:
            answer = children.measure("switch", folder=folder, rounds=500)
        samples.append(median(answer["us"]) / 1e6)
    return [row.figure("", "s", samples)]


@dataclass(frozen=True)
class Loopback:
    """Measures the operations a second of nodes without fsync, on loopback.

    Attributes:
        load: A name of `loopback.LOADS`.
        budget: For the throughput.
    """

    load: str
    budget: Budget

    def __call__(self, lab: Lab, row: Row) -> list[Figure]:
        """Take one sample a cluster; what an operation costs stands beside it."""
        limit_s = 2 if lab.quick else 6
        answers = []
        for _ in range(lab.repeat):
            with scratch(lab) as folder:
                answers.append(
                    children.measure(
                        "loopback", folder=folder, load=self.load, limit_s=limit_s
                    )
                )
        rate = row.figure("", "ops/s", column(answers, "ops_s"))
        nodes = "processor time of the nodes, an operation"
        return [
            replace(rate, budget=self.budget),
            row.figure(nodes, "s", column(answers, "nodes_s")),
            replace(
                row.figure("the clients'", "s", column(answers, "client_s")),
                detail=True,
            ),
        ]


@dataclass(frozen=True)
class Throughput:
    """Measures the operations a second of `splitbrain run`, without faults.

    Only operations count that succeeded in the main phase: no refused cas, and no final
    reads.

    Attributes:
        settings: Of the system.
        budget: For the throughput.
        on_our_disks: Nodes have disks that could lose power.
        clients: How many there are.
    """

    settings: Mapping[str, str]
    budget: Budget | None = None
    on_our_disks: bool = False
    clients: int = 10

    def __call__(self, lab: Lab, row: Row) -> list[Figure]:
        """Take one sample a run."""
        need_switch()
        limit_s = 3 if lab.quick else 8
        samples = []
        for seed in range(lab.repeat):
            with scratch(lab) as folder:
                samples.append(self.sample(folder, seed, limit_s))
        return [replace(row.figure("", "ops/s", samples), budget=self.budget)]

    def sample(self, folder: str, seed: int, limit_s: int) -> float:
        """Operations a second of one run.

        Raises:
            BenchError: The run failed, or the system broke its promises.
        """
        command = [*SPLITBRAIN, "run", "raft", "--network", "switch", "--json"]
        command += ["--seed", str(seed), "--time-limit", str(limit_s)]
        command += ["--results", folder, "--concurrency", str(self.clients)]
        for name, value in self.settings.items():
            command += ["--set", f"{name}={value}"]
        if self.on_our_disks:
            plan = Path(folder, "plan.yaml")
            plan.write_text(NEVER, encoding="utf-8")
            command += ["--nemesis", "power", "--plan", str(plan)]
        status, out, err = children.run(command, children.TASK_LIMIT_S)
        if status:
            raise BenchError(f"the run was not valid: {children.last_line(err or out)}")
        run = Path(children.answer_in("run", out)["run"])
        done: int = sum(
            line["type"] == "ok"
            and line["time"] < limit_s * NS_PER_S
            and isinstance(line["process"], int)
            for line in json_lines(run / "history.jsonl")
        )
        return done / limit_s


NEVER = """
- at: {time_s: 100000}
  fault: {kind: power, target: [n1]}
  heal: {after_s: 1}
"""
"""A plan for which nodes have disks of ours, and which leaves them alone."""


def measure_disks(lab: Lab, row: Row) -> list[Figure]:
    """Throughput on disks of ours, as a share of that without, by pairs of runs."""
    need_switch()
    need_disks()
    limit_s = 3 if lab.quick else 8
    shares = []
    for seed in range(lab.repeat):
        with scratch(lab) as folder, scratch(lab) as other:
            ours = Throughput({}, on_our_disks=True).sample(folder, seed, limit_s)
            shares.append(100 * ours / Throughput({}).sample(other, seed, limit_s))
    share = row.figure("", "%", shares)
    return [replace(share, budget=Budget(60, "at_least"))]


SPLITBRAIN = [sys.executable, "-P", "-m", "harness"]


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a lines file."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


# Reports, and the start of the program


def measure_simulation(lab: Lab, row: Row) -> list[Figure]:
    """Measure simulated runs, the judging included; a sample is the median of seeds.

    Processor time, as it is what a core can do: nothing in a simulation waits. The time
    of a seed depends on its plan: they differ by a factor of two.
    """
    count, samples = 5 if lab.quick else 20, []
    for _ in range(lab.repeat):
        with scratch(lab) as folder:
            answer = children.measure("simulate", folder=folder, first=1, count=count)
        samples.append(median(answer["cpu_seconds"]))
    figure = row.figure("processor time of a seed", "s", samples)
    return [replace(figure, budget=Budget(0.3))]


def measure_help(lab: Lab, row: Row) -> list[Figure]:
    """Measure the shortest command, by the clock and by processor time.

    It is so short that it is measured more often than others.
    """
    turns = [time_of([*SPLITBRAIN, "--help"]) for _ in range(5 * lab.repeat)]
    wall = row.figure("by the clock", "s", [wall for wall, _ in turns])
    cpu = row.figure("processor time", "s", [cpu for _, cpu in turns])
    return [replace(wall, budget=Budget(0.15)), replace(cpu, budget=Budget(0.15))]


def time_of(command: list[str]) -> tuple[float, float]:
    """Seconds by the clock, and of processor time, that a command takes.

    Raises:
        BenchError: The command fails.
    """
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchError(f"{' '.join(command)}: exit status {process.returncode}")
    return wall, usage.ru_utime + usage.ru_stime


OBJECTS_THAT_CRASH: tuple[tuple[Kind, str, int], ...] = (
    ("texts", "kv with appends", 30),
    ("set", "set", 30),
    ("fifo-queue", "queue", 12),
)


def check_rows() -> list[Row]:
    """The rows of checks for linearizability.

    A call is an invocation and its completion: two ops. The promises for a million
    operations hold for a million calls; `--quick` measures half as many, which are a
    million lines of history.
    """
    cas: Kind = "cas-register"
    second, memory = Budget(1.0), Budget(MEMORY_MIB)
    thrice, hundredfold = Budget(3, "times_faster"), Budget(100, "times_faster")

    def row(name: str, what: str, how: CheckRow, *, full_only: bool = False) -> Row:
        return Row(f"check/{name}", what, how, full_only)

    def register(
        calls: int, clients: int, keys: int = 1, *, planted: bool = False
    ) -> Shape:
        return Shape("register", calls, clients, keys, planted=planted)

    def kv(calls: int) -> Shape:
        return Shape("kv", calls, 10, keys=1_000, think=10.0)

    return [
        row(
            "register-1k-c5",
            "register, 1k calls, 5 clients",
            CheckRow(register(1_000, 5)),
        ),
        row(
            "register-10k-c10",
            "register, 10k calls, 10 clients",
            CheckRow(register(10_000, 10)),
        ),
        row(
            "register-100k-c5",
            "register, 100k calls, 5 clients",
            CheckRow(register(100_000, 5), hundredfold),
        ),
        row(
            "register-100k-c20-invalid",
            "register, 100k calls, 20 clients, one stale read",
            CheckRow(register(100_000, 20, planted=True)),
            full_only=True,
        ),
        row(
            "register-500k-c100",
            "register, 500k calls, 100 clients",
            CheckRow(register(500_000, 100), second, memory=memory, load=Budget(2.0)),
        ),
        row(
            "register-1m-c100",
            "register, 1M calls, 100 clients",
            CheckRow(register(1_000_000, 100), second, memory=memory),
            full_only=True,
        ),
        row(
            "register-500-keys",
            "500 registers, 200 calls each, 10 clients a key",
            CheckRow(register(100_000, 5_000, 500), hundredfold),
        ),
        row(
            "register-5000-keys",
            "5000 registers, 200 calls each, 10 clients a key",
            CheckRow(register(1_000_000, 50_000, 5_000), hundredfold),
            full_only=True,
        ),
        row(
            "kv-500k",
            "kv, 500k calls, 1000 keys, little overlap",
            CheckRow(kv(500_000), thrice, memory=memory),
        ),
        row(
            "kv-1m",
            "kv, 1M calls, 1000 keys, little overlap",
            CheckRow(kv(1_000_000), thrice, memory=memory),
            full_only=True,
        ),
        row(
            "cas-1k-c5",
            "cas-register, 1k calls, 5 clients",
            CheckRow(Shape(cas, 1_000, 5)),
        ),
        row(
            "cas-1k-c5-crashes",
            "cas-register, 1k calls, 5 clients, 1 % crash",
            CheckRow(Shape(cas, 1_000, 5, crash=0.01), fast=NOT_SLOWER),
        ),
        row(
            "cas-400-c5-many-crash",
            "cas-register of 12 values, 400 calls, 5 clients, 30 % crash",
            CheckRow(Shape(cas, 400, 5, crash=0.3, values=12), second),
        ),
        row(
            "cas-1k-c10-many-crash",
            "cas-register of 100 values, 1k calls, 10 clients, 10 % crash",
            CheckRow(Shape(cas, 1_000, 10, crash=0.1, values=100), second),
        ),
        row(
            "cas-2k-c5-many-crash",
            "cas-register of 50 values, 2k calls, 5 clients, 30 % crash",
            CheckRow(Shape(cas, 2_000, 5, crash=0.3, values=50), second),
        ),
        *(
            row(
                f"{kind}-2k-c5-many-crash",
                f"{what} of {values} values, 2k calls, 5 clients, 30 % crash",
                CheckRow(Shape(kind, 2_000, 5, crash=0.3, values=values), second),
            )
            for kind, what, values in OBJECTS_THAT_CRASH
        ),
        row(
            "cas-20k-short-keys",
            "20,000 cas-registers, 7 calls each, 2 clients a key",
            CheckRow(Shape(cas, 140_000, 40_000, 20_000, think=3.0)),
        ),
        row(
            "cas-5k-c20-many-crash",
            "cas-register of 200 values, 5k calls, 20 clients, 5 % crash",
            CheckRow(Shape(cas, 5_000, 20, crash=0.05, values=200)),
            full_only=True,
        ),
        row(
            "cas-1k-c10-invalid",
            "cas-register, 1k calls, 10 clients, one impossible read",
            CheckRow(Shape(cas, 1_000, 10, planted=True), fast=NOT_SLOWER),
        ),
        row(
            "cas-10k-c10",
            "cas-register, 10k calls, 10 clients",
            CheckRow(
                Shape(cas, 10_000, 10),
                Budget(10, "times_faster"),
                Budget(20, "times_faster"),
            ),
        ),
        row(
            "cas-10k-c30",
            "cas-register, 10k calls, 30 clients",
            CheckRow(Shape(cas, 10_000, 30), Budget(5.0), second),
        ),
        row(
            "cas-500-keys",
            "500 cas-registers, 200 calls each, 10 clients a key",
            CheckRow(Shape(cas, 100_000, 5_000, 500)),
            full_only=True,
        ),
        row(
            "cas-100k-c30",
            "cas-register, 100k calls, 30 clients",
            CheckRow(Shape(cas, 100_000, 30), fast=NOT_SLOWER),
            full_only=True,
        ),
    ]


def rows() -> list[Row]:
    """All rows, in the order of the table."""
    return [
        Row("startup/help", "splitbrain --help", measure_help),
        Row("history/write-1m", "record 1M ops", measure_write),
        Row(
            "history/load-1m",
            "load and pair 1M ops",
            Load("jsonl", Budget(2.0), Budget(MEMORY_MIB)),
        ),
        Row(
            "history/load-edn-1m",
            "the same as Jepsen writes it",
            Load("edn"),
            full_only=True,
        ),
        *check_rows(),
        Row("cluster/restart", "five Raft nodes in namespaces", measure_cluster),
        Row("cluster/switch", "round trip through the switch", measure_switch),
        Row(
            "cluster/echo",
            "five nodes on loopback: echo",
            Loopback("echo", Budget(12_000, "at_least")),
        ),
        Row(
            "cluster/write",
            "writes to Raft on loopback, without fsync",
            Loopback("write", Budget(7_000, "at_least")),
        ),
        Row(
            "cluster/mixed",
            "reads, writes and cas there",
            Loopback("mixed", Budget(8_000, "at_least")),
        ),
        Row(
            "cluster/raft-mixed",
            "Raft, reads, writes and cas, durable log, through the switch",
            Throughput({}, Budget(2_500, "at_least")),
        ),
        Row(
            "cluster/raft-mixed-c40",
            "the same with 40 clients in place of 10",
            Throughput({}, clients=40),
            full_only=True,
        ),
        Row(
            "cluster/raft-mixed-no-fsync",
            "with 10 clients, without fsync",
            Throughput({"fsync": "false"}),
            full_only=True,
        ),
        Row(
            "cluster/raft-disks",
            "Raft on disks that can lose power, of the throughput without",
            measure_disks,
        ),
        Row(
            "sim/raft-1k",
            "five simulated Raft nodes, 1,000 operations, all faults, judged",
            measure_simulation,
        ),
    ]
