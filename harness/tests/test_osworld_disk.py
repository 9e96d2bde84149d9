"""Disks of real nodes: mounted, lost, broken; with programs on them that care."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError
from harness.tests.osworld_nodes import isolated
from harness.worlds.capabilities import Capabilities
from harness.worlds.disks import Damage, DiskRule, Loss
from harness.worlds.os import helper
from harness.worlds.os import offer as offering
from harness.worlds.os.disk import mounting
from harness.worlds.os.disk.disks import OsDisks
from harness.worlds.os.disk.mounting import why_no_disks
from harness.worlds.os.warden import LIMITS, Warden
from harness.worlds.places import Endpoint, Launch, NodePlace, make_place

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from harness.worlds.processes import Exit, Limits

_OBSTACLE = why_no_disks()
pytestmark = pytest.mark.skipif(
    bool(_OBSTACLE), reason=f"no disks of ours here: {_OBSTACLE}"
)

DEADLINE_S = 20.0

NODE = """
import ctypes, errno, fcntl, json, mmap, os, sqlite3, socket, stat, sys, time
os.chdir(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)

def say(*words):
    print(json.dumps(words), flush=True)

def opened(name, flags=0):
    return os.open(name, os.O_CREAT | os.O_RDWR | flags, 0o644)

def failure(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]

def sync_folder(name="."):
    fd = os.open(name, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)

def wait():
    say("ready")
    time.sleep(1000)

"""


@dataclass
class Scene:
    """Two nodes with disks, and what a test does with them."""

    folder: Path
    places: dict[str, NodePlace]
    disks: OsDisks
    warden: Warden

    async def start(self, code: str, name: str = "n1", *, trusted: bool = False) -> int:
        """Start a node that runs this code; its pid, once it says anything."""
        place = self.places[name]
        place.log_path.unlink(missing_ok=True)
        argv = [sys.executable, "-S", "-c", NODE + code, str(place.data_dir)]
        pid = await self.warden.start(place, Launch(argv, trusted=trusted))
        await until(lambda: self.log(name), f"{name} says something")
        return pid

    async def finish(self, code: str, name: str = "n1", **options: bool) -> list[Any]:
        """The last that a node says which runs this code to its end."""
        await self.start(code + "\nsay('end')", name, **options)
        await until(lambda: self.warden.pid(name) is None, f"{name} has ended")
        said = self.said(name)
        assert said[-1] == ["end"], self.log(name)
        return said[-2] if len(said) > 1 else []

    def said(self, name: str = "n1") -> list[list[Any]]:
        lines = self.log(name).splitlines()
        assert not any("Traceback" in line for line in lines), self.log(name)
        return [json.loads(line) for line in lines]

    def log(self, name: str) -> str:
        path = self.places[name].log_path
        return path.read_text() if path.exists() else ""

    def held(self, file: str, name: str = "n1") -> bytes:
        return (self.places[name].data_dir / file).read_bytes()

    def files(self, name: str = "n1") -> list[str]:
        return sorted(path.name for path in self.places[name].data_dir.iterdir())


def played(
    folder: Path,
    story: Callable[[Scene], Coroutine[object, object, None]],
    *,
    caged: bool = True,
    limits: Limits = LIMITS,
    tidy: bool = True,
) -> None:
    """Run a test's story over nodes with disks, in namespaces of its own."""

    def body() -> None:
        there = {name: Endpoint("127.0.0.1", 7000) for name in ("n1", "n2")}
        places = {name: make_place(name, there, {}, folder) for name in there}
        disks = OsDisks.fork(places)
        warden = Warden.fork({}, folder if caged else None, limits, disks.mounted)
        disks.serve(warden)

        async def whole() -> None:
            try:
                async with asyncio.timeout(DEADLINE_S * 3):
                    await story(Scene(folder, places, disks, warden))
            finally:
                await warden.close()
                await disks.close()
            assert tidy != (places["n1"].data_dir.parent / "disk").exists()

        asyncio.run(whole())

    isolated(body)


async def until(
    condition: Callable[[], object], what: str, within_s: float = DEADLINE_S
) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, f"never came true: {what}"
        await asyncio.sleep(0.005)


WRITES_AND_SYNCS = """
fd = opened("log", os.O_APPEND)
for record in range(10):
    os.write(fd, b"%04d" % record)
    if record == 5:
        os.fsync(fd)
opened("named")
sync_folder()
opened("nameless")
os.rename("named", "renamed")
os.truncate("log", 36)
wait()
"""


