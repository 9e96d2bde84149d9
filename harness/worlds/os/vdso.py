"""Skews the clocks of a running x86-64 process by patching its vDSO.

Programs read the time by calling into the vDSO, a few pages of code that the kernel
maps into each process. A process that has its vDSO patched sees the clocks that we
want, wall and monotonic apart, from one instruction to the next, in whatever language
it was written and however it was linked (Go's static binaries and Java included). A
later change is three small writes to its memory.

How. All threads are held still for a moment (`tracer`). The image compiled from
`vdso_clocks.c` goes to the end of the vDSO's last page, behind everything that programs
use of it; then the first five bytes of the kernel's functions become jumps to ours.
The pages are private to the process (copy on write), so no other process is affected. A
process is not touched before its clocks are set wrong for the first time.

Choices. Patching at exec instead would need no stopping of threads, but would lose
`sh -c 'exec node'` and every forked helper's program, and tracing them all from exec to
exec slows down each of their signals. Redirecting the symbols instead of the code would
keep the kernel's fast path, but works only before libc has looked them up. So a
patched clock costs a system call: 0.3 us instead of 0.05 us.

Limits. Timers and deadlines that the kernel keeps run on true time. Relative ones
(epoll, Go, redis, asyncio) are wrong by the rate only. Absolute deadlines on the
monotonic clock (sleeps and timed waits of CPython, Java and pthreads) come late or
early by the offset, so the offset must not outlast a fault: a clock `returns`. System
calls that a program makes itself, past the vDSO, tell true time. A process forked by a
skewed one has the same clocks and follows changes; a process that runs a new program
has true clocks until `prepare` is called for it.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from harness.errors import HarnessError
from harness.worlds.clocks import ClockLine, ClockReading, ClockSetting
from harness.worlds.os import tracer

REALTIME, MONOTONIC = 0, 1
WALL_CLOCKS = (REALTIME, 5, 11)
"""Ids that follow the wall clock; with CLOCK_REALTIME_COARSE and CLOCK_TAI."""
MONO_CLOCKS = (MONOTONIC, 4, 6, 7)
"""Ids that follow the monotonic clock; with its RAW and COARSE forms, and BOOTTIME."""

PROOF = "read from its memory"
UNTOUCHED = "its vDSO is the kernel's own"

_LINES = tuple(sorted(WALL_CLOCKS + MONO_CLOCKS))
"""Clock ids in the order of `struct setting.lines`."""
_SETTING = struct.Struct("<Q" + "qqqq" * len(_LINES))
_VERSION = struct.Struct("<Q")
_ONE_Q32 = 1 << 32

SLOWS_AFTER_NS = 250_000_000
"""How long a clock that is slowed down follows its old line first.

If the new line reached a process after its beginning, the clock would run backwards
there. The writes to the memory of each process take 0.2 ms, but the writer may have to
wait for a processor: 50 ms was too little on a busy machine.
"""

_JUMP_BYTES = 5
_ALIGNMENT = 64
_PATCH_ATTEMPTS = 20


class CannotSkew(HarnessError):  # noqa: N818 - reads as what happened
    """This process' clocks cannot be changed, and were left true."""


# the times that clocks show


