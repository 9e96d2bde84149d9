"""Monotonic clocks return to true time, as programs in several languages see it.

Each program sleeps again and again, in the way its language offers, and after each
sleep says what its own clock shows. True time is ours: when its lines arrive.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from harness.worlds.clocks import ClockLine, ClockSetting
from harness.worlds.os import vdso
from harness.worlds.os.warden import Warden
from harness.worlds.places import Endpoint, Launch, NodePlace

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    bool(vdso.why_not()) if sys.platform == "linux" else True,
    reason="clocks can't be skewed on this machine",
)

DEADLINE_S = 60.0
LEAP_S = 2.0
LEAP = ClockSetting(mono=ClockLine(int(LEAP_S * 1e9)))
RETURN = ClockSetting(mono=ClockLine(None, 0.01, returns=True))

PYTHON = """
import threading, time
never = threading.Condition()
while True:
    time.sleep(0.02)
    with never:
        never.wait(0.02)
    print(time.monotonic_ns(), flush=True)
"""

C = """
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>
static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}
int main(void) {
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_condattr_t attributes;
    pthread_cond_t never;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&never, &attributes);
    for (;;) {
        long long until = now_ns() + 20000000;
        struct timespec at = {until / 1000000000, until % 1000000000};
        pthread_mutex_lock(&mutex);
        while (pthread_cond_timedwait(&never, &mutex, &at) != ETIMEDOUT) {}
        pthread_mutex_unlock(&mutex);
        printf("%lld\\n", now_ns());
        fflush(stdout);
    }
}
"""

JAVA = """
public class Sleeper {
    public static void main(String[] none) throws Exception {
        Object never = new Object();
        while (true) {
            Thread.sleep(20);
            synchronized (never) { never.wait(20); }
            System.out.println(System.nanoTime());
        }
    }
}
"""

GO = """
package main

import (
	"fmt"
	"time"
)

