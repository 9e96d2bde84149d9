"""What a caged node can do: its own work, and harm to nobody."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import platform
import shutil
import signal
import stat
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError
from harness.host import syscalls
from harness.tests.osworld_nodes import isolated
from harness.worlds.clocks import ClockLine, ClockReading, ClockSetting
from harness.worlds.os import cage, processtree, switch, vdso
from harness.worlds.os.warden import Warden
from harness.worlds.os.wiring import wire
from harness.worlds.places import Endpoint, Launch, NodePlace
from harness.worlds.processes import Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_OBSTACLE = switch.why_no_switch()
pytestmark = pytest.mark.skipif(
    _OBSTACLE is not None, reason=f"no namespaces here: {_OBSTACLE}"
)

DEADLINE_S = 20.0
HOUR_NS = 3600 * 10**9

PROBE = """
import ctypes, json, os, socket, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
data, wanted = sys.argv[1], json.loads(sys.argv[2])
told = {}

def tell(name, attempt):
    try:
        told[name] = attempt()
    except OSError as error:
        told[name] = os.strerror(error.errno)

def called(result):
    return "done" if result >= 0 else os.strerror(ctypes.get_errno())

def write(path):
    with open(path, "a") as file:
        file.write("x")
    return "done"

status = dict(line.split(":", 1) for line in open("/proc/self/status"))
told["status"] = {name: text.strip() for name, text in status.items()}
told["ids"] = [os.getuid(), os.getgid()]
told["processes"] = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
told["devices"] = sorted(os.listdir("/dev"))
told["stdin"] = os.readlink("/proc/self/fd/0")
for path in wanted:
    tell(path, lambda: write(path))
    tell("list " + path, lambda: sorted(os.listdir(path)))
tell("trace init", lambda: called(libc.ptrace(16, 1, None, None)))
tell("new user namespace", lambda: called(libc.unshare(0x10000000)))
tell("new network", lambda: called(libc.unshare(0x40000000)))
tell("mount", lambda: called(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)))
tell("unmount", lambda: called(libc.umount2(b"/proc/sys", 2)))
tell("remount", lambda: called(libc.mount(b"none", b"/", None, 0x1020, None)))
tell("make a device", lambda: os.mknod(data + "/disk", 0o60600, os.makedev(254, 0)))
with open(data + "/told.tmp", "w") as file:
    json.dump(told, file)
os.rename(data + "/told.tmp", data + "/told")
time.sleep(600)
"""


@dataclass
class Run:
    """A run folder with two nodes' places, and a warden over them."""

    folder: Path
    warden: Warden

    def place(self, name: str) -> NodePlace:
        endpoint = Endpoint("127.0.0.1", 1)
        node_dir = self.folder / "nodes" / name
        (node_dir / "data").mkdir(parents=True, exist_ok=True)
        return NodePlace(
            name, endpoint, {}, node_dir / "data", node_dir / "log", {name: endpoint}
        )

    async def start(
        self,
        code: str,
        *arguments: object,
        name: str = "n1",
        writable: tuple[Path, ...] = (),
        trusted: bool = False,
    ) -> int:
        """The pid of a node that runs this Python code."""
        argv = [sys.executable, "-S", "-c", code, *map(str, arguments)]
        return await self.warden.start(
            self.place(name), Launch(argv, writable=writable, trusted=trusted)
        )

    async def probe(self, *paths: str, **options: Any) -> dict[str, Any]:
        """What a node says that tried everything, writing to these paths included."""
        data = self.place(options.get("name", "n1")).data_dir
        await self.start(PROBE, data, json.dumps(paths), **options)
        await until((data / "told").exists, "it has told")
        told: dict[str, Any] = json.loads((data / "told").read_text())
        return told

    def log(self, name: str = "n1") -> str:
        return (self.folder / "nodes" / name / "log").read_text()


