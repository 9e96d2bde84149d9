"""Looks at nodes while a run lasts: what they use, and how far their logs are.

Both become lines of the run folder, for the report's axis of time:

    resources.jsonl  {"time": 1500000000, "node": "n1", "pid": 41, "cpu_ns": 310000000,
                      "rss_bytes": 38449152, "files": 17, "data_bytes": 81920}
    logtimes.jsonl   {"time": 1500000000, "node": "n1", "bytes": 5120}

Times are nanoseconds since the start of the run. Who looks at nodes' processes is their
keeper, for the bound of their data anyway, so a line costs one message. A log's length
is one call of the kernel, and has a line if it has changed: what the log has gained
since the line before was written between the two.

Looks get rarer as a run gets longer, so both files grow by the logarithm of its length:
a run of a minute has 600 lines of `logtimes.jsonl` for a busy node, and one of a week
90,000. In worlds that tell neither, there are no such files.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.data import Json
    from harness.run.store import JsonLines, RunFolder
    from harness.worlds.world import World

USAGE_S = 0.5
LOGS_S = 0.1

RARER = 10_000
"""After so many looks, each waits for its part of the time that the run has lasted."""


class Gauges:
    """Writes what nodes use, and the lengths of their logs, until its tasks end.

    Args:
        folder: Where the lines go.
        world: Where the nodes live.
        now_ns: Tells the time of the run.
    """

    def __init__(
        self, folder: RunFolder, world: World, now_ns: Callable[[], int]
    ) -> None:
        self._folder = folder
        self._world = world
        self._now_ns = now_ns
        self._files: dict[str, JsonLines] = {}
        self._logged: dict[str, int] = {}

    async def watch_usage(self) -> NoReturn:
        """Note what nodes use, every half second at first.

        Raises:
            HarnessError: The disk is full, or the nodes' keeper is gone.
        """
        nodes = self._world.network.places
        seen: dict[str, int] = {}
        while True:
            for node in nodes:
                usage = await self._world.processes.usage(node)
                if usage is None or seen.get(node) == usage.mono_ns:
                    continue
                seen[node] = usage.mono_ns
                ago_ns = self._world.time.monotonic_ns() - usage.mono_ns
                line: dict[str, Json] = {
                    "time": max(0, self._now_ns() - ago_ns),
                    "node": node,
                    "pid": usage.pid,
                    "cpu_ns": usage.cpu_ns,
                    "rss_bytes": usage.rss_bytes,
                    "files": usage.files,
                    "data_bytes": usage.data_bytes,
                }
                self._write("resources.jsonl", line)
            await self._pause(USAGE_S)

    async def watch_logs(self) -> NoReturn:
        """Note how long logs are, every tenth of a second at first.

        Raises:
            HarnessError: The disk is full.
        """
        while True:
            self.look_at_logs()
            await self._pause(LOGS_S)

    def look_at_logs(self) -> None:
        """Note the logs that have grown."""
        for node, written in self._world.watcher.written().items():
            if written.logged is None or self._logged.get(node) == written.logged:
                continue
            self._logged[node] = written.logged
            line: dict[str, Json] = {"time": self._now_ns(), "node": node}
            self._write("logtimes.jsonl", {**line, "bytes": written.logged})

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    async def _pause(self, least_s: float) -> None:
        await asyncio.sleep(max(least_s, self._now_ns() / 1e9 / RARER))

    def _write(self, name: str, line: Mapping[str, Json]) -> None:
        if name not in self._files:
            self._files[name] = self._folder.lines(name)
        self._files[name].append(line)
