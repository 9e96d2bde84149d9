"""Which processes descend from which, from one walk over /proc.

A walk is no snapshot: processes fork and die while it runs. `Table.complete` tells
whether every process seen also had its parent seen; a caller that must be sure (is
anything of this node still alive?) walks again until it has a complete table.

Cost: about 15 us a process on the machine (or in the pid namespace).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping


@dataclass(frozen=True)
class Process:
    """One process as /proc shows it.

    `pid` with `start_ticks` names a process for good; a pid alone may be used again.
    """

    pid: int
    parent: int
    session: int
    state: str
    start_ticks: int


@dataclass(frozen=True)
class Table:
    """All processes by pid, at about one moment."""

    by_pid: Mapping[int, Process]

    @property
    def complete(self) -> bool:
        """Whether every parent was seen; else one vanished, and a branch may dangle."""
        return all(p.parent == 0 or p.parent in self.by_pid for p in self)

    def __iter__(self) -> Iterator[Process]:
        return iter(self.by_pid.values())

    def children(self, pid: int) -> list[Process]:
        """The direct children of `pid`."""
        return [process for process in self if process.parent == pid]

    def tree(self, roots: Collection[int]) -> list[Process]:
        """The roots that exist and all that descend from them, ancestors first."""
        children = defaultdict(list)
        for process in self:
            children[process.parent].append(process)
        found = [self.by_pid[pid] for pid in roots if pid in self.by_pid]
        for process in found:  # grows while we walk it
            found.extend(c for c in children[process.pid] if c.pid not in roots)
        return found


def read(pid: int) -> Process | None:
    """The process of that pid; None if there is none."""
    return _read(f"/proc/{pid}/stat", pid)


def _read(path: str, pid: int) -> Process | None:
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The name, in parentheses, may itself hold spaces and parentheses.
    fields = text[text.rindex(b")") + 2 :].split()
    return Process(
        pid=pid,
        state=fields[0].decode(),
        parent=int(fields[1]),
        session=int(fields[3]),
        start_ticks=int(fields[19]),
    )


def cpu_ns(pid: int) -> int:
    """Processor time that a process has used, in user and kernel mode; 0 if gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return 0
    fields = text[text.rindex(b")") + 2 :].split()
    ticks = int(fields[11]) + int(fields[12])
    return ticks * (10**9 // os.sysconf("SC_CLK_TCK"))


def rss_bytes(pid: int) -> int:
    """Memory of a process that is resident; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def files(pid: int) -> int:
    """How many file descriptors a process has open; 0 if it is gone, or another's."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def walk() -> Table:
    """Every process that we can see."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    found = (read(pid) for pid in pids)
    return Table({process.pid: process for process in found if process is not None})


def threads(pid: int) -> list[Process]:
    """The threads of a process, as processes; empty if the process is gone."""
    try:
        names = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    # A thread may end while we look; it then no longer counts.
    found = (_read(f"/proc/{pid}/task/{name}/stat", int(name)) for name in names)
    return [thread for thread in found if thread is not None]


def send(process: Process, signal_number: signal.Signals) -> None:
    """Signal that process, and never another one that got its pid since.

    A process that is gone, or that became another user's, is left alone; a caller that
    waits for the signal's effect will notice.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        pidfd = os.pidfd_open(process.pid)
        try:
            now = read(process.pid)
            if now is not None and now.start_ticks == process.start_ticks:
                signal.pidfd_send_signal(pidfd, signal_number)
        finally:
            os.close(pidfd)
