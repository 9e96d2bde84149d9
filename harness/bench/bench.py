"""A benchmark run: choose rows, measure them, keep every sample.

The record goes to `results/bench/<utc>.json`: command, commit, machine, and each figure
with its raw samples, so that runs can be compared long after.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from harness.bench import executors, isolation, peer, reports, results, table
from harness.bench.children import BenchError
from harness.bench.rows import Lab, Row, SkippedError, rows
from harness.errors import UsageError
from harness.host import release
from harness.host.documents import making_room
from harness.registry import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.bench.figures import Figure

REPEAT = 3
REPEAT_QUICK = 2
PEER_LIMIT_S = 60.0
PEER_LIMIT_QUICK_S = 10.0
PEER_MEMORY_MIB = 8192.0
PEER_MEMORY_SHARE = 0.5
"""The part of free memory that a peer may use, so that it can't exhaust the machine."""
MIB = 2**20


@dataclass
class Outcome:
    """The outcome of a benchmark run.

    Attributes:
        figures: The figures, in the order of the rows.
        errors: The rows that failed, and why.
        record: The record as stored.
        path: The file of the record.
    """

    figures: list[Figure] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    def text(self) -> str:
        """The table, and remarks below it."""
        machine = self.record["machine"]
        notes = table.remarks(self.figures, machine["load"], machine["cores"])
        skipped = self.record.get("peer", {}).get("skipped")
        if skipped:
            notes.append(f"{peer.NAME} took no part: {skipped}")
        notes += [f"failed: {error}" for error in self.errors]
        notes.append(f"raw samples: {self.path}")
        return "\n".join([table.render(self.figures), "", *notes])


def choose(names: Sequence[str], *, quick: bool) -> list[Row]:
    """The rows with these names, or of groups with these names; all if there are none.

    With `quick`, long rows are only chosen if they are named in full.

    Raises:
        UsageError: No row or group has such a name.
    """
    known = rows() + isolation.rows() + reports.rows() + results.rows()
    known += executors.rows()
    if not names:
        return [row for row in known if not (quick and row.full_only)]
    words = sorted({row.group for row in known} | {row.name for row in known})
    for name in names:
        if name not in words:
            raise UsageError(
                f"nothing to measure is called {name!r}{nearest(name, words)} "
                f"(known: {', '.join(words)})"
            )
    return [
        row
        for row in known
        if row.name in names or (row.group in names and not (quick and row.full_only))
    ]


def run(
    names: Sequence[str],
    *,
    quick: bool,
    repeat: int | None,
    results: Path,
    show: Callable[[str], None],
) -> Outcome:
    """Measure, and store the record below `results`.

    Args:
        names: Rows or groups.
        quick: Fewer samples, smaller limits, no long rows.
        repeat: Samples of each figure.
        results: The folder for runs. Scratch files are made there too, as they must be
            on the disk that runs use.
        show: Called with the name of each measurement as it begins.

    Raises:
        UsageError: There is no such row, or `results` can't be written.
    """
    chosen = choose(names, quick=quick)
    samples = repeat or (REPEAT_QUICK if quick else REPEAT)
    begun = datetime.datetime.now(datetime.UTC)
    place = results.absolute() / "bench"
    with making_room(f"to {place}"):
        place.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=".scratch-", dir=place)
    outcome = Outcome()
    outcome.record = {
        "command": ["splitbrain", *sys.argv[1:]],
        "commit": release.commit(),
        "started_utc": begun.isoformat(),
        "quick": quick,
        "repeat": samples,
        "machine": machine(place),
    }
    with scratch as folder:
        lab = Lab(Path(folder), samples, quick)
        if any(row.group == "check" for row in chosen):
            lab = with_peer(lab, show)
            outcome.record["peer"] = peer_record(lab)
        for row in chosen:
            show(row.what)
            measure(row, lab, outcome)
    outcome.record["figures"] = [figure.as_json() for figure in outcome.figures]
    outcome.record["errors"] = outcome.errors
    outcome.path = place / f"{begun.strftime('%Y%m%dT%H%M%SZ')}.json"
    text = json.dumps(outcome.record, indent=2) + "\n"
    outcome.path.write_text(text, encoding="utf-8")
    return outcome


def measure(row: Row, lab: Lab, outcome: Outcome) -> None:
    """Measure one row; an error is kept for the end, so that others are measured."""
    try:
        outcome.figures += row.measure(lab, row)
    except SkippedError as reason:
        skipped = replace(row.figure("", "", []), remark=f"skipped: {reason}")
        outcome.figures.append(skipped)
    except BenchError as problem:
        outcome.errors.append(f"{row.name}: {problem}")


def with_peer(lab: Lab, show: Callable[[str], None]) -> Lab:
    """The lab with Porcupine, or with the reason why there is none."""
    show("building Porcupine")
    free_mib = psutil.virtual_memory().available / MIB
    try:
        porcupine = peer.Porcupine(
            peer.build(),
            PEER_LIMIT_QUICK_S if lab.quick else PEER_LIMIT_S,
            min(PEER_MEMORY_MIB, PEER_MEMORY_SHARE * free_mib),
        )
    except BenchError as problem:
        return replace(lab, no_porcupine=str(problem))
    return replace(lab, porcupine=porcupine)


def peer_record(lab: Lab) -> dict[str, Any]:
    """The peer's part of the record."""
    if lab.porcupine is None:
        return {"name": peer.NAME, "skipped": lab.no_porcupine}
    limits = asdict(lab.porcupine)
    del limits["binary"]
    return {"name": peer.NAME, "go.mod": peer.module_version(), **limits}


def machine(place: Path) -> dict[str, Any]:
    """The machine that the figures were measured on."""
    return {
        "cpu": cpu_model(),
        "cores": len(psutil.Process().cpu_affinity() or [])
        if hasattr(psutil.Process, "cpu_affinity")
        else os.cpu_count() or 1,
        "memory_mib": round(psutil.virtual_memory().total / MIB),
        "load": os.getloadavg()[0],
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "file_system": file_system(place),
        "is_root": os.geteuid() == 0,
    }


def cpu_model() -> str:
    """The processor's name, if the system tells it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    names = [line for line in text.splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.processor()


def file_system(place: Path) -> str:
    """The kind of file system, as a durable log costs little on one in memory."""
    holding = [
        mount
        for mount in psutil.disk_partitions(all=True)
        if place.is_relative_to(mount.mountpoint)
    ]
    nearest_mount = max(holding, key=lambda mount: len(mount.mountpoint), default=None)
    return nearest_mount.fstype if nearest_mount is not None else "unknown"
