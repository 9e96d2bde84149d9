"""Watches nodes' Observe events as they are written, for triggers of plans.

A reference node appends its protocol events to `nodes/<n>/observe.jsonl`. Files are
polled, as a pipe that nobody reads would stall the node, which is a fault of its own:
now and then, so that never much is left to read, and often while a trigger asks.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

POLL_S = 0.02
FRESH_NS = 1_000_000
"""A count this old is good enough for a trigger; a moment is over in a few of these."""


class _Observed(msgspec.Struct):
    kind: str


class Watch:
    """Counts the Observe events of a run."""

    def __init__(self, nodes: Iterable[str], run_dir: Path) -> None:
        self._paths = {n: run_dir / "nodes" / n / "observe.jsonl" for n in nodes}
        self._read_to = dict.fromkeys(self._paths, 0)
        self._seen: Counter[tuple[str, str | None]] = Counter()
        self._read_at_ns = 0
        self._decoder = msgspec.json.Decoder(_Observed)

    def sightings(self, kind: str, node: str | None) -> int:
        """How many events of `kind` were seen so far, at `node` or anywhere (None)."""
        if time.monotonic_ns() - self._read_at_ns > FRESH_NS:
            self._read_all()
        return self._seen[kind, node]

    async def poll(self) -> None:
        """Read what is new now and then, until cancelled."""
        while True:
            self._read_all()
            await asyncio.sleep(POLL_S)

    def _read_all(self) -> None:
        for node, path in self._paths.items():
            self._read(node, path)
        self._read_at_ns = time.monotonic_ns()

    def _read(self, node: str, path: Path) -> None:
        try:
            size = path.stat().st_size
        except OSError:
            return
        if size == self._read_to[node]:
            return
        with path.open("rb") as file:
            file.seek(self._read_to[node])
            data = file.read(size - self._read_to[node])
        whole = data.rfind(b"\n") + 1
        self._read_to[node] += whole
        for line in data[:whole].splitlines():
            try:
                kind = self._decoder.decode(line).kind
            except msgspec.DecodeError:
                continue
            self._seen[kind, node] += 1
            self._seen[kind, None] += 1
