"""What a node's processes do, read from /proc: where they listen, what they write."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.worlds.os import processtree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LISTENS = "0A"
_SOCKET = re.compile(r"socket:\[(\d+)\]")
ENVIRON_BYTES_MAX = 1 << 20
FILES_MAX = 20


@dataclass(frozen=True)
class Listener:
    """An address at which a process listens; of all addresses the host is "*"."""

    host: str
    port: int

    def __str__(self) -> str:
        if self.host == "*":
            return f"port {self.port} of all addresses"
        return (
            f"[{self.host}]:{self.port}"
            if ":" in self.host
            else f"{self.host}:{self.port}"
        )


def processes_of(data_dir: Path) -> list[int]:
    """The processes that were started with this folder as SPLITBRAIN_DATA.

    Daemons are among them, as they keep the environment of their first process.
    """
    mark = f"SPLITBRAIN_DATA={data_dir}".encode()
    return [
        process.pid for process in processtree.walk() if mark in _environ(process.pid)
    ]


def _environ(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read(ENVIRON_BYTES_MAX).split(b"\0")
    except OSError:
        return []


def listeners(pids: list[int]) -> list[Listener]:
    """The TCP addresses at which these processes listen."""
    found: list[Listener] = []
    for pid in pids:
        inodes = {
            match[1] for name in _open_files(pid) if (match := _SOCKET.fullmatch(name))
        }
        for inode, listener in _listening(pid):
            if inode in inodes and listener not in found:
                found.append(listener)
    return found


def _open_files(pid: int) -> Iterator[str]:
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return
    for name in names:
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/{pid}/fd/{name}")


def _listening(pid: int) -> Iterator[tuple[str, Listener]]:
    """The listening sockets of the network namespace of a process, by inode."""
    for table in ("tcp", "tcp6"):
        try:
            with open(f"/proc/{pid}/net/{table}", encoding="ascii") as file:
                rows = file.read().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == _LISTENS:
                host, port = fields[1].split(":")
                yield fields[9], Listener(_host(host), int(port, 16))


def _host(text: str) -> str:
    """An address of /proc/net/tcp: words of 32 bits in the machine's byte order."""
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    data = struct.pack(f"={len(words)}I", *words)
    if not any(data):
        return "*"
    family = socket.AF_INET if len(data) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, data)


def files_in(folder: str) -> list[str]:
    """The files in a folder and below it, some of them if there are many.

    What is mounted in there is left out.
    """
    found: list[str] = []
    with contextlib.suppress(OSError):
        device = os.lstat(folder).st_dev
        for where, folders, names in os.walk(folder):
            folders[:] = [f for f in folders if _device(where, f) == device]
            inside = (n for n in sorted(names) if _device(where, n) == device)
            found += [os.path.relpath(os.path.join(where, n), folder) for n in inside]
            if len(found) > FILES_MAX:
                return found[:FILES_MAX]
    return found


def _device(folder: str, name: str) -> int:
    try:
        return os.lstat(os.path.join(folder, name)).st_dev
    except OSError:
        return -1


def private_files(pid: int) -> list[str]:
    """The files that a process has in a /tmp and a /dev/shm of its own.

    Where nodes share these folders with the machine there is no telling whose they are.
    """
    found: list[str] = []
    for folder in ("/tmp", "/dev/shm"):  # noqa: S108 - their names
        inside = f"/proc/{pid}/root{folder}"
        if _device(inside, ".") != _device(folder, "."):
            found += [f"{folder}/{name}" for name in files_in(inside)]
    return found


def written_elsewhere(pids: list[int], data_dir: Path) -> list[str]:
    """Files outside the data folder that these processes hold open for writing."""
    found: list[str] = []
    for pid in pids:
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd"):
                path = os.readlink(f"/proc/{pid}/fd/{name}")
                with open(f"/proc/{pid}/fdinfo/{name}", encoding="ascii") as file:
                    flags = int(re.findall(r"flags:\s*(\d+)", file.read())[0], 8)
                writes = flags & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR)
                is_file = path.startswith("/") and not path.startswith("/dev/")
                if writes and is_file and not path.startswith(str(data_dir.parent)):
                    found.append(path)
    return sorted(set(found))


def listed_here() -> set[str]:
    """The names in the working folder."""
    try:
        return set(os.listdir("."))
    except OSError:
        return set()
