"""The warden over real processes: whatever happens, it knows and nothing survives."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import resource
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import HarnessError
from harness.worlds.clocks import ClockLine, ClockReading, ClockSetting
from harness.worlds.os import keeper, namespaces, processtree, tracer, vdso
from harness.worlds.os.warden import LIMITS, Warden, move_away
from harness.worlds.places import Endpoint, Launch, NodePlace
from harness.worlds.processes import Exit, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the warden is Linux only"
)

DEADLINE_S = 20.0
HOUR_NS = 3600 * 10**9
HOUR_AHEAD = ClockSetting(wall=ClockLine(HOUR_NS))

clocks = pytest.mark.skipif(bool(vdso.why_not()), reason="clocks can't be skewed here")

SLEEPS = "import time; time.sleep(600)"

DAEMONISES = """
import os, pathlib, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        if "forget" in sys.argv:
            os.execve("/bin/sleep", ["sleep", "600." + sys.argv[2]], {})
        pathlib.Path(sys.argv[1], "daemon").write_text(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
os.wait()
pathlib.Path(sys.argv[1], "daemonised").touch()
time.sleep(600)
"""
"""A node that leaves a process in a session of its own, whose parent is gone."""


def place(name: str, folder: Path) -> NodePlace:
    (folder / name).mkdir(exist_ok=True)
    endpoint = Endpoint("127.0.0.1", 1)
    return NodePlace(
        name, endpoint, {}, folder / name, folder / name / "log", {name: endpoint}
    )


def python(code: str, *arguments: object) -> Launch:
    return Launch([sys.executable, "-S", "-c", code, *map(str, arguments)])


def on_warden(
    test: Callable[[Warden], Coroutine[object, object, None]], limits: Limits = LIMITS
) -> None:
    warden = Warden.fork({}, limits=limits)

    async def whole() -> None:
        try:
            async with asyncio.timeout(DEADLINE_S * 3):
                await test(warden)
        finally:
            await warden.close()

    asyncio.run(whole())


async def until(condition: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"never came true: {what}"
        await asyncio.sleep(0.005)


def runs(pid: int) -> bool:
    process = processtree.read(pid)
    return process is not None and process.state != "Z"


def test_a_node_runs_with_its_log_and_ends_by_kill(tmp_path: Path) -> None:
    async def story(warden: Warden) -> None:
        exits: list[Exit] = []
        warden.on_exit(exits.append)
        n1 = place("n1", tmp_path)
        pid = await warden.start(n1, python("print('hello');" + SLEEPS))
        assert warden.pid("n1") == pid
        assert runs(pid)
        await until(lambda: "hello" in n1.log_path.read_text(), "its log says hello")
        assert await warden.kill("n1") == pid
        assert not runs(pid)
        assert warden.pid("n1") is None
        assert exits == [Exit("n1", pid, -signal.SIGKILL, expected=True)]
        assert await warden.kill("n1") == 0

    on_warden(story)


def test_a_node_that_ends_by_itself_is_reported_as_unexpected(tmp_path: Path) -> None:
    async def story(warden: Warden) -> None:
        exits: list[Exit] = []
        warden.on_exit(exits.append)
        pid = await warden.start(place("n1", tmp_path), python("raise SystemExit(3)"))
        await until(lambda: exits, "its end is reported")
        assert exits == [Exit("n1", pid, 3, expected=False)]
        assert warden.pid("n1") is None

    on_warden(story)


def test_a_command_that_does_not_exist_is_named_in_the_error(tmp_path: Path) -> None:
    async def story(warden: Warden) -> None:
        with pytest.raises(
            HarnessError,
            match=r"^n1: cannot start 'no-such-command': No such file or directory$",
        ):
            await warden.start(place("n1", tmp_path), Launch(["no-such-command"]))
        assert warden.pid("n1") is None

    on_warden(story)


def test_a_missing_interpreter_is_told_from_a_missing_command(tmp_path: Path) -> None:
    script = tmp_path / "node"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)

    async def story(warden: Warden) -> None:
        with pytest.raises(HarnessError, match="interpreter that its first line names"):
            await warden.start(place("n1", tmp_path), Launch([str(script)]))

    on_warden(story)


@pytest.mark.parametrize(
    ("launch", "reason"),
    [
        (Launch(["/"]), "Permission denied"),
        (Launch(["true"], cwd=Path("/no/such/folder")), "/no/such/folder"),
        (Launch(["a\0b"]), "null character"),
        (Launch([]), "n1: there is no command to start"),
    ],
    ids=["not executable", "no such cwd", "null byte", "no command"],
)
def test_what_cannot_start_is_an_error_and_the_warden_goes_on(
    launch: Launch, reason: str, tmp_path: Path
) -> None:
    async def story(warden: Warden) -> None:
        n1 = place("n1", tmp_path)
        with pytest.raises(HarnessError, match=reason):
            await warden.start(n1, launch)
        assert await warden.start(n1, python(SLEEPS)) == warden.pid("n1")

    on_warden(story)


def test_a_running_node_is_not_started_twice(tmp_path: Path) -> None:
    async def story(warden: Warden) -> None:
        n1 = place("n1", tmp_path)
        await warden.start(n1, python(SLEEPS))
        with pytest.raises(HarnessError, match="n1 is already running"):
            await warden.start(n1, python(SLEEPS))

    on_warden(story)


def test_a_node_gets_a_small_clean_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "of the controller's shell")
    code = """
import json, os, resource, signal, sys
print(json.dumps({
    "env": dict(os.environ),
    "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
    "stdin": os.readlink("/proc/self/fd/0"),
    "leads": os.getsid(0) == os.getpid() == os.getpgrp(),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "ignored": [s.name for s in signal.valid_signals()
                if isinstance(s, signal.Signals)
                and signal.getsignal(s) is signal.SIG_IGN],
    "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
}))
"""

    async def story(warden: Warden) -> None:
        n1 = place("n1", tmp_path)
        launch = python(code)
        await warden.start(n1, Launch(launch.argv, env={"ANSWER": "42"}))
        await until(lambda: n1.log_path.read_text().endswith("}\n"), "it has told")
        told = json.loads(n1.log_path.read_text())
        assert told["env"]["ANSWER"] == "42"
        assert told["env"]["PATH"] == os.environ["PATH"]
        assert "SECRET_TOKEN" not in told["env"]
        assert len(told["fds"]) == 4  # the fourth is the listing itself
        assert told["stdin"] == "/dev/null"
        assert told["leads"]
        assert told["core"] == [0, 0]
        # What CPython itself ignores at start, and nothing else.
        assert set(told["ignored"]) <= {"SIGPIPE", "SIGXFSZ"}
        assert told["blocked"] == 0

    on_warden(story)


def test_kill_reaches_a_daemon_that_left_the_family(tmp_path: Path) -> None:
    async def story(warden: Warden) -> None:
        daemon = tmp_path / "daemon"
        await warden.start(place("n2", tmp_path), python(SLEEPS))
        await warden.start(place("n1", tmp_path), python(DAEMONISES, tmp_path))
        await until(lambda: daemon.exists() and daemon.read_text(), "it daemonised")
        await until((tmp_path / "daemonised").exists, "and lost its parent")
        assert runs(int(daemon.read_text()))
        await warden.kill("n1")
        assert not runs(int(daemon.read_text()))
        assert warden.pid("n2") is not None, "the other node was not touched"

    on_warden(story)


def test_a_restart_clears_what_the_former_process_left(tmp_path: Path) -> None:
    async def story(warden: Warden) -> None:
        exits: list[Exit] = []
        warden.on_exit(exits.append)
        daemon = tmp_path / "daemon"
        n1 = place("n1", tmp_path)
        first = await warden.start(n1, python(DAEMONISES, tmp_path))
        await until((tmp_path / "daemonised").exists, "it daemonised")
        await until(lambda: daemon.exists() and daemon.read_text(), "it said its pid")
        os.kill(first, signal.SIGKILL)
        await until(lambda: exits, "its end is reported")
        assert exits == [Exit("n1", first, -signal.SIGKILL, expected=False)]
        assert runs(int(daemon.read_text()))
        await warden.start(n1, python(SLEEPS))
        assert not runs(int(daemon.read_text()))

    on_warden(story)


def test_pause_stops_every_thread_and_descendant_and_resume_lets_them_go_on(
    tmp_path: Path,
) -> None:
    code = """
import os, threading, time
os.fork()
threading.Thread(target=time.sleep, args=(600,)).start()
print("up")
while True: pass
"""

    async def story(warden: Warden) -> None:
        n1 = place("n1", tmp_path)
        pid = await warden.start(n1, python(code))
        await until(lambda: n1.log_path.read_text().count("up") == 2, "both are up")
        states = await warden.pause("n1")
        assert len(states) == 2
        assert set(states.values()) == {"T"}
        assert str(pid) in states
        threads = [t.state for p in states for t in processtree.threads(int(p))]
        assert threads == ["T"] * 4
        await warden.resume("n1")
        assert all(read(int(p)).state != "T" for p in states)
        await warden.resume("n1")

    on_warden(story)


def read(pid: int) -> processtree.Process:
    process = processtree.read(pid)
    assert process is not None
    return process


def test_a_paused_node_can_be_killed_and_a_stopped_one_paused_is_nothing(
    tmp_path: Path,
) -> None:
    async def story(warden: Warden) -> None:
        pid = await warden.start(place("n1", tmp_path), python(SLEEPS))
        await warden.pause("n1")
        assert await warden.kill("n1") == pid
        assert not runs(pid)
        assert await warden.pause("n1") == {}
        await warden.resume("n1")

    on_warden(story)


HEEDS = """
import pathlib, signal, sys, time
def leave(*_):
    sys.exit(7)
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, leave)
print("ready")
time.sleep(600)
"""


def test_sigterm_comes_before_sigkill_and_each_node_tells_which_ended_it(
    tmp_path: Path,
) -> None:
    async def story(warden: Warden) -> None:
        exits: list[Exit] = []
        warden.on_exit(exits.append)
        places = {name: place(name, tmp_path) for name in ("n1", "n2")}
        await warden.start(places["n1"], python(HEEDS))
        await warden.start(places["n2"], python(HEEDS, "stubborn"))
        logs = [at.log_path for at in places.values()]
        await until(lambda: all("ready" in log.read_text() for log in logs), "handlers")
        ended = await warden.end(["n1", "n2", "n3"], patience_s=0.5)
        assert (ended["n1"].signal, ended["n1"].status) == ("SIGTERM", 7)
        assert (ended["n2"].signal, ended["n2"].status) == ("SIGKILL", -9)
        assert ended["n2"].took_ms >= 500
        assert ended["n3"].pid == 0
        assert [exited.expected for exited in exits] == [True, True]

    on_warden(story)


def test_one_order_ends_all_its_nodes_in_one_go(tmp_path: Path) -> None:
    async def story(warden: Warden) -> None:
        names = ["n1", "n2", "n3"]
        pids = [await warden.start(place(n, tmp_path), python(SLEEPS)) for n in names]
        # An order that takes its time holds up the kill of all, not of one alone.
        paused = asyncio.create_task(warden.pause("n2"))
        await asyncio.sleep(0)
        ended = await warden.end(names)
        assert await paused
        assert [one.pid for one in ended.values()] == pids
        assert not any(runs(pid) for pid in pids)
        times_ns = [one.at_ns for one in ended.values()]
        # Microseconds on an idle machine; the bound is for one that is not.
        assert max(times_ns) - min(times_ns) < 100_000_000

    on_warden(story)


def test_a_starved_node_runs_for_its_share_also_after_a_restart(tmp_path: Path) -> None:
    spins = "while True: pass"

    async def story(warden: Warden) -> None:
        n1 = place("n1", tmp_path)
        await warden.start(n1, python(spins))
        await warden.starve("n1", 0.05)

        async def stops(count: int) -> None:
            deadline_s = time.monotonic() + DEADLINE_S
            while (await warden.starvation("n1")).stops < count:
                assert time.monotonic() < deadline_s, "it isn't stopped often enough"
                await asyncio.sleep(0.02)

        await stops(3)
        before = await warden.starvation("n1")
        assert before.stopped_ns >= 3 * 80_000_000
        states = await warden.pause("n1")
        assert set(states.values()) == {"T"}
        await warden.resume("n1")
        await warden.end(["n1"])
        pid = await warden.start(n1, python(spins))
        await stops(before.stops + 2)
        await warden.starve("n1", 1.0)
        process = processtree.read(pid)
        assert process is not None
        assert process.state != "T"
        used_ns = (await warden.starvation("n1")).cpu_ns
        await until(lambda: processtree.cpu_ns(pid) > (used_ns or 0), "it runs freely")

    on_warden(story)


OPENS = """
import os, pathlib, sys, time
for _ in range(9):
    os.open(os.devnull, os.O_RDONLY)
