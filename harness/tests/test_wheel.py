"""The wheel: what it holds, and that it works where nothing else is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from harness.host import release

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(
        not (ROOT / ".git").exists() or shutil.which("git") is None,
        reason="this is no checkout to build from, or there is no git",
    ),
]


def git(*words: str | Path) -> str:
    return subprocess.check_output(["git", "-C", ROOT, *words], text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, made in a copy: a build leaves folders behind."""
    there = tmp_path_factory.mktemp("wheel")
    source = there / "source"
    git("clone", "--quiet", ROOT, source)
    for name in git("ls-files", "--cached", "--others", "--exclude-standard").split():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
            *("--wheel-dir", there, source),
        ],
        check=True,
    )
    (built,) = there.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a virtual environment that holds the wheel alone."""
    there = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", there], check=True)
    subprocess.run(
        [
            *(there / "bin" / "pip", "install", "--quiet"),
            *("--constraint", ROOT / "constraints.txt", wheel),
        ],
        check=True,
    )
    return there / "bin"


def test_it_holds_every_module_and_file_but_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    packages = ("harness", "workloads", "checkers", "nemesis", "reference_impls")
    ours = {n for n in git("ls-files", *packages).split() if "tests/" not in n}
    assert ours <= names
    assert [name for name in names if "tests/" in name] == []
    assert "splitbrain.py" in names


def test_its_examples_run(bare: Path, tmp_path: Path) -> None:
    assert "splitbrain_node.py" in output(bare, tmp_path, "examples", "python")
    words = ["run", "launch:python3 python/register.py", "--ops", "50", "--seed", "1"]
    assert "VALID" in output(bare, tmp_path, *words)


def test_it_knows_its_commit(bare: Path, tmp_path: Path) -> None:
    said = output(bare, tmp_path, "--version")
    assert release.commit() in said
    assert said.startswith(f"splitbrain {release.told().split()[0]} (commit ")


def test_a_simulated_run_its_report_and_a_suite_work(
    bare: Path, tmp_path: Path
) -> None:
    words = ["run", "raft", "--world", "sim", "--ops", "50", "--seed", "1", "--json"]
    run: dict[str, Any] = json.loads(output(bare, tmp_path, *words))
    assert run["verdict"] == "valid"
    assert (tmp_path / "results" / "latest" / "report.html").stat().st_size > 10_000
    (tmp_path / "suite.yaml").write_text(
        "name: small\n"
        "defaults: {world: sim, ops: 50}\n"
        "rows: [{name: raft, system: raft}, {name: zab, system: zab}]\n"
    )
    assert "2 as expected" in output(bare, tmp_path, "suite", "suite.yaml")


def test_a_run_of_real_processes_works(bare: Path, tmp_path: Path) -> None:
    words = ["run", "raft", "--ops", "200", "--seed", "1", "--json"]
    run: dict[str, Any] = json.loads(output(bare, tmp_path, *words))
    assert run["verdict"] == "valid"


def test_bundled_suites_are_there(bare: Path, tmp_path: Path) -> None:
    told = subprocess.run(
        [bare / "splitbrain", "suite", "no-such"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 254
    assert "museum, nightly, quick" in told.stderr


def test_what_needs_an_extra_says_which(bare: Path, tmp_path: Path) -> None:
    told = subprocess.run(
        [bare / "splitbrain", "serve"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 254
    assert "splitbrain[serve]" in told.stderr


def output(bare: Path, folder: Path, *words: str) -> str:
    """What a command prints that succeeds, with nothing but what the wheel brings."""
    told = subprocess.run(
        [bare / "splitbrain", *words],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, (words, told.stdout, told.stderr)
    return told.stdout
