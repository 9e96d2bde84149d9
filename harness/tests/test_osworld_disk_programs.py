"""Other people's programs on disks of real nodes: they find nothing wrong with them.

fio verifies what it wrote, stress-ng what file systems promise; databases write, lose
power at every hour, and have all that they acknowledged.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from typing import TYPE_CHECKING

import pytest

from harness.tests.test_osworld_disk import Scene, played, until
from harness.worlds.disks import Loss
from harness.worlds.os.disk.mounting import why_no_disks
from harness.worlds.places import Launch

if TYPE_CHECKING:
    from pathlib import Path

_OBSTACLE = why_no_disks()
pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(bool(_OBSTACLE), reason=f"no disks of ours here: {_OBSTACLE}"),
]

LONG_S = 120.0
CUTS = 8

FIO = {
    "sequential": "--rw=write --bs=64k --size=64m --fsync=8",
    "random": "--rw=randwrite --bs=4k --size=16m --end_fsync=1",
    "direct": "--rw=randrw --direct=1 --ioengine=libaio --iodepth=8 --size=16m",
    "mmap": "--rw=randwrite --ioengine=mmap --bs=4k --size=16m --fsync=32",
    "unaligned": "--rw=randwrite --bsrange=512-70000 --bs_unaligned=1 --size=16m",
    "synchronous": "--rw=randwrite --sync=1 --bs=4k --size=4m",
}
STRESSORS = (
    *("chmod", "copy-file", "dentry", "dirdeep", "dirmany", "dup", "fallocate"),
    *("fcntl", "filename", "flock", "fpunch", "fsize", "fstat", "getdent", "hdd"),
    *("io", "iomix", "link", "locka", "lockf", "lockofd", "mknod", "mmap", "msync"),
    *("open", "rename", "seek", "sendfile", "symlink", "sync-file", "touch", "utime"),
    "xattr",
)


async def run(scene: Scene, *argv: str, within_s: float = LONG_S) -> None:
    """Run a program on the disk of n1; it ends well."""
    place, ended = scene.places["n1"], asyncio.Event()
    statuses: list[int] = []

    def hear(status: int) -> None:
        statuses.append(status)
        ended.set()

    scene.warden.on_exit(lambda exit_: hear(exit_.status))
    await scene.warden.start(place, Launch(argv, cwd=place.data_dir))
    async with asyncio.timeout(within_s):
        await ended.wait()
    assert statuses == [0], scene.log("n1")[-3000:]


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"no {program} here")


@pytest.mark.parametrize("job", FIO)
def test_fio_reads_back_what_it_wrote(tmp_path: Path, job: str) -> None:
    needs("fio")
    checks = ["--verify=crc32c", "--verify_fatal=1", "--do_verify=1"]

    async def story(scene: Scene) -> None:
        await run(scene, "fio", f"--name={job}", *FIO[job].split(), *checks)

    played(tmp_path, story)


@pytest.mark.parametrize("stressor", STRESSORS)
def test_stress_ng_finds_no_fault(tmp_path: Path, stressor: str) -> None:
    needs("stress-ng")

    async def story(scene: Scene) -> None:
        options = ["--timeout", "3", "--verify", "--temp-path", "."]
        await run(scene, "stress-ng", f"--{stressor}", "2", *options)

    played(tmp_path, story)


# A caged node has a /tmp of its own, so these sockets are in nobody's way.
REDIS = """
import subprocess
server = subprocess.Popen(
    ["redis-server", "--port", "0", "--unixsocket", "/tmp/redis", "--save", ""]
    + ["--appendonly", "yes", "--appendfsync", "always"],
    stdout=subprocess.DEVNULL,
)
client = socket.socket(socket.AF_UNIX)
while failure(client.connect, "/tmp/redis"):
    time.sleep(0.01)
answers = client.makefile("rb")

def ask(words):
    client.sendall(words.encode() + b"\\r\\n")
    return answers.readline().decode().strip()

while (size := ask("dbsize")).startswith("-LOADING"):
    time.sleep(0.01)
number = int(size[1:])
say(number)
while MORE:
    assert ask(f"set {number} x") == "+OK"
    number += 1
    say(number)
"""

POSTGRES = """
import subprocess
os.environ["PATH"] += ":/usr/lib/postgresql/15/bin"
if not os.path.exists("base"):
    subprocess.run(["initdb", "-D", "base", "-U", "us"], check=True, stdout=2)
    subprocess.run(["initdb", "-D", "base", "-S"], check=True, stdout=2)
    sync_folder()
server = subprocess.Popen(
    ["postgres", "-D", "base", "-k", "/tmp", "-h", "", "-c", "fsync=on"], stdout=2
)
while subprocess.run(["pg_isready", "-q", "-h", "/tmp"]).returncode:
    time.sleep(0.05)
client = subprocess.Popen(
    ["psql", "-h", "/tmp", "-U", "us", "-qAt", "postgres"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
)

def ask(words):
    client.stdin.write(words + ";\\n")
    return client.stdout.readline().strip()

client.stdin.write("create table if not exists rows (number int primary key);\\n")
number = int(ask("select count(*) from rows"))
say(number)
while MORE:
    assert ask(f"insert into rows values ({number}) returning number") == str(number)
    number += 1
    say(number)
"""


@pytest.mark.parametrize(
    ("program", "code"), [("redis-server", REDIS), ("psql", POSTGRES)]
)
def test_a_database_has_all_that_it_acknowledged(
    tmp_path: Path, program: str, code: str
) -> None:
    needs(program)
    dice = random.Random(program)
    more, done = code.replace("MORE", "True"), code.replace("MORE", "False")

    async def story(scene: Scene) -> None:
        acknowledged = 0
        for cut in range(CUTS):
            await scene.start(more)
            await until(lambda: len(numbers(scene)) > 5, f"{program} works")
            await asyncio.sleep(dice.uniform(0, 0.5))
            loss = Loss(kept=0.5, torn=True, during="fsync", seed=cut)
            lost = await scene.disks.cut_power({"n1": loss})
            assert lost["n1"].pid
            first, *_ = numbers(scene)
            # One that was under way may have come through.
            assert acknowledged <= first <= acknowledged + 1, scene.log("n1")
            acknowledged = max(numbers(scene))
        await scene.start(done)
        await until(lambda: numbers(scene), f"{program} has come up")
        assert acknowledged <= numbers(scene)[0] <= acknowledged + 1

    played(tmp_path, story)


def numbers(scene: Scene) -> list[int]:
    """What a node said since it was started."""
    lines = scene.log("n1").splitlines()
    return [int(line.strip("[]")) for line in lines if line.strip("[]").isdigit()]
