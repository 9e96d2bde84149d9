"""Reads a run folder, in the shapes that a report needs.

A run may have been killed at any moment, so every file may be missing, end in a torn
line or hold nonsense; nodes, clients and options are untrusted besides. `store.Salvage`
reads the files, and lists in `problems` those that it could not read. This module turns
the data into the types that they should have.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from harness.history import History, HistoryError, Op, observations
from harness.run.lifecycle import lives
from harness.run.records import FaultLine
from harness.run.store import Salvage, leads_out, natural
from harness.visible import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.faults.states import Effect
    from harness.run.lifecycle import Life
    from harness.run.store import LogTail

SHRUNK = "shrunk/report.html"
"""The report of the smallest experiment that fails as the run did, if there is one."""
LANES_MAX = 256


class ClockLine(msgspec.Struct):
    """One line of clocks.jsonl: a node's clocks minus the true ones."""

    time: float
    node: str
    wall_offset_ms: float | None = None
    mono_offset_ms: float | None = None
    proof: str = ""


class ErrorLine(msgspec.Struct):
    """One line of errors.jsonl: a client crash or an error of the harness."""

    time: float = 0.0
    where: str = "somewhere"
    op: Any = None
    traceback: str = ""


@dataclass(frozen=True)
class Fault:
    """A fault from its start to its healing.

    Attributes:
        kind: "partition", "kill", "pause", "clock", ...
        title: The fault in words.
        nodes: The nodes it was aimed at; empty means all of them.
        start_ns: When it began; when it was asked for, if it was never applied.
        end_ns: When it was healed or given up; None if it lasted to the end of the
            record.
        effect: What came of it.
        applied: Whether it was in force from start to end.
        states: The states that it came to, in their order, with their times in ns.
        evidence: The proof, as recorded at start and end.
        meanwhile: What happened during it, by name: operations in flight, the leader.
    """

    kind: str
    title: str
    nodes: tuple[str, ...]
    start_ns: float
    end_ns: float | None
    effect: Effect
    applied: bool
    states: tuple[tuple[str, float], ...]
    evidence: Mapping[str, Any]
    meanwhile: Mapping[str, Any]


@dataclass(frozen=True)
class Note:
    """An event without duration: a node exited, a node started, ..."""

    kind: str
    title: str
    nodes: tuple[str, ...]
    time_ns: float
    evidence: Mapping[str, Any]


class Call(NamedTuple):
    """A client operation: its invocation and, if it returned, its completion.

    A completion without its invocation, and an event that a node observed of itself,
    are both at once.
    """

    invoke: Op
    done: Op | None
    named: int | None = None
    """The index, of its two, by which an anomaly names it."""

    @property
    def number(self) -> int:
        """The index to show: the one by which an anomaly names it."""
        return self.invoke.index if self.named is None else self.named

    @property
    def is_event(self) -> bool:
        """Whether this is an event that a node observed, and no client operation."""
        return not self.invoke.is_client

    @property
    def name(self) -> tuple[bool, int]:
        """A key that no other call has: events and operations are numbered apart."""
        return self.is_event, self.invoke.index

    @property
    def outcome(self) -> str:
        """ok, fail or info; a call that never returned is info."""
        if self.is_event:
            return "event"
        return self.done.type if self.done is not None else "info"

    @property
    def value(self) -> Any:
        """The value that it read, or was to write."""
        if self.done is not None and self.done.type == "ok":
            return self.invoke.value if self.done.value is None else self.done.value
        return self.invoke.value

    @property
    def node(self) -> str | None:
        """The node that the client talked to."""
        return self.invoke.node or (self.done.node if self.done is not None else None)

    @property
    def error(self) -> Any:
        """Why it failed or is unknown; None if it is ok."""
        return None if self.done is None else self.done.error


