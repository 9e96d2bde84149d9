"""What many runs come to: ways to fail, nights beside each other, trends over days."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.report.rates import Rate, wilson

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from harness.serve.queries import RunQuery

# Fingerprints


@dataclass(frozen=True)
class Failing:
    """A way to fail: a broken promise of one system under one workload.

    Attributes:
        name: What names it in a URL.
        anomaly, checker, system, workload, mutant: Its parts.
        runs: In how many runs it was seen.
        of: How many runs there are of the same system, workload and mutant, with the
            options of those in which it was seen.
        first_utc, last_utc: When it was seen first and last.
        smallest: The run with the smallest plan that shows it.
        steps: How many steps that plan has.
    """

    name: str
    anomaly: str
    checker: str
    system: str
    workload: str
    mutant: str
    runs: int
    of: int
    first_utc: str
    last_utc: str
    smallest: str
    steps: int

    @property
    def rate(self) -> Rate:
        """How often runs of that kind show it."""
        return Rate(self.runs, max(self.runs, self.of))

    def as_json(self) -> dict[str, Any]:
        """It for programs, with the bounds of its rate."""
        lower, upper = wilson(self.rate.hits, self.rate.runs)
        return asdict(self) | {"rate": [round(lower, 4), round(upper, 4)]}


def fingerprints(base: sqlite3.Connection, name: str = "") -> list[Failing]:
    """Every way to fail, the one that was seen last first; or that of one name."""
    rows = base.execute(
        """
        select f.name, f.anomaly, f.checker, f.system, f.workload, f.mutant,
               count(*) as runs, min(r.started_utc) as first, max(r.started_utc) as last
        from fingerprints f join runs r using (path)
        where ? in ('', f.name) group by f.name order by last desc, f.name
        """,
        (name,),
    ).fetchall()
    return [_failing(base, row) for row in rows]


def _failing(base: sqlite3.Connection, row: sqlite3.Row) -> Failing:
    smallest = base.execute(
        "select path, steps from fingerprints where name = ? "
        "order by steps, path limit 1",
        (row["name"],),
    ).fetchone()
    same = base.execute(
        """
        select count(*) from runs where system = ? and workload = ? and mutant = ?
        and state in ('valid', 'invalid', 'unknown') and kind != 'shrunk' and options in
        (select r.options from runs r join fingerprints f using (path) where f.name = ?)
        """,
        (row["system"], row["workload"], row["mutant"], row["name"]),
    ).fetchone()
    return Failing(
        **{name: row[name] for name in ("name", "anomaly", "checker")},
        **{name: row[name] for name in ("system", "workload", "mutant", "runs")},
        of=same[0],
        first_utc=row["first"],
        last_utc=row["last"],
        smallest=smallest["path"],
        steps=smallest["steps"],
    )


# Nights


@dataclass(frozen=True)
class Cell:
    """What one row of a suite came to in one night.

    Attributes:
        state: A state, or "skipped".
        as_expected: None if that is not known.
        found: The anomalies, in a line.
        run: Its folder; "" if it was not kept.
    """

    state: str
    as_expected: bool | None
    found: str
    why: str
    run: str
    seconds: float
    convicted_s: float | None
    ops: int


@dataclass(frozen=True)
class Night:
    """One run of a suite."""

    path: str
    name: str
    started_utc: str
    cells: Mapping[str, Cell]

    @property
    def off(self) -> int:
        """How many rows were not as expected."""
        return sum(cell.as_expected is False for cell in self.cells.values())

    def as_json(self) -> dict[str, Any]:
        """It for programs."""
        return asdict(self)


CHANGES = ("new", "gone", "flaky", "still")


def nights(base: sqlite3.Connection, name: str = "", limit: int = 30) -> list[Night]:
    """The last nights, the last one first; of one suite, or of all."""
    found = base.execute(
        "select path, name, started_utc from suites where ? in ('', name) "
        "order by started_utc desc, path desc limit ?",
        (name, limit),
    ).fetchall()
    return [Night(path, suite, at, _cells(base, path)) for path, suite, at in found]


def _cells(base: sqlite3.Connection, suite: str) -> dict[str, Cell]:
    rows = base.execute(
        "select * from suite_rows where suite = ? order by position", (suite,)
    ).fetchall()
    return {row["name"]: _cell(row) for row in rows}


def _cell(row: sqlite3.Row) -> Cell:
    good = row["as_expected"]
    return Cell(
        state=row["state"],
        as_expected=None if good is None else bool(good),
        **{name: row[name] for name in ("found", "why", "run")},
        **{name: row[name] for name in ("seconds", "convicted_s", "ops")},
    )


def suites(base: sqlite3.Connection) -> list[str]:
    """The names of all suites that ran."""
    return [
        n for (n,) in base.execute("select distinct name from suites order by name")
    ]


def change_of(row: str, found: Sequence[Night]) -> str:
    """How a row's failures changed, the last night first: one of CHANGES, or "".

    `new` failed in the last night and not in the one before; `gone` the reverse;
    `still` failed in both; `flaky` has gone over and back within these nights.
    """
    said = [
        night.cells[row].as_expected
        for night in found
        if row in night.cells and night.cells[row].as_expected is not None
    ]
    turns = sum(a is not b for a, b in pairwise(said))
    if turns >= 2:
        return "flaky"
    if not said or (said[0] and turns == 0):
        return ""
    if turns == 0:
        return "new" if len(said) == 1 else "still"
    if said[0]:
        return "gone" if said[1] is False else ""
    return "new" if said[1] is True else "still"


# Trends


@dataclass(frozen=True)
class Day:
    """The runs of one day, together.

    Attributes:
        day: As 2026-12-01.
        runs, valid: How many were judged, and how many of them valid.
        good, expecting: How many were as expected, of those of which anything was.
        convicted_s: The median time to conviction; None without one.
        ops_per_s: Client operations for a second of run, the median.
        latency_ms: The median of the runs' medians; None if not recorded.
        bit, applied: Faults that were in force, and those that had an effect.
    """

    day: str
    runs: int
    valid: int
    good: int
    expecting: int
    convicted_s: float | None
    ops_per_s: float
    latency_ms: float | None
    bit: int
    applied: int


def trends(base: sqlite3.Connection, query: RunQuery) -> list[Day]:
    """The days on which runs of a query began, in order."""
    where, values = query.where()
    rows = base.execute(
        f"select * from runs where {where} and state != 'unjudged' "  # noqa: S608
        "and started_utc != '' order by started_utc",
        values,
    ).fetchall()
    days: dict[str, list[sqlite3.Row]] = {}
    for row in rows:
        days.setdefault(row["started_utc"][:10], []).append(row)
    return [_day(day, of_day) for day, of_day in days.items()]


def _day(day: str, rows: list[sqlite3.Row]) -> Day:
    told = [row["as_expected"] for row in rows if row["as_expected"] is not None]
    faults = [pair for row in rows for pair in json.loads(row["faults"]).values()]
    rates = [
        (row["ok"] + row["fail"] + row["info"]) / row["seconds"]
        for row in rows
        if row["seconds"] > 0
    ]
    return Day(
        day=day,
        runs=len(rows),
        valid=sum(row["state"] == "valid" for row in rows),
        good=sum(told),
        expecting=len(told),
        convicted_s=_median(row["convicted_s"] for row in rows),
        ops_per_s=_median(rates) or 0.0,
        latency_ms=_median(row["latency_ms"] for row in rows),
        applied=sum(applied for applied, _ in faults),
        bit=sum(bit for _, bit in faults),
    )


def _median(numbers: Iterable[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return median(known) if known else None