os.close(5)
folder = pathlib.Path(sys.argv[1])
(folder / "ready").touch()
while not (folder / "go").exists():
    time.sleep(0.005)
said = []
for _ in range(3):
    try:
        said.append(str(os.open(os.devnull, os.O_RDONLY)))
    except OSError as error:
        said.append(error.strerror)
print(*said, sep=";", flush=True)
while (folder / "go").exists():
    time.sleep(0.005)
print(os.open(os.devnull, os.O_RDONLY), flush=True)
time.sleep(600)
"""


def test_limits_leave_a_running_node_what_it_has_and_so_much_more(
    tmp_path: Path,
) -> None:
    async def story(warden: Warden) -> None:
        n1 = place("n1", tmp_path)
        pid = await warden.start(n1, python(OPENS, tmp_path))
        await until((tmp_path / "ready").exists, "its files are open")
        soft, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        limit = (await warden.limit("n1", "files", 2))[str(pid)]
        assert (limit.before, limit.in_use) == (soft, 11)
        (tmp_path / "go").touch()
        refused = "Too many open files"
        # One in the gap that it has left, and one at its end.
        said = f"5;12;{refused}"
        await until(lambda: said in n1.log_path.read_text(), "it says what it got")
        freed = (await warden.limit("n1", "files", None))[str(pid)]
        assert freed.now == soft
        (tmp_path / "go").unlink()
        await until(lambda: "\n13\n" in n1.log_path.read_text(), "it gets more again")
        memory = (await warden.limit("n1", "memory", 1))[str(pid)]
        assert 0 <= memory.now - memory.in_use - (1 << 20) < 1 << 16
        await warden.end(["n1"])
        assert await warden.limit("n1", "files", 0) == {}

    on_warden(story)


def test_a_log_that_grows_too_long_loses_its_middle(tmp_path: Path) -> None:
    limits = Limits(data_bytes=1 << 30, log_bytes=1 << 20)
    code = """
