"""How this program was called, so that commands that we print can be pasted."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

NAME = "splitbrain"


def called() -> str:
    """The shell command for this program, from the working directory.

    It is `splitbrain` if PATH leads to it; else the path of the script beside the
    interpreter, such as `.venv/bin/splitbrain`; else `python -m harness`.
    """
    return shlex.join(words())


def words() -> list[str]:
    """The command of `called`, as a list of arguments."""
    script = Path(sys.executable).parent / NAME
    on_path = shutil.which(NAME)
    if on_path is not None and _is_ours(Path(on_path), script):
        return [NAME]
    if script.is_file():
        return [near(script)]
    return [near(Path(sys.executable)), "-m", "harness"]


def _is_ours(found: Path, script: Path) -> bool:
    """Whether the program on PATH is the script of this installation."""
    if script.is_file():
        return found.resolve() == script.resolve()
    return found.resolve() == Path(sys.argv[0]).resolve()


def near(path: Path) -> str:
    """A path relative to the working directory if it lies below, else absolute."""
    absolute = Path(os.path.abspath(path))  # keeps links: a venv's python is one
    try:
        below = absolute.relative_to(Path.cwd())
    except (ValueError, OSError):  # elsewhere, or the directory is gone
        return str(absolute)
    # A shell would look up a single word on PATH.
    return str(below) if "/" in str(below) else f"./{below}"
