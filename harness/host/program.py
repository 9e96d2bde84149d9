"""How this program was called, so that lines to paste work where they are shown."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

NAME = "splitbrain"


def called() -> str:
    """A shell's words for this program, from the working directory.

    `splitbrain` where PATH leads to it; else the way to the script beside the
    interpreter, such as `.venv/bin/splitbrain`; else `python -m harness`.
    """
    return shlex.join(words())


def words() -> list[str]:
    """`called`, as arguments."""
    script = Path(sys.executable).parent / NAME
    on_path = shutil.which(NAME)
    if on_path is not None and _is_ours(Path(on_path), script):
        return [NAME]
    if script.is_file():
        return [near(script)]
    return [near(Path(sys.executable)), "-m", "harness"]


def _is_ours(found: Path, script: Path) -> bool:
    """Whether what PATH leads to is the script of this installation."""
    if script.is_file():
        return found.resolve() == script.resolve()
    return found.resolve() == Path(sys.argv[0]).resolve()


def near(path: Path) -> str:
    """A path as it is written from the working directory, where it is below that."""
    absolute = Path(os.path.abspath(path))  # no link followed: a venv's python is one
    try:
        below = absolute.relative_to(Path.cwd())
    except (ValueError, OSError):  # elsewhere, or the directory is gone
        return str(absolute)
    # A single word would be looked up on PATH.
    return str(below) if "/" in str(below) else f"./{below}"
