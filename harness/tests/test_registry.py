"""Plug-ins are found, whatever optional packages are missing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

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