import pathlib, sys, time
print("first")
print("x" * (2 << 20))
print("then")
while b"dropped here" not in pathlib.Path(sys.argv[1]).read_bytes():
    time.sleep(0.01)
print("last")
time.sleep(600)
"""

    async def story(warden: Warden) -> None:
        n1 = place("n1", tmp_path)
        await warden.start(n1, python(code, n1.log_path))
        await until(lambda: "last" in n1.log_path.read_text(), "it went on after that")
        log = n1.log_path.read_text()
        assert log.startswith("first\n")
        dropped = re.search(r"\[splitbrain: (\d+) bytes of log dropped here\]", log)
        assert dropped is not None
        kept = (1 << 19) + (1 << 17)
        assert int(dropped[1]) + kept == len("first\nthen\n") + (2 << 20) + 1
        assert log.endswith("then\nlast\n")

    on_warden(story, limits)


def test_a_node_whose_data_grows_too_big_is_killed_and_told_of(tmp_path: Path) -> None:
    code = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1], "below")
folder.mkdir()
for n in range(100):
    (folder / str(n)).write_bytes(b"x" * 100_000)
time.sleep(600)
"""

    async def story(warden: Warden) -> None:
        exits: list[Exit] = []
        warden.on_exit(exits.append)
        n1 = place("n1", tmp_path)
        await warden.start(n1, python(code, n1.data_dir))
        await until(lambda: exits, "it was killed")
        assert exits[0].status == -signal.SIGKILL
        assert not exits[0].expected
        assert exits[0].why == "its data takes up more than 5 MB (--node-data-mb)"

    on_warden(story, Limits(data_bytes=5_000_000, log_bytes=1 << 20))


