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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.campaign.suites import nights
from harness.errors import HarnessError, UsageError
from harness.host import thinning
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
                freed += thinning.size_bytes(run)
                removed += 1
                shutil.rmtree(run, ignore_errors=True)
            elif keep.valid_runs is not None and kept[row] > keep.valid_runs:
                gone = _thin(run, f"keep.valid_runs of the suite {name}")
                thinned += bool(gone)
                freed += gone
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


def _thin(run: Path, why: str) -> int:
    """Thin a run; the bytes that were freed, none if the disk is too full for it."""
    try:
        return thinning.thin(run, why)
    except HarnessError:
        return 0