@dataclass
class Recording:
    """A run, read back, in the shapes that a report needs.

    Attributes:
        path: The folder.
        test, run, verdict: test.yaml, run.json and verdict.json; empty if missing.
        plan: plan.yaml as text.
        ops: The history's events, client operations and others.
        calls: Client operations in order of invocation.
        lanes: `lanes[i]` is the row (thread) that draws calls[i].
        faults, notes, clocks, errors, logs: The lines of other files, by their types.
        problems: One sentence for each file that was missing or damaged.
    """

    path: Path
    test: dict[str, Any]
    plan: str
    run: dict[str, Any]
    verdict: dict[str, Any]
    ops: list[Op]
    calls: list[Call]
    lanes: list[int]
    faults: list[Fault]
    notes: list[Note]
    clocks: list[ClockLine]
    errors: list[ErrorLine]
    logs: list[LogTail]
    problems: list[str]

    @cached_property
    def call_by_index(self) -> dict[int, int]:
        """History index (of invocation or completion) -> position in `calls`."""
        found: dict[int, int] = {}
        for number, call in enumerate(self.calls):
            found[call.invoke.index] = number
            if call.done is not None:
                found[call.done.index] = number
        return found

    @cached_property
    def observed(self) -> Sequence[Op]:
        """Nodes' observations of themselves, in the times of their own clocks.

        Anomalies over observations refer to their positions. They are read only when
        asked for, as a long run has many.
        """
        try:
            return observations.load(self.path, self.node_folders).ops
        except HistoryError:
            return ()

    @cached_property
    def node_folders(self) -> dict[str, Path]:
        """The folders of the nodes of test.yaml, as far as they lie in this one."""
        places = self.path / "nodes"
        named = strings(self.test.get("nodes"))
        return {
            node: places / node
            for node in named
            if node == (places / node).name and not leads_out(self.path, places / node)
        }

    @cached_property
    def clock_offsets(self) -> dict[str, list[tuple[float, float]]]:
        """Node -> (time of the run, its monotonic clock minus the true one), in ns."""
        samples: dict[str, list[tuple[float, float]]] = {}
        for clock in self.clocks:
            offset_ns = (clock.mono_offset_ms or 0.0) * 1e6
            samples.setdefault(clock.node, []).append((clock.time, offset_ns))
        return {node: sorted(known) for node, known in samples.items()}

    @cached_property
    def shrunk_faults(self) -> list[Fault] | None:
        """The faults of the smallest experiment that fails so; None without one."""
        if not (self.path / SHRUNK).is_file():
            return None
        lines = Salvage((self.path / SHRUNK).parent).lines("faults.jsonl", FaultLine)
        return [_fault(life, {}) for life in lives(lines)[0]]

    def event(self, op: Op) -> Call:
        """An observation, moved to the time of the run; its time is -1 if unknown."""
        moment_ns = self.moment_ns(string(op.node), op.time)
        time_ns = -1 if moment_ns is None else moment_ns
        moved = Op(op.index, time_ns, op.process, op.type, op.f, op.value, node=op.node)
        return Call(moved, moved)

    def moment_ns(self, node: str, mono_ns: int) -> int | None:
        """When in the run a node's monotonic clock showed this; None if unknown."""
        start_ns = self.run.get("start_mono_ns")
        if not isinstance(start_ns, int):
            return None
        raw_ns = mono_ns - start_ns
        known = self.clock_offsets.get(node, [])
        at = bisect_right(known, (raw_ns, float("inf")))
        return max(0, round(raw_ns - (known[at - 1][1] if at else 0.0)))

    @cached_property
    def outcomes(self) -> Counter[str]:
        """How many calls ended ok, fail and info."""
        return Counter(call.outcome for call in self.calls)

    @cached_property
    def end_ns(self) -> float:
        """The last moment in any record; at least a millisecond."""
        times = [1e6, number(self.run.get("seconds")) * 1e9]
        times += [max(op.time for op in self.ops[-500:])] if self.ops else []
        times += [fault.end_ns or fault.start_ns for fault in self.faults]
        times += [note.time_ns for note in self.notes]
        times += [clock.time for clock in self.clocks[-50:]]
        return max(times)

    @cached_property
    def nodes(self) -> list[str]:
        """Every node that any record names, those of test.yaml first."""
        named = strings(self.test.get("nodes"))
        seen = {call.node for call in self.calls if call.node}
        seen.update(node for fault in self.faults for node in fault.nodes)
        seen.update(clock.node for clock in self.clocks)
        seen.update(log.node for log in self.logs)
        return [*named, *sorted(seen - set(named), key=natural)]

    @cached_property
    def lane_names(self) -> list[str]:
        """The names of the rows of the client timeline."""
        members: dict[int, list[str]] = {}
        for lane, call in zip(self.lanes, self.calls, strict=True):
            names = members.setdefault(lane, [])
            name = str(call.invoke.process)
            if len(names) < 3 and name not in names:
                names.append(name)
        return [
            visible(", ".join(names[:2]) + (" \u2026" if len(names) > 2 else ""))
            for _, names in sorted(members.items())
        ]


def load(run_dir: Path) -> Recording:
    """Read the run folder `run_dir`; missing or damaged content never raises."""
    left = Salvage(run_dir)
    test = mapping(left.document("test.yaml"))
    run = mapping(left.document("run.json"))
    # If a node never served, there were no client operations.
    never_up = bool(run.get("never_up"))
    history = left.lines("history.jsonl", Op, optional=never_up)
    calls = [Call(*pair) for pair in History(history, strict=False).calls()]
    verdict = mapping(left.document("verdict.json"))
    found, notes = lives(left.lines("faults.jsonl", FaultLine))
    strikes = map(mapping, sequence(verdict.get("strikes")))
    during = {repr(strike.get("id")): strike for strike in strikes}
    return Recording(
        path=run_dir,
        test=test,
        plan=left.text("plan.yaml"),
        run=run,
        verdict=verdict,
        ops=history,
        calls=calls,
        lanes=lanes(calls, whole(test.get("concurrency"))),
        faults=[_fault(life, during.get(repr(life.first.id), {})) for life in found],
        notes=[_note(line) for line in notes],
        clocks=left.lines("clocks.jsonl", ClockLine),
        errors=left.lines("errors.jsonl", ErrorLine, optional=True),
        logs=left.logs(),
        problems=left.problems,
    )


