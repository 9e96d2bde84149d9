"""Watches nodes' Observe events and logs as they are written, for triggers of plans.

A reference node appends its protocol events to `nodes/<n>/observe.jsonl`, and every
node's output goes to `nodes/<n>/log`, which is read if a pattern is to be looked for.
The files are polled, as a pipe that nobody reads would stall the node: now and then, so
that there is never much left to read, and often while a trigger asks.

Lines of different logs have no order among themselves beyond that of the polls; within
one, the file that was written last counts as later.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from harness.host import nodefiles
from harness.override import override
from harness.worlds.events import Logged, Observed
from harness.worlds.logs import LogPatterns
from harness.worlds.world import Watcher, Written

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from harness.worlds.events import NodeEvent, Where
    from harness.worlds.logs import Found

POLL_S = 0.02
FRESH_NS = 1_000_000
"""How old a count may be; a moment worth a fault lasts a few times longer."""


READ_BYTES_MAX = 256 << 10
"""Most that is read of a file at a time: no node may keep the loop busy."""

LINE_BYTES_MAX = 1 << 20
"""Longest event that is counted; a longer line of a log counts as several."""

KINDS_MAX = 1_000
"""Kinds of events counted for one node; protocols have dozens."""


class _Observed(msgspec.Struct):
    kind: str


class _Piece(NamedTuple):
    """What was added to a file: whole lines, or a piece of one that is too long.

    Attributes:
        data: The bytes.
        written_ns: When the file was written last.
    """

    data: bytes = b""
    written_ns: int = 0


class _Tail:
    """The end of a file that grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.read_to = 0

    def stat(self) -> os.stat_result | None:
        """The file's state; None if there is no plain file."""
        try:
            state = os.stat(self._path, follow_symlinks=False)
        except OSError:
            return None
        return state if stat.S_ISREG(state.st_mode) else None

    def read(self) -> _Piece:
        """The next whole lines, or a piece of one that is too long to be a line."""
        try:
            with nodefiles.open_plain(self._path) as file:
                state = os.fstat(file.fileno())
                if state.st_size < self.read_to:
                    # A log that grew too long has lost its middle: go on at its end.
                    self.read_to = state.st_size
                if state.st_size == self.read_to:
                    return _Piece()
                file.seek(self.read_to)
                data = file.read(min(state.st_size - self.read_to, READ_BYTES_MAX))
                if b"\n" not in data:
                    data += file.read(LINE_BYTES_MAX - len(data))
        except OSError:
            return _Piece()
        whole = data.rfind(b"\n") + 1
        if not whole and len(data) == LINE_BYTES_MAX:
            whole = len(data)
        self.read_to += whole
        return _Piece(data[:whole], state.st_mtime_ns)


class Watch(Watcher):
    """Counts the Observe events of a run, and the lines that match patterns.

    Nodes write the files, so they may hold any bytes, and there may be any kind of file
    in their places (`nodefiles`).
    """

    def __init__(self, nodes: Iterable[str], run_dir: Path) -> None:
        folders = {node: run_dir / "nodes" / node for node in nodes}
        self._events = {n: _Tail(at / "observe.jsonl") for n, at in folders.items()}
        self._logs = {n: _Tail(at / "log") for n, at in folders.items()}
        self._seen: dict[str, Counter[str]] = {n: Counter() for n in folders}
        self._patterns = LogPatterns()
        self.problems = self._patterns.problems
        self._read_at_ns = 0
        self._decoder = msgspec.json.Decoder(_Observed)

    @override
    def follow(self, events: Iterable[NodeEvent]) -> None:
        for event in events:
            if isinstance(event, Logged):
                self._patterns.follow(event.pattern)

    @override
    def sightings(self, event: NodeEvent) -> Mapping[Where, int]:
        self._refresh()
        match event:
            case Logged(pattern, _):
                counts = self._patterns.count(pattern)
            case Observed(kind, _):
                counts = Counter({n: seen[kind] for n, seen in self._seen.items()})
        return {(node,): counts[node] for node in self._seen if event.is_at(node)}

    @override
    def last_logged(self, event: Logged) -> Found | None:
        self._refresh()
        return self._patterns.last(event.pattern)

    @override
    def write(self) -> None:
        """Do nothing: nodes have written what they told."""

    @override
    def written(self) -> Mapping[str, Written]:
        now_ns = time.time_ns()
        found = {}
        for node in self._seen:
            observed = self._events[node].stat()
            logged = self._logs[node].stat()
            found[node] = Written(
                0 if observed is None else observed.st_size,
                None if logged is None else logged.st_size,
                None
                if logged is None
                else round((now_ns - logged.st_mtime_ns) / 1e6, 3),
            )
        return found

    async def poll(self) -> None:
        """Read the new events now and then, until cancelled."""
        while True:
            self._read_all()
            await asyncio.sleep(POLL_S)

    def _refresh(self) -> None:
        if time.monotonic_ns() - self._read_at_ns > FRESH_NS:
            self._read_all()

    def _read_all(self) -> None:
        for node, events in self._events.items():
            seen = self._seen[node]
            for line in events.read().data.split(b"\n"):
                try:
                    kind = self._decoder.decode(line).kind
                except (ValueError, RecursionError):
                    continue  # bad UTF-8 and bad JSON are ValueErrors
                if kind in seen or len(seen) < KINDS_MAX:
                    seen[kind] += 1
        if self._patterns.are_followed:
            for node, log in self._logs.items():
                data, written_ns = log.read()
                lines = data.decode("utf-8", "replace").split("\n")
                self._patterns.read(node, lines, written_ns)
        self._read_at_ns = time.monotonic_ns()
