"""Makes run folders as a real run leaves them, for the report's tests and for looking.

A small discrete model of a five-node replicated register: clients on threads issue
reads, writes and cas on a few keys; a plan of partitions, kills, pauses and clock
changes makes operations slow, refused or unknown. A run can be given one stale read,
with the verdict a linearizability checker would write about it.

    python -m harness.tests.report_runs DIR [--ops N]    writes DIR/small or DIR/large
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Stale = tuple[int, int, int, int]

NODES = ["n1", "n2", "n3", "n4", "n5"]
MS = 1_000_000
S = 1_000_000_000

REPRO = (
    "splitbrain run raft --workload register --nemesis partition,kill,pause,clock "
    "--set reads=local --time-limit 30 --seed 42"
)


@dataclass
class Window:
    """A planned fault: from, to, kind, nodes, title, evidence."""

    start: int
    end: int
    kind: str
    nodes: list[str]
    title: str
    evidence: dict[str, Any] = field(default_factory=dict)
    bit: bool | None = True

    def covers(self, time: int, node: str) -> bool:
        return self.start <= time < self.end and node in self.nodes


def plan(rng: random.Random, end: int) -> list[Window]:
    """Alternating faults with quiet in between, in the manner of the nemesis."""
    windows: list[Window] = []
    time = int(1.5 * S)
    kinds = ["partition", "kill", "clock", "pause", "partition"]
    for turn in range(10_000):
        length = rng.randrange(int(1.2 * S), int(3.2 * S))
        if time + length > end - S:
            return windows
        windows.append(_window(rng, kinds[turn % len(kinds)], time, time + length))
        if turn % 4 == 2:
            half = windows[-1].start + length // 2
            windows.append(_window(rng, "partition", half, half + length))
        time += length + rng.randrange(S, 2 * S)
    return windows


def _window(rng: random.Random, kind: str, start: int, end: int) -> Window:
    node = rng.choice(NODES)
    others = [n for n in NODES if n != node]
    if kind == "partition":
        packets = rng.randrange(40, 900)
        links = {f"{node}->{o}": packets // 4 for o in others}
        evidence: dict[str, Any] = {"frames_cut": packets, "links": links}
        title = f"isolate leader {node}: {node} | {' '.join(others)}"
        return Window(start, end, kind, [node], title, evidence)
    if kind == "kill":
        evidence = {"pid": rng.randrange(100, 999), "status": -9, "restarted_ms": 143}
        return Window(start, end, kind, [node], f"kill -9 {node}", evidence)
    if kind == "pause":
        evidence = {"pids": {"412": "T (stopped)"}}
        return Window(start, end, kind, [node], f"pause {node}", evidence)
    jump = rng.choice([-4000, 2500, 60_000])
    evidence = {"wall_offset_ms": jump, "read_back_ms": jump + 0.4, "by": "node"}
    title = f"clock of {node} jumps by {jump / 1000:+} s"
    return Window(start, end, "clock", [node], title, evidence, jump != -4000 or None)


def write_run(
    run_dir: Path,
    *,
    ops: int = 3000,
    seconds: int = 30,
    threads: int = 10,
    seed: int = 42,
    anomaly: bool = True,
) -> Path:
    """Write a whole run folder of `ops` client operations; returns `run_dir`."""
    rng = random.Random(seed)
    end = seconds * S
    run_dir.mkdir(parents=True, exist_ok=True)
    windows = plan(rng, end)
    events = _history(rng, ops, end, threads, windows)
    stale = _stale_read(events, windows) if anomaly else None
    _write_lines(run_dir / "history.jsonl", events)
    _write_lines(run_dir / "faults.jsonl", _fault_lines(windows))
    _write_lines(run_dir / "clocks.jsonl", _clock_lines(rng, windows, end))
    _write_lines(run_dir / "errors.jsonl", _error_lines(events))
    tally = {
        kind: sum(event["type"] == kind for event in events)
        for kind in ("ok", "fail", "info")
    }
    _write_documents(run_dir, windows, tally, seconds, threads, seed)
    (run_dir / "verdict.json").write_text(json.dumps(_verdict(stale, tally, windows)))
    _write_logs(run_dir, rng, windows)
    return run_dir


# The history


def _history(
    rng: random.Random, ops: int, end: int, threads: int, windows: list[Window]
) -> list[dict[str, Any]]:
    """Events in order; register values follow the order of completion."""
    pace = max(1, end * threads // ops)
    process = list(range(threads))
    queue = [(rng.randrange(pace), thread, "invoke") for thread in range(threads)]
    heapq.heapify(queue)
    events: list[dict[str, Any]] = []
    pending: dict[int, dict[str, Any]] = {}
    values: dict[int, int] = {}
    written = 0
    invoked = 0
    while queue:
        time, thread, what = heapq.heappop(queue)
        base = {"index": len(events), "time": time, "process": process[thread]}
        if what == "invoke":
            if invoked == ops:
                continue
            invoked += 1
            written += 1
            op = _op(rng, written, NODES[thread % 5])
            fate, took = _fate(rng, time, op["node"], windows)
            events.append({**base, "type": "invoke", **op})
            pending[thread] = op
            heapq.heappush(queue, (time + took, thread, fate))
            continue
        op = pending.pop(thread)
        done = {**base, "type": what, **op}
        if what == "ok":
            _apply(done, values)
        elif what == "fail":
            done["error"] = "connection refused"
        else:
            done["error"] = "timeout after 1000 ms"
            process[thread] += threads
        events.append(done)
        wait = max(1, int(rng.expovariate(1 / pace)))
        heapq.heappush(queue, (time + wait, thread, "invoke"))
    return events


def _op(rng: random.Random, number: int, node: str) -> dict[str, Any]:
    key = rng.randrange(5)
    roll = rng.random()
    if roll < 0.5:
        return {"f": "read", "key": key, "node": node}
    if roll < 0.85:
        return {"f": "write", "key": key, "value": number, "node": node}
    return {"f": "cas", "key": key, "value": [number - 1, number], "node": node}


def _fate(
    rng: random.Random, time: int, node: str, windows: list[Window]
) -> tuple[str, int]:
    took = int(rng.lognormvariate(1.4, 0.55) * MS)
    hit = [window for window in windows if window.covers(time, node)]
    kinds = {window.kind for window in hit}
    if "kill" in kinds:
        return "fail", int(rng.uniform(0.2, 0.9) * MS)
    if "pause" in kinds or ("partition" in kinds and rng.random() < 0.7):
        return "info", 1000 * MS
    near = any(w.kind == "partition" and 0 <= time - w.start < S // 3 for w in windows)
    return "ok", took * (rng.randrange(10, 60) if near else 1)


def _apply(done: dict[str, Any], values: dict[int, int]) -> None:
    key = done["key"]
    if done["f"] == "write":
        values[key] = done["value"]
    elif done["f"] == "cas":
        if done["index"] % 3:
            done["type"], done["error"] = "fail", "precondition failed"
        else:
            values[key] = done["value"][1]
    else:
        done["value"] = values.get(key)


def _stale_read(events: list[dict[str, Any]], windows: list[Window]) -> Stale | None:
    """Turn a read in the last partition stale: (key, old write, new write, read)."""
    cut = [w for w in windows if w.kind == "partition"][-1]
    writes: dict[int, list[int]] = {}
    invoked: dict[int, int] = {}
    begun: dict[int, int] = {}
    for event in events:
        if event["type"] == "invoke":
            invoked[event["process"]] = event["index"]
            continue
        begun[event["index"]] = invoked[event["process"]]
        if event["f"] == "write" and event["type"] == "ok":
            writes.setdefault(event["key"], []).append(event["index"])
        done = writes.get(event["key"], [])
        if (
            event["f"] == "read"
            and event["type"] == "ok"
            and event["time"] > cut.start + S // 2
            and event["node"] == cut.nodes[0]
            and len(done) > 2
            and events[done[-1]]["time"] < events[begun[event["index"]]]["time"]
            and done[-2] < begun[done[-1]]
        ):
            event["value"] = events[done[-2]]["value"]
            return (
                event["key"],
                begun[done[-2]],
                begun[done[-1]],
                begun[event["index"]],
            )
    return None


# The other files


def _write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _fault_lines(windows: list[Window]) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for number, w in enumerate(windows):
        both = {"id": number, "kind": w.kind, "title": w.title, "nodes": w.nodes}
        lines.append({"time": w.start, "event": "start", **both})
        end = {"time": w.end, "event": "end", **both}
        lines.append({**end, "evidence": w.evidence, "bit": w.bit})
        if w.kind == "kill":
            note = {"event": "note", "nodes": w.nodes, "id": None}
            down = {"kind": "node-exit", "title": f"{w.nodes[0]} exited: -9"}
            up = {"kind": "node-start", "title": f"{w.nodes[0]} started"}
            lines.append({"time": w.start + MS, **note, **down})
            lines.append({"time": w.end, **note, **up})
    return sorted(lines, key=lambda line: line["time"])


def _clock_lines(
    rng: random.Random, windows: list[Window], end: int
) -> list[dict[str, Any]]:
    lines = []
    for time in range(0, end, S):
        for node in NODES:
            skews = [w for w in windows if w.kind == "clock" and w.covers(time, node)]
            offset = skews[0].evidence["wall_offset_ms"] if skews else 0.0
            reading = {
                "wall_offset_ms": offset + rng.uniform(-0.4, 0.4),
                "mono_offset_ms": rng.uniform(-0.1, 0.1) + (offset / 10),
            }
            lines.append({"time": time, "node": node, **reading, "proof": "asked"})
    return lines


def _error_lines(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    trace = (
        "Traceback (most recent call last):\n"
        '  File "harness/systems/raft.py", line 88, in invoke\n'
        "    reply = await self.call(body)\n"
        "ConnectionResetError: [Errno 104] Connection reset by peer\n"
    )
    infos = [event for event in events if event["type"] == "info"][:7]
    return [
        {
            "time": event["time"],
            "where": f"client {event['node']}",
            "op": event["index"],
            "traceback": trace,
        }
        for event in infos
    ]


def _write_documents(
    run_dir: Path,
    windows: list[Window],
    tally: dict[str, int],
    seconds: int,
    threads: int,
    seed: int,
) -> None:
    test = {
        "system": "raft",
        "system_options": {"reads": "local"},
        "workload": "register",
        "workload_options": {"keys": 5},
        "nemesis": ["partition", "kill", "pause", "clock"],
        "nodes": NODES,
        "concurrency": threads,
        "rate": 100,
        "time_limit_s": seconds,
        "seed": seed,
        "world": "os",
        "rung": "switch",
        "versions": {
            "splitbrain": "0.1.0",
            "python": "3.11.7",
            "kernel": "6.18.44",
            "commit": "ea45eb1",
        },
        "started_utc": "2025-11-23T02:31:07Z",
        "repro": REPRO,
    }
    (run_dir / "test.yaml").write_text(yaml.safe_dump(test, sort_keys=False))
    steps = [
        {
            "at": {"time_s": w.start / S},
            "fault": {"kind": w.kind, "nodes": w.nodes},
            "heal": {"after_s": (w.end - w.start) / S},
        }
        for w in windows
    ]
    (run_dir / "plan.yaml").write_text(yaml.safe_dump(steps))
    rng = random.Random(seed)
    cut = {w.nodes[0] for w in windows if w.kind == "partition"}
    network = {
        f"{a}->{b}": {
            "forwarded": rng.randrange(8_000, 30_000),
            "cut": rng.randrange(50, 600) if a in cut or b in cut else 0,
            "lost": 0,
        }
        for a in NODES
        for b in NODES
        if a != b
    }
    run = {
        "ended": "complete",
        "seconds": seconds + 1.2,
        "ops": tally,
        "network": network,
        "counters": {"late_replies": 4, "malformed": 0},
        "errors": [],
    }
    (run_dir / "run.json").write_text(json.dumps(run))


def _verdict(
    stale: Stale | None, tally: dict[str, int], windows: list[Window]
) -> dict[str, Any]:
    linearizable: dict[str, Any] = {
        "verdict": "invalid" if stale else "valid",
        "anomalies": [],
        "not": ["linearizable"] if stale else [],
        "stats": {"ops": sum(tally.values()), "keys": 5, "seconds": 0.041},
    }
    if stale:
        linearizable["anomalies"] = [_anomaly(*stale)]
    return {
        "verdict": "invalid" if stale else "valid",
        "expected": "invalid" if stale else "valid",
        "checkers": {
            "linearizable": linearizable,
            "stats": {
                "verdict": "valid",
                "anomalies": [],
                "not": [],
                "stats": {"read": tally["ok"] // 2, "write": tally["ok"] // 2},
            },
        },
        "faults": {"partition": {"count": len(windows), "bit": 1, "no_effect": 0}},
        "harness": {"ok": True, "errors": []},
        "seed": 42,
        "repro": REPRO,
    }


def _anomaly(key: int, old: int, new: int, read: int) -> dict[str, Any]:
    return {
        "name": "stale-read",
        "ops": [old, new, read],
        "explanation": (
            "A read returned a value that an earlier write had already replaced: "
            f"op {read} read what op {old} wrote, although op {new} overwrote it and "
            f"had completed before op {read} was invoked."
        ),
        "key": key,
        "details": {"longest_prefix": old + 40, "first_stuck_op": read},
        "witness": {
            "nodes": [old, new, read],
            "edges": [
                _edge(old, new, "realtime", "the first write completed before"),
                _edge(new, read, "realtime", "the second write completed before"),
                _edge(old, read, "reads-from", "the read returned its value"),
                _edge(read, new, "rw", "the read saw what the write replaced"),
            ],
        },
    }


def _edge(source: int, target: int, kind: str, reason: str) -> dict[str, Any]:
    return {"source": source, "target": target, "kind": kind, "reason": reason}


def _write_logs(run_dir: Path, rng: random.Random, windows: list[Window]) -> None:
    for node in NODES:
        place = run_dir / "nodes" / node
        (place / "data").mkdir(parents=True, exist_ok=True)
        lines = [f"{i * 0.21:9.3f} INFO  heartbeat term={i // 40}" for i in range(120)]
        lines.append(f"{rng.random() * 30:9.3f} WARN  election timeout, term 4")
        if any(w.kind == "kill" and node in w.nodes for w in windows):
            lines.append("   12.114 ERROR wal: last record torn, truncated at 40122")
        (place / "log").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Write a run folder to look at."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--ops", type=int, default=3000)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=10)
    parser.add_argument("--valid", action="store_true")
    args = parser.parse_args()
    write_run(
        args.run_dir,
        ops=args.ops,
        seconds=args.seconds,
        threads=args.threads,
        anomaly=not args.valid,
    )


if __name__ == "__main__":
    main()
