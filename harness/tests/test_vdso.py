"""Skewed clocks, as a process itself sees them.

Every comparison is a bracket: the true clock is read before and after the process is
asked, so its answer has to lie between what its clock shows at those two moments,
however slow the machine is.
"""

from __future__ import annotations

import ctypes
import functools
import json
import mmap
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.worlds.clocks import TRUE_CLOCKS, ClockLine, ClockSetting
from harness.worlds.os import processtree, tracer, vdso, vdso_build
from harness.worlds.os.vdso import TRUE, Image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    bool(vdso.why_not()) if sys.platform == "linux" else True,
    reason="clocks can't be skewed on this machine",
)

SECOND_NS = 10**9
HOUR_NS = 3600 * SECOND_NS
COARSE_TICK_NS = SECOND_NS // 20
DEADLINE_S = 20.0

CLOCK = """
import ctypes, json, os, sys, threading, time

libc = ctypes.CDLL(None)

def gettimeofday():
    pair = (ctypes.c_long * 2)()
    libc.gettimeofday(pair, None)
    return pair[0] * 10**9 + pair[1] * 1000

def answer(question):
    if question == "all":
        return {id: time.clock_gettime_ns(id) for id in (0, 1, 4, 5, 6, 7, 11)}
    if question == "libc":
        return {"gettimeofday": gettimeofday(), "time": libc.time(None) * 10**9}
    if question == "cpu":
        return time.process_time_ns()
    if question == "fork":
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.close(writer)
            os.read(reader, 1)  # until our parent ends
            os._exit(0)
        return None
    if question == "exec":
        os.execv(sys.executable, sys.orig_argv)
    if question == "threads":
        def spin():
            while True:
                time.time()
        for _ in range(8):
            threading.Thread(target=spin, daemon=True).start()
        return None
    if question == "strobe":
        # Monotonic is true: what wall shows against it must be one of two lines.
        base = time.time_ns() - time.monotonic_ns()
        seen = set()
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            seen.add(round((time.time_ns() - time.monotonic_ns() - base) / 10**9))
        return sorted(seen)
    if question == "steps back":
        steps, last_ns = 0, 0
        until = time.time() + 0.5
        while time.time() < until:
            now_ns = time.monotonic_ns()
            steps, last_ns = steps + (now_ns < last_ns), now_ns
        return steps

print("null", flush=True)
for line in sys.stdin:
    print(json.dumps(answer(line.strip())), flush=True)
"""


class Process:
    """A process that tells what its clocks show."""

    def __init__(self) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-S", "-c", CLOCK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._popen.pid
        self.hear()

    def hear(self) -> Any:
        assert self._popen.stdout is not None
        return json.loads(self._popen.stdout.readline())

    def say(self, question: str) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write(question + "\n")
        self._popen.stdin.flush()

    def ask(self, question: str) -> Any:
        self.say(question)
        return self.hear()

    def has_answered(self) -> bool:
        assert self._popen.stdout is not None
        return bool(select.select([self._popen.stdout], [], [], 0)[0])

    def end(self) -> None:
        self._popen.kill()
        self._popen.communicate()


@contextmanager
def process() -> Iterator[Process]:
    running = Process()
    try:
        yield running
    finally:
        running.end()


class Line:
    """What a clock must show that was set some time during our `with` block."""

    def __init__(self, clock: int, offset_ns: int, rate: float) -> None:
        self.clock = clock
        self.offset_ns = offset_ns
        self.rate = rate
        self.set_after_ns = time.clock_gettime_ns(clock)
        self.set_before_ns = 0

    def was_set(self) -> None:
        self.set_before_ns = time.clock_gettime_ns(self.clock)

    def bounds(self, true_ns: int) -> tuple[float, float]:
        shown = [
            anchor_ns + self.offset_ns + (true_ns - anchor_ns) * self.rate
            for anchor_ns in (self.set_after_ns, self.set_before_ns)
        ]
        return min(shown), max(shown)

    def assert_shows(self, shown_ns: int, asked_ns: int, answered_ns: int) -> None:
        slack_ns = 1000  # the rate has 32 fractional bits
        if self.clock in {5, 6}:
            slack_ns = int(COARSE_TICK_NS * max(self.rate, 1))
        low, _ = self.bounds(asked_ns)
        _, high = self.bounds(answered_ns)
        assert low - slack_ns <= shown_ns <= high + slack_ns, (
            f"clock {self.clock} shows {shown_ns}, "
            f"{(shown_ns - low) / SECOND_NS:.6f} s past the earliest right answer, "
            f"the latest is {(high - low) / SECOND_NS:.6f} s past it"
        )