@clocks
def test_a_nodes_clocks_are_set_read_back_and_true_after_a_restart(
    tmp_path: Path,
) -> None:
    async def story(warden: Warden) -> None:
        assert await warden.read_clock("n1") is None
        with pytest.raises(HarnessError, match="n1 is not running"):
            await warden.set_clock("n1", HOUR_AHEAD)
        n1 = place("n1", tmp_path)
        await warden.start(n1, python(SLEEPS))
        await warden.set_clock("n1", HOUR_AHEAD)
        reading = await warden.read_clock("n1")
        assert reading == ClockReading(HOUR_NS, 0, "read from its memory")
        await warden.kill("n1")
        assert await warden.read_clock("n1") is None
        await warden.start(n1, python(SLEEPS))
        reading = await warden.read_clock("n1")
        assert reading is not None
        assert reading.wall_offset_ns == reading.mono_offset_ns == 0

    on_warden(story)


@clocks
def test_asyncio_in_a_skewed_node_works_and_sees_the_skew(tmp_path: Path) -> None:
    code = """
import asyncio, time
async def main():
    for _ in range(1000):
        before = asyncio.get_running_loop().time()
        await asyncio.sleep(0.01)
        slept = asyncio.get_running_loop().time() - before
        print(int(time.time()), 0.009 < slept)
asyncio.run(main())
"""

    async def story(warden: Warden) -> None:
        n1 = place("n1", tmp_path)
        await warden.start(n1, python(code))
        await until(lambda: n1.log_path.stat().st_size, "it runs")
        true_s = time.time()
        await warden.set_clock(
            "n1", ClockSetting(wall=ClockLine(HOUR_NS), mono=ClockLine(rate=2.0))
        )
        lines = len(n1.log_path.read_text().splitlines())
        await until(
            lambda: len(n1.log_path.read_text().splitlines()) > lines + 10, "goes on"
        )
        shown = [line.split() for line in n1.log_path.read_text().splitlines()]
        assert 3599 <= int(shown[-1][0]) - true_s <= 3600 + DEADLINE_S
        assert all(woke_in_time == "True" for _, woke_in_time in shown)

    on_warden(story)