@dataclass(frozen=True)
class Line:
    """The times that one clock id shows from a moment on; `vdso_clocks.c` reads it.

    Attributes:
        anchor_ns: That moment, by the true clock of this id.
        fake_ns: The time shown then.
        rate_q32: Nanoseconds shown per true nanosecond, times 2**32.
        returns: The line ends where it meets the true time, which is shown from then
            on.
    """

    anchor_ns: int
    fake_ns: int
    rate_q32: int = _ONE_Q32
    returns: bool = False

    def shown_ns(self, true_ns: int) -> int:
        """The time that the clock shows at a true time, not before the anchor."""
        ns = self.fake_ns + ((true_ns - self.anchor_ns) * self.rate_q32 >> 32)
        if self.returns and self._has_met(ns, true_ns):
            return true_ns
        return ns

    def rate_q32_at(self, true_ns: int) -> int:
        """How fast the clock runs at a true time."""
        if self.returns and self.shown_ns(true_ns) == true_ns:
            return _ONE_Q32
        return self.rate_q32

    def _has_met(self, ns: int, true_ns: int) -> bool:
        return (self.fake_ns > self.anchor_ns) == (ns < true_ns)

    def then(self, change: ClockLine, true_ns: int) -> Line:
        """The line after a change made at a true time."""
        if change.offset_ns is not None:
            at_ns, fake_ns = true_ns, true_ns + change.offset_ns
        else:
            at_ns, fake_ns = true_ns, self.shown_ns(true_ns)
        if change.returns and fake_ns == at_ns:
            return Line(at_ns, fake_ns)
        rate_q32 = round(change.rate_from(fake_ns - at_ns) * _ONE_Q32)
        if change.offset_ns is None and rate_q32 < self.rate_q32_at(true_ns):
            at_ns = true_ns + SLOWS_AFTER_NS
            fake_ns = self.shown_ns(at_ns)
        return Line(at_ns, fake_ns, rate_q32, change.returns)


@dataclass(frozen=True)
class Skew:
    """Clock lines from a moment on, the same for every process they are applied to.

    Attributes:
        lines: A line for each clock id of `_LINES`, in its order.
        since_ns: True monotonic time from which on all lines are in force. No other
            lines may be published before it.
    """

    lines: tuple[Line, ...]
    since_ns: int = 0

    @property
    def is_true(self) -> bool:
        """Whether every clock shows the true time."""
        return all(
            line.fake_ns == line.anchor_ns and line.rate_q32 == _ONE_Q32
            for line in self.lines
        )

    @property
    def packed(self) -> bytes:
        """The lines as the bytes of a `struct setting`."""
        if self.is_true:
            return bytes(_SETTING.size)
        numbers = [
            number
            for line in self.lines
            for number in (line.anchor_ns, line.fake_ns, line.rate_q32, line.returns)
        ]
        return _SETTING.pack(1, *numbers)

    def then(self, setting: ClockSetting) -> Skew:
        """The clocks after a change made now."""
        lines, wait_ns = [], 0
        for clock, line in zip(_LINES, self.lines, strict=True):
            change = setting.wall if clock in WALL_CLOCKS else setting.mono
            now_ns = time.clock_gettime_ns(clock)
            changed = line if change is None else line.then(change, now_ns)
            wait_ns = max(wait_ns, changed.anchor_ns - now_ns)
            lines.append(changed)
        return Skew(tuple(lines), time.monotonic_ns() + wait_ns)


TRUE = Skew((Line(0, 0),) * len(_LINES))


def _offset_ns(packed: bytes, clock: int) -> int:
    """How far a clock on these packed lines is ahead of the true one now."""
    on, *numbers = _SETTING.unpack(packed)
    if not on:
        return 0
    first = 4 * _LINES.index(clock)
    anchor_ns, fake_ns, rate_q32, returns = numbers[first : first + 4]
    now_ns = time.clock_gettime_ns(clock)
    line = Line(anchor_ns, fake_ns, rate_q32, bool(returns))
    return line.shown_ns(now_ns) - now_ns


# the image that is put into a process


