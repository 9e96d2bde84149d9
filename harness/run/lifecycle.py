"""The lives of a run's faults, put together from the lines of faults.jsonl.

A fault is asked for, then applied, skipped or failed, then healed (`states`). A
controller that was killed leaves lives without an end; folders of earlier versions have
none of the lines `asked`, `skipped` and `leader`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.faults.states import effect_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.faults.states import Effect
    from harness.run.records import FaultLine

HAPPENS = frozenset({"asked", "start", "end", "skipped", "failed", "leader"})
"""The events that belong to a fault's life; all others are notes."""


@dataclass
class Life:
    """One fault of the plan, from the moment at which it was asked for.

    Attributes:
        first: The line that told of it first.
        asked, start, end, skipped, failed: The lines of its states; None for those that
            it didn't come to.
        leader_start, leader_end: The lines that tell who led as it began, and as it was
            about to be healed.
    """

    first: FaultLine
    asked: FaultLine | None = None
    start: FaultLine | None = None
    end: FaultLine | None = None
    skipped: FaultLine | None = None
    failed: FaultLine | None = None
    leader_start: FaultLine | None = None
    leader_end: FaultLine | None = None

    @property
    def kind(self) -> str:
        """The kind of fault."""
        return self.first.kind

    def goes_on_with(self, line: FaultLine) -> bool:
        """Whether this line can follow; if not, it tells of another fault."""
        if self.end or self.skipped or self.failed or line.event == "asked":
            return False
        return line.event == "failed" or self.start is None

    def note(self, line: FaultLine) -> None:
        """Take in a line."""
        match line.event:
            case "asked":
                self.asked = line
            case "start":
                self.start = line
            case "end" if self.start is not None and self.end is None:
                self.end = line
            case "skipped":
                self.skipped = line
            case "failed":
                self.failed = line
            case "leader" if line.at == "start":
                self.leader_start = line
            case "leader":
                self.leader_end = line
            case _:
                pass

    @property
    def bit(self) -> bool | None:
        """Whether it had an effect, by the last line that says so; None if none did."""
        for line in (self.end, self.start):
            if line is not None and line.bit is not None:
                return line.bit
        return None

    @property
    def healed(self) -> bool:
        """Whether it was undone: by its kind, or by releasing what it held."""
        if self.failed is not None:
            evidence = self.failed.evidence
            return isinstance(evidence, dict) and evidence.get("released") is True
        return self.end is not None

    @property
    def effect(self) -> Effect:
        """What came of it."""
        if self.failed is not None:
            return "failed"
        if self.skipped is not None:
            return "skipped"
        # Asked for and never applied: the record ends amid the strike.
        return effect_of(self.bit if self.start is not None else None)

    @property
    def knobs(self) -> dict[str, bool | None]:
        """Its knobs -> whether each bit; None if it wasn't applied, or nobody knows."""
        found: dict[str, bool | None] = {}
        for line in (self.asked, self.start, self.end):
            for knob, bit in {} if line is None else line.knobs.items():
                found[knob] = found.get(knob) if bit is None else bit
        return found


def lives(lines: Iterable[FaultLine]) -> tuple[list[Life], list[FaultLine]]:
    """The life of each fault, in the order of their first lines, and the notes.

    An end without its start, as damaged files have it, is passed over.
    """
    found: list[Life] = []
    notes: list[FaultLine] = []
    latest: dict[str, Life] = {}  # by the step's number
    for line in lines:
        name = repr(line.id)
        life = latest.get(name)
        if line.event not in HAPPENS:
            notes.append(line)
        elif line.event in {"end", "leader"}:
            if life is not None:
                life.note(line)
        else:
            if life is None or not life.goes_on_with(line):
                life = latest[name] = Life(line)
                found.append(life)
            life.note(line)
    return found, notes
