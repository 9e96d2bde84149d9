"""The pages: each a function from the index to HTML, served or written as a file.

Every text goes through jinja2's autoescape; the pages have no scripts, and their policy
allows none.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from markupsafe import Markup

from harness.host import packing, thinning
from harness.report import figures, page, story
from harness.report.folder import mapping
from harness.run.lifecycle import lives
from harness.run.records import FaultLine
from harness.run.store import Salvage
from harness.serve import queries, summaries
from harness.serve.queries import RunQuery

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path

    import jinja2

    from harness.serve.links import Links
    from harness.serve.summaries import Day

NIGHTS_SHOWN = 14
RUNS_OF_A_FINGERPRINT = 50
LIVE_BYTES_MAX = 64 << 20
"""Longer histories are told by their size alone while they grow."""

EVERYTHING = RunQuery()
COMPARED_MAX = 2000
OP_TYPES = ("invoke", "ok", "fail", "info")


def runs(base: sqlite3.Connection, links: Links, query: RunQuery) -> str:
    """The list of the runs that a query finds."""
    total, found = queries.runs(base, query)
    return _render(
        "runs.html",
        links,
        "Runs",
        query=query,
        total=total,
        runs=found,
        pages=-(-total // query.limit),
        choices=_choices(base),
        api=f"/api{links.runs(query)}".replace("/api/", "/api/runs", 1),
        on_page=lambda of, number: replace(of, page=number),
    )


def _sorted_by(query: RunQuery, word: str) -> RunQuery:
    """The query with another order; the same word again turns it round."""
    turned = f"-{word}" if query.sort == word else word
    first = f"-{word}" if word in {"time", "ops", "seconds"} else word
    same = query.sort.removeprefix("-") == word
    return replace(query, sort=turned if same else first, page=1)


def _choices(base: sqlite3.Connection) -> dict[str, list[str]]:
    """What there is to choose from, by the query's fields."""
    found = {
        name: [
            word
            for (word,) in base.execute(
                f"select distinct {name} from runs where {name} != '' order by {name}"  # noqa: S608 (names of ours)
            )
        ]
        for name in ("system", "workload", "world", "kind")
    }
    kinds = base.execute(
        "select distinct key from runs, json_each(runs.faults) order by key"
    )
    found["fault"] = [kind for (kind,) in kinds if "," not in kind]
    found["verdict"] = [*story.STATES, "unexpected"]
    return found


def fingerprints(base: sqlite3.Connection, links: Links) -> str:
    """All ways to fail."""
    found = summaries.fingerprints(base)
    return _render("fingerprints.html", links, "Ways to fail", found=found)


def fingerprint(base: sqlite3.Connection, links: Links, name: str) -> str | None:
    """One of them; None if there is none of that name."""
    found = summaries.fingerprints(base, name)
    if not found:
        return None
    query = RunQuery(fingerprint=name, limit=RUNS_OF_A_FINGERPRINT)
    total, of_it = queries.runs(base, query)
    return _render(
        "fingerprint.html",
        links,
        "Ways to fail",
        each=found[0],
        total=total,
        runs=of_it,
        query=replace(query, limit=queries.PAGE),
    )


def nights(base: sqlite3.Connection, links: Links, suite: str) -> str | None:
    """The nights of a suite beside each other; all suites, if none is named."""
    names = summaries.suites(base)
    if suite and suite not in names:
        return None
    found = summaries.nights(base, suite, NIGHTS_SHOWN) if suite else []
    names_of_rows = list(dict.fromkeys(row for night in found for row in night.cells))
    rows = [(row, summaries.change_of(row, found)) for row in names_of_rows]
    rows.sort(key=lambda row: (*summaries.CHANGES, "").index(row[1]))
    changes = {
        word: [row for row, change in rows if change == word]
        for word in summaries.CHANGES
    }
    return _render(
        "nights.html",
        links,
        "Nights",
        suite=suite,
        suites=names,
        nights=found,
        rows=rows,
        changes=changes,
    )


