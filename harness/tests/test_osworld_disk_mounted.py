"""The same model, asked through the kernel: mounted, with caches, by paths."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from harness.host import syscalls
from harness.tests.osworld_nodes import isolated
from harness.tests.test_osworld_disk_model import Key, Machine
from harness.worlds.disks import DiskRule, Loss, Lost
from harness.worlds.os.disk.disks import OsDisks
from harness.worlds.os.disk.filesystem import ROOT, FileSystem
from harness.worlds.os.disk.mounting import why_no_disks
from harness.worlds.os.warden import Warden
from harness.worlds.places import Endpoint, make_place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_OBSTACLE = why_no_disks()
pytestmark = pytest.mark.skipif(
    bool(_OBSTACLE), reason=f"no disks of ours here: {_OBSTACLE}"
)


@dataclass(frozen=True)
class Made:
    """Of `Inode`, what a caller of `create` wants to know."""

    number: int


class MountedDisk:
    """Of `FileSystem`, what the machine asks of it, by way of system calls."""

    def __init__(self, folder: Path, disks: OsDisks, runner: asyncio.Runner) -> None:
        self._root = os.fsencode(folder / "nodes" / "n1" / "disk" / "mount")
        self._disks = disks
        self._runner = runner

    def names(self) -> dict[Key, int]:
        return {
            (number, entry.name): entry.inode()
            for number, path in self._folders().items()
            for entry in os.scandir(path)
        }

    def path(self, number: int) -> bytes:
        folders = self._folders()
        if number in folders:
            return folders[number]
        for (folder, name), found in self.names().items():
            if found == number:
                return folders[folder] + b"/" + name
        raise AssertionError(f"no name leads to {number}")

    def _folders(self) -> dict[int, bytes]:
        found, left = {ROOT: self._root}, [self._root]
        while left:
            for entry in os.scandir(left.pop()):
                if entry.is_dir(follow_symlinks=False):
                    found[entry.inode()] = entry.path
                    left.append(entry.path)
        return found

    def create(self, folder: int, name: bytes, mode: int) -> Made:
        path = self.path(folder) + b"/" + name
        if mode & 0o040000:
            os.mkdir(path)
        else:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        return Made(os.lstat(path).st_ino)

    def link(self, number: int, folder: int, name: bytes) -> None:
        os.link(self.path(number), self.path(folder) + b"/" + name)

    def unlink(self, folder: int, name: bytes) -> None:
        os.unlink(self.path(folder) + b"/" + name)

    def rmdir(self, folder: int, name: bytes) -> None:
        os.rmdir(self.path(folder) + b"/" + name)

    def rename(self, folder: int, name: bytes, to: int, new_name: bytes) -> None:
        source = self.path(folder) + b"/" + name
        os.rename(source, self.path(to) + b"/" + new_name)

    def exchange(self, folder: int, name: bytes, to: int, new_name: bytes) -> None:
        source = self.path(folder) + b"/" + name
        syscalls.exchange(source, self.path(to) + b"/" + new_name)

    def write(self, number: int, offset: int, data: bytes) -> None:
        self._on(number, lambda fd: os.pwrite(fd, data, offset))

    def truncate(self, number: int, size: int) -> None:
        os.truncate(self.path(number), size)

    def allocate(self, number: int, mode: int, offset: int, length: int) -> None:
        self._on(number, lambda fd: syscalls.fallocate(fd, mode, offset, length))

    def sync(self, number: int) -> None:
        self._on(number, os.fsync)

    def fail_to_sync(self, number: int) -> None:
        rule = DiskRule(operations=frozenset({"fsync"}), error="EIO")
        self._runner.run(self._disks.set_rules({"n1": [rule]}))
        with pytest.raises(OSError, match="Input/output error"):
            self.sync(number)
        self._runner.run(self._disks.set_rules({}))

    def lose_power(self, loss: Loss, syncing: int | None) -> Lost:
        assert syncing is None
        return self._runner.run(self._disks.cut_power({"n1": loss}))["n1"]

    def _on(self, number: int, call: Callable[[int], object]) -> None:
        path = self.path(number)
        fd = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR)
        try:
            call(fd)
        finally:
            os.close(fd)


class MountedMachine(Machine):
    """Asks a mounted file system, which is emptied for every example."""

    mounted: MountedDisk
    written: Path

    def set_up(self) -> None:
        self.disk = cast("FileSystem", self.mounted)
        for entry in os.scandir(self.mounted.path(ROOT)):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
        self.mounted.sync(ROOT)

    def teardown(self) -> None:
        pass

    def can_cut_amid_a_sync(self) -> bool:
        return False

    def names(self) -> dict[Key, int]:
        return self.mounted.names()

    def held(self, number: int) -> bytes:
        path = self.mounted.path(number)
        if os.path.isdir(path):
            return b""
        with open(path, "rb") as file:
            return file.read()

    def size(self, number: int) -> int:
        return os.stat(self.mounted.path(number)).st_size

    def links(self, number: int) -> int:
        return os.stat(self.mounted.path(number)).st_nlink

    def seen_below(self, number: int) -> bytes:
        path = os.fsdecode(self.mounted.path(number))
        below = os.path.relpath(path, os.fsdecode(self.mounted.path(ROOT)))
        return (self.written / below).read_bytes()


def test_a_mounted_disk_holds_what_the_model_says(tmp_path: Path) -> None:
    few = settings(
        max_examples=max(5, settings().max_examples // 20), stateful_step_count=25
    )

    def body() -> None:
        place = make_place("n1", {"n1": Endpoint("127.0.0.1", 1)}, {}, tmp_path)
        disks = OsDisks.fork({"n1": place})
        warden = Warden.fork({}, tmp_path, disks=disks.mounted)
        disks.serve(warden)
        with asyncio.Runner() as runner:
            MountedMachine.mounted = MountedDisk(tmp_path, disks, runner)
            MountedMachine.written = place.data_dir
            try:
                run_state_machine_as_test(MountedMachine, settings=few)
            finally:
                runner.run(warden.close())
                runner.run(disks.close())

    isolated(body)
