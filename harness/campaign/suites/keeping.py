"""What is kept of a suite's runs, as its `keep` says.

Failures are always kept: runs that were not as expected, and those in which the harness
failed. Of runs that were as expected, the newest `valid_runs` of each row are kept
whole, though packed; of older ones the verdict and the report. Of nights before the
newest `nights`, their folders go.

Only run folders that a night of this suite names are touched, and only below its
results folder.
"""

from __future__ import annotations

import contextlib
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.campaign.suites import nights
from harness.errors import UsageError
from harness.host import packing
from harness.report.folder import mapping, sequence, string

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.campaign.suites.reading import Keep

SIGN = "test.yaml"


@dataclass(frozen=True)
class Pruned:
    """What was removed.

    Attributes:
        thinned: Runs of which only verdict and report are left.
        removed: Runs that are gone.
        freed_bytes: What they took up.
    """

    thinned: int = 0
    removed: int = 0
    freed_bytes: int = 0

    @property
    def told(self) -> str:
        """A sentence, or "" if nothing was removed."""
        if not self.thinned and not self.removed:
            return ""
        return (
            f"kept as the suite's keep says: {self.thinned} runs thinned, "
            f"{self.removed} removed, {self.freed_bytes / 1e6:,.0f} MB freed"
        )


def prune(results: Path, name: str, keep: Keep) -> Pruned:
    """Remove what a suite does not keep of the runs of its nights.

    Cost: reads suite.json of every night in the results folder.
    """
    thinned = removed = freed = 0
    kept: dict[str, int] = {}
    for age, folder in enumerate(nights.folders(results, name)):
        try:
            night = nights.read(folder)
        except UsageError:
            continue
        for row, run in _as_expected(night, results):
            kept[row] = kept.get(row, 0) + 1
            if keep.nights is not None and age >= keep.nights:
                freed += _size(run)
                removed += 1
                shutil.rmtree(run, ignore_errors=True)
            elif keep.valid_runs is not None and kept[row] > keep.valid_runs:
                before = _size(run)
                if _thin(run):
                    thinned += 1
                    freed += before - _size(run)
    return Pruned(thinned, removed, freed)


def _as_expected(night: nights.Night, results: Path) -> Iterator[tuple[str, Path]]:
    """Row and run folder of every run that was as expected, the newest first."""
    below = results.resolve()
    for name, row in night.rows.items():
        for told in map(mapping, reversed(sequence(row.get("seeds")))):
            good = told.get("as_expected") is True
            run = Path(string(told.get("run")))
            with contextlib.suppress(OSError):
                place = run.resolve()
                inside = place.is_relative_to(below) and not run.is_symlink()
                if good and inside and (place / SIGN).is_file():
                    yield name, place


def _thin(run: Path) -> bool:
    """Leave verdict and report of a run; False if that was all there was."""
    bulky = [path for path in run.iterdir() if path.name not in packing.STAYS]
    bulky += [run / packing.BULK] if packing.is_packed(run) else []
    for path in bulky:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return bool(bulky)


def _size(run: Path) -> int:
    """The bytes of a run's files."""
    total = 0
    for path in run.rglob("*"):
        with contextlib.suppress(OSError):
            told = path.lstat()
            total += told.st_size if stat.S_ISREG(told.st_mode) else 0
    return total
