"""Limits of running processes: set with prlimit(2), read back from /proc.

Only soft limits are touched, so that giving one back needs no privilege. What a process
holds already it keeps: the next descriptor is refused with EMFILE, the next mapping
with ENOMEM.
"""

from __future__ import annotations

import os
import resource
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.worlds.processes import Limit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.worlds.os.processtree import Process
    from harness.worlds.processes import Resource

NUMBERS: dict[Resource, int] = {
    "files": resource.RLIMIT_NOFILE,
    "memory": resource.RLIMIT_AS,
}
_TITLES: dict[Resource, str] = {
    "files": "Max open files",
    "memory": "Max address space",
}
"""How the lines of /proc/PID/limits begin."""

_MIB = 1 << 20


class Lowered:
    """The limits of one node's processes, and what they were before."""

    def __init__(self) -> None:
        self._before: dict[tuple[int, int, Resource], int] = {}
        """(pid, start ticks, resource) -> the limit that it had."""

    def lower(
        self, members: Iterable[Process], resource_: Resource, spare: int
    ) -> dict[str, Any]:
        """Leave each process `spare` descriptors or MiB more than it uses."""
        told = {}
        for process in members:
            try:
                soft, _ = resource.prlimit(process.pid, NUMBERS[resource_])
                key = process.pid, process.start_ticks, resource_
                before = self._before.setdefault(key, soft)
                in_use, limit = _just_above(process.pid, resource_, spare)
                now = _set(process.pid, resource_, limit)
            except (ProcessLookupError, FileNotFoundError):
                continue  # it has ended meanwhile
            told[str(process.pid)] = asdict(Limit(in_use, before, now))
        return told

    def give_back(
        self, members: Iterable[Process], resource_: Resource
    ) -> dict[str, Any]:
        """Give each process the limit that it had.

        One that was forked meanwhile has inherited a low limit; it gets what the
        process had that was limited first.
        """
        known = {key: soft for key, soft in self._before.items() if key[2] == resource_}
        told = {}
        for process in members if known else ():
            key = process.pid, process.start_ticks, resource_
            before = known.get(key, next(iter(known.values())))
            try:
                in_use, _ = _just_above(process.pid, resource_, 0)
                now = _set(process.pid, resource_, before)
            except (ProcessLookupError, FileNotFoundError):
                continue
            told[str(process.pid)] = asdict(Limit(in_use, before, now))
        for key in known:
            del self._before[key]
        return told


def _just_above(pid: int, resource_: Resource, spare: int) -> tuple[int, int]:
    """(what the process uses, the limit that leaves it `spare` more)."""
    if resource_ == "memory":
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
        used = pages * os.sysconf("SC_PAGE_SIZE")
        return used, used + spare * _MIB
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    # The limit is of numbers, and the lowest free number is the next to be used.
    limit = free = 0
    while free < spare or limit in taken:
        free += limit not in taken
        limit += 1
    return len(taken), limit


def _set(pid: int, resource_: Resource, soft: int) -> int:
    """Set the soft limit; what the system says that it is now.

    Raises:
        HarnessError: The kernel refuses.
    """
    try:
        _, hard = resource.prlimit(pid, NUMBERS[resource_])
        if hard != resource.RLIM_INFINITY and soft != resource.RLIM_INFINITY:
            soft = min(soft, hard)
        resource.prlimit(pid, NUMBERS[resource_], (soft, hard))
    except (PermissionError, ValueError) as refused:
        raise HarnessError(
            f"pid {pid}: its limit of {resource_} can't be set: {refused}"
        ) from refused
    return read_back(pid, resource_)


def read_back(pid: int, resource_: Resource) -> int:
    """The soft limit in /proc/PID/limits; -1 for none."""
    title = _TITLES[resource_]
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith(title):
            word = line.removeprefix(title).split()[0]
            return -1 if word == "unlimited" else int(word)
    raise HarnessError(f"/proc/{pid}/limits says nothing of {title!r}")
