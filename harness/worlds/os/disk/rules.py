"""Operations that fail, or take long."""

from __future__ import annotations

import errno
import fnmatch
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.worlds.disks import DiskCounters

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.worlds.disks import DiskRule, FileOp


@dataclass(frozen=True)
class _Sorted:
    """A rule, made ready."""

    matches: re.Pattern[str]
    error: int
    name: str
    delay_s: float


class Rules:
    """The rules in force on one disk, and what they have done."""

    def __init__(self) -> None:
        self.counters = DiskCounters()
        self.by_operation: dict[FileOp, list[_Sorted]] = {}

    def set(self, rules: Sequence[DiskRule]) -> None:
        """Put these in the place of those that were."""
        self.by_operation = {}
        for rule in rules:
            ready = _Sorted(
                re.compile(fnmatch.translate(rule.files)),
                getattr(errno, rule.error) if rule.error else 0,
                rule.error or "",
                rule.delay_ms / 1000,
            )
            for operation in rule.operations:
                self.by_operation.setdefault(operation, []).append(ready)

    def delay_s(self, operation: FileOp, paths: Iterable[bytes]) -> float:
        """How long an operation on these files is to take; counts it."""
        delay_s = sum(
            rule.delay_s for rule in self._of(operation, paths) if rule.delay_s
        )
        if delay_s:
            self.counters.delayed[operation] += 1
        return delay_s

    def error(self, operation: FileOp, paths: Iterable[bytes]) -> int:
        """The errno that it is to end with, or 0; counts it."""
        for rule in self._of(operation, paths):
            if rule.error:
                self.counters.errors[f"{operation} {rule.name}"] += 1
                return rule.error
        return 0

    def _of(self, operation: FileOp, paths: Iterable[bytes]) -> list[_Sorted]:
        texts = [os.fsdecode(path) for path in paths]
        return [
            rule
            for rule in self.by_operation.get(operation, ())
            if any(rule.matches.match(text) for text in texts)
        ]