def lines_of(setting: ClockSetting) -> list[Line]:
    return [
        Line(clock, change.offset_ns or 0, change.rate)
        for clocks, change in (
            (vdso.WALL_CLOCKS, setting.wall or ClockLine()),
            (vdso.MONO_CLOCKS, setting.mono or ClockLine()),
        )
        for clock in clocks
    ]


def skew(pid: int, setting: ClockSetting) -> list[Line]:
    lines = lines_of(setting)
    vdso.apply(pid, TRUE.then(setting))
    for line in lines:
        line.was_set()
    return lines


def assert_all_clocks_show(running: Process, lines: list[Line]) -> None:
    asked = {line.clock: time.clock_gettime_ns(line.clock) for line in lines}
    shown = running.ask("all")
    for line in lines:
        line.assert_shows(
            shown[str(line.clock)],
            asked[line.clock],
            time.clock_gettime_ns(line.clock),
        )


@pytest.mark.parametrize(
    "setting",
    [
        ClockSetting(wall=ClockLine(HOUR_NS)),
        ClockSetting(wall=ClockLine(-HOUR_NS)),
        ClockSetting(mono=ClockLine(40 * SECOND_NS)),
        ClockSetting(wall=ClockLine(5 * SECOND_NS), mono=ClockLine(-SECOND_NS)),
        ClockSetting(wall=ClockLine(rate=2.0)),
        ClockSetting(wall=ClockLine(rate=0.5), mono=ClockLine(rate=2.0)),
        ClockSetting(wall=ClockLine(-HOUR_NS, rate=1.001), mono=ClockLine(rate=0.999)),
        ClockSetting(wall=ClockLine(rate=0.0)),
        ClockSetting(wall=ClockLine(-100 * 365 * 24 * HOUR_NS)),
    ],
    ids=str,
)
def test_every_clock_shows_its_line(setting: ClockSetting) -> None:
    with process() as running:
        lines = skew(running.pid, setting)
        assert_all_clocks_show(running, lines)
        assert_all_clocks_show(running, lines)


def test_changes_follow_each_other_and_end_at_the_truth() -> None:
    with process() as running:
        for setting in (
            ClockSetting(wall=ClockLine(HOUR_NS)),
            ClockSetting(wall=ClockLine(-HOUR_NS), mono=ClockLine(rate=3.0)),
            TRUE_CLOCKS,
        ):
            assert_all_clocks_show(running, skew(running.pid, setting))


def test_gettimeofday_and_time_show_the_wall_clock_too() -> None:
    with process() as running:
        wall = skew(running.pid, ClockSetting(wall=ClockLine(HOUR_NS)))[0]
        asked_ns = time.time_ns()
        shown = running.ask("libc")
        answered_ns = time.time_ns()
        wall.assert_shows(shown["gettimeofday"], asked_ns - 1000, answered_ns)
        wall.assert_shows(shown["time"], asked_ns - SECOND_NS, answered_ns)


def test_cpu_time_is_left_true() -> None:
    with process() as running:
        ahead = ClockLine(HOUR_NS, rate=100.0)
        skew(running.pid, ClockSetting(ahead, ahead))
        assert running.ask("cpu") < DEADLINE_S * SECOND_NS


def test_a_process_that_was_never_skewed_is_not_touched() -> None:
    with process() as running:
        skew(running.pid, TRUE_CLOCKS)
        assert not vdso.is_patched(running.pid)
        assert vdso.read(running.pid).proof == vdso.UNTOUCHED


def test_a_strobing_clock_never_shows_a_mixture_of_two_settings() -> None:
    with process() as running:
        running.say("strobe")
        while not running.has_answered():
            for offset_ns in (HOUR_NS, 1):
                setting = ClockSetting(wall=ClockLine(offset_ns))
                vdso.apply(running.pid, TRUE.then(setting))
        # Against its first reading, which may have been under either setting.
        assert running.hear() in ([0, 3600], [-3600, 0])


