"""Observations and logs of simulated nodes, for checkers and readers.

The files are those of the os world, in the same form. Observations are counted as they
are made known, for the triggers of plans, and written at the end, or sooner for whoever
judges the run while it lasts; so are lines of logs that match the patterns of triggers.
What a node observed after it had persisted something is known once that is durable; a
crash before takes it.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import msgspec

from harness.host.documents import writing
from harness.override import override
from harness.worlds.events import Logged, Observed
from harness.worlds.logs import LogPatterns
from harness.worlds.world import Watcher, Written

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from harness.worlds.events import NodeEvent, Where
    from harness.worlds.logs import Found
    from reference_impls.actor import Now, Observe

QUIET = frozenset({"appended", "committed", "applied"})
"""Kinds of event that are too frequent for a node's log."""

_encode = msgspec.json.Encoder().encode


class Journal(Watcher):
    """The observations and logs of all nodes."""

    def __init__(self, nodes: Iterable[str], run_dir: Path) -> None:
        self._run_dir = run_dir
        self._lines: dict[str, list[bytes]] = {node: [] for node in nodes}
        self._fresh: dict[str, list[tuple[str, bytes]]] = {n: [] for n in self._lines}
        self._logs: dict[str, list[str]] = {node: [] for node in self._lines}
        self._observed_bytes: Counter[str] = Counter()
        self._seq: Counter[str] = Counter()
        self._seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._patterns = LogPatterns()
        self._lines_logged = 0
        self.problems = self._patterns.problems

    def observe(self, node: str, effect: Observe, now: Now) -> None:
        """Note an event, which becomes known with `keep`."""
        line = {
            "seq": self._seq[node],
            "mono_ns": now.mono_ns,
            "wall_ns": now.wall_ns,
            "node": node,
            "kind": effect.kind,
            **effect.fields,
        }
        self._seq[node] += 1
        self._fresh[node].append((effect.kind, _encode(line)))
        if effect.kind not in QUIET:
            fields = " ".join(f"{k}={v}" for k, v in effect.fields.items())
            self.log(node, f"{effect.kind} {fields}", now)

    def keep(self, node: str) -> None:
        """The node waits for nothing to be durable: its events are known."""
        fresh = self._fresh[node]
        if not fresh:
            return
        lines = self._lines[node]
        for kind, line in fresh:
            lines.append(line)
            self._observed_bytes[node] += len(line) + 1
            self._seen[kind][node] += 1
        fresh.clear()

    def drop(self, node: str) -> None:
        """Drop a node's unknown events, as it died; its events are numbered anew."""
        self._fresh[node].clear()
        self._seq[node] = 0

    def log(self, node: str, text: str, now: Now) -> None:
        """Add a line to the node's log, stamped with the time that its clock shows."""
        seconds, rest = divmod(now.wall_ns, 1_000_000_000)
        at = time.strftime("%H:%M:%S", time.gmtime(seconds))
        line = f"{at}.{rest // 1_000_000:03d} {node} {text}"
        self._logs[node].append(line + "\n")
        if self._patterns.are_followed:
            self._lines_logged += 1
            self._patterns.read(node, line.splitlines(), self._lines_logged)

    @override
    def follow(self, events: Iterable[NodeEvent]) -> None:
        for event in events:
            if isinstance(event, Logged):
                self._patterns.follow(event.pattern)

    @override
    def sightings(self, event: NodeEvent) -> Mapping[Where, int]:
        match event:
            case Logged(pattern, _):
                counts = self._patterns.count(pattern)
            case Observed(kind, _):
                counts = self._seen.get(kind, Counter())
        return {(node,): counts[node] for node in self._lines if event.is_at(node)}

    @override
    def last_logged(self, event: Logged) -> Found | None:
        return self._patterns.last(event.pattern)

    @override
    def written(self) -> Mapping[str, Written]:
        return {node: Written(self._observed_bytes[node]) for node in self._lines}

    async def poll(self) -> None:
        """Do nothing: the counts are up to date at any time."""

    @override
    def write(self) -> None:
        for node, lines in self._lines.items():
            folder = self._run_dir / "nodes" / node
            observed, logged = folder / "observe.jsonl", folder / "log"
            with writing(observed), observed.open("ab") as file:
                file.writelines(line + b"\n" for line in lines)
            with writing(logged), logged.open("a", encoding="utf-8") as log:
                log.writelines(self._logs[node])
            lines.clear()
            self._logs[node].clear()
