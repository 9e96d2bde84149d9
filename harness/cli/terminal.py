"""Prints lines to standard output, and complaints to standard error.

All text is made visible first, so that node output and file contents can't control the
terminal.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from harness.errors import EXIT_UNKNOWN
from harness.visible import visible

if TYPE_CHECKING:
    from pathlib import Path

_said = False
"""Whether this command has printed anything to standard output."""


def begin() -> None:
    """A command begins, which has printed nothing yet."""
    global _said  # standard output is one for the process, too
    _said = False


def say(text: str = "") -> None:
    """Print to standard output."""
    global _said
    _said = True
    click.echo(visible(text))


def say_run(run_dir: Path) -> None:
    """Print a run folder in words and a small picture, as the reader can see them.

    There are colours only on a terminal, and not if NO_COLOR is set
    (https://no-color.org) or the terminal is dumb.
    """
    global _said
    from harness.report import text

    out = sys.stdout
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    colour = wanted and out.isatty()
    said = text.summary(run_dir, colour=colour, boxes=_has_boxes(out.encoding))
    _said = True
    # All of it is visible already, but for the sequences that set our own colours.
    click.echo(said, color=colour)


def _has_boxes(encoding: str | None) -> bool:
    """Whether an encoding has the characters that pictures are drawn with."""
    from harness.report import sketch

    try:
        "".join(sketch.BOXES).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def say_error(text: str) -> None:
    """Print lines to standard error."""
    click.echo(visible(text), err=True)


def complain(text: str) -> None:
    """Print one line to standard error."""
    say_error(f"splitbrain: {' '.join(text.split())}")


def interrupted(why: str, *, as_json: bool, **found: Any) -> int:
    """Print that an interrupted command has no verdict; returns the exit status.

    No JSON is printed if the command has printed its own already.
    """
    if as_json and not _said:
        last = {"verdict": "unknown", "reason": why, "interrupted": True}
        say(json.dumps({**found, "last": last} if found else last))
    complain(why)
    return EXIT_UNKNOWN