# From lines to faults and rows


def _note(line: FaultLine) -> Note:
    return Note(
        string(line.kind),
        string(line.title or line.kind),
        tuple(strings(line.nodes)),
        line.time,
        mapping(line.evidence),
    )


def _fault(life: Life, meanwhile: Mapping[str, Any]) -> Fault:
    """A life as reports show it; `meanwhile` is its line of verdict.json, if any."""
    lines = (life.start, life.end, life.skipped, life.failed)
    told = [line for line in lines if line is not None] or [life.first]
    # What was asked for is no evidence of what was done.
    evidence = {} if told[0] is life.asked else dict(mapping(told[0].evidence))
    for line in told[1:]:
        for key, proof in mapping(line.evidence).items():
            same = evidence.get(key) == proof or key not in evidence
            evidence[key if same else f"{key} at end"] = proof
    over = life.end or life.skipped or life.failed
    begun = life.start or life.first
    return Fault(
        kind=string(life.kind),
        title=string((life.failed or told[0]).title or life.kind),
        nodes=tuple(strings(begun.nodes)),
        start_ns=begun.time,
        end_ns=None if over is None else max(over.time, begun.time),
        effect=life.effect,
        applied=life.start is not None,
        states=_states(life),
        evidence=evidence,
        meanwhile=_meanwhile(life, meanwhile),
    )


def _states(life: Life) -> tuple[tuple[str, float], ...]:
    came = {
        "asked": life.asked,
        "applied": life.start,
        "healed": life.end,
        "skipped": life.skipped,
        "failed": life.failed,
    }
    return tuple((word, line.time) for word, line in came.items() if line is not None)


def _meanwhile(life: Life, record: Mapping[str, Any]) -> dict[str, Any]:
    """What happened during a fault, by name; what is not known is left out."""
    told: dict[str, Any] = {}
    for when, line in (("start", life.start), ("end", life.end)):
        if line is not None and line.in_flight is not None:
            told[f"in_flight_at_{when}"] = line.in_flight or 0
    if life.leader_start is not None:
        told["leader_before"] = string(life.leader_start.leader, "nobody")
    if life.leader_end is not None:
        told["leader_after"] = string(life.leader_end.leader, "nobody")
    if ops := whole(record.get("ops")):
        ok = whole(record.get("ok"))
        told["succeeded"] = f"{ok:,} of {ops:,} operations, {ok / ops:.0%}"
    if "longest_gap_s" in record:
        gap_s = round(number(record["longest_gap_s"]), 3)
        told["longest_without_success_s"] = gap_s
    return told


def lanes(calls: list[Call], concurrency: int) -> list[int]:
    """The row that draws each call, so that calls of one row hardly ever overlap.

    Process p runs on thread p mod concurrency; an `info` retires p and the thread
    goes on as p + concurrency. If the concurrency is unknown, each process gets a row
    while there are few; else processes share rows.
    """
    processes = {int(call.invoke.process) for call in calls}
    if not 0 < concurrency <= len(processes):
        concurrency = max(min(max(processes, default=0) + 1, LANES_MAX), 1)
    threads = sorted({process % concurrency for process in processes})
    row = {thread: position for position, thread in enumerate(threads)}
    return [row[int(call.invoke.process) % concurrency] for call in calls]


# Untrusted data, turned into the types that they should have


def mapping(thing: Any) -> dict[str, Any]:
    """`thing` if it is a mapping, with string keys; else an empty one."""
    if not isinstance(thing, dict):
        return {}
    return {key if isinstance(key, str) else str(key): v for key, v in thing.items()}


def sequence(thing: Any) -> list[Any]:
    """`thing` if it is a list, else an empty one."""
    return thing if isinstance(thing, list) else []


def strings(thing: Any) -> list[str]:
    """The items of a list as visible strings."""
    return [visible(str(item)) for item in sequence(thing)]


def number(thing: Any) -> float:
    """`thing` if it is a finite number, else 0."""
    if isinstance(thing, bool) or not isinstance(thing, int | float):
        return 0.0
    return float(thing) if abs(thing) < 1e300 else 0.0


def whole(thing: Any) -> int:
    """`thing` if it is a number of sensible size, rounded down; else 0."""
    return int(number(thing)) if abs(number(thing)) < 2**53 else 0


def string(thing: Any, default: str = "") -> str:
    """`thing` as one visible line of text; `default` for None."""
    return default if thing is None else visible(str(thing)).replace("\n", " ")