def test_changes_while_a_reader_is_in_the_kernel_are_no_step_back_for_it() -> None:
    with process() as running:
        skewed = TRUE.then(ClockSetting(wall=ClockLine(1), mono=ClockLine(None, 1.0)))
        vdso.apply(running.pid, skewed)
        running.say("steps back")
        rate = 1.0
        while not running.has_answered():
            # Mostly on its way back from the kernel, where it spends its time.
            with tracer.held_still(running.pid):
                rate *= 1.1
                for setting in (
                    ClockSetting(mono=ClockLine(None, rate)),
                    ClockSetting(wall=ClockLine(0)),
                ):
                    skewed = skewed.then(setting)
                    vdso.publish(running.pid, skewed)
            time.sleep(0.005)
        assert running.hear() == 0


def test_a_process_with_busy_threads_survives_and_is_skewed() -> None:
    with process() as running:
        running.ask("threads")
        assert_all_clocks_show(
            running, skew(running.pid, ClockSetting(wall=ClockLine(HOUR_NS)))
        )
        assert len(processtree.threads(running.pid)) == 9


def test_a_paused_process_can_be_skewed_and_stays_paused() -> None:
    with process() as running:
        os.kill(running.pid, signal.SIGSTOP)
        wait_for_state(running.pid, "T")
        lines = skew(running.pid, ClockSetting(wall=ClockLine(HOUR_NS)))
        wait_for_state(running.pid, "T")
        os.kill(running.pid, signal.SIGCONT)
        assert_all_clocks_show(running, lines)


def wait_for_state(pid: int, state: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while (now := processtree.read(pid)) is None or now.state != state:
        assert time.monotonic() < deadline_s, f"pid {pid} never got to state {state}"
        time.sleep(0.001)


def test_a_forked_child_has_its_parents_clocks_and_follows_changes() -> None:
    with process() as running:
        skew(running.pid, ClockSetting(wall=ClockLine(HOUR_NS)))
        running.ask("fork")
        (child,) = processtree.walk().children(running.pid)
        assert vdso.read(child.pid).wall_offset_ns == HOUR_NS
        skew(child.pid, ClockSetting(wall=ClockLine(2 * HOUR_NS)))
        assert vdso.read(child.pid).wall_offset_ns == 2 * HOUR_NS
        assert vdso.read(running.pid).wall_offset_ns == HOUR_NS


def test_a_new_program_starts_with_true_clocks_and_can_be_skewed_again() -> None:
    with process() as running:
        skew(running.pid, ClockSetting(wall=ClockLine(HOUR_NS)))
        running.say("exec")
        running.hear()
        assert vdso.read(running.pid).wall_offset_ns == 0
        assert not vdso.is_patched(running.pid)
        assert_all_clocks_show(
            running, skew(running.pid, ClockSetting(wall=ClockLine(HOUR_NS)))
        )


def test_offsets_are_read_back_from_the_process() -> None:
    with process() as running:
        skew(running.pid, ClockSetting(wall=ClockLine(-HOUR_NS), mono=ClockLine(7)))
        reading = vdso.read(running.pid)
        assert (reading.wall_offset_ns, reading.mono_offset_ns) == (-HOUR_NS, 7)
        assert reading.proof == vdso.PROOF


def test_a_process_that_is_gone_is_no_process() -> None:
    with process() as running:
        pid = running.pid
    for call in (vdso.read, functools.partial(vdso.apply, skew=HOUR_AHEAD)):
        with pytest.raises(ProcessLookupError):
            call(pid)


HOUR_AHEAD = TRUE.then(ClockSetting(wall=ClockLine(HOUR_NS)))


def test_this_process_itself_is_never_patched() -> None:
    assert not vdso.is_patched(os.getpid())


# the image


class Loaded:
    """The image in executable memory of our own, its functions callable."""

    def __init__(self, image: Image) -> None:
        self._pages = mmap.mmap(
            -1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        )
        self._pages[: len(image.data)] = image.data
        self._block = image.block
        self._anchor = ctypes.c_char.from_buffer(self._pages)
        address = ctypes.addressof(self._anchor)
        self._gettime = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)(
            address + image.entries["__vdso_clock_gettime"]
        )

    def put(self, packed: bytes) -> None:
        self._pages[self._block : self._block + 8] = struct.pack("<Q", 0)
        self._pages[self._block + 8 : self._block + 8 + len(packed)] = packed

    def clock_ns(self, clock: int) -> int:
        pair = (ctypes.c_long * 2)()
        assert self._gettime(clock, ctypes.addressof(pair)) == 0
        assert 0 <= pair[1] < SECOND_NS
        return pair[0] * SECOND_NS + pair[1]

    def error_of(self, clock: int) -> int:
        return int(self._gettime(clock, ctypes.addressof((ctypes.c_long * 2)())))

    def close(self) -> None:
        del self._anchor
        self._pages.close()


