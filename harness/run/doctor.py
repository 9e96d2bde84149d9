"""What this machine can do for splitbrain, found out by trying, said in plain words.

Each check runs in a process of its own, all at once, under one time limit: a check may
unshare namespaces, patch a vDSO, hang or crash without harm to this process. Abilities
are tried rather than concluded from version numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import json
import os
import platform
import select
import shutil
import signal
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import NotInstalledError, UsageError
from harness.host import program

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.systems.software import Software

TIME_LIMIT_S = 2.5
"""Limit of all checks together; more than ten times what they take."""

GOOD, MISSING, IMPOSSIBLE = "ok", "--", "NO"
"""States of a finding: present; absent, which costs one feature; absent, and nothing
can run without it."""

_WIDTH = 88
_ALLOW = "Allow that, or run as root; in a container, with --privileged."
_RETRY = "Run it again when the machine is less busy."
_REPORT = "This is a bug in splitbrain: please report it."


@dataclass(frozen=True)
class Finding:
    """One thing about this machine.

    Attributes:
        name: The thing examined.
        state: GOOD, MISSING or IMPOSSIBLE.
        text: What was found, and what follows from it.
        advice: How to get what is missing; empty if nothing is.
    """

    name: str
    state: str
    text: str
    advice: str = ""

    def as_json(self) -> dict[str, str]:
        """The finding as an object of `splitbrain doctor --json`."""
        return dataclasses.asdict(self)


Check = tuple[str, "Callable[[], Finding]"]


def examine() -> list[Finding]:
    """All findings, those that a newcomer needs first coming first.

    Forks, so the caller must be single-threaded. Cost: about 0.3 s.
    """
    return _in_children(
        [
            ("python", _python),
            ("machine", _machine),
            ("user", _user),
            ("namespaces", _namespaces),
            ("network", _network),
            ("fast heals", _fast_heals),
            ("clocks", _clocks),
            ("disk faults", _disk_faults),
            *_systems(),
        ],
        TIME_LIMIT_S,
    )


def can_run(findings: Sequence[Finding]) -> bool:
    """Whether runs are possible: nothing is missing that all of them need."""
    return all(finding.state != IMPOSSIBLE for finding in findings)


def render(findings: Sequence[Finding]) -> str:
    """The findings as text for a terminal, and a last line that sums them up."""
    name_width = max(len(finding.name) for finding in findings)
    lines = [line for finding in findings for line in _lines(finding, name_width)]
    return "\n".join([*lines, "", _summary(findings)])


class Rung(NamedTuple):
    """A rung: a kind of network for the nodes.

    Attributes:
        name: "switch", "proxy" or "router"; in the simulator "sim".
        why: A sentence saying why no better rung was chosen; empty if this one was
            asked for, or is the best.
    """

    name: str
    why: str = ""


def choose_rung(requested: str) -> Rung:
    """The network rung to run on: "switch" if this machine allows it, else "proxy".

    Forks and takes 50 ms, except for "proxy" and "router".

    Args:
        requested: "auto", "switch", "proxy" or "router".

    Raises:
        UsageError: The switch was asked for by name and can't be had; says why, and
            what to do. Or there is no rung of that name.
    """
    if requested not in {"auto", "switch", "proxy", "router"}:
        raise UsageError(
            f"there is no network called {requested!r} (choose auto, switch, "
            "proxy or router)"
        )
    if requested in {"proxy", "router"}:
        return Rung(requested)
    (switch,) = _in_children([("network", _switch)], TIME_LIMIT_S)
    if switch.state == GOOD:
        return Rung("switch")
    if requested == "auto":
        return Rung(
            "proxy",
            f"the network is the proxy, which can't do all that the switch can: "
            f"{switch.text} {switch.advice}",
        )
    raise UsageError(
        f"--network switch can't be had here: {switch.text} {switch.advice} "
        "Or use --network proxy, which can cut, delay, slow and reset TCP connections."
    )


# checks


def _python() -> Finding:
    version = f"{platform.python_implementation()} {platform.python_version()}"
    if importlib.util.find_spec("uvloop") is not None:
        return Finding("python", GOOD, f"{version}, with uvloop.")
    return Finding(
        "python",
        MISSING,
        f"{version}, without uvloop: runs work, with fewer operations a second.",
        "pip install uvloop",
    )


def _machine() -> Finding:
    cores = len(os.sched_getaffinity(0)) if _is_linux() else os.cpu_count()
    text = f"{platform.system()} {platform.release()}, {platform.machine()}, "
    text += f"{cores} cores{_memory()}."
    if _is_linux():
        return Finding("machine", GOOD, text)
    return Finding(
        "machine",
        IMPOSSIBLE,
        text + " Nodes as real processes need Linux.",
        "Run in a Linux virtual machine or container.",
    )


def _memory() -> str:
    try:
        pages_free, page_bytes = (
            os.sysconf(name) for name in ("SC_AVPHYS_PAGES", "SC_PAGE_SIZE")
        )
        total_gib, free_gib = (
            pages * page_bytes / 2**30
            for pages in (os.sysconf("SC_PHYS_PAGES"), pages_free)
        )
    except (ValueError, OSError):
        return ""
    return f", {total_gib:.1f} GiB of memory ({free_gib:.1f} GiB free)"


def _user() -> Finding:
    if os.geteuid() == 0:
        return Finding("user", GOOD, "root. Not needed where namespaces can be had.")
    return Finding("user", GOOD, f"an ordinary user (uid {os.geteuid()}).")


def _namespaces() -> Finding:
    from harness.worlds.os import namespaces

    why_not = namespaces.why_not_isolated()
    if why_not is None:
        return Finding(
            "namespaces",
            GOOD,
            "user, network, mount and pid: whatever way a run ends, the kernel "
            "removes all of it.",
        )
    return Finding(
        "namespaces",
        MISSING,
        f"{_sentence(why_not)} Nodes run in this machine's own network, and are "
        "cleaned up by a watching process.",
        _ALLOW,
    )


def _switch() -> Finding:
    """Whether the switch works here; if not, the finding's text says why."""
    from harness.worlds.os.switch import why_no_switch

    why_not = why_no_switch()
    if why_not is not None:
        return Finding("network", MISSING, _sentence(why_not), _ALLOW)
    return Finding(
        "network",
        GOOD,
        "the switch: every frame between nodes can be cut, delayed, lost, doubled, "
        "reordered, corrupted, slowed and told apart by what is in it, per direction.",
    )


