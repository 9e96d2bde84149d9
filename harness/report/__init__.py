"""The report: one self-contained HTML file per run, a terminal summary, a suite index.

Everything here is computed from a run folder (`harness.report.folder`) and can be
recomputed at any time. What comes from nodes, clients and options is untrusted: it is
escaped wherever it is shown, and no figure in it is relied upon to make sense.

Heavy imports wait until the first call, so that the command line starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["build", "build_index", "summary", "write_junit"]


def build(run_dir: Path) -> Path:
    """Write `run_dir`/report.html from what the run folder holds; returns its path.

    Missing, torn or damaged files are named in the report instead of failing it.
    Cost: linear in the history; about 2 s for 100k operations.
    """
    from harness.report.page import write_report

    return write_report(run_dir)


def summary(run_dir: Path, *, colour: bool = False) -> str:
    """The run in a screenful of plain text; `colour` adds ANSI colours."""
    from harness.report.text import summary as write

    return write(run_dir, colour=colour)


def build_index(suite_dir: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write `suite_dir`/index.html, one row per run; see `harness.report.index`."""
    from harness.report.index import build_index as write

    return write(suite_dir, rows)


def write_junit(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the suite's rows as JUnit XML; see `harness.report.index`."""
    from harness.report.index import write_junit as write

    write(rows, path)