@clocks
def test_a_program_that_a_skewed_node_turns_into_is_skewed_too(tmp_path: Path) -> None:
    go = tmp_path / "go"
    code = "import time\nwhile True: print(int(time.time())); time.sleep(0.01)"
    clock = shlex.join([sys.executable, "-S", "-c", code])
    wait = f"until test -e {shlex.quote(str(go))}; do sleep 0.01; done"

    async def story(warden: Warden) -> None:
        n1 = place("n1", tmp_path)
        await warden.start(n1, Launch(["sh", "-c", f"{wait}; exec {clock}"]))
        await warden.set_clock("n1", HOUR_AHEAD)
        go.touch()
        await until(lambda: n1.log_path.read_text().strip(), "it tells the time")
        await until(
            lambda: int(n1.log_path.read_text().split()[-1]) - time.time() > 3500,
            "it tells the skewed time",
        )
        assert (await warden.read_clock("n1")) == ClockReading(
            HOUR_NS, 0, "read from its memory"
        )

    on_warden(story)


@clocks
def test_a_node_under_a_debugger_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    async def story(warden: Warden) -> None:
        pid = await warden.start(place("n1", tmp_path), python(SLEEPS))
        with (
            tracer.held_still(pid),
            pytest.raises(HarnessError, match=r"n1: .*may not be traced"),
        ):
            await warden.set_clock("n1", HOUR_AHEAD)
        await warden.set_clock("n1", HOUR_AHEAD)
        assert runs(pid)

    on_warden(story)


STUCK = """
import os, sys, time
os.mkfifo(sys.argv[1])
print("stuck", flush=True)
# glibc vforks: we wait in the kernel, deaf to all but SIGKILL, until the child has
# opened its end of the pipe and run its program.
os.posix_spawn("/bin/true", ["true"], {},
               file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)])
while True:
    print("free", flush=True)
    time.sleep(0.01)
"""


