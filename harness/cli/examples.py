"""`splitbrain examples`: nodes to start from, copied to where you work."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.terminal import say
from harness.errors import UsageError
from harness.registry import nearest

_PACKAGE = Path(__file__).parents[1]
PLACES = (_PACKAGE / "examples", _PACKAGE.parent / "examples")
"""Where the examples are: in an installed wheel, and in a checkout."""

TOLD = {
    "python": ("nodes/python", "nodes in Python; raft.py has a bug for you to find"),
    "javascript": ("nodes/javascript", "nodes in JavaScript"),
    "go": ("nodes/go", "nodes in Go"),
    "rust": ("nodes/rust", "nodes in Rust"),
    "java": ("nodes/java", "nodes in Java"),
    "cpp": ("nodes/cpp", "nodes in C++"),
    "shell": ("nodes/shell", "nodes in bash"),
    "maelstrom": ("maelstrom", "nodes of Maelstrom, in Python"),
    "foreign": ("foreign", "whole systems in six languages, with bugs to switch on"),
    "pytest": ("pytest", "a test suite that tortures a node of its own"),
}
"""Name -> its folder, and a line about it."""


@click.command()
@click.argument("name", required=False)
@click.argument("folder", type=click.Path(path_type=Path), required=False)
def examples(name: str | None, folder: Path | None) -> int:
    """Copy nodes to start from into FOLDER; without NAME, list them.

    FOLDER is a new or empty one; by default it is called as NAME.
    """
    if name is None:
        width = max(map(len, TOLD))
        say("\n".join(f"{n.ljust(width)}  {told}" for n, (_, told) in TOLD.items()))
        return 0
    if name not in TOLD:
        raise UsageError(
            f"there are no examples {name!r}{nearest(name, TOLD)} "
            f"(there are: {', '.join(TOLD)})"
        )
    target = Path(name) if folder is None else folder
    copied = copy(found() / TOLD[name][0], target)
    say(f"{target}: {', '.join(copied)}")
    return 0


def found() -> Path:
    """The folder of the examples.

    Raises:
        UsageError: This installation has none.
    """
    for place in PLACES:
        if (place / "nodes").is_dir():
            return place
    raise UsageError("this installation has no examples: install it from a wheel")


def copy(source: Path, target: Path) -> list[str]:
    """Copy an example; the names of its files.

    Raises:
        UsageError: The target is there and not empty, or can't be written.
    """
    import shutil

    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UsageError(f"{target} is there already: name a new or empty folder")
        unwanted = shutil.ignore_patterns("__pycache__", "results", ".pytest_cache")
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=unwanted)
    except OSError as problem:
        raise UsageError(f"cannot write {target}: {problem.strerror}") from None
    return sorted(path.name for path in target.iterdir())
