"""The report: one self-contained HTML file per run, a terminal summary, a suite index.

Everything here is computed from a run folder and can be recomputed at any time. Texts
and figures of nodes, clients and options are untrusted: they are escaped wherever they
are shown, and no figure is relied upon to make sense.

    folder.py     reads a run folder, in the shapes that a report needs
    story.py      the run in words, the same in the page and in the terminal
    page.py       report.html; columns.py packs the data that its scripts draw
    text.py       the terminal summary
    roles.py      who was what when, from what nodes observed
    resources.py  what nodes used; loglines.py  the lines of their logs, with times
    messages.py   messages between nodes, if recorded; thinning.py  what is kept
    index.py      the index of a suite, JUnit XML, and a summary in Markdown
    witness.py    an anomaly with its operations and arrows; spacetime.py draws it
    points.py     orders in which operations may have taken effect
    evidence.py   the parts of a transaction that an anomaly rests on
    chances.py    the chance of a failure over time, as `splitbrain explain` found it
    events.py     nodes' observations around an anomaly
    tally.py      how much checkers found and explained
    listing.py    anomalies as JSON, for `check --json`
    rates.py      rates of events with their interval
    figures.py    how counts, durations and values are written
    assets/       templates, styles and scripts

Heavy imports wait until the first call, so that the command line starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["build", "build_index", "summary", "write_junit"]


def build(run_dir: Path, points: str | None = None) -> Path:
    """Write `run_dir`/report.html from what the run folder holds; returns its path.

    Missing, torn or damaged files are named in the report instead of failing it.
    Cost: linear in the history; about 2 s for 100k operations.

    Args:
        run_dir: The run folder.
        points: A key whose linearization points are to be found, "" for all keys. By
            default a short run has them all, and a long one none.

    Raises:
        UsageError: The run has no such key.
    """
    from harness.report.page import write_report

    return write_report(run_dir, points)


def summary(run_dir: Path, *, colour: bool = False) -> str:
    """The run in a screenful of plain text; `colour` adds ANSI colours."""
    from harness.report.text import summary as write

    return write(run_dir, colour=colour)


def build_index(suite_dir: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write `suite_dir`/index.html, one row per run; returns its path.

    `harness.report.index` has the keys of rows.
    """
    from harness.report.index import build_index as write

    return write(suite_dir, rows)


def write_junit(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the suite's rows, as for `build_index`, to `path` as JUnit XML."""
    from harness.report.index import write_junit as write

    write(rows, path)
