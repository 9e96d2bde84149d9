"""Which runs of a results folder may be thinned or removed, and doing it.

Only runs that are valid, as was expected of them, are touched. Failures, and runs
without verdict, are what one keeps results for: they go only if that is asked for, and
by their age alone.
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import HarnessError, UsageError
from harness.host import thinning

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from harness.serve.index import Index

WHY = "splitbrain runs prune"
UNDER_WAY = datetime.timedelta(days=1)
"""A run without a report may be under way, unless it was begun longer ago."""

_ALIKE = ("system", "options", "mutant", "workload", "world")


@dataclass(frozen=True)
class Policy:
    """What may go.

    Attributes:
        keep_valid: As many valid runs of an experiment stay whole, the newest; None: as
            many as there are.
        older_than: Only runs that were begun so long ago go; None: of any age.
        failures: Whether failures and runs without verdict go by their age, too.
        remove: Whether folders go whole; else their verdict and report stay.
    """

    keep_valid: int | None = None
    older_than: datetime.timedelta | None = None
    failures: bool = False
    remove: bool = False

    def check(self) -> None:
        """Refuse a policy by which everything would go.

        Raises:
            UsageError: Says what to add.
        """
        if self.keep_valid is None and self.older_than is None:
            raise UsageError(
                "say what may go: --keep-valid N, --older-than DAYS, or both "
                "(--dry-run shows what that is)"
            )
        if self.failures and self.older_than is None:
            raise UsageError(
                "--failures wants --older-than DAYS: failures go by their age"
            )


@dataclass(frozen=True)
class Freed:
    """A run that went, or would go.

    Attributes:
        path: From the results folder.
        bytes: What is freed.
        problem: Why not all of it went; "" if it did.
    """

    path: str
    bytes: int
    problem: str = ""


def prune(index: Index, policy: Policy, *, dry_run: bool = False) -> Iterator[Freed]:
    """Thin or remove what may go; those that are thin already are left out.

    Args:
        index: Of the results folder, refreshed.
        policy: What may go.
        dry_run: Whether to tell it only.
    """
    now = datetime.datetime.now(datetime.UTC)
    newest = (index.results / "latest").resolve()
    for path, age in _chosen(index.base, policy, now):
        folder = index.results / path
        is_over = (folder / "report.html").is_file() or (age or UNDER_WAY) > UNDER_WAY
        if folder == newest or folder.is_symlink() or not is_over:
            continue
        measure = thinning.size_bytes if policy.remove else thinning.would_free_bytes
        wanted = measure(folder)
        if not wanted:
            continue
        problem = "" if dry_run else _go(folder, policy)
        left = 0 if dry_run else measure(folder)
        yield Freed(path, wanted - left, problem)


def _go(folder: Path, policy: Policy) -> str:
    """Thin or remove a run; why not all of it went, or ""."""
    if policy.remove:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        try:
            thinning.thin(folder, WHY)
        except HarnessError as problem:
            return str(problem)
        if not thinning.would_free_bytes(folder):
            return ""
    return f"cannot remove all of {folder}" if folder.exists() else ""


def _chosen(
    base: sqlite3.Connection, policy: Policy, now: datetime.datetime
) -> list[tuple[str, datetime.timedelta | None]]:
    """Path and age of the runs that may go, the newest first."""
    chosen = []
    valid: Counter[tuple[str, ...]] = Counter()
    rows = base.execute(
        "select * from runs where kind != 'shrunk' order by started_utc desc, path"
    )
    for row in rows:
        good = row["state"] == "valid" and row["as_expected"] != 0
        alike = tuple(row[name] for name in _ALIKE)
        valid[alike] += good
        age = _age(row["started_utc"], now)
        old = policy.older_than is None or (age is not None and age > policy.older_than)
        spare = policy.keep_valid is None or valid[alike] > policy.keep_valid
        if old and (spare if good else policy.failures):
            chosen.append((row["path"], age))
    return chosen


def _age(started_utc: str, now: datetime.datetime) -> datetime.timedelta | None:
    with contextlib.suppress(ValueError, TypeError):
        return now - datetime.datetime.fromisoformat(started_utc)
    return None
