"""Shell completion: what is offered where, asked as a shell asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from harness import registry
from harness.cli.completion import PROGRAM, VARIABLE

if TYPE_CHECKING:
    from pathlib import Path

SHELLS = ["bash", "zsh", "fish"]


def offered(line: str) -> list[str]:
    """What bash is told for a line whose cursor is at its end."""
    words = line.split(" ")
    environment = os.environ | {
        VARIABLE: "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    answered = subprocess.run(
        [sys.executable, "-m", "harness"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answered.stderr == ""
    return [said.partition(",")[2] for said in answered.stdout.split()]


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("splitbrain sh", ["shrink"]),
        ("splitbrain run raf", ["raft"]),
        ("splitbrain run la", ["launch:"]),
        ("splitbrain run raft --worl", ["--world"]),
        ("splitbrain run raft --workload reg", ["register"]),
        ("splitbrain run raft --nemesis ki", ["kill"]),
        ("splitbrain run raft --nemesis kill,har", ["kill,hard"]),
        ("splitbrain run raft --nemesis kill,ki", []),
        ("splitbrain run raft --mutant vote-not", ["vote-not-durable"]),
        ("splitbrain run zab --mutant vote-not", []),
        ("splitbrain run raft --set reads=l", ["reads=log", "reads=lease"]),
        ("splitbrain run raft --nemesis clock --set clock.dr", ["clock.drift="]),
        ("splitbrain check --model cas", ["cas-register"]),
        ("splitbrain suite qu", ["quick"]),
        ("splitbrain systems install zoo", ["zookeeper"]),
        ("splitbrain list stale-r", ["stale-read"]),
        ("splitbrain run no_such_system --mutant ", []),
    ],
)
def test_a_name_is_completed_where_it_may_stand(line: str, some: list[str]) -> None:
    found = offered(line)
    assert set(some) <= set(found)
    assert bool(some) == bool(found)


def test_every_system_is_offered() -> None:
    names = {
        f"{plugin.name}:" if plugin.adapter else plugin.name
        for plugin in registry.plugins("system").values()
    }
    assert set(offered("splitbrain run ")) == names


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_printed_that_its_shell_takes(shell: str, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "harness", "completion", shell]
    script = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert VARIABLE in script
    assert PROGRAM in script
    if (program := shutil.which(shell)) is None:
        pytest.skip(f"no {shell} here to read its script")
    file = tmp_path / "script"
    file.write_text(script)
    subprocess.run([program, "-n", str(file)], check=True)


def test_bash_completes_with_the_script(tmp_path: Path) -> None:
    program = tmp_path / PROGRAM
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m harness "$@"\n')
    program.chmod(0o755)
    asks = """
source <(splitbrain completion bash)
COMP_WORDS=(splitbrain run raf); COMP_CWORD=2
_splitbrain_completion splitbrain
echo "${COMPREPLY[@]}"
"""
    path = f"{tmp_path}:{os.environ['PATH']}"
    told = subprocess.run(
        ["bash", "-c", asks],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["raft", "raft_rs"]