def caged(
    folder: Path,
    test: Callable[[Run], Coroutine[object, object, None]],
    before: Callable[[], object] = lambda: None,
) -> None:
    """Run a test's story over caged nodes, in namespaces of its own."""

    def body() -> None:
        before()
        folder.mkdir(exist_ok=True)
        netns_fds = {outlet.name: outlet.netns for outlet in wire(["n1", "n2"])}
        warden = Warden.fork(netns_fds, folder)

        async def whole() -> None:
            try:
                async with asyncio.timeout(DEADLINE_S * 3):
                    await test(Run(folder, warden))
            finally:
                await warden.close()

        asyncio.run(whole())

    isolated(body)


async def until(condition: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"never came true: {what}"
        await asyncio.sleep(0.005)


def runs(pid: int) -> bool:
    process = processtree.read(pid)
    return process is not None and process.state != "Z"


def test_a_node_holds_no_privilege_and_can_gain_none(tmp_path: Path) -> None:
    async def story(run: Run) -> None:
        told = await run.probe()
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(told["status"][kind], 16) == 0, kind
        assert told["status"]["NoNewPrivs"] == "1"
        refused = ("trace init", "new network", "mount", "unmount", "remount")
        for attempt in (*refused, "make a device"):
            assert told[attempt] == "Operation not permitted", attempt
        assert told["new user namespace"] != "done"

    caged(tmp_path / "run", story)


def test_a_cage_without_a_user_namespace_holds_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = syscalls.unshare

    def unshare(kinds: int) -> None:
        if kinds & syscalls.CLONE_NEWUSER:
            raise PermissionError(1, "not permitted")
        real(kinds)

    async def story(run: Run) -> None:
        told = await run.probe("/proc/1/root/file", "/proc/sys/vm/overcommit_memory")
        assert int(told["status"]["CapEff"], 16) == 0
        for attempt in ("trace init", "mount", "unmount", "remount"):
            assert told[attempt] == "Operation not permitted", attempt
        assert told["/proc/1/root/file"] == "Permission denied"
        refused = {"Read-only file system", "Permission denied"}  # of root, of others
        assert told["/proc/sys/vm/overcommit_memory"] in refused

    caged(
        tmp_path / "run",
        story,
        before=lambda: monkeypatch.setattr(syscalls, "unshare", unshare),
    )


def test_a_node_is_who_started_the_run_and_nobody_if_that_is_root(
    tmp_path: Path,
) -> None:
    async def story(run: Run) -> None:
        assert (await run.probe())["ids"] == list(ids)

    ids = (os.getuid() or cage.NOBODY, os.getgid() or cage.NOBODY)
    caged(tmp_path / "run", story)


def test_a_node_sees_its_own_processes_and_devices_only(tmp_path: Path) -> None:
    async def story(run: Run) -> None:
        await run.start("import time; time.sleep(600)", name="n2")
        told = await run.probe()
        assert told["processes"] == [1, 2], "its init and itself"
        assert told["stdin"] == "/dev/null"
        assert {"null", "urandom", "shm", "pts"} <= set(told["devices"])
        assert set(told["devices"]) <= {
            *("null", "zero", "full", "random", "urandom", "tty", "shm", "pts"),
            *("ptmx", "fd", "stdin", "stdout", "stderr"),
        }

    caged(tmp_path / "run", story)


def test_a_node_writes_its_own_data_and_what_it_is_granted_and_nothing_else(
    tmp_path: Path,
) -> None:
    folder, granted, other = (tmp_path / name for name in ("run", "granted", "other"))
    for path in (granted, other):
        path.mkdir()
    observed = folder / "nodes" / "n1" / "observe.jsonl"
    own = str(folder / "nodes" / "n1" / "data" / "file")
    may = [own, str(observed), str(granted / "file"), "/tmp/file", "/dev/shm/file"]
    read_only = ["/etc/file", str(other / "file"), str(Path.home() / "file")]
    kernels = ["/proc/sys/vm/overcommit_memory", "/proc/sysrq-trigger", "/sys/file"]
    hidden = [
        str(folder / name)
        for name in ("history.jsonl", "nodes/n1/log", "nodes/n2/data/file")
    ]

    async def story(run: Run) -> None:
        run.place("n1"), run.place("n2")
        observed.touch()
        (folder / "history.jsonl").write_text("{}\n")
        told = await run.probe(
            *(*may, *read_only, *kernels, *hidden, str(folder), "/run"),
            writable=(observed, granted),
        )
        assert {told[path] for path in may} == {"done"}
        assert {told[path] for path in read_only} <= {
            "Read-only file system",
            "Permission denied",
        }
        assert "done" not in {told[path] for path in kernels}
        assert "done" not in {told[path] for path in hidden}
        assert told[f"list {folder}"] == ["nodes"]
        assert not set(told["list /run"]) - {p.split("/")[2] for p in SEEN_BELOW_RUN}
        assert (folder / "history.jsonl").read_text() == "{}\n"
        assert (granted / "file").read_text() == "x"
        assert not (folder / "nodes" / "n2" / "data" / "file").exists()

    caged(folder, story)
    assert not Path("/dev/shm/file").exists()
    assert not Path("/tmp/file").exists()


SEEN_BELOW_RUN = [
    path
    for path in (sys.executable, os.getcwd(), *os.environ["PATH"].split(os.pathsep))
    if path.startswith("/run/")
]


def test_a_node_writes_nothing_of_the_kernels_in_proc(tmp_path: Path) -> None:
    code = """
import os, time
for folder, folders, files in os.walk("/proc"):
    folders[:] = [one for one in folders if folder != "/proc" or not one.isdigit()]
    for name in (*folders, *files):
        path = os.path.join(folder, name)
        if not os.path.islink(path) and os.access(path, os.W_OK):
            print("may write", path)
print("that is all", flush=True)
time.sleep(600)
"""

    async def story(run: Run) -> None:
        await run.start(code)
        await until(lambda: "that is all" in run.log(), "it has looked")
        assert run.log() == "that is all\n"

    caged(tmp_path / "run", story)


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK])
def test_a_node_does_not_see_what_in_tmp_leads_to_a_server(
    kind: int, tmp_path: Path
) -> None:
    async def story(run: Run) -> None:
        told = await run.probe("/tmp")
        assert plain.name in told["list /tmp"]
        assert served.name not in told["list /tmp"]

    served, plain = (Path(tempfile.mkdtemp(dir="/tmp")) for _ in range(2))
    try:
        os.mknod(served / "door", kind | 0o600)
        caged(tmp_path / "run", story)
    finally:
        shutil.rmtree(served)
        plain.rmdir()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="knows its system calls")