@dataclass(frozen=True)
class Image:
    """The compiled clocks, and the offsets of their parts (`vdso_clocks.ld`)."""

    data: bytes
    entries: dict[str, int]
    """Name of the kernel's function -> offset of its replacement."""
    block: int

    _HEADER = struct.Struct("<8sIIIII")

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the header; the image is ours, so an odd one is a broken build."""
        magic, gettime, gettimeofday, seconds, block, size = cls._HEADER.unpack_from(
            data
        )
        assert magic == b"SCLOCKS2"
        assert size == len(data) == block + _VERSION.size + 2 * _SETTING.size
        assert not any(data[block:])
        entries = {
            "__vdso_clock_gettime": gettime,
            "__vdso_gettimeofday": gettimeofday,
            "__vdso_time": seconds,
        }
        return cls(data, entries, block)


@functools.cache
def image() -> Image:
    """The image in this package."""
    return Image.parse(Path(__file__).with_name("vdso_clocks.bin").read_bytes())


# a process' vDSO

_OPENING_TRIES = 10
_OPENING_PAUSE_S = 0.005
"""How often, and how long after each other, memory that is closed to us is tried."""


@dataclass(frozen=True)
class Layout:
    """The layout of one process' vDSO. Addresses are absolute.

    Attributes:
        functions: Name of the kernel's time function -> its address.
        room: The address for the image.
    """

    functions: dict[str, int]
    room: int

    @property
    def jumps(self) -> dict[int, bytes]:
        """Address of a function -> the jump that replaces its beginning."""
        return {
            at: b"\xe9" + struct.pack("<i", self.room + entry - at - _JUMP_BYTES)
            for name, entry in image().entries.items()
            if (at := self.functions.get(name)) is not None
        }


def _open_memory(pid: int) -> int:
    """A descriptor of a process' memory.

    A process that is just turning into another program, or ending, may be closed to us
    for a moment, and so is asked again before it counts as closed for good.

    Raises:
        ProcessLookupError: The process is gone.
        CannotSkew: Its memory may not be written.
    """
    for tries_left in reversed(range(_OPENING_TRIES)):
        try:
            return os.open(f"/proc/{pid}/mem", os.O_RDWR)
        except FileNotFoundError as error:
            raise ProcessLookupError(f"no process {pid}") from error
        except PermissionError as error:
            if not tries_left:
                text = f"the memory of pid {pid} may not be written"
                raise CannotSkew(text) from error
        time.sleep(_OPENING_PAUSE_S)
    raise AssertionError("the last try returns or raises")


class Memory:
    """A process' memory, and its vDSO in it; use as a context manager.

    Raises:
        ProcessLookupError: The process is gone, or became another program meanwhile.
        CannotSkew: Its vDSO can't be patched.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        # Opened before the layout is read: if a new program takes over in between,
        # this descriptor is of the old memory, so that writes can't hit the new.
        self._fd = _open_memory(pid)
        try:
            self.layout = self._read_layout()
        except BaseException:  # an interrupt, too, must not leak it
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def read(self, address: int, size: int) -> bytes:
        """Read exactly `size` bytes."""
        try:
            data = os.pread(self._fd, size, address)
        except OSError as error:
            raise ProcessLookupError(f"pid {self.pid} changed") from error
        if len(data) != size:
            raise ProcessLookupError(f"pid {self.pid} is gone")
        return data

    def write(self, address: int, data: bytes) -> None:
        """Write all of `data`, even to pages that the process itself may not write."""
        try:
            written = os.pwrite(self._fd, data, address)
        except OSError as error:
            raise CannotSkew(
                f"this kernel refuses writes to the vDSO of pid {self.pid}: "
                f"{error.strerror}"
            ) from error
        if written != len(data):
            raise ProcessLookupError(f"pid {self.pid} is gone")

    def is_patched(self) -> bool:
        """Whether every jump and all of our code is in place."""
        code = image().data[: image().block]
        return self.read(self.layout.room, len(code)) == code and all(
            self.read(at, _JUMP_BYTES) == jump for at, jump in self.layout.jumps.items()
        )

    def patch(self) -> None:
        """Put image and jumps in place, clocks true; its threads must be held still."""
        self.write(self.layout.room, image().data)
        for at, jump in self.layout.jumps.items():
            self.write(at, jump)

    def settings(self) -> tuple[int, bytes]:
        """The version and the packed setting that are in force."""
        block = self.layout.room + image().block
        (version,) = _VERSION.unpack(self.read(block, _VERSION.size))
        return version, self.read(self._setting_at(version), _SETTING.size)

    def publish(self, packed: bytes) -> None:
        """Put a setting in force, in the order that `vdso_clocks.c` explains."""
        version, _ = self.settings()
        block = self.layout.room + image().block
        self.write(block, _VERSION.pack(version + 2))
        self.write(self._setting_at(version + 3), packed)
        self.write(block, _VERSION.pack(version + 3))

    def _setting_at(self, version: int) -> int:
        block = self.layout.room + image().block
        return block + _VERSION.size + (version & 1) * _SETTING.size

    def _read_layout(self) -> Layout:
        start, end = _vdso_range(self.pid)
        return parse_layout(self.read(start, end - start), start)