def trends(base: sqlite3.Connection, links: Links, query: RunQuery) -> str:
    """Curves over days, of the runs that a query finds."""
    days = summaries.trends(base, query)
    charts = [
        (title, chart(title, days, values))
        for title, values in _curves(days)
        if any(value is not None for value in values)
    ]
    return _render(
        "trends.html",
        links,
        "Trends",
        query=query,
        days=days,
        charts=charts,
        choices=_choices(base),
    )


def _curves(days: Sequence[Day]) -> list[tuple[str, list[float | None]]]:
    def share(part: int, whole_of_it: int) -> float | None:
        return 100 * part / whole_of_it if whole_of_it else None

    return [
        ("As expected, percent", [share(day.good, day.expecting) for day in days]),
        ("Valid, percent", [share(day.valid, day.runs) for day in days]),
        ("Time to conviction, seconds (median)", [day.convicted_s for day in days]),
        ("Operations a second (median)", [day.ops_per_s for day in days]),
        ("Latency, milliseconds (median)", [day.latency_ms for day in days]),
        ("Faults that bit, percent", [share(day.bit, day.applied) for day in days]),
        ("Runs", [float(day.runs) for day in days]),
    ]


WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 420, 150, 48, 10, 24


def chart(title: str, days: Sequence[Day], values: Sequence[float | None]) -> Markup:
    """A curve over days, as an <svg> element; gaps where there is no value."""
    known = [value for value in values if value is not None]
    top = 100.0 if title.endswith("percent") else _round_up(max([*known, 1e-9]))
    step = (WIDTH - LEFT - 12) / max(1, len(days) - 1)

    def x(at: int) -> float:
        return LEFT + step * at if len(days) > 1 else (LEFT + WIDTH - 12) / 2

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top)

    parts = [
        Markup(
            '<line class="trend-grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
            '<text class="trend-text" x="{}" y="{:.1f}" text-anchor="end">{}</text>'
        ).format(LEFT, WIDTH - 12, y(at), y(at), LEFT - 6, y(at) + 4, _tick(at))
        for at in (0.0, top / 2, top)
    ]
    for at in sorted({0, len(days) - 1}):
        anchor = "start" if at == 0 else "end"
        parts.append(
            Markup(
                '<text class="trend-text" x="{:.1f}" y="{}" text-anchor="{}">{}</text>'
            ).format(x(at), HEIGHT - 6, anchor, days[at].day)
        )
    run: list[str] = []
    for at, value in enumerate([*values, None]):
        if value is not None:
            run.append(f"{x(at):.1f},{y(value):.1f}")
            parts.append(
                Markup(
                    '<circle class="trend-dot" cx="{:.1f}" cy="{:.1f}" r="2.5">'
                    "<title>{}: {}</title></circle>"
                ).format(x(at), y(value), days[at].day, f"{value:,.4g}")
            )
        elif run:
            line = " ".join(run)
            parts.append(Markup('<polyline class="trend" points="{}"/>').format(line))
            run = []
    return Markup(
        '<svg role="img" aria-label="{}" viewBox="0 0 {} {}">{}</svg>'
    ).format(title, WIDTH, HEIGHT, Markup("").join(parts))


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 2, 5, 10) if value <= m * power * (1 + 1e-9))


