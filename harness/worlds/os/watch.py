"""Watches nodes' Observe events as they are written, for triggers of plans.

A reference node appends its protocol events to `nodes/<n>/observe.jsonl`. The files are
polled, as a pipe that nobody reads would stall the node: now and then, so that there is
never much left to read, and often while a trigger asks.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from harness.host import nodefiles
from harness.override import override
from harness.worlds.world import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

POLL_S = 0.02
FRESH_NS = 1_000_000
"""How old a count may be; a moment worth a fault lasts a few times longer."""


READ_BYTES_MAX = 256 << 10
"""Most that is read of a file at a time: no node may keep the loop busy."""

LINE_BYTES_MAX = 1 << 20
"""Longest event that is counted."""

KINDS_MAX = 1_000
"""Kinds of events counted for one node; protocols have dozens."""


class _Observed(msgspec.Struct):
    kind: str


class Watch(Watcher):
    """Counts the Observe events of a run.

    Nodes write the files, so they may hold any bytes, and there may be any kind of file
    in their places (`nodefiles`).
    """

    def __init__(self, nodes: Iterable[str], run_dir: Path) -> None:
        self._paths = {n: run_dir / "nodes" / n / "observe.jsonl" for n in nodes}
        self._read_to = dict.fromkeys(self._paths, 0)
        self._seen: dict[str, Counter[str]] = {n: Counter() for n in self._paths}
        self._read_at_ns = 0
        self._decoder = msgspec.json.Decoder(_Observed)

    @override
    def sightings(self, kind: str, node: str | None) -> int:
        if time.monotonic_ns() - self._read_at_ns > FRESH_NS:
            self._read_all()
        if node is None:
            return sum(seen[kind] for seen in self._seen.values())
        return self._seen[node][kind]

    async def poll(self) -> None:
        """Read the new events now and then, until cancelled."""
        while True:
            self._read_all()
            await asyncio.sleep(POLL_S)

    def _read_all(self) -> None:
        for node, path in self._paths.items():
            data = self._read(node, path)
            seen = self._seen[node]
            for line in data.split(b"\n"):
                try:
                    kind = self._decoder.decode(line).kind
                except (ValueError, RecursionError):
                    continue  # bad UTF-8 and bad JSON are ValueErrors
                if kind in seen or len(seen) < KINDS_MAX:
                    seen[kind] += 1
        self._read_at_ns = time.monotonic_ns()

    def _read(self, node: str, path: Path) -> bytes:
        """The next whole lines, or a piece of one that is too long to be an event."""
        begin = self._read_to[node]
        try:
            with nodefiles.open_plain(path) as file:
                file.seek(begin)
                data = file.read(READ_BYTES_MAX)
                if b"\n" not in data:
                    data += file.read(LINE_BYTES_MAX - len(data))
        except OSError:
            return b""
        whole = data.rfind(b"\n") + 1
        if not whole and len(data) == LINE_BYTES_MAX:
            whole = len(data)
        self._read_to[node] += whole
        return data[:whole]
