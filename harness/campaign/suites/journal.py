"""What a night has done so far, on the disk, so that it can go on after a crash.

    results/suites/<utc>-<name>/journal.jsonl

The first line is the plan of the night. Then comes a line for each run that begins, and
one for each outcome. Every line is written at once and synced before anything depends
on it, so a night that is killed, or whose machine is, loses the runs that were under
way, and no other. A last line that is torn was such a run.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from harness.campaign.outcome import Outcome
from harness.campaign.suites import nights
from harness.errors import UsageError
from harness.host import documents
from harness.host.documents import writing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.campaign.suites.rows import Row

S = TypeVar("S", bound=msgspec.Struct)

FILE = "journal.jsonl"
VERSION: Literal[1] = 1
BYTES_MAX = 1 << 30


class Plan(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a night set out to do; the first line.

    Attributes:
        suite: The suite's name.
        file: Its file.
        only: The words of `--only`.
        budget_s: How long it may take in all; None for as long as it needs.
        rows: Name -> digest of the row, in the order in which they are begun.
        seeds: Name -> the first seed.
        started_utc: When it began.
    """

    kind: Literal["plan"] = "plan"
    version: int = VERSION
    suite: str
    file: str
    only: str | None = None
    budget_s: float | None = None
    rows: dict[str, str]
    seeds: dict[str, int]
    started_utc: str


class Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Any other line.

    Attributes:
        kind: A run began, or had an outcome; the night went on, or ended.
        at_s: Seconds that the night has taken until then, without the time that it was
            down.
        again: Whether the harness failed and the run is tried again.
    """

    kind: Literal["begun", "outcome", "resumed", "ended"]
    at_s: float
    row: str = ""
    seed: int | None = None
    again: bool = False
    outcome: Outcome | None = None


@dataclass
class Done:
    """What a night had done before it was cut off.

    Attributes:
        folder: The night's folder.
        plan: What it set out to do.
        spent_s: How long it had taken.
        outcomes: Row -> the outcomes of its runs, with whether each was tried again.
        under_way: Row and seed of runs that had begun, and have no outcome.
        ended: Whether it was over.
    """

    folder: Path
    plan: Plan
    spent_s: float = 0.0
    outcomes: dict[str, deque[tuple[Outcome, bool]]] = field(
        default_factory=lambda: defaultdict(deque)
    )
    under_way: list[tuple[str, int]] = field(default_factory=list)
    ended: bool = False


class Journal:
    """Writes a night's journal.

    Raises:
        HarnessError: A line can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        with writing(self._path):
            self._fd = os.open(
                self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644
            )
            _mend(self._path)

    def begin(self, plan: Plan) -> None:
        """Write the first line."""
        self._write(plan)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def write(self, line: Line) -> None:
        """Write any other line."""
        self._write(line)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _write(self, record: msgspec.Struct) -> None:
        data = msgspec.json.encode(record) + b"\n"
        with writing(self._path):
            while data:  # a torn line is mended when the night goes on
                data = data[os.write(self._fd, data) :]
            os.fsync(self._fd)


def _mend(path: Path) -> None:
    """Take away a line that is torn; a whole one must not follow on it."""
    with path.open("rb+") as file:
        data = file.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            file.truncate(whole)


def digest(row: Row) -> str:
    """A fingerprint of all that a row asks for."""
    text = json.dumps(msgspec.to_builtins(row), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(folder: Path) -> Done:
    """What the night in `folder` had done.

    Raises:
        UsageError: Its journal can't be read, or is damaged; names the line.
    """
    path = folder / FILE
    lines = documents.read_bytes(path, bytes_max=BYTES_MAX).split(b"\n")
    lines.pop()  # nothing, or a line that is torn
    if not lines:
        raise UsageError(f"{path} is empty: the night ended before it began")
    plan = _decoded(lines[0], Plan, path, 1)
    if plan.version > VERSION:
        raise UsageError(
            f"{path} is of version {plan.version}, and this program reads up to "
            f"{VERSION}: use the one that wrote it"
        )
    done = Done(folder, plan)
    for number, data in enumerate(lines[1:], start=2):
        line = _decoded(data, Line, path, number)
        done.spent_s = max(done.spent_s, line.at_s)
        match line:
            case Line(kind="begun", row=row, seed=int(seed)):
                done.under_way.append((row, seed))
            case Line(kind="outcome", row=row, outcome=Outcome() as outcome):
                begun = (row, outcome.experiment.spec.seed)
                if begun in done.under_way:
                    done.under_way.remove(begun)
                done.outcomes[row].append((outcome, line.again))
            case Line(kind="ended"):
                done.ended = True
            case _:
                done.under_way.clear()
    return done


def _decoded(data: bytes, kind: type[S], path: Path, number: int) -> S:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UsageError) as bad:
        raise UsageError(f"{path}, line {number}: it is damaged: {bad}") from None


def unfinished(results: Path, name: str) -> Done:
    """The last night of a suite, which was cut off.

    Raises:
        UsageError: There is none, or it was over.
    """
    for folder in nights.folders(results, name):
        if (folder / FILE).exists():
            done = read(folder)
            if done.ended:
                raise UsageError(
                    f"there is nothing to resume: the last night of {name}, {folder}, "
                    "was over"
                )
            return done
    raise UsageError(
        f"there is nothing to resume: no night of {name} is in {results / 'suites'}"
    )


def changed(plan: Plan, rows: Sequence[Row]) -> dict[str, str]:
    """Row -> how it differs from the plan's: "new", "changed", or "gone"."""
    now = {row.name: digest(row) for row in rows}
    told = {
        name: "new" if name not in plan.rows else "changed"
        for name, mark in now.items()
        if plan.rows.get(name) != mark
    }
    return told | {name: "gone" for name in plan.rows if name not in now}