def test_a_node_has_none_of_the_keys_of_who_started_it(tmp_path: Path) -> None:
    add_key, request_key = 248, 249
    libc = ctypes.CDLL(None, use_errno=True)
    code = f"""
import ctypes, time
libc = ctypes.CDLL(None)
print("found", libc.syscall({request_key}, b"user", b"test-of-cages", None, 0) > 0)
print("that is all", flush=True)
time.sleep(600)
"""

    def hold_a_key() -> None:
        syscalls.leave_session_keyring()
        if libc.syscall(add_key, b"user", b"test-of-cages", b"secret", 6, -3) < 0:
            pytest.skip(f"no keys here: {os.strerror(ctypes.get_errno())}")
        assert libc.syscall(request_key, b"user", b"test-of-cages", None, 0) > 0

    async def story(run: Run) -> None:
        await run.start(code)
        await until(lambda: "that is all" in run.log(), "it has looked")
        assert run.log() == "found False\nthat is all\n"

    caged(tmp_path / "run", story, before=hold_a_key)


def test_what_a_node_put_into_tmp_outlives_a_kill(tmp_path: Path) -> None:
    code = """
import os, time
for folder in ("/tmp", "/dev/shm"):
    print(folder, os.path.exists(folder + "/mark"), flush=True)
    open(folder + "/mark", "w").close()
time.sleep(600)
"""

    async def story(run: Run) -> None:
        await run.start(code)
        await until(lambda: "/dev/shm False" in run.log(), "it has looked")
        await run.start(code, name="n2")
        await until(lambda: "/dev/shm" in run.log("n2"), "so has its peer")
        assert "True" not in run.log("n2"), "nothing is shared"
        await run.warden.kill("n1")
        await run.start(code)
        await until(lambda: "/tmp True\n/dev/shm True" in run.log(), "it found them")

    caged(tmp_path / "run", story)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("raise SystemExit(3)", 3),
        ("raise SystemExit(0)", 0),
        ("import os; os.kill(os.getpid(), 9)", -9),
        ("import os; os.abort()", -6),
    ],
)
def test_how_a_node_ended_is_reported_to_the_letter(
    code: str, status: int, tmp_path: Path
) -> None:
    async def story(run: Run) -> None:
        exits: list[Exit] = []
        run.warden.on_exit(exits.append)
        pid = await run.start(code)
        await until(lambda: exits, "its end is reported")
        assert exits == [Exit("n1", pid, status, expected=False)]
        assert run.warden.pid("n1") is None
        await run.warden.kill("n1")

    caged(tmp_path / "run", story)