func main() {
	start := time.Now()
	for {
		time.Sleep(20 * time.Millisecond)
		<-time.After(20 * time.Millisecond)
		fmt.Println(time.Since(start).Nanoseconds())
	}
}
"""


def in_python(_: Path) -> list[str]:
    return [sys.executable, "-S", "-c", PYTHON]


def in_c(folder: Path) -> list[str]:
    (folder / "sleeper.c").write_text(C)
    build(folder, "gcc", "-O1", "-o", "sleeper", "sleeper.c", "-lpthread")
    return [str(folder / "sleeper")]


def in_java(folder: Path) -> list[str]:
    (folder / "Sleeper.java").write_text(JAVA)
    build(folder, "javac", "Sleeper.java")
    return ["java", "-Xint", "-XX:+UseSerialGC", "-cp", str(folder), "Sleeper"]


def in_go(folder: Path) -> list[str]:
    (folder / "sleeper.go").write_text(GO)
    build(folder, "go", "build", "-o", "sleeper", "sleeper.go")
    return [str(folder / "sleeper")]


def build(folder: Path, *command: str) -> None:
    if not shutil.which(command[0]):
        pytest.skip(f"needs {command[0]}")
    subprocess.run(command, cwd=folder, check=True, timeout=300)


class Sleeper:
    """A node that sleeps in short turns, and our stop-watch for its turns."""

    def __init__(self, warden: Warden, place: NodePlace) -> None:
        self.warden = warden
        self._place = place

    def shown_ns(self) -> list[int]:
        """What its clock showed after each turn so far."""
        *lines, _ = self._place.log_path.read_text().split("\n")
        return [int(line) for line in lines]

    async def turns_s(self, count: int) -> float:
        """True seconds that it takes for so many turns, once one has ended."""
        loop = asyncio.get_running_loop()
        begin = await self._turn_after(len(self.shown_ns()))
        begun_s = loop.time()
        await self._turn_after(begin + count - 1)
        return loop.time() - begun_s

    async def _turn_after(self, turns: int) -> int:
        deadline_s = asyncio.get_running_loop().time() + DEADLINE_S
        while (seen := len(self.shown_ns())) <= turns:
            assert asyncio.get_running_loop().time() < deadline_s, "it sleeps on"
            await asyncio.sleep(0.001)
        return seen

    async def ahead_s(self) -> float:
        reading = await self.warden.read_clock("n1")
        assert reading is not None
        return reading.mono_offset_ns / 1e9

    async def is_true_again(self) -> None:
        deadline_s = asyncio.get_running_loop().time() + DEADLINE_S
        while (ahead_s := await self.ahead_s()) != 0:
            assert asyncio.get_running_loop().time() < deadline_s, f"at {ahead_s} s"
            await asyncio.sleep(0.01)


def on_sleeper(
    argv: list[str],
    folder: Path,
    story: Callable[[Sleeper], Coroutine[object, object, None]],
) -> None:
    endpoint = Endpoint("127.0.0.1", 1)
    place = NodePlace("n1", endpoint, {}, folder, folder / "log", {"n1": endpoint})
    warden = Warden.fork({})

    async def whole() -> None:
        try:
            await warden.start(place, Launch(argv))
            sleeper = Sleeper(warden, place)
            await sleeper.turns_s(3)
            await story(sleeper)
        finally:
            await warden.close()

    asyncio.run(whole())


LANGUAGES = [in_python, in_c, in_java, in_go]


@pytest.mark.parametrize(
    "language",
    [
        pytest.param(one, marks=[] if one in {in_python, in_c} else pytest.mark.nightly)
        for one in LANGUAGES
    ],
)
def test_sleeps_last_as_long_as_ever_once_a_leap_is_healed(
    language: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    async def story(node: Sleeper) -> None:
        await node.warden.set_clock("n1", LEAP)
        await node.warden.set_clock("n1", RETURN)
        assert LEAP_S / 2 < await node.ahead_s() <= LEAP_S
        await node.is_true_again()
        # Left ahead, each turn of most would last two seconds or four.
        await node.turns_s(1)
        assert await node.turns_s(5) < 5 * LEAP_S
        shown = node.shown_ns()
        assert shown == sorted(shown)

    on_sleeper(language(tmp_path), tmp_path, story)


@pytest.mark.nightly
@pytest.mark.parametrize("language", LANGUAGES)
def test_programs_outlive_a_frozen_clock(
    language: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    frozen = ClockSetting(mono=ClockLine(None, 0.01))

    async def story(node: Sleeper) -> None:
        await node.warden.set_clock("n1", frozen)
        await asyncio.sleep(2.0)
        assert await node.ahead_s() < -1.5
        await node.warden.set_clock("n1", RETURN)
        await node.is_true_again()
        await node.turns_s(5)
        shown = node.shown_ns()
        assert shown == sorted(shown)

    on_sleeper(language(tmp_path), tmp_path, story)


@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_sleeps_last_as_long_as_ever_once_a_drift_is_healed(
    rate: float, tmp_path: Path
) -> None:
    async def story(node: Sleeper) -> None:
        await node.warden.set_clock("n1", ClockSetting(mono=ClockLine(None, rate)))
        await asyncio.sleep(0.5)
        drifted = ClockSetting(mono=ClockLine(None, rate, returns=True))
        await node.warden.set_clock("n1", drifted)
        assert (await node.ahead_s() > 0) == (rate > 1)
        await node.is_true_again()
        shown = node.shown_ns()
        assert shown == sorted(shown)

    on_sleeper(in_python(tmp_path), tmp_path, story)


WATCHES = """
import os, time
os.fork()
last_ns, turns = 0, 0
while True:
    now_ns = time.monotonic_ns()
    if now_ns < last_ns:
        os.write(1, b"-%d\\n" % (last_ns - now_ns))
    last_ns, turns = now_ns, turns + 1
    if turns % 100_000 == 0:
        os.write(1, b"1\\n")
"""


def test_no_process_of_a_node_ever_sees_its_monotonic_clock_run_backwards(
    tmp_path: Path,
) -> None:
    slower = [ClockLine(None, 0.1), ClockLine(None, 0.01, returns=True)]
    faster = [ClockLine(None, 2.0), ClockLine(None, 100.0, returns=True)]

    async def story(node: Sleeper) -> None:
        for change in (slower + faster) * 2:
            await node.warden.set_clock("n1", ClockSetting(mono=change))
            await node.warden.set_clock("n1", ClockSetting(wall=ClockLine(10**9)))
            await node.turns_s(2)
        assert min(node.shown_ns()) > 0

    on_sleeper([sys.executable, "-S", "-c", WATCHES], tmp_path, story)


def test_a_wall_clock_that_is_set_leaves_a_returning_clock_on_its_way(
    tmp_path: Path,
) -> None:
    async def story(node: Sleeper) -> None:
        await node.warden.set_clock("n1", LEAP)
        await node.warden.set_clock("n1", RETURN)
        for offset_ns in (10**9, -(10**9), 0):
            wall = ClockSetting(wall=ClockLine(offset_ns))
            await node.warden.set_clock("n1", wall)
        await node.is_true_again()

    on_sleeper(in_python(tmp_path), tmp_path, story)