def _network() -> Finding:
    switch = _switch()
    if switch.state == GOOD:
        return switch
    return dataclasses.replace(
        switch,
        text="the proxy: TCP connections between nodes can be cut, delayed, slowed "
        "and reset; nodes share 127.0.0.1. The switch could do more, but "
        f"{switch.text}",
    )


def _fast_heals() -> Finding:
    if Path("/proc/sys/net/ipv4/tcp_rto_max_ms").exists():
        return Finding(
            "fast heals",
            GOOD,
            "connections go on within a second after a cut is healed (tcp_rto_max_ms).",
        )
    return Finding(
        "fast heals",
        MISSING,
        "after a cut of t seconds is healed, a connection may stay silent for about t "
        "seconds more, as TCP does.",
        "Linux 6.15 or newer has net.ipv4.tcp_rto_max_ms.",
    )


def _clocks() -> Finding:
    from harness.worlds.os import vdso

    why_not = vdso.why_not()
    if not why_not:
        return Finding(
            "clocks",
            GOOD,
            "wall and monotonic clocks of any 64-bit process can be skewed, apart from "
            "each other and while it runs.",
        )
    return Finding(
        "clocks",
        MISSING,
        f"{_sentence(why_not)} Runs that ask for clock faults are refused.",
        "An x86-64 machine that lets processes of one user trace each other (in a "
        "container: --cap-add SYS_PTRACE).",
    )


def _disk_faults() -> Finding:
    from harness.worlds.os.disk import mounting

    why_not = mounting.why_no_disks()
    if not why_not:
        return Finding(
            "disk faults",
            GOOD,
            "each node can have a FUSE file system of its own, which loses power, "
            "fails, is slow and decays; nothing has to be installed for it.",
        )
    return Finding(
        "disk faults",
        MISSING,
        f"{_sentence(why_not)} Runs that ask for more than full disks and damaged "
        "files are refused.",
        f"{mounting.DEVICE} that everybody may open, Linux 4.18 or newer, and user "
        "namespaces; in a container, --device /dev/fuse and --privileged.",
    )