async def start_stuck(warden: Warden, n1: NodePlace, fifo: Path) -> int:
    pid = await warden.start(n1, python(STUCK, fifo))
    await until(lambda: read(pid).state == "D", "it sits in the kernel")
    return pid


@clocks
def test_a_node_stuck_in_the_kernel_holds_up_nobody_and_goes_on_unharmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracer, "STOP_TIMEOUT_S", 0.05)
    monkeypatch.setattr(keeper, "PAUSE_TIMEOUT_S", 0.05)

    async def story(warden: Warden) -> None:
        n1, fifo = place("n1", tmp_path), tmp_path / "fifo"
        await start_stuck(warden, n1, fifo)
        with pytest.raises(HarnessError, match=r"did not stop .*state D"):
            await warden.set_clock("n1", HOUR_AHEAD)
        assert "D" in (await warden.pause("n1")).values()
        await warden.resume("n1")
        with fifo.open("wb"):
            await until(lambda: "free" in n1.log_path.read_text(), "it goes on")
        await warden.set_clock("n1", HOUR_AHEAD)
        assert await warden.read_clock("n1") == ClockReading(HOUR_NS, 0, vdso.PROOF)

    on_warden(story)


def test_a_node_stuck_in_the_kernel_can_be_killed(tmp_path: Path) -> None:
    async def story(warden: Warden) -> None:
        pid = await start_stuck(warden, place("n1", tmp_path), tmp_path / "fifo")
        assert await warden.kill("n1") == pid
        assert not runs(pid)

    on_warden(story)


def test_closing_kills_even_a_daemon_that_nobody_can_attribute(tmp_path: Path) -> None:
    token = str(os.getpid())
    warden = Warden.fork({})

    async def story() -> None:
        launch = python(DAEMONISES, tmp_path, token, "forget")
        await warden.start(place("n1", tmp_path), launch)
        await until(lambda: named(f"600.{token}"), "the daemon runs")
        await warden.close()

    asyncio.run(story())
    assert not named(f"600.{token}")


def test_a_node_lives_in_its_network_namespace_and_is_known_by_it(
    tmp_path: Path,
) -> None:
    """Even a daemon in a session of its own, with its environment cleared."""
    if why_not := namespaces.why_not_isolated():
        pytest.skip(why_not)

    def isolated() -> int:
        netns = namespaces.create_netns()
        warden = Warden.fork({"n1": netns})

        async def story() -> None:
            token = "424242"
            launch = python(DAEMONISES, tmp_path, token, "forget")
            await warden.start(place("n2", tmp_path), python(SLEEPS))
            pid = await warden.start(place("n1", tmp_path), launch)
            await until(lambda: named(f"600.{token}"), "the daemon runs")
            await until((tmp_path / "daemonised").exists, "it lost its parent")
            lives_in = os.stat(f"/proc/{pid}/ns/net")
            assert os.path.samestat(lives_in, os.fstat(netns))
            await warden.kill("n1")
            assert not named(f"600.{token}")
            assert warden.pid("n2") is not None
            await warden.close()

        asyncio.run(story())
        return 0

    assert namespaces.run_isolated(isolated) == 0


def named(argument: str) -> list[int]:
    """Pids of the processes with that very argument, on the whole machine."""
    found = []
    for process in processtree.walk():
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
            if argument.encode() in command:
                found.append(process.pid)
    return found


def test_a_warden_that_is_killed_takes_its_nodes_along_and_is_missed(
    tmp_path: Path,
) -> None:
    warden = Warden.fork({})
    [keeper] = processtree.walk().children(warden.warden_pid)

    async def story() -> None:
        pid = await warden.start(place("n1", tmp_path), python(SLEEPS))
        os.kill(keeper.pid, signal.SIGKILL)
        with pytest.raises(HarnessError, match="the warden process"):
            await warden.kill("n1")
        with pytest.raises(HarnessError, match="the warden process"):
            await warden.kill("n1")
        assert warden.pid("n1") is None
        await until(lambda: not runs(pid), "its node is gone")
        await warden.close()

    asyncio.run(story())


