"""Other people's programs on disks of real nodes: they find nothing wrong with them.

fio verifies what it wrote, stress-ng what file systems promise; databases write, lose
power at every hour, and have all that they acknowledged.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sysconfig
from typing import TYPE_CHECKING

import pytest

from harness.tests.test_osworld_disk import Scene, played, until
from harness.worlds.disks import Loss
from harness.worlds.os import netlink
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

ETCD = """
import base64, subprocess, urllib.request
server = subprocess.Popen(["etcd", "--data-dir", "base"], stdout=2)

def ask(what, **body):
    body = {n: base64.b64encode(text.encode()).decode() for n, text in body.items()}
    url = "http://127.0.0.1:2379/v3/kv/" + what
    with urllib.request.urlopen(url, json.dumps(body).encode()) as answer:
        return json.load(answer)

def refuses():
    try:
        ask("range", key="x")
    except OSError:
        return True

while refuses():
    time.sleep(0.05)
number = int(ask("range", key="0", range_end="z").get("count", 0))
say(number)
while MORE:
    ask("put", key=f"{number:09}", value="x")
    number += 1
    say(number)
"""

SQLITE = """
base = sqlite3.connect("base", isolation_level=None)
base.execute("pragma journal_mode=JOURNAL")
base.execute("pragma synchronous=extra")
base.execute("create table if not exists rows (number integer primary key)")
assert base.execute("pragma integrity_check").fetchall() == [("ok",)]
[number] = base.execute("select count(*) from rows").fetchone()
say(number)
while MORE:
    base.execute("insert into rows values (?)", (number,))
    number += 1
    say(number)
"""

LMDB = """
sys.path.append(SITE)
import lmdb
base = lmdb.open(".", map_size=1 << 26, writemap=WRITEMAP)
with base.begin() as transaction:
    number = sum(1 for _ in transaction.cursor())
say(number)
while MORE:
    with base.begin(write=True) as transaction:
        transaction.put(b"%09d" % number, b"x" * 100)
    number += 1
    say(number)
"""
SITE = repr(sysconfig.get_paths()["platlib"])
DATABASES = {
    "etcd": ETCD,
    "redis-server": REDIS,
    "psql": POSTGRES,
    "sqlite, a deleted journal": SQLITE.replace("JOURNAL", "delete"),
    "sqlite, a write-ahead log": SQLITE.replace("JOURNAL", "wal"),
    "lmdb": LMDB.replace("SITE", SITE).replace("WRITEMAP", "False"),
    "lmdb, a shared mapping": LMDB.replace("SITE", SITE).replace("WRITEMAP", "True"),
}


@pytest.mark.parametrize("program", DATABASES)
def test_a_database_has_all_that_it_acknowledged(tmp_path: Path, program: str) -> None:
    code = DATABASES[program]
    if code in {ETCD, REDIS, POSTGRES}:
        needs(program)
    elif program.startswith("lmdb"):
        pytest.importorskip("lmdb")
    dice = random.Random(program)
    more, done = code.replace("MORE", "True"), code.replace("MORE", "False")

    async def story(scene: Scene) -> None:
        with netlink.Routing() as routing:  # for etcd, which has no other sockets
            routing.run([netlink.up(netlink.LOOPBACK)])
        acknowledged = 0
        for cut in range(CUTS):
            await scene.start(more)
            await until(lambda: len(numbers(scene)) > 5, f"{program} works", LONG_S)
            await asyncio.sleep(dice.uniform(0, 0.5))
            loss = Loss(kept=0.5, torn=True, during="fsync", seed=cut)
            lost = await scene.disks.cut_power({"n1": loss})
            assert lost["n1"].pid
            first, *_ = numbers(scene)
            # One that was under way may have come through.
            assert acknowledged <= first <= acknowledged + 1, scene.log("n1")
            acknowledged = max(numbers(scene))
        await scene.start(done)
        await until(lambda: numbers(scene), f"{program} has come up", LONG_S)
        assert acknowledged <= numbers(scene)[0] <= acknowledged + 1

    played(tmp_path, story)


def numbers(scene: Scene) -> list[int]:
    """What a node said since it was started."""
    lines = scene.log("n1").splitlines()
    return [int(line.strip("[]")) for line in lines if line.strip("[]").isdigit()]