def test_a_node_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    async def story(run: Run) -> None:
        before = {p.pid for p in processtree.walk()}
        with pytest.raises(HarnessError, match="n1: cannot start 'no-such': No such"):
            await run.warden.start(run.place("n1"), Launch(["no-such"]))
        assert {p.pid for p in processtree.walk()} == before

    caged(tmp_path / "run", story)


FAMILY = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(3, 64)
        os.environ.clear()
        time.sleep(600)
    os._exit(0)
os.wait()
print("ready", flush=True)
if "leave" in sys.argv:
    os._exit(0)
time.sleep(600)
"""


def sleepers() -> list[int]:
    """All that runs the code above, but for shells and tests."""
    found = []
    for process in processtree.walk():
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            if FAMILY.encode() in command and process.state != "Z":
                found.append(process.pid)
    return found


def test_a_node_may_use_every_port_of_its_address(tmp_path: Path) -> None:
    code = """
import socket, time
print("listens on", socket.create_server(("198.18.0.1", 80)).getsockname(), flush=True)
time.sleep(600)
"""

    async def story(run: Run) -> None:
        await run.start(code)
        await until(lambda: "\n" in run.log(), "it has tried")
        assert "listens on ('198.18.0.1', 80)" in run.log()

    caged(tmp_path / "run", story)


def test_kill_ends_a_nodes_daemons_too(tmp_path: Path) -> None:
    async def story(run: Run) -> None:
        pid = await run.start(FAMILY)
        await until(lambda: "ready" in run.log(), "it has a daemon")
        assert len(sleepers()) == 2
        assert await run.warden.kill("n1") == pid
        assert sleepers() == []

    caged(tmp_path / "run", story)


def test_a_daemon_whose_node_ended_runs_until_the_node_is_started_again(
    tmp_path: Path,
) -> None:
    async def story(run: Run) -> None:
        exits: list[Exit] = []
        run.warden.on_exit(exits.append)
        await run.start(FAMILY, "leave")
        await until(lambda: exits, "it ended")
        (daemon,) = sleepers()
        assert set(await run.warden.pause("n1")) == {str(daemon)}
        await run.warden.resume("n1")
        await run.start("import time; time.sleep(600)")
        assert sleepers() == []

    caged(tmp_path / "run", story)


def test_pause_stops_a_node_and_its_daemons_and_resume_lets_them_go_on(
    tmp_path: Path,
) -> None:
    async def story(run: Run) -> None:
        pid = await run.start(FAMILY)
        await until(lambda: "ready" in run.log(), "it has a daemon")
        states = await run.warden.pause("n1")
        assert len(states) == 2
        assert str(pid) in states
        assert set(states.values()) == {"T"}
        await run.warden.resume("n1")
        assert "T" not in {p.state for p in map(processtree.read, sleepers()) if p}

    caged(tmp_path / "run", story)


@pytest.mark.skipif(bool(vdso.why_not()), reason="clocks can't be skewed here")
def test_the_clocks_of_a_caged_node_can_be_set(tmp_path: Path) -> None:
    code = "import time\nwhile True: print(int(time.time())); time.sleep(0.01)"

    async def story(run: Run) -> None:
        await run.start(code)
        await run.warden.set_clock("n1", ClockSetting(wall=ClockLine(HOUR_NS)))
        reading = await run.warden.read_clock("n1")
        assert reading == ClockReading(HOUR_NS, 0, vdso.PROOF)
        await until(
            lambda: int((run.log().split() or ["0"])[-1]) > time.time() + 3000,
            "it tells the skewed time",
        )

    caged(tmp_path / "run", story)


def test_signals_to_everybody_reach_a_nodes_own_processes_only(tmp_path: Path) -> None:
    code = f"""
