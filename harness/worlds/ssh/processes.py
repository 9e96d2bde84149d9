"""Node processes and clocks on hosts, through the keeper on each.

A node is launched with paths of this machine. They are replaced by those of its host:
the run folder, uploads, and Python.
"""

from __future__ import annotations

import asyncio
import base64
import re
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.override import override
from harness.worlds.clocks import Clocks
from harness.worlds.os.channel import Channel
from harness.worlds.os.warden import Warden
from harness.worlds.places import Launch
from harness.worlds.processes import Processes
from harness.worlds.ssh import uploads
from harness.worlds.ssh.ledger import RUN_VARIABLE
from harness.worlds.ssh.mirror import chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.worlds.clocks import ClockReading, ClockSetting
    from harness.worlds.places import NodePlace
    from harness.worlds.processes import (
        Ended,
        Exit,
        Limit,
        Resource,
        Starvation,
        Usage,
    )
    from harness.worlds.ssh.link import Link
    from harness.worlds.ssh.mirror import Mirror
    from harness.worlds.ssh.uploads import Upload

UPLOAD_S = 60.0
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"


class HostWarden(Warden):
    """The warden of the nodes on one host; its keeper is there.

    Args:
        link: The host's agent.
        begun: What the agent said of itself: its folders and its Python.
        run: The run's name.
        folder: The run folder here.
        mirror: The folders of nodes here.
        sent: Files and folders for nodes.
        why_no_clocks: Why clocks can't be skewed there; empty if they can.
    """

    def __init__(
        self,
        link: Link,
        begun: Mapping[str, Any],
        run: str,
        folder: Path,
        mirror: Mirror,
        sent: Sequence[Upload],
        why_no_clocks: str,
    ) -> None:
        super().__init__(Channel(link.wardens_end), 0, why_no_clocks, "")
        self._link = link
        self._begun = begun
        self._run = run
        self._folder = folder
        self._mirror = mirror
        self._sent = list(sent)
        self._there: set[str] = set()
        self._turn = asyncio.Lock()

    @override
    async def start(self, place: NodePlace, launch: Launch) -> int:
        async with self._turn:  # nodes that start together need the same files
            await self._bring(launch)
        node = place.name
        folder = f"{self._begun['folder']}/nodes/{node}"
        for name, mode, data, fresh in self._mirror.changed(
            node, self._begun["folder"]
        ):
            await self._put(folder, name, mode, data, fresh=fresh)
        there = replace(
            place, data_dir=Path(folder, "data"), log_path=Path(folder, "log")
        )
        return await super().start(there, self.translated(launch, folder))

    def translated(self, launch: Launch, folder: str) -> Launch:
        """A launch with the paths of the host.

        Args:
            launch: With the paths of this machine.
            folder: The node's folder there, in which it is started.
        """
        first, *others = (str(word) for word in launch.argv)
        env = {name: self._moved(text) for name, text in launch.env.items()}
        if first == sys.executable:
            env["PYTHONPATH"] = self._begun["code"]
        else:
            env.setdefault("PYTHONPATH", "")
        if uploads.is_python(first):
            first = self._begun["python"]
        elif (moved := self._uploaded(first, None)) is not None:
            first = moved
        elif Path(first).is_absolute():
            first = Path(first).name  # the host has its own, on its own PATH
        words = [
            self._uploaded(word, launch.cwd) or self._moved(word) for word in others
        ]
        env[RUN_VARIABLE] = self._run
        # Programs of systems are often where the shells of users don't look.
        env.setdefault("PATH", f"{self._begun['path']}:{SYSTEM_PATH}")
        return Launch([first, *words], env, Path(folder))

    def _moved(self, text: str) -> str:
        """A text with paths of the host: of the run folder, and of uploads."""
        moved = {str(self._folder): self._begun["folder"]}
        for each in self._sent:
            there = each.there(self._begun["store"], each.path)
            assert there is not None
            moved[str(each.path)] = there
        pattern = "|".join(map(re.escape, sorted(moved, reverse=True)))
        return re.sub(rf"({pattern})(?![\w.-])", lambda at: moved[at[0]], text)

    def _uploaded(self, word: str, cwd: Path | None) -> str | None:
        """A word that names what was uploaded, with the path there; None for others."""
        store = self._begun["store"]
        for text, named in zip(
            _texts(word), uploads.named_in([word], cwd), strict=False
        ):
            for each in self._sent:
                if (there := each.there(store, named.resolve())) is not None:
                    return word[: len(word) - len(text)] + there
        return None

    async def _bring(self, launch: Launch) -> None:
        """Upload what the launch needs and the host has not."""
        for word in filter(uploads.is_program_to_upload, map(str, launch.argv)):
            program = uploads.upload(Path(word))
            if program not in self._sent:
                self._sent.append(program)
        wanted = [each for each in self._sent if each.digest not in self._there]
        digests = [each.digest for each in wanted]
        have = await self._link.call("have", digests=digests) if digests else []
        for each in wanted:
            if each.digest not in have:
                await self._upload(each)
            self._there.add(each.digest)

    async def _upload(self, upload: Upload) -> None:
        folder = f"{self._begun['store']}/{upload.digest}.{self._run}"
        for name, path in upload.files():
            mode = path.stat().st_mode & 0o777
            for data, fresh in chunks(path):
                await self._put(folder, name, mode, data, fresh=fresh)
        await self._link.call("keep", folder=folder, digest=upload.digest)

    async def _put(
        self, folder: str, name: str, mode: int, data: bytes, *, fresh: bool
    ) -> None:
        await self._link.call(
            "put",
            UPLOAD_S,
            folder=folder,
            name=name,
            mode=mode,
            data=base64.b64encode(data).decode(),
            fresh=fresh,
        )

    @override
    async def empty(self, place: NodePlace) -> int:
        if self.pid(place.name) is not None:
            raise HarnessError(f"{place.name} runs, and its disk can't be emptied")
        self._mirror.forget(place.name)
        size: int = await self._link.call("empty", node=place.name)
        return size

    @override
    async def end(
        self, nodes: Sequence[str], patience_s: float = 0.0
    ) -> Mapping[str, Ended]:
        ended = await super().end(nodes, patience_s)
        ahead_ns = self._link.mono_ahead_ns
        return {n: replace(e, at_ns=e.at_ns - ahead_ns) for n, e in ended.items()}

    @override
    async def usage(self, node: str) -> Usage | None:
        found = await super().usage(node)
        if found is None:
            return None
        return replace(found, mono_ns=found.mono_ns - self._link.mono_ahead_ns)

    @override
    async def close(self) -> None:
        self._hang_up()


