"""Prints lines to standard output, and complaints to standard error.

All text is made visible first, so that node output and file contents can't control the
terminal.
"""

from __future__ import annotations

import json
from typing import Any

import click

from harness.errors import EXIT_UNKNOWN
from harness.visible import visible

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