def _vdso_range(pid: int) -> tuple[int, int]:
    try:
        maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
    except OSError as error:
        raise ProcessLookupError(f"no process {pid}") from error
    if not maps:
        raise ProcessLookupError(f"pid {pid} is gone")
    found = re.search(r"^([0-9a-f]+)-([0-9a-f]+) .*\[vdso\]$", maps, re.MULTILINE)
    if found is None:
        raise CannotSkew(f"pid {pid} has no vDSO")
    return int(found[1], 16), int(found[2], 16)


def parse_layout(vdso: bytes, start: int) -> Layout:
    """Find the functions and the room behind the loaded part of an ELF image.

    Args:
        vdso: All pages of the mapping.
        start: The address of the mapping.

    Raises:
        CannotSkew: It isn't a 64-bit vDSO with room for the image.
    """
    if vdso[:5] != b"\x7fELF\x02":
        raise CannotSkew("it is a 32-bit program")
    headers_at, size, count = struct.unpack_from("<32xQ14xHH", vdso)
    headers = [
        _PROGRAM_HEADER.unpack_from(vdso, headers_at + i * size) for i in range(count)
    ]
    loaded_end = max(h[3] + h[6] for h in headers if h[0] == _PT_LOAD)
    room = (len(vdso) - len(image().data)) // _ALIGNMENT * _ALIGNMENT
    if room < loaded_end:
        raise CannotSkew("this kernel's vDSO has no room behind its code")
    (dynamic,) = (h[2] for h in headers if h[0] == _PT_DYNAMIC)
    functions = _functions(vdso, dynamic)
    if "__vdso_clock_gettime" not in functions:
        raise CannotSkew("this kernel's vDSO has no clock_gettime")
    return Layout({n: start + at for n, at in functions.items()}, start + room)


_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_STRTAB, _DT_SYMTAB = 0, 5, 6
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_DYNAMIC = struct.Struct("<qQ")


