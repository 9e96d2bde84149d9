"""Porcupine, the peer for linearizability: built here, run on the same histories.

Porcupine (Anish Athalye, Go, MIT) is the fastest checker for general models that is
widely used. Its driver, porcupine/main.go, is built with the Go toolchain that is
installed; the module comes from Go's module proxy, pinned by go.sum. Without Go or
network there is no peer, and rows say so.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from harness.bench.children import BenchError, answer_in, last_line, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.history import History, Op

SOURCES = Path(__file__).parent / "porcupine"
GO_ELSEWHERE = "/usr/local/go/bin/go"
BUILD_LIMIT_S = 300.0
GRACE_S = 30.0
"""Extra time for loading, and as the driver looks at its limit only now and then."""
MEMORY_POLL_S = 0.02
NAME = "Porcupine"


@dataclass(frozen=True)
class Porcupine:
    """A built driver, and the limits that it has to keep.

    Attributes:
        binary: The program.
        time_limit_s: Time limit of one check.
        memory_limit_mib: Limit of the resident memory of one check.
    """

    binary: Path
    time_limit_s: float
    memory_limit_mib: float

    def check(self, operations: Path) -> dict[str, Any]:
        """Judge a file that `write_operations` wrote.

        Returns:
            `result` ("ok", "illegal", "timeout" or "memory"), `seconds` of the check
            alone, `load_seconds`, `peak_mib` and `operations`.

        Raises:
            BenchError: The driver failed.
        """
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            command = [str(self.binary), "-time-limit", f"{self.time_limit_s}s"]
            try:
                driver = subprocess.Popen(
                    [*command, str(operations)], stdout=out, stderr=err
                )
            except OSError as problem:
                raise BenchError(f"cannot run {NAME}: {problem.strerror}") from None
            began = time.monotonic()
            stopped, peak_mib = self.watch(driver)
            took_s = time.monotonic() - began
            for file in (out, err):
                file.seek(0)
            if not stopped and driver.returncode:
                raise BenchError(f"{NAME} failed: {last_line(err.read())}")
            # It may be stopped before it has read the file and printed anything.
            said = out.read() or ('{"load_seconds": 0}' if stopped else "")
            answer: dict[str, Any] = answer_in(NAME, said)
        if stopped:
            answer["result"], answer["peak_mib"] = stopped, peak_mib
            answer["seconds"] = took_s - answer["load_seconds"]
        return answer

    def watch(self, driver: subprocess.Popen[bytes]) -> tuple[str, float]:
        """Wait for the driver, and end it if it takes too much memory or time.

        Returns:
            "memory" or "timeout" if it had to be ended, else ""; and its memory in MiB
            when it was last looked at.
        """
        deadline = time.monotonic() + self.time_limit_s + GRACE_S
        process = psutil.Process(driver.pid)
        resident_mib = 0.0
        try:
            while time.monotonic() < deadline:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    driver.wait(MEMORY_POLL_S)
                    return "", resident_mib
                resident_mib = process.memory_info().rss / 2**20
                if resident_mib > self.memory_limit_mib:
                    return "memory", resident_mib
        finally:
            driver.kill()
            driver.wait()
        return "timeout", resident_mib


def build(cache: Path | None = None, limit_s: float = BUILD_LIMIT_S) -> Path:
    """The driver's program, built unless it was built from these sources before.

    Args:
        cache: Folder for the program; by default below the user's cache folder.
        limit_s: Time limit for fetching the module and building.

    Raises:
        BenchError: There is no Go, or it can't build the driver; says why.
    """
    go = shutil.which("go") or shutil.which(GO_ELSEWHERE)
    if go is None:
        raise BenchError("Go is not installed (go.dev/dl, or the package golang-go)")
    sources = sorted(path for path in SOURCES.iterdir() if path.is_file())
    version = hashlib.sha256(b"".join(path.read_bytes() for path in sources))
    folder = (cache or cache_folder()) / f"porcupine-{version.hexdigest()[:16]}"
    binary = folder / "porcupine"
    if binary.is_file():
        return binary
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise BenchError(f"cannot make {folder}: {problem.strerror}") from None
    # Built under another name, so that nobody else takes half of it for the program.
    unfinished = folder / f"porcupine.{os.getpid()}"
    # Go would ask git for the version, which refuses in another user's checkout.
    command = [go, "build", "-C", str(SOURCES), "-buildvcs=false"]
    command += ["-o", str(unfinished), "."]
    status, _, err = run(command, limit_s, go_environment(folder))
    if status:
        raise BenchError(f"go build failed: {last_line(err)}")
    unfinished.replace(binary)
    return binary


def module_version() -> str:
    """The version of Porcupine, from go.mod."""
    text = (SOURCES / "go.mod").read_text(encoding="ascii")
    requirement = next(line for line in text.splitlines() if "require" in line)
    return requirement.removeprefix("require").strip()


def cache_folder() -> Path:
    """The folder of programs that can be built again."""
    given = os.environ.get("XDG_CACHE_HOME")
    # Unlike Path.expanduser, this does not raise if there is no home.
    base = Path(given) if given else Path(os.path.expanduser("~")) / ".cache"
    return base / "splitbrain"


def go_environment(folder: Path) -> dict[str, str]:
    """The environment of `go build`: no other toolchain, and a cache that it can use.

    Without a home, Go knows no cache and refuses to build.
    """
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    if "HOME" not in environment:
        environment["GOCACHE"] = str(folder / "build")
        environment["GOPATH"] = str(folder / "go")
    return environment


def write_operations(history: History, path: Path) -> int:
    """Write a history as the driver reads it; returns the number of operations."""
    count = 0
    with path.open("w", encoding="ascii") as file:
        for line in operation_lines(history):
            file.write(line)
            count += 1
    return count


def operation_lines(history: History) -> Iterator[str]:
    """A line for each operation that both checkers judge.

    Reads that never returned and plain failures constrain nothing. Our checker drops
    them, so they are left out for the peer, too.
    """
    keys: Mapping[Any, int] = {
        key: n
        for n, key in enumerate(dict.fromkeys(op.key for op in history if op.is_client))
    }
    never = len(history)
    for invoked, completed in history.calls():
        answer = answer_text(invoked, completed)
        if answer is None:
            continue
        returned = never
        if completed is not None and completed.type != "info":
            returned = completed.index
        argument = argument_text(invoked)
        yield (
            f"{invoked.process} {keys[invoked.key]} {invoked.f} {argument} {answer} "
            f"{invoked.index} {returned}\n"
        )


def argument_text(invoked: Op) -> str:
    """The value written; FROM,TO for a cas; "-" for none."""
    if invoked.f == "cas":
        expected, new = invoked.value
        return f"{expected},{new}"
    return "-" if invoked.value is None else str(invoked.value)


def answer_text(invoked: Op, completed: Op | None) -> str | None:
    """The answer; None if the operation constrains nothing."""
    kind = "info" if completed is None else completed.type
    refused = kind == "fail" and completed is not None and bool(completed.extra)
    if invoked.f == "read":
        if kind != "ok" or completed is None:
            return None
        return "-" if completed.value is None else str(completed.value)
    if kind == "fail" and not refused:
        return None
    if invoked.f == "cas":
        return "refused" if refused else {"ok": "ok"}.get(kind, "unknown")
    return "-"
