"""Exit statuses can be trusted: 1 is an invalid history, whatever else happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import IO, TYPE_CHECKING

import pytest

from harness import cli
from harness.errors import HarnessError, UsageError
from harness.host import apart, program

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-m", "harness"]
READ = (
    "{:process 1 :type :invoke :f :read}\n{:process 1 :type :ok :f :read :value %s}\n"
)
WRITE = "{:process 0 :type %s :f :write :value 1}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a valid and an invalid history."""
    wrote = WRITE % ":invoke" + WRITE % ":ok"
    (tmp_path / "good.edn").write_text(wrote + READ % 1)
    (tmp_path / "bad.edn").write_text(wrote + READ % 2)
    return tmp_path


def started(
    folder: Path,
    *arguments: str,
    out: int | IO[bytes] = subprocess.PIPE,
    err: int | IO[bytes] = subprocess.PIPE,
    closed: tuple[int, ...] = (),
    limit: str = "",
) -> subprocess.Popen[bytes]:
    """`splitbrain` in a shell that closes descriptors and sets limits (`ulimit`)."""
    closing = "".join(f" {fd}>&-" for fd in closed)
    script = f'{limit or "true"} && exec "$@"{closing}'
    return subprocess.Popen(
        ["sh", "-c", script, "sh", *COMMAND, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
    )


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Its status, and what it said."""
    out, err = process.communicate(timeout=120)
    return process.returncode, (out or b"").decode(), (err or b"").decode()


COMMANDS = [
    (["check", "good.edn"], 0),
    (["check", "--json", "good.edn", "bad.edn"], 1),
    (["run", "raft", "--world", "sim", "--ops", "20", "--expect", "invalid"], 1),
    (["list"], 0),
    (["--version"], 0),
]
each_command = pytest.mark.parametrize(
    ("arguments", "status"), COMMANDS, ids=[" ".join(c[0][:3]) for c in COMMANDS]
)


@each_command
def test_a_reader_that_has_gone_changes_no_status(
    arguments: list[str], status: int, folder: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as gone:
        process = started(folder, *arguments, out=gone, err=gone)
    assert ended(process)[0] == status


@pytest.mark.parametrize("closed", [(1,), (0, 1, 2)], ids=str)
def test_closed_output_changes_no_status(closed: tuple[int, ...], folder: Path) -> None:
    assert ended(started(folder, "check", "bad.edn", closed=closed))[0] == 1


@pytest.mark.parametrize("arguments", [["check", "bad.edn"], ["run", "-h"]])
def test_output_that_a_full_disk_did_not_take_is_a_failure(
    arguments: list[str], folder: Path
) -> None:
    with open("/dev/full", "wb") as full:
        status, _, err = ended(started(folder, *arguments, out=full))
    told = "splitbrain: cannot write to standard output: No space left on device\n"
    assert (status, err) == (255, told)


def test_a_reader_may_take_a_byte_and_go(folder: Path) -> None:
    process = started(folder, "list")
    assert process.stdout is not None
    assert process.stdout.read(1) == b"s"
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    process.communicate()


MODEL = """
from dataclasses import dataclass
import os, signal, sys
{at_import}
@dataclass(frozen=True)
class M:
    reads = ("read",)
    def step(self, op):
        {at_step}
"""


@pytest.mark.parametrize(
    ("at_import", "at_step", "status", "told"),
    [
        ("sys.exit(1)", "pass", 254, "can't be loaded: SystemExit: 1"),
        ("1 / 0", "pass", 254, "can't be loaded: ZeroDivisionError"),
        ("", "sys.exit(1)", 254, "step raised SystemExit: 1"),
        ("", "os._exit(1)", 255, "the process that judged it ended with status 1"),
        ("", "os.kill(os.getpid(), signal.SIGSEGV)", 255, "was ended by SIGSEGV"),
        ("", "raise KeyboardInterrupt", 255, "KeyboardInterrupt"),
    ],
)
def test_a_model_cannot_choose_the_exit_status(
    at_import: str, at_step: str, status: int, told: str, folder: Path
) -> None:
    (folder / "m.py").write_text(MODEL.format(at_import=at_import, at_step=at_step))
    process = started(folder, "check", "good.edn", "--model", "m.py:M")
    found, out, err = ended(process)
    assert found == status
    assert told in out + err


def test_a_crash_costs_the_verdict_of_one_file_and_under_a_limit_is_unknown(
    folder: Path,
) -> None:
    crash = "os.kill(os.getpid(), signal.SIGSEGV) if op.result == 2 else None"
    step = f"{crash}; return self"
    (folder / "m.py").write_text(MODEL.format(at_import="", at_step=step))
    files = ("good.edn", "bad.edn", "good.edn", "--model", "m.py:M")
    status, out, _ = ended(started(folder, "check", *files))
    assert status == 255, out
    lines = [line.split()[0] for line in out.splitlines() if "edn" in line]
    assert len(lines) == 3
    status, out, _ = ended(started(folder, "check", *files, "--memory-limit", "500"))
    assert status == 2, out
    assert "it seems to need more than 500 MB" in out


@pytest.mark.parametrize(
    "problem", [SystemExit(1), SystemExit("no"), BrokenPipeError()]
)
def test_what_a_command_runs_cannot_choose_the_exit_status(
    problem: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build() -> dict[str, str]:
        raise problem

    monkeypatch.setattr("harness.cli.catalogue.as_json", build)
    assert cli.run_command(["list", "--json"]) == 255


def test_an_installation_without_its_packages_ends_with_255(folder: Path) -> None:
    blocked = "import sys; sys.modules['click'] = None; "
    code = blocked + "from harness.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False
    )
    assert done.returncode == 255
    assert b"ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_check_is_unknown_and_keeps_what_it_said(
    number: signal.Signals, folder: Path
) -> None:
    wait = "__import__('time').sleep(600) if op.result == 2 else None"
    step = f"{wait}; return self"
    (folder / "m.py").write_text(MODEL.format(at_import="", at_step=step))
    process = started(folder, "check", "good.edn", "bad.edn", "--model", "m.py:M")
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(number)
    status, _, err = ended(process)
    assert b"good.edn" in first
    assert (status, err) == (2, "splitbrain: interrupted\n")


@pytest.mark.parametrize(
    ("limit", "told"),
    [("ulimit -v 100000", "MB of address space"), ("ulimit -n 5", "5 open files")],
)
def test_a_limit_of_this_process_that_is_too_small_is_named(
    limit: str, told: str, folder: Path
) -> None:
    arguments = ("run", "raft", "--world", "sim", "--ops", "20")
    status, _, err = ended(started(folder, *arguments, limit=limit))
    assert status == 255
    assert told in err
    assert len(err.splitlines()) == 1, err


# In a child


def test_work_is_done_in_turn_and_its_errors_are_raised_here() -> None:
    def work(item: int) -> int:
        if item == 2:
            raise UsageError("two")
        return item * 10

    done = apart.each_apart([0, 1, 2, 3], work)
    assert [next(done), next(done)] == [0, 10]
    with pytest.raises(UsageError, match="two"):
        next(done)


def test_a_child_that_dies_costs_its_item_only() -> None:
    def work(item: int) -> int:
        if item % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    done = list(apart.each_apart([0, 1, 2, 3, 4], work))
    assert [d for d in done if isinstance(d, int)] == [0, 2, 4]
    died = [d for d in done if isinstance(d, apart.Died)]
    assert [(d.item, str(d)) for d in died] == [
        (1, "was ended by SIGKILL"),
        (3, "was ended by SIGKILL"),
    ]


def test_nobody_who_asks_for_no_more_leaves_a_child() -> None:
    def work(item: int) -> int:
        if item:
            signal.pause()
        return os.getpid()

    done = apart.each_apart([0, 1], work)
    child = next(done)
    assert isinstance(child, int)
    done.close()  # type: ignore[attr-defined]  # it is a generator
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_a_fault_in_a_child_is_a_fault_of_ours(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(HarnessError, match="ZeroDivisionError"):
        list(apart.each_apart([0], lambda item: 1 // item))


# As it was called


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment in a folder of its own, from which nothing is on PATH."""
    script = tmp_path / "my env" / "bin" / "splitbrain"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script.with_name("python3")))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    return script


def test_a_command_to_repeat_names_this_program_as_the_shell_here_finds_it(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert program.called() == "'my env/bin/splitbrain'"
    monkeypatch.chdir(installed.parent)
    assert program.called() == "./splitbrain"
    monkeypatch.chdir("/usr")
    assert program.words() == [str(installed)]
    monkeypatch.setenv("PATH", str(installed.parent))
    assert program.called() == "splitbrain"
    installed.unlink()
    assert program.words() == [str(installed.with_name("python3")), "-m", "harness"]


def test_another_program_of_that_name_on_the_path_is_not_taken_for_ours(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other" / "splitbrain"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(other.parent))
    assert program.called() == "'my env/bin/splitbrain'"
