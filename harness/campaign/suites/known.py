"""Failures that are known: a file that says which, why, and until when.

    - row: zab under everything     # any of these may be left out, and * stands for all
      anomaly: stale-read
      system: zab
      workload: register
      mutant: "*"
      checker: linearizable
      reason: reads of a deposed leader, fixed by the next release
      until: "2027-03-31"

A failure is excused if every anomaly of it that breaks a promise is known. An entry
that has expired excuses nothing, and fails the night, whether its failure came or not:
it is a decision that somebody has to take again.
"""

from __future__ import annotations

import datetime
import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from harness.errors import UsageError
from harness.host import documents
from harness.host.documents import Marks
from harness.registry import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.campaign.outcome import Fingerprint
    from harness.campaign.suites.results import RowResult

ENTRIES_MAX = 10_000


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One failure that is known; patterns are those of a shell.

    Attributes:
        row: The row's name.
        checker, anomaly, system, workload, mutant: The failure's fingerprint. The
            mutant of a run without one is "".
        reason: Why it is known.
        until: The last day on which it excuses anything: YYYY-MM-DD.
    """

    row: str = "*"
    checker: str = "*"
    anomaly: str = "*"
    system: str = "*"
    workload: str = "*"
    mutant: str = "*"
    reason: str
    until: str

    @property
    def last_day(self) -> datetime.date:
        """`until` as a day."""
        return datetime.date.fromisoformat(self.until)

    @property
    def told(self) -> str:
        """The entry in a few words."""
        named = (self.row, self.anomaly, self.system, self.workload, self.mutant)
        return " ".join(word for word in named if word != "*") or "everything"

    def matches(self, row: str, mark: Fingerprint) -> bool:
        """Whether it means this failure of this row."""
        pairs = (
            (self.row, row),
            (self.checker, mark.checker),
            (self.anomaly, mark.anomaly),
            (self.system, mark.system),
            (self.workload, mark.workload),
            (self.mutant, mark.mutant or ""),
        )
        return all(fnmatch.fnmatchcase(text, pattern) for pattern, text in pairs)


@dataclass(frozen=True)
class Judged:
    """What the known failures make of a night.

    Attributes:
        excused: Row -> why its failure is known.
        expired: Sentences about entries whose day is over.
        idle: Sentences about entries whose failure did not come, though a row ran that
            they name.
    """

    excused: dict[str, str]
    expired: list[str]
    idle: list[str]

    def as_json(self) -> dict[str, object]:
        """The judgement in suite.json."""
        return {"excused": self.excused, "expired": self.expired, "idle": self.idle}


def load(path: Path) -> list[Entry]:
    """The entries of a file.

    Raises:
        UsageError: Names the file, the line and what is wrong.
    """
    marks = Marks()
    data = documents.read_yaml(path, marks)
    if not isinstance(data, list):
        raise UsageError(f"{path}: known failures are a list of entries")
    if len(data) > ENTRIES_MAX:
        raise UsageError(f"{path}: {len(data)} entries; at most {ENTRIES_MAX}")
    entries = []
    for number, told in enumerate(data):
        where = f"{path}, {marks.of((number,))}"
        if not isinstance(told, dict):
            raise UsageError(f"{where}: an entry is a mapping with reason and until")
        for key in told:
            if key not in Entry.__struct_fields__:
                near = nearest(key, Entry.__struct_fields__)
                at = marks.of((number, key))
                raise UsageError(f"{path}, {at}: an entry has no `{key}`{near}")
        try:
            entry = msgspec.convert(told, Entry)
            _ = entry.last_day
        except msgspec.ValidationError as problem:
            raise UsageError(f"{where}: {problem}") from None
        except ValueError:
            at = marks.of((number, "until"))
            raise UsageError(
                f"{path}, {at}: until {entry.until!r:.40}: write a day as "
                '"2027-03-31", in quotes'
            ) from None
        if not entry.reason.strip():
            at = marks.of((number, "reason"))
            raise UsageError(f"{path}, {at}: it needs a reason")
        entries.append(entry)
    return entries


def judge(
    results: Sequence[RowResult], entries: Sequence[Entry], today: datetime.date
) -> Judged:
    """Which rows are excused, and which entries are over or came to nothing."""
    good = [entry for entry in entries if entry.last_day >= today]
    excused, used = {}, set()
    for result in results:
        marks = [mark for one in result.outcomes for mark in one.fingerprints]
        if result.as_expected or result.verdict != "invalid" or not marks:
            continue
        reasons = []
        for mark in marks:
            entry = next((e for e in good if e.matches(result.row.name, mark)), None)
            if entry is None:
                break
            used.add(entry)
            reasons.append(f"{entry.reason} (until {entry.until})")
        else:
            if not result.missing or result.row.expect == "valid":
                excused[result.row.name] = "; ".join(dict.fromkeys(reasons))
    expired = [
        f"the known failure {entry.told} expired on {entry.until}: {entry.reason}"
        for entry in entries
        if entry.last_day < today
    ]
    ran = [result.row.name for result in results if result.outcomes]
    idle = [
        f"the known failure {entry.told} did not come: {entry.reason}"
        for entry in good
        if entry not in used
        and entry.row != "*"
        and any(fnmatch.fnmatchcase(name, entry.row) for name in ran)
    ]
    return Judged(excused, expired, idle)
