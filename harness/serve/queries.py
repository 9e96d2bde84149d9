"""Questions to the index, with the words that command line and URLs have for them.

`RunQuery` is what a list of runs is asked by. Its fields have the names of options and
of parameters in a URL, so a list can be named by a link. Values that mean nothing are
refused with one line.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.registry import nearest
from harness.report.story import STATES

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

SORTS = {
    "time": "started_utc",
    "system": "system",
    "workload": "workload",
    "verdict": "state",
    "ops": "ok + fail + info",
    "seconds": "seconds",
    "convicted": "convicted_s",
}
"""Word -> the column that it sorts by; with a minus, from the greatest on."""

PAGE = 100
LIMIT_MAX = 10_000
KINDS = ("run", "explore", "replay", "shrunk")


@dataclass(frozen=True)
class RunQuery:
    """Which runs, in which order; an empty field asks for nothing.

    Attributes:
        system, workload, world: Names; several are parted by commas.
        fault: Kinds of fault of which one was in force.
        verdict: States, or `unexpected` for whatever was not as expected.
        kind: What made the run: run, explore, replay or shrunk.
        fingerprint: A fingerprint's name.
        since, until: The first moments of a time, as 2026-12-01 or with a time of day.
        text: Words that all stand in the run's path, options, seed, anomalies or
            sentence.
        sort: One of SORTS, perhaps with a minus before it.
        page: Counts from 1.
        limit: How many runs a page has.
    """

    system: str = ""
    workload: str = ""
    world: str = ""
    fault: str = ""
    verdict: str = ""
    kind: str = ""
    fingerprint: str = ""
    since: str = ""
    until: str = ""
    text: str = ""
    sort: str = "-time"
    page: int = 1
    limit: int = PAGE

    @classmethod
    def of(cls, given: Mapping[str, str]) -> RunQuery:
        """The query of the parameters of a URL.

        Raises:
            UsageError: A parameter is unknown, or its value means nothing.
        """
        known = {field.name: field for field in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in given.items():
            if name not in known:
                raise UsageError(
                    f"runs can't be asked by {name!r}{nearest(name, known)} "
                    f"(known: {', '.join(known)})"
                )
            values[name] = value.strip()
        for name in ("page", "limit"):
            if name in values:
                if not re.fullmatch(r"[0-9]{1,6}", values[name]):
                    raise UsageError(f"{name} is a number, not {values[name]!r:.40}")
                values[name] = int(values[name])
        query = cls(**values)
        query.check()
        return query

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UsageError: Says which.
        """
        if self.sort.removeprefix("-") not in SORTS:
            raise UsageError(
                f"runs can't be sorted by {self.sort!r}"
                f"{nearest(self.sort.removeprefix('-'), SORTS)} "
                f"(known: {', '.join(SORTS)}, each also with - before it)"
            )
        for what, words, known in (
            ("verdict", self.verdict, (*STATES, "unexpected")),
            ("kind", self.kind, KINDS),
        ):
            for word in _listed(words):
                if word not in known:
                    raise UsageError(
                        f"there is no {what} {word!r:.40}{nearest(word, known)} "
                        f"(known: {', '.join(known)})"
                    )
        for name in ("since", "until"):
            if not re.fullmatch(
                r"|\d{4}-\d\d(-\d\d([T ][0-9:.]*)?)?", getattr(self, name)
            ):
                raise UsageError(
                    f"{name} is a time such as 2026-12-01 or 2026-12-01T02:30, "
                    f"not {getattr(self, name)!r:.40}"
                )
        if not 1 <= self.limit <= LIMIT_MAX or self.page < 1:
            raise UsageError(f"limit lies between 1 and {LIMIT_MAX}, and page above 0")

    def where(self) -> tuple[str, list[str]]:
        """A condition of SQL, and its parameters."""
        parts: list[str] = ["1"]
        values: list[str] = []

        def add(condition: str, *of: str) -> None:
            parts.append(f"({condition})")
            values.extend(of)

        for name in ("system", "workload", "world", "kind"):
            if words := _listed(getattr(self, name)):
                add(f"{name} in ({_marks(words)})", *words)
        if states := [word for word in _listed(self.verdict) if word != "unexpected"]:
            off = " or as_expected = 0" if "unexpected" in self.verdict else ""
            add(f"state in ({_marks(states)}){off}", *states)
        elif self.verdict:
            add("as_expected = 0")
        if kinds := _listed(self.fault):
            add(
                " or ".join(["json_extract(faults, ?) > 0"] * len(kinds)),
                *(f"$.{json.dumps(kind)}[0]" for kind in kinds),
            )
        if self.fingerprint:
            add(
                "path in (select path from fingerprints where name = ?)",
                self.fingerprint,
            )
        if self.since:
            add("started_utc >= ?", self.since.replace(" ", "T"))
        if self.until:
            add("started_utc < ?", self.until.replace(" ", "T"))
        told = "path || ' ' || system || ' ' || options || ' ' || seed || ' ' || found"
        for word in self.text.split():
            escaped = re.sub(r"([\\%_])", r"\\\1", word)
            add(
                f"{told} || ' ' || why || ' ' || mutant like ? escape '\\'",
                f"%{escaped}%",
            )
        return " and ".join(parts), values


def runs(base: sqlite3.Connection, query: RunQuery) -> tuple[int, list[dict[str, Any]]]:
    """How many runs a query finds, and those of its page, as `as_json` has them."""
    where, values = query.where()
    total = base.execute(f"select count(*) from runs where {where}", values)  # noqa: S608
    order = SORTS[query.sort.removeprefix("-")]
    falls = "desc" if query.sort.startswith("-") else "asc"
    found = base.execute(
        f"select * from runs where {where} "  # noqa: S608
        f"order by ({order}) is null, {order} {falls}, path limit ? offset ?",
        [*values, query.limit, (query.page - 1) * query.limit],
    ).fetchall()
    return int(total.fetchone()[0]), [as_json(base, row) for row in found]


def as_json(base: sqlite3.Connection, row: sqlite3.Row) -> dict[str, Any]:
    """A run for programs: what the index knows of it."""
    told = {name: row[name] for name in row.keys() if name != "signature"}  # noqa: SIM118 (a row is no mapping)
    told["faults"] = {
        kind: {"applied": applied, "bit": bit}
        for kind, (applied, bit) in json.loads(row["faults"]).items()
    }
    told["nemesis"] = _listed(row["nemesis"])
    told["versions"] = json.loads(row["versions"])
    told["as_expected"] = (
        None if row["as_expected"] is None else bool(row["as_expected"])
    )
    prints = "select name from fingerprints where path = ? order by rowid"
    told["fingerprints"] = [n for (n,) in base.execute(prints, (row["path"],))]
    return told


def _listed(words: str) -> list[str]:
    return [word.strip() for word in words.split(",") if word.strip()]


def _marks(words: list[str]) -> str:
    return ", ".join("?" * len(words))
