"""The ledger of a run on a host: what was begun there, written before it is begun.

If the agent ends, however it ends, it or its guardian undoes what the ledger holds, and
removes it. If both are killed, or the machine loses power, the ledger stays. The next
run on this machine finds it, and so does `splitbrain hosts heal`.

A ledger names its agent by pid, start time and boot, so that nobody heals a run that is
under way.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.worlds.os import processtree
from harness.worlds.ssh import firewall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.worlds.ssh.shelf import Shelf

RUN_VARIABLE = "SPLITBRAIN_RUN"
"""In the environment of each node, its run: so its processes are found again."""
GONE_S = 5.0


class Ledger:
    """The ledger of a run that is under way.

    Args:
        shelf: The folder on this host.
        run: The run's name.
        rung: Its network, "nft" or "proxy".
    """

    def __init__(self, shelf: Shelf, run: str, rung: str) -> None:
        shelf.ledgers.mkdir(parents=True, exist_ok=True)
        self.path = shelf.ledgers / f"{run}.jsonl"
        self._fd = os.open(
            self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
        _sync_folder(shelf.ledgers)
        self.note({"agent": identity(os.getpid()), "rung": rung})

    def note(self, entry: dict[str, Any]) -> None:
        """Write an entry; returns once it is on the disk."""
        line = {"wall_ns": time.time_ns(), **entry}
        os.write(self._fd, json.dumps(line).encode() + b"\n")
        os.fsync(self._fd)


def identity(pid: int) -> dict[str, Any]:
    """What tells a process from others, later ones and those of other boots too."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"pid": pid, "started": _started(pid), "boot": boot}


def _started(pid: int) -> str:
    """The start time of a process, in ticks; empty if there is none of this pid."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def left(shelf: Shelf) -> list[str]:
    """The runs whose agents are gone and whose ledgers are still there."""
    return [path.stem for path in sorted(shelf.ledgers.glob("*.jsonl")) if _dead(path)]


def disturbing(shelf: Shelf, run: str, rung: str) -> str:
    """A run under way here that can't go on beside this one; empty if there is none.

    What nftables cuts is cut between machines, whichever run the nodes are of.
    """
    for path in sorted(shelf.ledgers.glob("*.jsonl")):
        rungs = {rung, *(e["rung"] for e in _entries(path) if "rung" in e)}
        if path.stem != run and "nft" in rungs and not _dead(path):
            return path.stem
    return ""


def _dead(path: Path) -> bool:
    agents = [entry["agent"] for entry in _entries(path) if "agent" in entry]
    return all(agent != identity(agent["pid"]) for agent in agents)


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a ledger; a torn last line was never acted on."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                yield entry


def heal(shelf: Shelf, run: str) -> dict[str, Any]:
    """Undo all that a run began on this machine, and remove its ledger and folder.

    Returns:
        How many of its processes were killed, which table of nftables was removed, and
        what could not be undone; the ledger stays for that.
    """
    killed = end_processes(run)
    problems = []
    if killed is None:
        problems.append(f"not all processes of {run} are gone")
    try:
        table = firewall.remove(firewall.table_of(run))
    except firewall.FirewallError as problem:
        table = ""
        problems.append(str(problem))
    if not problems:
        shelf.remove_run(run)
        (shelf.ledgers / f"{run}.jsonl").unlink(missing_ok=True)
    return {"run": run, "killed": killed or 0, "table": table, "problems": problems}


def heal_left(shelf: Shelf) -> list[dict[str, Any]]:
    """Heal what dead runs have left."""
    return [heal(shelf, run) for run in left(shelf)]


def end_processes(run: str) -> int | None:
    """Kill the processes of a run's nodes.

    Returns:
        How many there were; None if not all are gone after some seconds.
    """
    mark = f"{RUN_VARIABLE}={run}".encode()
    seen: set[int] = set()
    deadline_s = time.monotonic() + GONE_S
    while True:
        living = [p.pid for p in processtree.walk() if p.state != "Z"]
        found = [pid for pid in living if mark in _environment(pid)]
        if not found:
            return len(seen)
        if time.monotonic() > deadline_s:
            return None
        for pid in found:
            seen.add(pid)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
