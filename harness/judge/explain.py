"""Explanations of a check as files: a directory that opens in a browser.

    DIR/index.html                 every anomaly: words, picture, operations
    DIR/HISTORY/result.json        the same for programs, as in a run's verdict.json
    DIR/HISTORY/01-G-single.txt    one anomaly each: words,
    DIR/HISTORY/01-G-single.dot    its witness for Graphviz,
    DIR/HISTORY/01-G-single.svg    and the same picture as in the page

Files that were in a directory before are left alone, except for those of the same
names, which are replaced.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.report import clarity, glossary, points, spacetime, tally, witness
from harness.verdict import Limits, ordering, orders_safe
from harness.visible import visible, visible_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.judge.check import FileResult
    from harness.report.clarity import Group
    from harness.report.points import HowFar
    from harness.report.witness import Witness

FILES_MAX = 100
"""Most anomalies of one history that get files of their own."""


@dataclass
class Explained:
    """One history in the index; picklable."""

    file: str
    verdict: str
    said: str
    groups: list[Group]
    far: dict[tuple[str, str], HowFar]
    names: list[str]
    found: str
    more: int


@dataclass(frozen=True)
class Explanations:
    """Writes explanations of several histories, one by one, then their index."""

    folder: Path

    def explain(self, result: FileResult, place: str) -> Explained:
        """Explain one result in a folder called `place`, while its history is at hand.

        Raises:
            UsageError: A file can't be written.
        """
        groups: list[Group] = []
        far: dict[tuple[str, str], HowFar] = {}
        found = result.result.anomalies
        if result.history is not None:
            call_at = witness.calls_of(result.history)
            groups = clarity.of_result(result.result, call_at, FILES_MAX, FILES_MAX)
            able = None if result.checker is None else ordering(result.checker)
            if able is not None and found:
                broken = [anomaly.key for anomaly in found[:FILES_MAX]]
                limits = Limits(points.SECONDS_MAX)
                shown, _ = orders_safe(able, result.history, broken, limits)
                far = points.far("", shown, call_at)
        witnesses = [told for group in groups for told in group.shown]
        digits = len(str(len(witnesses)))
        names = [
            f"{place}/{number:0{max(2, digits)}}-{_file_name(told.name)}"
            for number, told in enumerate(witnesses, 1)
        ]
        for number, (name, told) in enumerate(zip(names, witnesses, strict=True)):
            self._write(f"{name}.txt", _page(told, far.get(("", told.key))))
            self._write(f"{name}.dot", witness.as_dot(told))
            if told.calls:
                self._write(f"{name}.svg", spacetime.as_svg(told, number))
        if not result.error:
            text = json.dumps(result.result.as_json(), indent=1, default=str)
            self._write(f"{place}/result.json", text + "\n")
        verdict = "error" if result.error else str(result.verdict)
        said = result.error or result.result.reason
        counted = tally.of_result(result.result)
        return Explained(
            visible_line(result.file),
            verdict,
            said,
            groups,
            far,
            names,
            str(counted),
            counted.total
            - len(result.result.anomalies)
            + sum(group.more for group in groups),
        )

    def finish(self, told: Sequence[Explained]) -> Path:
        """Write the index of all explanations; returns its path."""
        from harness.report.page import render

        page = render("explain.html", files=told, far={})
        return self._write("index.html", page)

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(visible(text), encoding="utf-8")
        except OSError as problem:
            raise UsageError(
                f"cannot write explanations to {path}: {problem.strerror}"
            ) from None
        return path


def places(files: Iterable[str]) -> list[str]:
    """For each history a folder name of its own, made from the file's name."""
    used: dict[str, None] = {}
    for file in files:
        stem = Path(file).name.removesuffix(".gz").rpartition(".")[0] or Path(file).name
        name = base = _file_name(stem)
        number = 1
        while name in used:
            number += 1
            name = f"{base}-{number}"
        used[name] = None
    return list(used)


def _file_name(text: str) -> str:
    """`text` as a name that is safe in any file system: letters, digits, - _ and ."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._")[:80] or "history"


def _page(told: Witness, far: HowFar | None) -> str:
    key = f", key {told.key}" if told.key else ""
    lines = [f"{told.name}{key}", told.explanation, "", *witness.as_text(told)]
    for name in (told.name, *(other for other, _ in told.also)):
        if meaning := glossary.told(name):
            lines += ["", f"{name}: {meaning}"]
    lines += ["", *far.lines] if far is not None and far.lines else []
    return "\n".join(lines) + "\n"