class SshProcesses(Processes, Clocks):
    """Implements `Processes` and `Clocks`: each node's warden does it.

    Args:
        wardens: Node -> the warden of its host.
    """

    def __init__(self, wardens: Mapping[str, HostWarden]) -> None:
        self._wardens = wardens

    @override
    async def start(self, place: NodePlace, launch: Launch) -> int:
        return await self._wardens[place.name].start(place, launch)

    @override
    async def kill(self, node: str) -> int:
        return await self._wardens[node].kill(node)

    @override
    async def end(
        self, nodes: Sequence[str], patience_s: float = 0.0
    ) -> Mapping[str, Ended]:
        """End all of `nodes`: those on one host at the same moment.

        Those on several hosts end as nearly so as the network allows.
        """
        volleys: defaultdict[HostWarden, list[str]] = defaultdict(list)
        for node in nodes:
            volleys[self._wardens[node]].append(node)
        told = await asyncio.gather(
            *(warden.end(ours, patience_s) for warden, ours in volleys.items())
        )
        ended = {node: one for answer in told for node, one in answer.items()}
        return {node: ended[node] for node in nodes}

    @override
    async def pause(self, node: str) -> Mapping[str, str]:
        return await self._wardens[node].pause(node)

    @override
    async def resume(self, node: str) -> None:
        await self._wardens[node].resume(node)

    @override
    async def starve(self, node: str, share: float) -> None:
        await self._wardens[node].starve(node, share)

    @override
    async def starvation(self, node: str) -> Starvation:
        return await self._wardens[node].starvation(node)

    @override
    async def usage(self, node: str) -> Usage | None:
        return await self._wardens[node].usage(node)

    @override
    async def limit(
        self, node: str, resource: Resource, spare: int | None
    ) -> Mapping[str, Limit]:
        return await self._wardens[node].limit(node, resource, spare)

    @override
    async def empty(self, place: NodePlace) -> int:
        return await self._wardens[place.name].empty(place)

    @override
    def pid(self, node: str) -> int | None:
        return self._wardens[node].pid(node)

    @override
    def on_exit(self, callback: Callable[[Exit], None]) -> None:
        for warden in set(self._wardens.values()):
            warden.on_exit(callback)

    @override
    async def set_clock(self, node: str, setting: ClockSetting) -> None:
        await self._wardens[node].set_clock(node, setting)

    @override
    def begin_with(self, node: str, setting: ClockSetting | None) -> None:
        self._wardens[node].begin_with(node, setting)

    @override
    async def read_clock(self, node: str) -> ClockReading | None:
        return await self._wardens[node].read_clock(node)

    @override
    async def close(self) -> None:
        for warden in set(self._wardens.values()):
            await warden.close()


def _texts(word: str) -> tuple[str, ...]:
    """A word, and what stands behind its first `=`, if anything does."""
    after = word.partition("=")[2]
    return (word, after) if after else (word,)
