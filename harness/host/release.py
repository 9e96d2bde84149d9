"""Which splitbrain this is: its version, and the commit that it was made from."""

from __future__ import annotations

import functools
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def versions() -> dict[str, str]:
    """The versions of what runs here, by name."""
    return {
        "splitbrain": version("splitbrain"),
        "commit": commit(),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def told() -> str:
    """Version and commit, as `splitbrain --version` tells them."""
    made_from = f" (commit {commit()})" if commit() else ""
    return f"{version('splitbrain')}{made_from}, Python {platform.python_version()}"


@functools.cache
def commit() -> str:
    """The commit, with `-dirty` if a checkout was changed since; empty if unknown.

    A wheel holds it in a file (setup.py); a checkout is asked itself.
    """
    if (_PACKAGE.parent / ".git").exists():
        return _of_checkout()
    try:
        return (_PACKAGE / "commit.txt").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _of_checkout() -> str:
    words = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        described = subprocess.run(
            words,
            cwd=_PACKAGE,
            capture_output=True,
            text=True,
            check=False,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return described.stdout.strip()
