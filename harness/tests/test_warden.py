"""The warden over real processes: whatever happens, it knows and nothing survives."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from harness.errors import HarnessError
from harness.osworld import processtree
from harness.osworld.warden import Warden
from harness.processes import Exit
from harness.system import Endpoint, Launch, NodePlace

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the warden is Linux only"
)

DEADLINE_S = 20.0

DAEMONISES = """
import os, pathlib, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
os.wait()
pathlib.Path(sys.argv[1]).with_suffix(".ready").touch()
time.sleep(600)
"""
"""A node with a grandchild in a session of its own, its parent gone."""


def place(name: str, folder: Path) -> NodePlace:
    (folder / name).mkdir(exist_ok=True)
    endpoint = Endpoint("127.0.0.1", 1)
    return NodePlace(
        name, endpoint, {}, folder / name, folder / name / "log", {name: endpoint}
    )


def python(code: str, *arguments: object) -> Launch:
    return Launch([sys.executable, "-S", "-c", code, *map(str, arguments)])


def on_warden(test: Callable[[Warden], Coroutine[object, object, None]]) -> None:
    warden = Warden.fork({})

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
        pid = await warden.start(
            n1, python("print('hello'); import time; time.sleep(600)")
        )
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
