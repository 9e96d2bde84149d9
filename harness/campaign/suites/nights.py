"""Earlier nights of a suite, as far as the next one depends on them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.host import documents
from harness.run.store import RUN_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

NIGHTS_MAX = 30
"""Nights that are looked at."""
RESULT_BYTES_MAX = 64 << 20
FILE = "suite.json"


@dataclass(frozen=True)
class Night:
    """What one night showed.

    Attributes:
        folder: Its folder.
        rows: Name -> its row in suite.json, whose values may be of any type.
    """

    folder: Path
    rows: Mapping[str, Mapping[str, object]]

    def last_seed(self, row: str) -> int | None:
        """The greatest seed with which a row was run; None if it was not."""
        told = self.rows.get(row, {}).get("seeds")
        seeds = [
            one["seed"]
            for one in (told if isinstance(told, list) else [])
            if isinstance(one, dict) and isinstance(one.get("seed"), int)
        ]
        return max(seeds, default=None)

    def off(self, row: str) -> bool:
        """Whether a row had an outcome, and another one than expected."""
        return self.rows.get(row, {}).get("as_expected") is False

    def ran(self, row: str) -> bool:
        """Whether a row was run at all."""
        runs = self.rows.get(row, {}).get("runs")
        return isinstance(runs, int) and runs > 0

    def run_s(self, row: str) -> float | None:
        """How long the longest of a row's runs took, with judging; None if none did."""
        told = self.rows.get(row, {}).get("seeds")
        took = [
            float(one["took_s"])
            for one in (told if isinstance(told, list) else [])
            if isinstance(one, dict) and isinstance(one.get("took_s"), int | float)
        ]
        return max(took, default=None)


def folders(results: Path, name: str) -> list[Path]:
    """The folders of a suite's nights, the newest first."""
    ending = f"Z-{RUN_NAME.sub('_', name)}"
    parent = results.absolute() / "suites"
    with contextlib.suppress(OSError):
        found = [path for path in parent.iterdir() if path.name.endswith(ending)]
        return sorted((p for p in found if not p.is_symlink()), reverse=True)
    return []


def former(results: Path, name: str) -> list[Night]:
    """The last nights of a suite that can be read, the newest first."""
    nights = []
    for folder in folders(results, name)[:NIGHTS_MAX]:
        with contextlib.suppress(UsageError):
            nights.append(read(folder))
    return nights


def read(path: Path) -> Night:
    """The night of a folder, or of a suite.json anywhere.

    Raises:
        UsageError: There is none.
    """
    file = path / FILE if path.is_dir() else path
    if not file.exists():
        raise UsageError(f"{path} is no night of a suite: there is no {file}")
    text = documents.read_bytes(file, bytes_max=RESULT_BYTES_MAX)
    data = documents.parse_json(text.decode(errors="replace"), str(file))
    rows = data.get("rows") if isinstance(data, dict) else None
    if not isinstance(rows, list):
        raise UsageError(f"{file} is no night of a suite: it has no rows")
    return Night(file.parent, by_name(rows))


def by_name(rows: Sequence[object]) -> dict[str, Mapping[str, object]]:
    """Rows by their names; what is no row is left out."""
    return {
        str(row["name"]): row for row in rows if isinstance(row, dict) and "name" in row
    }