@pytest.mark.parametrize("which", ["guardian", "keeper"])
def test_what_a_node_forked_is_gone_when_a_parent_of_it_is_killed(
    which: str, tmp_path: Path
) -> None:
    token = f"token-{which}-{os.getpid()}"
    warden = Warden.fork({})
    [keeper] = processtree.walk().children(warden.warden_pid)

    async def story() -> None:
        await warden.start(place("n1", tmp_path), python(DAEMONISES, tmp_path, token))
        files = [tmp_path / name for name in ("daemon", "daemonised")]
        await until(lambda: all(f.exists() for f in files), "there is a daemon")
        assert len(named(token)) >= 2, "node and daemon"
        killed = keeper.pid if which == "keeper" else warden.warden_pid
        os.kill(killed, signal.SIGKILL)
        await until(lambda: not named(token), "all are gone")
        await until(lambda: not runs(keeper.pid), "the keeper is gone")
        await warden.close()

    asyncio.run(story())
    assert not runs(warden.warden_pid)


CONTROLLER = """
import asyncio, os, pathlib, sys, time
from harness.worlds.os import namespaces
from harness.worlds.os.warden import Warden
from harness.worlds.places import Endpoint, Launch, NodePlace

mode, folder, node, token = sys.argv[1:]
folder = pathlib.Path(folder)

async def story(warden):
    endpoint = Endpoint("127.0.0.1", 1)
    place = NodePlace("n1", endpoint, {}, folder, folder / "log", {})
    argv = [sys.executable, "-S", "-c", node, str(folder), token]
    await warden.start(place, Launch(argv))
    while not (folder / "daemonised").exists() or not (folder / "daemon").exists():
        await asyncio.sleep(0.01)
    if mode == "leave":
        return
    print("ready", flush=True)
    await asyncio.sleep(600)

def main():
    warden = Warden.fork({})
    if mode == "channel-kept-open" and os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(600)
    asyncio.run(story(warden))
    return 0

if mode == "namespaces":
    namespaces.run_isolated(main)
else:
    main()
"""


@pytest.mark.parametrize("mode", ["plain", "channel-kept-open", "namespaces"])
def test_nothing_survives_a_controller_that_is_killed(
    mode: str, tmp_path: Path
) -> None:
    if mode == "namespaces" and (why_not := namespaces.why_not_isolated()):
        pytest.skip(why_not)
    token = f"token-{mode}-{os.getpid()}"
    controller = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, mode, str(tmp_path), DAEMONISES, token],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert controller.stdout is not None
    holder = int(controller.stdout.readline()) if "kept" in mode else None
    try:
        assert controller.stdout.readline() == "ready\n"
        assert len(named(token)) >= 3, "controller, node and daemon"
    finally:
        controller.kill()
        controller.wait()
    try:
        deadline_s = time.monotonic() + DEADLINE_S
        while left := set(named(token)) - {holder}:
            assert time.monotonic() < deadline_s, f"{left} survived"
            time.sleep(0.01)
    finally:
        if holder is not None:
            os.kill(holder, signal.SIGKILL)
        controller.stdout.close()


def test_nothing_survives_a_controller_that_forgets_to_close(tmp_path: Path) -> None:
    token = f"token-leave-{os.getpid()}"
    arguments = ["leave", str(tmp_path), DAEMONISES, token]
    subprocess.run([sys.executable, "-c", CONTROLLER, *arguments], check=True)
    deadline_s = time.monotonic() + DEADLINE_S
    while left := named(token):
        assert time.monotonic() < deadline_s, f"{left} survived"
        time.sleep(0.01)


def test_a_folder_on_another_file_system_is_emptied_by_copying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    (data / "below").mkdir(parents=True)
    (data / "below" / "log").write_text("kept")
    (data / "file").write_text("kept, too")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(data / "socket"))

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "rename", refuse)
    move_away(data)
    assert os.listdir(data) == []
    beside = tmp_path / "data-1"
    assert (beside / "below" / "log").read_text() == "kept"
    assert (beside / "file").read_text() == "kept, too"


def test_a_warden_can_be_closed_before_there_is_an_event_loop() -> None:
    warden = Warden.fork({})
    warden.close_now()
    assert not runs(warden.warden_pid)