import os, time
os.kill(-1, {int(signal.SIGKILL)}) if os.fork() == 0 else os.wait()
"""

    async def story(run: Run) -> None:
        exits: list[Exit] = []
        run.warden.on_exit(exits.append)
        peer = await run.start("import time; time.sleep(600)", name="n2")
        pid = await run.start(code)
        await until(lambda: exits, "it killed itself")
        assert exits == [Exit("n1", pid, -signal.SIGKILL, expected=False)]
        assert runs(peer)
        assert runs(run.warden.warden_pid)

    caged(tmp_path / "run", story)


def test_a_trusted_node_keeps_the_rights_of_the_run(tmp_path: Path) -> None:
    code = """
import os, time
print(open("/proc/self/status").read())
print("mine is", os.getpid(), flush=True)
time.sleep(600)
"""

    async def story(run: Run) -> None:
        pid = await run.start(code, trusted=True)
        await until(lambda: f"mine is {pid}\n" in run.log(), "it shares our processes")
        assert "CapEff:\t0000000000000000" not in run.log()

    caged(tmp_path / "run", story)


def test_nothing_is_left_of_caged_nodes_when_their_warden_is_killed(
    tmp_path: Path,
) -> None:
    async def story(run: Run) -> None:
        await run.start(FAMILY)
        await until(lambda: "ready" in run.log(), "it has a daemon")
        os.kill(run.warden.warden_pid, signal.SIGKILL)
        await until(lambda: sleepers() == [], "all is gone")

    caged(tmp_path / "run", story)


@pytest.mark.skipif(os.geteuid() != 0, reason="others' homes are closed to us")
def test_roots_nodes_pass_a_home_that_is_closed_to_others(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "run").mkdir(parents=True)
    os.chown(home, 1234, 1234)
    home.chmod(0o700)
    (home / "program.py").write_text("print('runs', flush=True)")

    async def story(run: Run) -> None:
        argv = [sys.executable, "-S", "program.py"]
        await run.warden.start(run.place("n1"), Launch(argv, cwd=home))
        await until(lambda: "runs" in run.log(), "it runs")

    caged(home / "run", story)


def test_a_cage_that_cannot_be_had_is_done_without_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(uid: int, gid: int) -> None:
        raise PermissionError(1, "not permitted here")

    def body() -> None:
        monkeypatch.setattr(cage, "put_on", refuse)
        warden = Warden.fork({}, tmp_path)

        async def story() -> None:
            run = Run(tmp_path, warden)
            await run.start("print('runs', flush=True)")
            await until(lambda: "runs" in run.log(), "it runs")
            await warden.close()

        asyncio.run(story())
        assert "not permitted here" in warden.why_no_cages

    isolated(body)


def test_old_kernels_get_a_read_only_tree_mount_by_mount(tmp_path: Path) -> None:
    def body() -> None:
        syscalls.mount("tmpfs", str(tmp_path), "tmpfs")
        below = tmp_path / "a name with spaces"
        below.mkdir()
        syscalls.mount("tmpfs", str(below), "tmpfs")
        cage.make_mounts_read_only_one_by_one()
        for path in (tmp_path / "file", below / "file", Path("/etc/file")):
            with pytest.raises(OSError, match="Read-only"):
                path.touch()

    isolated(body)