@contextmanager
def loaded(image: Image) -> Iterator[Loaded]:
    memory = Loaded(image)
    try:
        yield memory
    finally:
        memory.close()


OFFSETS_NS = st.integers(-(10**18), 10**18)
RATES = st.floats(0, 1000)
LINES = st.builds(ClockLine, OFFSETS_NS, RATES)


@settings(deadline=None, database=None)  # a busy machine is no failure
@given(st.builds(ClockSetting, LINES, LINES))
def test_the_machine_code_computes_the_lines(setting: ClockSetting) -> None:
    with loaded(vdso.image()) as memory:
        lines = lines_of(setting)
        memory.put(TRUE.then(setting).packed)
        for line in lines:
            line.was_set()
        for line in lines:
            asked_ns = time.clock_gettime_ns(line.clock)
            shown_ns = memory.clock_ns(line.clock)
            answered_ns = time.clock_gettime_ns(line.clock)
            line.assert_shows(shown_ns, asked_ns, answered_ns)


@settings(deadline=None, database=None)
@given(
    st.integers(-(10**9), 10**9),
    st.floats(0.01, 0.99),
    st.integers(-(10**9), 10**9),
)
def test_the_machine_code_and_the_reader_of_clocks_agree_on_lines_that_return(
    ahead_ns: int, rate: float, since_ns: int
) -> None:
    way = ClockLine(None, rate, returns=True)
    with loaded(vdso.image()) as memory:
        anchor_ns = time.monotonic_ns() - since_ns
        line = vdso.Line(anchor_ns, anchor_ns + ahead_ns).then(way, anchor_ns)
        skewed = vdso.Skew((line,) * len(TRUE.lines))
        memory.put(skewed.packed)
        asked_ns = time.monotonic_ns()
        shown_ns = memory.clock_ns(vdso.MONOTONIC)
        answered_ns = time.monotonic_ns()
        if asked_ns <= line.anchor_ns:
            return  # it begins later: the copy before counts, here all true
        low_ns, high_ns = line.shown_ns(asked_ns), line.shown_ns(answered_ns)
        assert low_ns <= shown_ns <= high_ns
        # Once it has met the truth, it is on it.
        late_ns = anchor_ns + vdso.SLOWS_AFTER_NS + 101 * SECOND_NS
        assert line.shown_ns(late_ns) == late_ns


def test_until_a_line_begins_the_one_before_counts() -> None:
    with loaded(vdso.image()) as memory:
        slow = TRUE.then(ClockSetting(mono=ClockLine(None, 0.0)))
        memory.put(slow.packed)
        for clock in vdso.MONO_CLOCKS:
            before_ns = time.clock_gettime_ns(clock)
            shown_ns = memory.clock_ns(clock)
            assert before_ns <= shown_ns
        while time.monotonic_ns() <= slow.since_ns:
            time.sleep(0.001)
        begun = {clock: memory.clock_ns(clock) for clock in vdso.MONO_CLOCKS}
        assert begun == {clock: memory.clock_ns(clock) for clock in vdso.MONO_CLOCKS}


def test_an_unknown_clock_gets_the_kernels_error() -> None:
    with loaded(vdso.image()) as memory:
        assert memory.error_of(999) < 0
        assert memory.error_of(2) == 0  # CPU time: passed on


@pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("ld")), reason="needs gcc and ld"
)
def test_the_image_is_what_its_source_compiles_to(tmp_path: Path) -> None:
    vdso_build.build(tmp_path / "image")
    built = (tmp_path / "image").read_bytes()
    if built == vdso_build.IMAGE.read_bytes():
        return
    # Another compiler, other bytes: then it must at least do the same.
    with loaded(Image.parse(built)) as memory:
        memory.put(TRUE.then(ClockSetting(wall=ClockLine(-HOUR_NS))).packed)
        asked_ns = time.time_ns()
        assert asked_ns <= memory.clock_ns(0) + HOUR_NS <= time.time_ns()
        assert memory.error_of(999) < 0