def _functions(vdso: bytes, dynamic: int) -> dict[str, int]:
    """Name -> offset, for the exported functions that are long enough for a jump."""
    tags: dict[int, int] = {}
    for tag, value in _DYNAMIC.iter_unpack(vdso[dynamic : dynamic + 4096 // 16 * 16]):
        if tag == _DT_NULL:
            break
        tags.setdefault(tag, value)
    # No tag tells the number of symbols; but their names follow them directly.
    symbols, names = tags[_DT_SYMTAB], tags[_DT_STRTAB]
    found = {}
    for name_at, _, _, section, value, size in _SYMBOL.iter_unpack(
        vdso[symbols : symbols + (names - symbols) // _SYMBOL.size * _SYMBOL.size]
    ):
        name = vdso[names + name_at : vdso.index(b"\0", names + name_at)].decode()
        if section and size >= _JUMP_BYTES:
            found[name] = value
    return found


# the calls of the keeper


def prepare(pid: int, skew: Skew) -> None:
    """Patch a process that is not patched yet, and put its clocks on these lines.

    Cost: 1 ms and 50 us a thread, during which the process stands still.

    Raises:
        CannotSkew, CannotStop: It can't be patched; its clocks are as they were.
        ProcessLookupError: The process ended, or became another program just now.
    """
    for _ in range(_PATCH_ATTEMPTS):
        with Memory(pid) as memory:
            if memory.is_patched():
                return
        with tracer.held_still(pid) as threads, Memory(pid) as memory:
            if any(_is_inside_jump(t, memory.layout) for t in threads):
                continue  # the thread will leave the jump: let go and try again
            memory.patch()
            memory.publish(skew.packed)
            return
    raise CannotSkew(f"pid {pid} did not leave the vDSO's first instructions")


def begin(pid: int, skew: Skew) -> None:
    """Put a process on these lines that stands still at the beginning of its program.

    Raises:
        CannotSkew: It can't be patched.
        ProcessLookupError: The process ended.
    """
    with Memory(pid) as memory:
        memory.patch()
        memory.publish(skew.packed)


def publish(pid: int, skew: Skew) -> None:
    """Put a prepared process' clocks on these lines, unless they are on them already.

    A process that became another program since is left alone: its clocks are true until
    the keeper's regular look for such programs prepares it. Cost: 0.2 ms.

    Raises:
        CannotSkew: Its memory can't be written; its clocks are as they were.
        ProcessLookupError: The process ended, or becomes another program just now.
    """
    with Memory(pid) as memory:
        if memory.is_patched() and memory.settings()[1] != skew.packed:
            memory.publish(skew.packed)


def apply(pid: int, skew: Skew) -> None:
    """Put a process' clocks on these lines, patching it first if need be.

    Raises:
        CannotSkew, CannotStop: It can't be patched; its clocks are as they were.
        ProcessLookupError: The process ended, or became another program just now.
    """
    if not skew.is_true:
        prepare(pid, skew)
    publish(pid, skew)


def _is_inside_jump(thread: int, layout: Layout) -> bool:
    """Whether the thread's next instruction lies in the middle of one of our jumps."""
    at = tracer.instruction_pointer(thread)
    return any(start < at < start + _JUMP_BYTES for start in layout.jumps)


def is_patched(pid: int) -> bool:
    """Whether a process has our clocks; a new program that it runs has not.

    Raises:
        CannotSkew: Its memory cannot be read.
        ProcessLookupError: The process ended, or became another program just now.
    """
    with Memory(pid) as memory:
        return memory.is_patched()


def read(pid: int) -> ClockReading:
    """A process' clocks minus the true ones, from the lines in its memory.

    Raises:
        CannotSkew: Its memory cannot be read.
        ProcessLookupError: The process ended, or became another program just now.
    """
    with Memory(pid) as memory:
        if not memory.is_patched():
            return ClockReading(0, 0, UNTOUCHED)
        _, packed = memory.settings()
    return ClockReading(
        wall_offset_ns=_offset_ns(packed, REALTIME),
        mono_offset_ns=_offset_ns(packed, MONOTONIC),
        proof=PROOF,
    )


def why_not() -> str:
    """Why clocks cannot be skewed here, in plain words; empty if they can.

    It skews a child and has the child tell the time, so that it meets every obstacle:
    the processor, the kernel's vDSO, a lock-down of ptrace or memory. Forks; cost 5 ms.
    """
    if platform.machine() != "x86_64":
        return (
            "clock skew is machine code for x86-64 processors, and this one is "
            f"{platform.machine()} (--world sim skews clocks anywhere)"
        )
    try:
        shown_ns = _hour_ahead_in_child()
    except (HarnessError, OSError) as error:
        return f"clock skew does not work here: {error}"
    ahead_ns = shown_ns - time.time_ns()
    if not 3_500 * 10**9 < ahead_ns < 3_700 * 10**9:
        return "clock skew does not work here: programs read the time past the vDSO"
    return ""


def _hour_ahead_in_child() -> int:
    """The wall time, in ns, that a child tells once its clock was set an hour ahead."""
    go_reader, go_writer = os.pipe()
    time_reader, time_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(go_writer)  # so that the read ends if our parent does
            os.read(go_reader, 1)
            os.write(time_writer, struct.pack("<q", time.time_ns()))
        finally:
            os._exit(0)
    try:
        os.close(time_writer)
        os.close(go_reader)
        prepare(pid, TRUE.then(ClockSetting(wall=ClockLine(3_600 * 10**9))))
        os.write(go_writer, b"!")
        (shown_ns,) = struct.unpack("<q", os.read(time_reader, 8))
    finally:
        os.close(go_writer)
        os.close(time_reader)
        os.waitpid(pid, 0)
    return int(shown_ns)
