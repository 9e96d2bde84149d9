"""Observations and logs of simulated nodes, for checkers and readers.

The files are those of the os world, in the same form. Observations are counted as they
are made known, for the triggers of plans, and written at the end, or sooner for whoever
judges the run while it lasts; so are lines of logs that match the patterns of triggers.
What a node observed after it had persisted something is known once that is durable; a
crash before takes it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec

from harness.host.documents import writing
from harness.override import override
from harness.worlds.events import Logged, Observed
from harness.worlds.logs import LogPatterns
from harness.worlds.world import Watcher, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from harness.worlds.events import NodeEvent, Where
    from harness.worlds.logs import Found
    from reference_impls.actor import Now, Observe

QUIET = frozenset({"appended", "committed", "applied"})
"""Kinds of event that are too frequent for a node's log."""

_encode = msgspec.json.Encoder().encode


class Pages:
    """The observations and the log of one node.

    Attributes:
        lines: Events that are known and not written yet, without their newlines.
        logged: Lines of the log that are not written yet.
        observed_bytes: The length of all events that are known.
        seen: Kind -> how many events of it are known.
    """

    def __init__(self, node: str, on_line: Callable[[str, str], None]) -> None:
        self.lines: list[bytes] = []
        self.logged: list[str] = []
        self.observed_bytes = 0
        self.seen: defaultdict[str, int] = defaultdict(int)
        self._node = node
        self._on_line = on_line
        self._fresh: list[tuple[str, bytes]] = []
        self._seq = 0
        self._second: int | None = (
            None  # of the line logged last, and how lines tell it
        )
        self._second_told = ""

    def observe(self, effect: Observe, now: Now, *, known: bool) -> None:
        """Note an event; unless it is `known` at once, it becomes so with `keep`."""
        kind = effect.kind
        line = {
            "seq": self._seq,
            "mono_ns": now.mono_ns,
            "wall_ns": now.wall_ns,
            "node": self._node,
            "kind": kind,
            **effect.fields,
        }
        self._seq += 1
        self._fresh.append((kind, _encode(line)))
        if kind not in QUIET:
            fields = " ".join(f"{k}={v}" for k, v in effect.fields.items())
            self.log(f"{kind} {fields}", now)
        if known:
            self.keep()

    def keep(self) -> None:
        """The node waits for nothing to be durable: its events are known."""
        fresh = self._fresh
        if not fresh:
            return
        for kind, line in fresh:
            self.lines.append(line)
            self.observed_bytes += len(line) + 1
            self.seen[kind] += 1
        fresh.clear()

    def drop(self) -> None:
        """Drop the node's unknown events, as it died; events are numbered anew."""
        self._fresh.clear()
        self._seq = 0

    def log(self, text: str, now: Now) -> None:
        """Add a line to the node's log, stamped with the time that its clock shows."""
        second, rest = divmod(now.wall_ns, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._second_told = time.strftime("%H:%M:%S", time.gmtime(second))
        line = f"{self._second_told}.{rest // 1_000_000:03d} {self._node} {text}"
        self.logged.append(line + "\n")
        self._on_line(self._node, line)


class Journal(Watcher):
    """The observations and logs of all nodes.

    Attributes:
        pages: Node -> its own.
    """

    def __init__(self, nodes: Iterable[str], run_dir: Path) -> None:
        self._run_dir = run_dir
        self.pages = {node: Pages(node, self._read) for node in nodes}
        self._patterns = LogPatterns()
        self._lines_logged = 0
        self.problems = self._patterns.problems

    def _read(self, node: str, line: str) -> None:
        """Look for the patterns of triggers in a line that a node has logged."""
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
                return {(n,): counts[n] for n in self.pages if event.is_at(n)}
            case Observed(kind, _):
                return {
                    (node,): pages.seen.get(kind, 0)
                    for node, pages in self.pages.items()
                    if event.is_at(node)
                }

    @override
    def last_logged(self, event: Logged) -> Found | None:
        return self._patterns.last(event.pattern)

    @override
    def written(self) -> Mapping[str, Written]:
        return {
            node: Written(pages.observed_bytes) for node, pages in self.pages.items()
        }

    async def poll(self) -> None:
        """Do nothing: the counts are up to date at any time."""

    @override
    def write(self) -> None:
        for node, pages in self.pages.items():
            folder = self._run_dir / "nodes" / node
            observed, logged = folder / "observe.jsonl", folder / "log"
            with writing(observed), observed.open("ab") as file:
                file.write(b"".join([line + b"\n" for line in pages.lines]))
            with writing(logged), logged.open("a", encoding="utf-8") as log:
                log.writelines(pages.logged)
            pages.lines.clear()
            pages.logged.clear()
