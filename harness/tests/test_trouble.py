"""Troubles of our own: no room, no folder, no descriptors, and exceptions.

Each ends in one line and 255, is no verdict on the system, and costs nothing of what
was recorded.
"""

from __future__ import annotations

import ast
import errno
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import HarnessError, UsageError
from harness.run.store import JsonLines, RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "harness", "run", "raft", "--seed", "1"]
DEADLINE_S = 120.0


def own_mounts_work() -> bool:
    if not shutil.which("unshare"):
        return False
    words = ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


own_mounts = pytest.mark.skipif(
    not own_mounts_work(), reason="needs user namespaces, for a disk of its own"
)


def on_a_disk_of_its_own(
    folder: Path, options: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """A run whose results go to a small disk; what is on it then goes to `kept`."""
    script = (
        f'mkdir disk && mount -t tmpfs -o {options} none disk && "$@" --results disk; '
        "status=$?; cp -a disk kept; exit $status"
    )
    return subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script, "sh", *COMMAND, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )


@own_mounts
@pytest.mark.parametrize("world", ["sim", "os"])
def test_a_full_disk_ends_in_one_line_and_keeps_what_was_recorded(
    world: str, tmp_path: Path
) -> None:
    done = on_a_disk_of_its_own(
        tmp_path, "size=300k", "--world", world, "--time-limit", "20"
    )
    assert done.returncode == 255
    assert "No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not done.stdout
    (history,) = (tmp_path / "kept").glob("*/*/history.jsonl")
    *lines, _torn = history.read_text().split("\n")
    assert [json.loads(line)["index"] for line in lines] == list(range(len(lines)))
    assert len(lines) > 10


@own_mounts
def test_a_read_only_results_folder_ends_in_one_line(tmp_path: Path) -> None:
    done = on_a_disk_of_its_own(tmp_path, "ro", "--world", "sim", "--ops", "20")
    assert done.returncode == 255
    assert "cannot write results to disk: Read-only file system" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize(
    "world", ["sim", pytest.param("os", marks=pytest.mark.nightly)]
)
def test_a_results_folder_that_is_gone_ends_in_one_line(
    world: str, tmp_path: Path
) -> None:
    running = subprocess.Popen(
        [*COMMAND, "--world", world, "--time-limit", "2", "--results", "results"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline_s = time.monotonic() + DEADLINE_S
    while not any(recorded(tmp_path)):
        assert time.monotonic() < deadline_s, "it records nothing"
        time.sleep(0.001)
    while (tmp_path / "results").exists():
        shutil.rmtree(tmp_path / "results", ignore_errors=True)
    out, err = running.communicate(timeout=DEADLINE_S)
    assert running.returncode == 255
    assert "No such file or directory" in err
    assert len(err.splitlines()) == 1, err
    assert not out


def recorded(folder: Path) -> Iterator[bool]:
    for history in folder.glob("results/*/*/history.jsonl"):
        yield history.stat().st_size > 0


@pytest.mark.parametrize("files", [10, 14, 22, 30, 60])
def test_too_few_descriptors_are_named_in_one_line_before_anything_starts(
    files: int, tmp_path: Path
) -> None:
    done = subprocess.run(
        ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", *COMMAND],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 255
    assert f"at most {files} (ulimit -n)" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_soft_limit_of_descriptors_is_raised_as_far_as_it_takes(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        ["sh", "-c", 'ulimit -Sn 24 && exec "$@"', "sh", *COMMAND, "--ops", "30"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# The run folder


def test_a_line_that_the_disk_took_in_part_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, write = JsonLines(tmp_path / "lines"), os.write
    lines.append({"n": 1})
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    with pytest.raises(HarnessError, match="No space left on device"):
        lines.append({"n": 2})
    monkeypatch.undo()
    lines.append({"n": 3})
    lines.close()
    assert RunFolder(tmp_path).read_lines("lines") == [{"n": 1}, {"n": 3}]


def test_what_stood_under_a_name_survives_a_disk_that_refuses_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path, __: Path) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    folder = RunFolder(tmp_path)
    folder.write_json("run.json", {"old": True})
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(HarnessError, match=r"cannot write .*run.json: .*quota"):
        folder.write_json("run.json", {"old": False})
    assert json.loads((tmp_path / "run.json").read_text()) == {"old": True}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_name_that_can_be_no_folder_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="choose another place"):
        RunFolder.create(tmp_path / "file", "raft", 1)


# Exceptions


BROAD = {"Exception", "BaseException"}


def sources() -> list[Path]:
    packages = ("harness", "checkers", "nemesis", "workloads", "reference_impls")
    return [
        path
        for package in packages
        for path in sorted((ROOT / package).rglob("*.py"))
        if "tests" not in path.parts
    ]


def test_a_broad_except_says_why() -> None:
    silent = []
    for path in sources():
        text = path.read_text(encoding="utf-8")
        if not re.search(r"\bexcept\s*:|\b(Base)?Exception\b", text):
            continue  # to parse it takes a hundred times as long
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = ast.walk(node.type) if node.type is not None else ()
            names = {name.id for name in caught if isinstance(name, ast.Name)}
            if node.type is not None and not names & BROAD:
                continue
            # On its line, or between it and the first statement of its body.
            beside = lines[node.lineno - 1 : node.body[0].lineno - 1]
            if not any("#" in line for line in beside):
                silent.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not silent, "say why in a comment, or catch less"


def test_importing_the_checkers_does_not_import_networkx() -> None:
    code = """
import importlib, pkgutil, sys
import checkers
for module in pkgutil.walk_packages(checkers.__path__, "checkers."):
    if ".tests" not in module.name:
        importlib.import_module(module.name)
        assert "networkx" not in sys.modules, f"{module.name} imports it"
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
