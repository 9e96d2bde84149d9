"""The index of a results folder: facts of each run, in a file that may be lost.

`results/index.sqlite` holds a row for each run folder and suite below `results`, with
what lists show and filter by. `refresh` compares the folders with it: a run is read
again when one of its three documents has changed, and forgotten when it is gone. So the
index is never the truth: of another version, damaged or deleted, it is made anew. Who
wants to ask more can point datasette, or any program for SQLite, at it.

Names and texts of runs are untrusted; they are values here, and are escaped where they
are shown.

Cost: about 1.5 ms for a run that is new or has changed, 20 us for any other.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.report import figures, story, tally
from harness.report.folder import mapping, number, sequence, string, strings, whole
from harness.run.store import Salvage
from harness.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from harness.report.tally import Tally

VERSION = 1
"""The version of the tables; an index of another one is made anew."""

NAME = "index.sqlite"
RUN_SIGN = "test.yaml"
SUITE_SIGN = "suite.json"
DOCUMENTS = (RUN_SIGN, "run.json", "verdict.json")
DEPTH_MAX = 8
TEXT_CHARS_MAX = 2000

_TABLES = """
create table runs (
    path text primary key,      -- from the results folder, with forward slashes
    signature text not null,    -- of the documents that were read
    kind text not null,         -- run, explore, replay, shrunk or test
    started_utc text not null, name text not null,
    system text not null, options text not null, mutant text not null,
    workload text not null, nemesis text not null,
    world text not null, rung text not null, seed text not null,
    state text not null,        -- valid, invalid, unknown, harness or unjudged
    expected text not null, as_expected integer,
    why text not null, found text not null,
    ended text not null, seconds real not null,
    ok integer not null, fail integer not null, info integer not null,
    convicted_s real, latency_ms real,
    faults text not null,       -- JSON: kind -> [applied, bit]
    versions text not null, repro text not null
);
create table fingerprints (
    path text not null references runs(path) on delete cascade,
    name text not null,         -- of the four below, as in a URL
    checker text not null, anomaly text not null,
    system text not null, workload text not null, mutant text not null,
    count integer not null, steps integer not null
);
create table suites (
    path text primary key, signature text not null,
    name text not null, started_utc text not null
);
create table suite_rows (
    suite text not null references suites(path) on delete cascade,
    name text not null, position integer not null,
    state text not null, expected text not null, as_expected integer,
    found text not null, why text not null, seconds real not null,
    convicted_s real, ops integer not null, run text not null, repro text not null
);
create index runs_by_time on runs (started_utc);
create index fingerprints_by_path on fingerprints (path);
create index fingerprints_by_name on fingerprints (name);
create index rows_by_suite on suite_rows (suite);
"""


class Index:
    """The index of a results folder.

    Args:
        results: The folder.

    Attributes:
        base: The tables, to be asked.
        remark: Why the index is kept in memory only; empty if it is in a file.

    Raises:
        UsageError: There is no such folder.
    """

    def __init__(self, results: Path) -> None:
        if not results.is_dir():
            raise UsageError(f"{results} is no folder: there are no results in it")
        self.results = results.resolve()
        self.remark = ""
        try:
            self.base = _opened(str(self.results / NAME))
        except (sqlite3.Error, OSError) as problem:
            self.remark = f"{NAME} can't be written, so it is kept in memory: {problem}"
            self.base = _opened(":memory:")

    def close(self) -> None:
        """Close the file."""
        self.base.close()

    def refresh(self) -> int:
        """Bring the index to what the folders hold now; how many of them changed."""
        runs, suites = _folders(self.results)
        with self.base:
            self.base.execute("begin immediate")
            return self._renew("runs", runs, self._read_run) + self._renew(
                "suites", suites, self._read_suite
            )

    def _renew(
        self, table: str, there: Mapping[str, str], read: Callable[[str, str], None]
    ) -> int:
        rows = self.base.execute(f"select path, signature from {table}")  # noqa: S608 (a name of ours)
        known = dict(map(tuple, rows))
        gone = [path for path in known if path not in there]
        fresh = [path for path, sign in there.items() if known.get(path) != sign]
        for path in [*gone, *fresh]:
            self.base.execute(f"delete from {table} where path = ?", (path,))  # noqa: S608
        for path in fresh:
            read(path, there[path])
        return len(gone) + len(fresh)

    def _read_run(self, path: str, signature: str) -> None:
        facts, prints = run_facts(self.results / path)
        kind = _kind(path)
        self._insert(
            "runs", {"path": path, "signature": signature, "kind": kind} | facts
        )
        for each in prints:
            self._insert("fingerprints", {"path": path} | each)

    def _read_suite(self, path: str, signature: str) -> None:
        facts, rows = suite_facts(self.results / path, self.results)
        self._insert("suites", {"path": path, "signature": signature} | facts)
        for row in rows:
            self._insert("suite_rows", {"suite": path} | row)

    def _insert(self, table: str, row: Mapping[str, Any]) -> None:
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        statement = f"insert into {table} ({names}) values ({marks})"  # noqa: S608
        self.base.execute(statement, tuple(row.values()))


def _opened(path: str) -> sqlite3.Connection:
    """The tables in that file; made anew if they are damaged or of another version."""
    try:
        return _with_tables(path)
    except sqlite3.DatabaseError as problem:
        if isinstance(problem, sqlite3.OperationalError) or path == ":memory:":
            raise  # it can't be written, or is in use
        for end in ("", "-journal", "-wal", "-shm"):
            Path(path + end).unlink(missing_ok=True)
        return _with_tables(path)


def _with_tables(path: str) -> sqlite3.Connection:
    base = sqlite3.connect(path, timeout=30, check_same_thread=False)
    base.row_factory = sqlite3.Row
    base.isolation_level = None
    base.execute("pragma foreign_keys = on")
    with base:
        base.execute("begin immediate")
        if base.execute("pragma user_version").fetchone()[0] == VERSION:
            return base
        for name in ("suite_rows", "suites", "fingerprints", "runs"):
            base.execute(f"drop table if exists {name}")
        for statement in _TABLES.split(";\n"):
            base.execute(statement)
        base.execute(f"pragma user_version = {VERSION}")
    return base


# The folders


def _folders(results: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Path -> signature of all run folders, and of all suites; links lead nowhere."""
    runs: dict[str, str] = {}
    suites: dict[str, str] = {}
    left = [(results, "", 0)]
    while left:
        folder, path, depth = left.pop()
        try:
            entries = {entry.name: entry for entry in os.scandir(folder)}
        except OSError:
            continue
        if RUN_SIGN in entries:
            runs[path] = _signature(entries, DOCUMENTS)
            entries = {name: entries[name] for name in ("shrunk",) if name in entries}
        elif SUITE_SIGN in entries:
            suites[path] = _signature(entries, (SUITE_SIGN,))
            entries = {}
        if depth < DEPTH_MAX:
            left += [
                (folder / name, f"{path}/{name}".lstrip("/"), depth + 1)
                for name, entry in entries.items()
                if entry.is_dir(follow_symlinks=False)
            ]
    return runs, suites