def _tick(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


# One run, and two


class Live(NamedTuple):
    """What a run that is in progress has come to."""

    ops: str
    faults: list[str]


def run(base: sqlite3.Connection, links: Links, path: str, folder: Path) -> str | None:
    """A run's page; None if there is none at that path."""
    row = base.execute("select * from runs where path = ?", (path,)).fetchone()
    if row is None:
        return None
    told = queries.as_json(base, row)
    others = base.execute(
        "select path from runs where system = ? and workload = ? and path != ? "
        "order by started_utc desc limit 20",
        (row["system"], row["workload"], path),
    )
    return _render(
        "run.html",
        links,
        "Runs",
        run=told,
        files=_files(folder),
        zip=f"/zip/{quote(path)}",
        others=[other for (other,) in others],
        thinned=thinning.told(folder) if thinning.is_thinned(folder) else "",
        live=live(folder) if is_live(folder) else None,
    )


def _files(folder: Path) -> list[str]:
    names = ("report.html", *page.RAW_FILES, packing.BULK)
    return [name for name in names if (folder / name).is_file()]


def is_live(folder: Path) -> bool:
    """Whether a run has begun and not ended: it has a history, and no record of it."""
    return (folder / "history.jsonl").is_file() and not (folder / "run.json").exists()


def live(folder: Path) -> Live:
    """What a run in progress has come to. Cost: reads its history."""
    left = Salvage(folder)
    history = folder / "history.jsonl"
    size = history.stat().st_size
    if size > LIVE_BYTES_MAX:
        ops = f"{size >> 20} MiB of history"
    else:
        data = history.read_bytes()
        counts = [(w, data.count(b'"type":"%s"' % w.encode())) for w in OP_TYPES]
        ops = ", ".join(f"{count:,} {word}" for word, count in counts)
    found, _ = lives(left.lines("faults.jsonl", FaultLine, optional=True))
    over = [life.end or life.skipped or life.failed for life in found]
    faults = [
        figures.plain((life.start or life.first).title or life.kind, 200)
        for life, ended in zip(found, over, strict=True)
        if ended is None and life.start is not None
    ]
    return Live(ops, faults)


def compare(
    base: sqlite3.Connection,
    links: Links,
    folders: Sequence[Path],
    paths: Sequence[str],
) -> str | None:
    """Two runs beside each other: options, outcomes, figures, anomalies."""
    told = []
    for path in paths:
        row = base.execute("select * from runs where path = ?", (path,)).fetchone()
        if row is None:
            return None
        told.append(queries.as_json(base, row))
    both = zip(told, folders, strict=True)
    left, right = (_lines(of, folder) for of, folder in both)
    names = list(dict.fromkeys([*left, *right]))[:COMPARED_MAX]
    rows = [(name, left.get(name, ""), right.get(name, "")) for name in names]
    return _render(
        "compare.html",
        links,
        "Runs",
        runs=told,
        rows=rows,
        differing=sum(one != other for _, one, other in rows),
    )


def _lines(run: dict[str, Any], folder: Path) -> dict[str, str]:
    """What there is to compare, by name."""
    salvage = Salvage(folder)
    convicted_s = run["convicted_s"]
    lines = {
        "verdict": run["state"],
        "found": run["found"],
        "why": run["why"],
        "operations": f"{run['ok']} ok, {run['fail']} fail, {run['info']} info",
        "convicted after": "" if convicted_s is None else f"{convicted_s:.1f} s",
        "seconds": f"{run['seconds']:.1f}",
    }
    for kind, told in run["faults"].items():
        lines[f"fault {kind}"] = f"{told['applied']} applied, {told['bit']} bit"
    verdict = mapping(salvage.document("verdict.json"))
    for name, result in story.checkers(verdict):
        for figure, value in mapping(result.get("stats")).items():
            lines[f"{name}: {figure}"] = figures.value(value, 200)
    test = mapping(salvage.document("test.yaml"))
    test.pop("spec", None)  # it repeats the rest for programs
    for path, leaf in figures.leaves(test):
        lines[".".join(path)] = figures.plain(leaf, 300)
    return {figures.plain(name, 120): text for name, text in lines.items()}


# Templates


def _render(template: str, links: Links, here: str, **context: Any) -> str:
    style = page.styles() + page.trusted(_asset("site.css"))
    site = {"links": links, "here": here, "everything": EVERYTHING}
    return (
        _environment()
        .get_template(template)
        .render(style=style, sorted_by=_sorted_by, **site, **context)
    )


@cache
def _environment() -> jinja2.Environment:
    return page.environment(_find)


def _find(name: str) -> str:
    if (resources.files("harness.serve.assets") / name).is_file():
        return _asset(name)
    return page.asset(name)


@cache
def _asset(name: str) -> str:
    return (resources.files("harness.serve.assets") / name).read_text("utf-8")