@pytest.mark.parametrize("kind", ["caged", "trusted", "uncaged"])
def test_power_takes_what_was_not_synced_and_a_kill_takes_nothing(
    tmp_path: Path, kind: str
) -> None:
    trusted = kind == "trusted"

    async def story(scene: Scene) -> None:
        await scene.start(WRITES_AND_SYNCS, trusted=trusted)
        await scene.warden.kill("n1")
        reads = "say(open('log').read(), sorted(os.listdir()))"
        everything = "".join(f"{record:04}" for record in range(9))
        names = ["log", "nameless", "renamed"]
        assert await scene.finish(reads, trusted=trusted) == [everything, names]
        lost = (await scene.disks.cut_power({"n1": Loss()}))["n1"]
        assert (lost.pid, lost.bytes, lost.writes) == (0, 16, 5)
        assert (lost.names, lost.during) == (2, False)
        assert lost.files == ("log", "nameless", "renamed")
        names = ["log", "named"]
        assert await scene.finish(reads, trusted=trusted) == [everything[:24], names]
        assert scene.files() == names
        assert scene.files("n2") == []

    played(tmp_path, story, caged=kind != "uncaged")


def test_power_ends_processes_before_they_see_anything_of_it(tmp_path: Path) -> None:
    appends = """
fd, record = opened("log", os.O_APPEND), 0
while True:
    os.write(fd, b"%08d" % record)
    os.fsync(fd)
    say(record)
    record += 1
"""

    async def story(scene: Scene) -> None:
        ended: list[Exit] = []
        scene.warden.on_exit(ended.append)
        loss = Loss(kept=0.5, torn=True, during="fsync", seed=4)
        for trial in range(3):
            pids = [await scene.start(appends, name) for name in scene.places]
            await until(
                lambda: all(scene.log(name).count("\n") > 5 for name in scene.places),
                "both nodes append",
            )
            lost = await scene.disks.cut_power(
                {name: replace(loss, seed=trial) for name in scene.places}
            )
            assert [one.pid for one in lost.values()] == pids
            assert any(one.during for one in lost.values())
            for name in scene.places:
                # Whatever was said is there, and at most one more than that.
                said = [record for [record] in scene.said(name)]
                durable = len(scene.held("log", name)) / 8
                begun = durable - len(said)
                assert begun % 1 or begun in {0, 1}, (name, begun)
                assert 0 <= begun <= 1
                await scene.finish("os.unlink('log'); sync_folder()", name)
        assert {(one.status, one.expected) for one in ended if one.status} == {
            (-9, True)
        }

    played(tmp_path, story)