def _signature(entries: Mapping[str, os.DirEntry[str]], names: Iterable[str]) -> str:
    """Tells whether one of these files has changed since."""
    told = []
    for name in names:
        with contextlib.suppress(OSError, KeyError):
            state = entries[name].stat(follow_symlinks=False)
            told.append(f"{name} {state.st_mtime_ns} {state.st_size} {state.st_ino}")
    return ", ".join(told)


def _kind(path: str) -> str:
    """What made a run, by where it lies."""
    parts = path.split("/")
    if parts[-1] == "shrunk":
        return "shrunk"
    return {"explore": "explore", "replays": "replay"}.get(parts[0], "run")


# Facts of a run


def run_facts(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The columns of a run, and of its fingerprints; whatever the folder holds."""
    left = Salvage(folder)
    test = mapping(left.document(RUN_SIGN))
    run = mapping(left.document("run.json"))
    verdict = mapping(left.document("verdict.json"))
    state = state_of(run, verdict)
    expected = string(verdict.get("expected") or test.get("expected"))
    ops = mapping(verdict.get("ops") or run.get("ops"))
    convicted = mapping(run.get("convicted")).get("after_s")
    latency = mapping(verdict.get("latency_ms")).get("p50")
    options = mapping(test.get("system_options"))
    facts = {
        "started_utc": _text(test.get("started_utc"), 40),
        "name": _text(test.get("name")),
        "system": _text(test.get("system")),
        "options": ", ".join(
            figures.clip(f"{visible(k)}={figures.plain(v, 80)}", 100)
            for k, v in options.items()
        )[:TEXT_CHARS_MAX],
        "mutant": _text(test.get("mutant")),
        "workload": _text(test.get("workload")),
        "nemesis": ",".join(strings(test.get("nemesis")))[:TEXT_CHARS_MAX],
        "world": _text(test.get("world")),
        "rung": _text(test.get("rung")),
        "seed": _text(test.get("seed"), 80),
        "state": state,
        "expected": expected if expected in EXPECTABLE else "",
        "as_expected": as_expected(state, expected),
        "why": figures.clip(_why(run, verdict), TEXT_CHARS_MAX),
        "found": _text(str(_found(verdict))),
        "ended": _text(run.get("ended"), 80),
        "seconds": number(run.get("seconds")),
        **{word: whole(ops.get(word)) for word in ("ok", "fail", "info")},
        "convicted_s": None if convicted is None else number(convicted),
        "latency_ms": None if latency is None else number(latency),
        "faults": json.dumps(_faults(verdict)),
        "versions": json.dumps(
            {k: figures.plain(v, 80) for k, v in mapping(test.get("versions")).items()}
        ),
        "repro": _text(verdict.get("repro") or test.get("repro")),
    }
    steps = _steps(left.text("plan.yaml"))
    return facts, list(_fingerprints(verdict, facts, steps))


EXPECTABLE = ("valid", "invalid", "unknown")


def state_of(run: Mapping[str, Any], verdict: Mapping[str, Any]) -> str:
    """One of `story.STATES`, as a report has it."""
    word = verdict.get("verdict")
    harness = mapping(verdict.get("harness"))
    errors = sequence(harness.get("errors")) + sequence(run.get("errors"))
    if run.get("ended") == "failed" or harness.get("ok", True) is not True:
        return "harness"
    if word is None and errors:
        return "harness"
    return word if isinstance(word, str) and word in EXPECTABLE else "unjudged"


def as_expected(state: str, expected: str) -> int | None:
    """1 if it came as expected, else 0; None if nothing was expected or judged."""
    if expected not in EXPECTABLE or state == "unjudged":
        return None
    return int(state == expected)


def _why(run: Mapping[str, Any], verdict: Mapping[str, Any]) -> str:
    """A sentence that gives the reason of the verdict."""
    for _, result in _broken(verdict):
        for anomaly in map(mapping, sequence(result.get("anomalies"))):
            return string(anomaly.get("explanation"))
    errors = [
        *sequence(mapping(verdict.get("harness")).get("errors")),
        *sequence(run.get("errors")),
    ]
    if errors:
        return (string(errors[0]).strip().splitlines() or [""])[-1]
    reasons = [verdict.get("reason")]
    reasons += [result.get("reason") for _, result in story.checkers(verdict)]
    return next((string(reason) for reason in reasons if reason), "")


def _broken(verdict: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The checkers whose verdict counts; others may find what nobody promised."""
    return [pair for pair in story.checkers(verdict) if story.promised(pair[1])]


def _found(verdict: Mapping[str, Any]) -> Tally:
    return tally.together(tally.of_json(result) for _, result in _broken(verdict))


def _faults(verdict: Mapping[str, Any]) -> dict[str, list[int]]:
    return {
        figures.plain(kind, 40): [
            whole(mapping(told).get("applied")),
            whole(mapping(told).get("bit")),
        ]
        for kind, told in mapping(verdict.get("faults")).items()
    }


def _steps(plan: str) -> int:
    """How many steps a plan has, as its text tells; no more is needed to compare."""
    return sum(line.startswith("- ") for line in plan.splitlines())


def _fingerprints(
    verdict: Mapping[str, Any], facts: Mapping[str, Any], steps: int
) -> Iterator[dict[str, Any]]:
    """Each broken promise once, with how often it was broken."""
    for checker, result in _broken(verdict):
        counts = tally.of_json(result).names
        names = [
            string(mapping(a).get("name")) for a in sequence(result.get("anomalies"))
        ]
        for anomaly in dict.fromkeys([*filter(None, names), *counts]):
            parts = (anomaly, checker, *(facts[n] for n in ("system", "workload")))
            mutant = facts["mutant"]
            yield {
                "name": " / ".join([*parts, *([mutant] if mutant else [])]),
                "checker": checker,
                "anomaly": anomaly,
                "system": facts["system"],
                "workload": facts["workload"],
                "mutant": mutant,
                "count": counts.get(anomaly, names.count(anomaly)),
                "steps": steps,
            }


def _text(thing: Any, chars_max: int = TEXT_CHARS_MAX) -> str:
    return figures.clip(string(thing), chars_max)


# Facts of a suite


def suite_facts(
    folder: Path, results: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The columns of a suite's night, and of its rows."""
    told = mapping(Salvage(folder).document(SUITE_SIGN))
    stamp = folder.name.partition("-")[0]
    facts = {"name": _text(told.get("suite")), "started_utc": _utc(stamp)}
    rows = []
    for position, row in enumerate(map(mapping, sequence(told.get("rows")))):
        verdict = string(row.get("verdict"))
        state = {"error": "harness"}.get(verdict, verdict)
        expected = string(row.get("expected")) or "valid"
        good = row.get("as_expected")
        ops = mapping(row.get("ops"))
        convicted = row.get("convicted_s")
        rows.append(
            {
                "name": _text(row.get("name")),
                "position": position,
                "state": figures.clip(state, 40),
                "expected": figures.clip(expected, 40),
                "as_expected": int(good) if isinstance(good, bool) else None,
                "found": _text(row.get("found")),
                "why": _text(row.get("why") or row.get("skipped")),
                "seconds": number(row.get("seconds")),
                "convicted_s": None if convicted is None else number(convicted),
                "ops": sum(whole(count) for count in ops.values()),
                "run": _below(row.get("run"), results),
                "repro": _text(row.get("repro")),
            }
        )
    return facts, rows


def _below(path: Any, results: Path) -> str:
    """A run's path from the results folder; "" if it isn't there.

    The folder may have been moved since, as a CI artefact is; the end of the path still
    tells where the run lies in it.
    """
    if not isinstance(path, str) or "\0" in path:
        return ""
    parts = Path(path).parts
    for length in range(min(len(parts), DEPTH_MAX), 0, -1):
        end = "/".join(parts[-length:])
        if ".." not in parts and os.path.isfile(results / end / RUN_SIGN):
            return end
    return ""


def _utc(stamp: str) -> str:
    """20261201T001253.547Z -> 2026-12-01T00:12:53; "" if it is no such stamp."""
    digits = re.fullmatch(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d).*", stamp)
    return "{}-{}-{}T{}:{}:{}".format(*digits.groups()) if digits else ""
