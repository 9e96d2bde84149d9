"""Plug-ins are found, whatever optional packages are missing."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from harness import registry
from harness.cli import run_command
from harness.errors import UsageError

PROJECT = Path(__file__).parents[2] / "pyproject.toml"

WITHOUT = """
import sys
for name in sys.argv.pop().split():
    sys.modules[name] = None  # as if it were not installed
from harness.cli import main
main(sys.argv[1:])
"""


def optional_packages() -> list[str]:
    """Names of what only extras install, as they are imported."""
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    wanted = [line for name in ("systems", "fast") for line in extras[name]]
    return [line.split(">")[0].strip() for line in wanted]


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["list"], 0),
        (["run", "2pc", "--world", "sim", "--ops", "20"], 0),
        (["run", "pysyncobj"], 254),
    ],
    ids=["list", "an alias", "a system that needs more"],
)
def test_nothing_optional_is_needed_until_it_is_used(
    command: list[str], status: int, tmp_path: Path
) -> None:
    if command[0] == "run":
        command = [*command, "--results", str(tmp_path)]
    call = [sys.executable, "-c", WITHOUT, *command, " ".join(optional_packages())]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr


# Plug-ins of others

PLUGINS = """
import sys
from harness.registry import Plugin
def make(*_): sys.exit(1)
NUMBER = 3
TAKEN = Plugin("raft", "another raft", make)
NAMELESS = Plugin(None, "no name", make)
FINE = Plugin("fine", "works until it is made", make)
"""
ENTRY_POINTS = """
[splitbrain.systems]
gone = others_absent:PLUGIN
number = others:NUMBER
raft = others:TAKEN
nameless = others:NAMELESS
fine = others:FINE
[splitbrain.checkers]
leaves = others_leaving:PLUGIN
unparsable = others_syntax:PLUGIN
"""


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution with plug-ins of which one can be used."""
    info = tmp_path / "others-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "others.py").write_text(PLUGINS)
    (tmp_path / "others_leaving.py").write_text("raise SystemExit(1)")
    (tmp_path / "others_syntax.py").write_text("def (")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("others")
def test_broken_plug_ins_are_named_and_passed_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(["list"]) == 0
    out, err = capsys.readouterr()
    assert "works until it is made" in out
    assert "another raft" not in out
    lines = err.splitlines()
    told = {line.split("'")[1]: line for line in lines if "is passed over" in line}
    assert set(told) == {"gone", "number", "raft", "nameless", "leaves", "unparsable"}
    assert len(lines) == len(told)
    assert "there is another one called raft" in told["raft"]
    assert "others:NUMBER is no harness.registry.Plugin but a int" in told["number"]


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["run", "gone"], "others_absent:PLUGIN: ModuleNotFoundError"),
        (["run", "number"], "is no harness.registry.Plugin"),
        (["run", "raft", "--also", "leaves"], "others_leaving:PLUGIN: SystemExit: 1"),
        (["run", "raft", "--also", "unparsable"], "SyntaxError"),
    ],
    ids=" ".join,
)
def test_asking_for_a_broken_plug_in_is_bad_usage(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments) == 254
    (line,) = capsys.readouterr().err.splitlines()
    assert why in line


@pytest.mark.parametrize(
    ("named", "hint"),
    [
        ("./my-node", "; to run a program as its nodes: launch:./my-node"),
        ("my-node", "; to run a program as its nodes: launch:./my-node"),
        ("./not-built-yet", "; to run a program as its nodes: launch:./not-built-yet"),
        ("bin/absent {port}", "nodes: 'launch:bin/absent {port}'"),
        ("sh node.sh {port}", "nodes: 'launch:sh node.sh {port}'"),
    ],
)
def test_a_program_named_as_a_system_is_told_how_to_be_one(
    named: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my-node").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=re.escape(hint)):
        registry.find("system", named)
    with pytest.raises(UsageError) as unknown:
        registry.find("system", "absent-node")
    assert "launch:" not in str(unknown.value)