def _systems() -> list[Check]:
    """Checks for the programs that our systems and examples need."""
    from harness.systems import abilities

    programs = {
        "node": ("the JavaScript example node", "apt-get install nodejs"),
        "go": ("nodes written in Go", "apt-get install golang-go"),
    }
    return [
        *(
            (software.name, functools.partial(_installed, software))
            for software, _ in abilities.installable()
        ),
        *((name, functools.partial(_library, name)) for name in ("lmdb", "pysyncobj")),
        *(
            (name, functools.partial(_program, name, *of))
            for name, of in programs.items()
        ),
    ]


def _installed(software: Software) -> Finding:
    try:
        found = software.find()
    except NotInstalledError:
        return Finding(
            software.name,
            MISSING,
            f"splitbrain run {software.name} is not possible.",
            f"splitbrain systems install {software.name}",
        )
    if software.lacks_driver:
        return Finding(
            software.name,
            MISSING,
            f"{found.program} is here, but not what its clients need.",
            f"pip install {software.driver}",
        )
    versions = [install.version for install in software.installs()]
    told = f"; installed: {', '.join(versions)}" if versions else ""
    use = f"for splitbrain run {software.name}"
    return Finding(software.name, GOOD, f"{found.program}, {use}{told}.")


def _library(name: str) -> Finding:
    if importlib.util.find_spec(name) is not None:
        return Finding(name, GOOD, f"for splitbrain run {name}.")
    return Finding(
        name,
        MISSING,
        f"splitbrain run {name} is not possible.",
        f"pip install {name}",
    )


def _program(name: str, use: str, advice: str) -> Finding:
    path = shutil.which(name)
    if path is not None:
        return Finding(name, GOOD, f"{path}, for {use}.")
    return Finding(name, MISSING, f"no such program; needed for {use}.", advice)


# running checks


def _in_children(checks: Sequence[Check], limit_s: float) -> list[Finding]:
    """Run each check in a process of its own, all at once."""
    deadline_s = time.monotonic() + limit_s
    running = [(name, *_fork(check)) for name, check in checks]
    return [_finding_of(name, pid, fd, deadline_s) for name, pid, fd in running]


def _fork(check: Callable[[], Finding]) -> tuple[int, int]:
    """Start a check in a child; its pid, and the fd that brings its finding as JSON."""
    sys.stdout.flush()
    sys.stderr.flush()
    answer_fd, child_answer_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = json.dumps(check().as_json())
            os.write(child_answer_fd, answer.encode())
        except BaseException as error:
            # A forked child must not unwind into its parent's frames.
            os.write(child_answer_fd, json.dumps({"crash": repr(error)}).encode())
        finally:
            os._exit(0)
    os.close(child_answer_fd)
    return pid, answer_fd


def _finding_of(name: str, pid: int, fd: int, deadline_s: float) -> Finding:
    answer = b""
    try:
        while select.select([fd], [], [], max(0, deadline_s - time.monotonic()))[0]:
            chunk = os.read(fd, 4096)
            answer += chunk
            if not chunk:
                break
    finally:
        os.close(fd)
        # Children of a check that still runs die with it: they ask the kernel for that.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return _decode(name, answer)


def _decode(name: str, answer: bytes) -> Finding:
    try:
        told: dict[str, Any] = json.loads(answer)
    except ValueError:
        return Finding(name, MISSING, "the check did not finish in time.", _RETRY)
    if "crash" in told:
        crash = f"the check itself failed: {told['crash']}."
        return Finding(name, MISSING, crash, _REPORT)
    return Finding(**told)


# text


def _lines(finding: Finding, name_width: int) -> list[str]:
    indent = " " * (name_width + 7)
    first = f"{finding.state:>2}   {finding.name:<{name_width}}  "
    lines = textwrap.wrap(
        finding.text, _WIDTH, initial_indent=first, subsequent_indent=indent
    )
    if finding.advice and finding.state != GOOD:
        lines += textwrap.wrap(
            finding.advice,
            _WIDTH,
            initial_indent=indent + "To get it: ",
            subsequent_indent=indent,
        )
    return lines


def _summary(findings: Sequence[Finding]) -> str:
    if not can_run(findings):
        return "Nothing can run here."
    states = {finding.name: finding.state for finding in findings}
    rung = "switch" if states.get("network") == GOOD else "proxy"
    return (
        f"Runs use the {rung} network. A good start:\n"
        f"    {program.called()} run raft --nemesis partition,kill --time-limit 20"
    )


def _sentence(words: str) -> str:
    words = words.strip()
    return words if words.endswith(".") else words + "."


def _is_linux() -> bool:
    return sys.platform.startswith("linux")