def test_rules_fail_and_delay_operations_and_count_them(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        everything = {
            "n1": [
                DiskRule("*.log", frozenset({"fsync"}), "EIO"),
                DiskRule("full/*", frozenset({"write", "create"}), "ENOSPC"),
                DiskRule("slow", frozenset({"fsync"}), delay_ms=60),
                DiskRule("*", frozenset({"rename"}), "EIO"),
            ]
        }
        await scene.finish("""
os.mkdir("full")
os.write(opened("full/old"), b"old")
sync_folder()
""")
        await scene.disks.set_rules(everything)
        told = await scene.finish("""
log, slow = opened("a.log"), opened("slow")
os.fsync(slow)
os.write(log, b"dropped")
begun = time.monotonic()
os.fsync(slow)
say(
    failure(os.fsync, log),
    failure(opened, "full/new"),
    failure(os.write, opened("full/old"), b"x"),
    failure(os.rename, "slow", "fast"),
    time.monotonic() - begun >= 0.06,
)
""")
        assert told == ["EIO", "ENOSPC", "ENOSPC", "EIO", True]
        await scene.disks.set_rules({})
        synced = await scene.finish("""
log = opened("a.log")
os.fsync(log)
sync_folder()
say(os.read(log, 9).decode())
""")
        assert synced == ["dropped"]
        counted = (await scene.disks.counters())["n1"]
        assert counted.errors == {
            "fsync EIO": 1,
            "create ENOSPC": 1,
            "write ENOSPC": 1,
            "rename EIO": 1,
        }
        assert counted.delayed == {"fsync": 2}
        assert counted.syncs == 5
        await scene.disks.cut_power({"n1": Loss()})
        # The second fsync said that all is well; what was dirty at the first is gone.
        assert scene.held("a.log") == b""

    played(tmp_path, story)


def test_a_kill_does_not_wait_for_a_slow_disk(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        rule = DiskRule(operations=frozenset({"fsync"}), delay_ms=30_000)
        await scene.disks.set_rules({"n1": [rule]})
        await scene.start("say('syncing'); os.fsync(opened('file'))")
        while not (await scene.disks.counters())["n1"].delayed:
            pass  # each look is a round trip to the process of the disk
        begun_s = time.monotonic()
        assert await scene.warden.kill("n1")
        assert time.monotonic() - begun_s < 5

    played(tmp_path, story)


def test_power_goes_before_or_after_a_node_is_started_and_never_amid_it(
    tmp_path: Path,
) -> None:
    async def story(scene: Scene) -> None:
        place = scene.places["n1"]
        launch = Launch(["sleep", "1000"], cwd=place.data_dir)
        for _ in range(3):
            begun_s = time.monotonic()
            await asyncio.gather(
                scene.warden.start(place, launch),
                scene.disks.cut_power({"n1": Loss()}),
            )
            assert time.monotonic() - begun_s < 5
            await scene.warden.kill("n1")

    played(tmp_path, story)


def test_damage_is_read_by_a_process_that_runs(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.start("""
fd = opened("file")
for text in (b"old" * 100, b"new" * 100):
    os.pwrite(fd, text, 0)
    os.fsync(fd)
sync_folder()
before = os.pread(fd, 400, 0)
say("ready")
while os.pread(fd, 400, 0) == before:
    time.sleep(0.001)
say(os.pread(fd, 400, 0).decode("latin-1"))
wait()
""")
        stale = await scene.disks.damage("n1", Damage("stale", "f*"))
        assert (stale.file, stale.at) == ("file", 0)
        assert stale.before.startswith(b"new".hex())
        assert stale.after.startswith(b"old".hex())
        await until(lambda: len(scene.said()) > 2, "the node has read it")
        assert scene.said()[1] == ["old" * 100]
        flipped = await scene.disks.damage("n1", Damage("flip", seed=3))
        assert bytes.fromhex(flipped.after) == scene.held("file")[flipped.at :][:1]
        assert flipped.after != flipped.before
        cut = await scene.disks.damage("n1", Damage("truncate", seed=3))
        assert (cut.before, cut.after) == ("300", str(cut.at))
        await scene.disks.cut_power({"n1": Loss()})
        assert len(scene.held("file")) == cut.at
        assert await scene.disks.repair("n1") == 3
        assert await scene.finish("say(open('file').read())") == ["new" * 100]
        assert await scene.disks.repair("n1") == 0
        none = await scene.disks.damage("n1", Damage("flip", "nothing"))
        assert none.file == ""
        restore = Damage("restore", "f*")
        assert await scene.disks.snapshot("n1", restore) == 1
        assert (await scene.disks.damage("n1", restore)).file == ""
        await scene.finish("fd = opened('file'); os.pwrite(fd, b'later', 299)")
        lost = await scene.disks.damage("n1", restore)
        assert (lost.file, lost.at, lost.before) == ("file", 300, "304")
        assert await scene.finish("say(open('file').read())") == ["new" * 100]
        assert await scene.disks.repair("n1") == 1
        assert scene.held("file") == b"new" * 99 + b"nelater"

    played(tmp_path, story)


POSIX = """
fd = opened("file")
os.ftruncate(fd, 3 * 4096)
page = mmap.mmap(fd, 3 * 4096)
page[4096:4101] = b"first"
page.flush()
assert os.pread(fd, 5, 4096) == b"first"
os.pwrite(fd, b"again", 4096)
assert page[4096:4101] == b"again"

direct = os.open("file", os.O_RDWR | os.O_DIRECT)
block = mmap.mmap(-1, 4096)
block[:6] = b"direct"
assert os.pwritev(direct, [block], 0) == 4096
assert page[:6] == b"direct"

fcntl.flock(fd, fcntl.LOCK_EX)
assert failure(fcntl.flock, opened("file"), fcntl.LOCK_EX | fcntl.LOCK_NB) == "EAGAIN"
fcntl.lockf(fd, fcntl.LOCK_EX)
if not os.fork():
    refused = failure(fcntl.lockf, opened("file"), fcntl.LOCK_EX | fcntl.LOCK_NB)
    os._exit(refused != "EAGAIN")
assert os.wait()[1] == 0

os.link("file", "second")
assert os.stat("second").st_nlink == 2
assert os.path.samefile("file", "second")
os.unlink("file")
assert os.fstat(fd).st_nlink == 1
os.unlink("second")
assert os.fstat(fd).st_nlink == 0
assert os.pread(fd, 6, 0) == b"direct"
os.pwrite(fd, b"gone", 0)
os.fsync(fd)

os.symlink("target", "link")
assert os.readlink("link") == "target"
assert os.lstat("link").st_size == 6

def renameat2(old, new, flags):
    if libc.renameat2(-100, old.encode(), -100, new.encode(), flags):
        return errno.errorcode[ctypes.get_errno()]

os.mkdir("one"); os.mkdir("two")
os.close(opened("one/here"))
assert renameat2("one", "two", 1) == "EEXIST"
assert renameat2("one", "two", 2) is None
assert os.listdir("two") == ["here"]
assert failure(os.rename, "one", "two") == "ENOTEMPTY"
assert failure(os.rmdir, "two") == "ENOTEMPTY"
assert failure(os.rename, "two", "two/below") == "EINVAL"
assert failure(os.unlink, "two") in {"EISDIR", "EPERM"}
assert os.stat("two").st_nlink == 2 and os.stat(".").st_nlink == 4

sparse = opened("sparse")
os.pwrite(sparse, b"x", 1 << 30)
assert os.fstat(sparse).st_blocks < 1000
assert os.lseek(sparse, 0, os.SEEK_DATA) > 0
os.posix_fallocate(sparse, 0, 8192)
os.pwrite(sparse, b"y" * 8192, 0)
libc.fallocate.argtypes = [ctypes.c_int] * 2 + [ctypes.c_long] * 2
assert libc.fallocate(sparse, 3, 0, 4096) == 0
assert os.pread(sparse, 8192, 0) == b"\\0" * 4096 + b"y" * 4096
os.truncate("sparse", 10)
assert os.path.getsize("sparse") == 10

os.setxattr("sparse", "user.colour", b"blue")
assert os.getxattr("sparse", "user.colour") == b"blue"
assert os.listxattr("sparse") == ["user.colour"]
os.removexattr("sparse", "user.colour")
assert failure(os.getxattr, "sparse", "user.colour") == "ENODATA"

os.chmod("sparse", 0o400)
assert failure(os.open, "sparse", os.O_RDWR) == "EACCES"
os.utime("sparse", ns=(1, 2))
assert os.stat("sparse").st_mtime_ns == 2
assert os.statvfs(".").f_namemax == 255
assert failure(opened, "n" * 256) == "ENAMETOOLONG"

server = socket.socket(socket.AF_UNIX)
server.bind("door")
server.listen()
socket.socket(socket.AF_UNIX).connect("door")
os.mkfifo("pipe")
assert stat.S_ISFIFO(os.stat("pipe").st_mode)

for number in range(500):
    os.close(opened(f"one/{number}"))
assert len(os.listdir("one")) == len(set(os.listdir("one"))) == 500
with os.scandir("one") as entries:
    for entry in entries:
        os.unlink(entry.path)
os.rmdir("one")

appending = opened("appended", os.O_APPEND | os.O_TRUNC)
other = opened("appended", os.O_APPEND)
os.write(appending, b"1"); os.write(other, b"2"); os.write(appending, b"3")
assert os.pread(other, 9, 0) == b"123"
"""


def test_a_disk_does_all_of_posix_that_databases_use(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.finish(POSIX)
        await scene.disks.cut_power({"n1": Loss(kept=1)})
        assert "door" in scene.files()

    played(tmp_path, story)


COMMITS = """
base = sqlite3.connect("base", isolation_level=None)
base.execute("pragma journal_mode=wal")
base.execute("pragma synchronous=full")
base.execute("create table rows (number)")
base.execute("pragma wal_checkpoint")
sync_folder()
base.execute("pragma synchronous=%s")
for number in range(30):
    base.execute("insert into rows values (?)", (number,))
wait()
"""
COUNTS = """
base = sqlite3.connect("base")
say(*base.execute("select count(*) from rows").fetchone(),
    *base.execute("pragma integrity_check").fetchone())
"""


@pytest.mark.parametrize(
    ("synchronous", "fault", "lost"),
    [("off", "power", True), ("full", "power", False), ("off", "kill", False)],
)
def test_sqlite_loses_commits_to_power_alone_and_only_unsynced_ones(
    tmp_path: Path, synchronous: str, fault: str, lost: bool
) -> None:
    async def story(scene: Scene) -> None:
        await scene.start(COMMITS % synchronous)
        if fault == "kill":
            await scene.warden.kill("n1")
        else:
            await scene.disks.cut_power({"n1": Loss()})
        count, integrity = await scene.finish(COUNTS)
        assert integrity == "ok"
        assert (count < 30) == lost

    played(tmp_path, story)


def test_a_node_is_bounded_by_what_its_disk_holds_unlinked_files_too(
    tmp_path: Path,
) -> None:
    async def story(scene: Scene) -> None:
        ended: list[Exit] = []
        scene.warden.on_exit(ended.append)
        await scene.start("""
fd = opened("file")
os.unlink("file")
say("writes")  # before it writes too much: it is killed at any moment then
os.write(fd, b"x" * 5_000_000)
wait()
""")
        await until(lambda: ended, "it is ended")
        assert "4 MB" in ended[0].why

    played(tmp_path, story, limits=replace(LIMITS, data_bytes=4_000_000))


def test_what_was_put_into_a_folder_while_its_node_was_down_is_there(
    tmp_path: Path,
) -> None:
    async def story(scene: Scene) -> None:
        data = scene.places["n1"].data_dir
        config = data / "given" / "config"
        config.parent.mkdir()
        config.write_text("of the system")
        reads = "say(open('given/config').read(), os.listdir())"
        assert await scene.finish(reads) == ["of the system", ["given"]]
        await scene.disks.cut_power({"n1": Loss()})
        assert await scene.finish(reads) == ["of the system", ["given"]]
        await scene.finish("os.close(opened('own'))")
        config.write_text("changed")
        (data / "own").unlink()
        assert await scene.finish(reads) == ["changed", ["given"]]
        await scene.disks.cut_power({"n1": Loss()})
        assert await scene.finish(reads) == ["changed", ["given"]]

    played(tmp_path, story)


def test_an_emptied_disk_stays_empty_when_the_power_goes(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        place, aside = scene.places["n1"], scene.places["n1"].data_dir.parent
        writes = (
            "fd = opened('log'); os.write(fd, b'kept'); os.fsync(fd); sync_folder()"
        )
        await scene.finish(f"{writes}; os.mkdir('folder')")
        await scene.start("wait()")
        with pytest.raises(HarnessError, match="n1 runs"):
            await scene.warden.empty(place)
        await scene.warden.kill("n1")
        assert await scene.warden.empty(place) == 4
        assert (aside / "data-1" / "log").read_bytes() == b"kept"
        await scene.disks.cut_power({"n1": Loss()})
        assert await scene.finish("say(os.listdir())") == [[]]
        await scene.finish(writes)
        assert await scene.warden.empty(place) == 4
        assert (aside / "data-2" / "log").read_bytes() == b"kept"
        assert not (aside / "data-1").exists(), "only the last is kept"

    played(tmp_path, story)


def test_a_disk_whose_process_dies_hangs_nobody_and_is_named(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.start("""
say("ready")
while failure(os.write, opened("file"), b"x") is None:
    pass
say("failed")
time.sleep(1000)
""")
        os.kill(scene.disks.pids[0], signal.SIGKILL)
        await until(lambda: ["failed"] in scene.said(), "the node noticed")
        with pytest.raises(HarnessError, match="disk of n1 process died"):
            await scene.disks.cut_power({"n1": Loss()})
        await scene.warden.kill("n1")

    with pytest.raises(AssertionError, match="disk"):
        played(tmp_path, story)


def test_a_disk_whose_process_hangs_is_ended_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper, "_ANSWER_S", 0.3)

    async def story(scene: Scene) -> None:
        await scene.start("say('ready')\nwhile True: os.fsync(opened('file'))")
        os.kill(scene.disks.pids[0], signal.SIGSTOP)
        with pytest.raises(HarnessError, match="disk of n1 process hangs"):
            await scene.disks.cut_power({"n1": Loss()})
        await scene.warden.kill("n1")

    played(tmp_path, story, tidy=False)


@pytest.mark.parametrize("kind", ["missing", "closed", "no device", "no mount"])
def test_where_disks_cannot_be_had_runs_that_need_them_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    device = tmp_path / "fuse"
    if kind == "closed":
        device.mkdir()
    elif kind in {"no device", "no mount"}:
        device.touch()
    if kind == "no mount":
        monkeypatch.setattr(mounting, "DEVICE_NUMBER", device.stat().st_rdev)
    monkeypatch.setattr(mounting, "DEVICE", str(device))
    monkeypatch.setattr(mounting, "why_no_disks", why_no_disks.__wrapped__)
    needs = Capabilities(disks=frozenset({"power"}))
    words = {
        "missing": f"{device} is not there: `modprobe fuse`",
        "closed": f"{device} can't be opened (Is a directory)",
        "no device": f"{device} is not the kernel's device: `rm {device}; mknod",
        "no mount": "the kernel mounts no FUSE file system here (Invalid argument)",
    }
    refusal = offering.offer("switch", needs).refusal(needs)
    assert words[kind] in refusal
    assert "\n" not in refusal
