"""The rows of a results folder: what it costs to index many runs, and to show a page.

The folder is made of a few runs of the simulator's reference systems, whose documents
are written again and again under other names, seeds and times.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.bench import children
from harness.bench.figures import Budget
from harness.bench.rows import Lab, Row, column, scratch

if TYPE_CHECKING:
    from harness.bench.figures import Figure

RUNS = 10_000
RUNS_QUICK = 1_000
INVALID_EVERY = 10
SYSTEMS = ("raft", "zab", "multi_paxos", "2pc", "etcd")
CALLS = 500


def make_results(folder: Path, runs: int) -> Path:
    """Write so many run folders into `folder`/results, and return that."""
    import yaml

    from harness.bench import runfolder
    from harness.host import documents

    made = runfolder.make(folder / "model", CALLS)
    test = documents.parse_yaml((made / "test.yaml").read_text(), "test.yaml")
    run = (made / "run.json").read_text()
    verdict = json.loads((made / "verdict.json").read_text())
    anomaly = {"name": "stale-read", "ops": [0, 1], "explanation": "It was stale."}
    results = folder / "results"
    for number in range(runs):
        system = SYSTEMS[number % len(SYSTEMS)]
        day, hour = 1 + number % 28, number % 24
        stamp = f"202612{day:02}T{hour:02}0000.000Z-{number}"
        place = results / f"{system}-register" / stamp
        place.mkdir(parents=True)
        started = f"2026-12-{day:02}T{hour:02}:00:00+00:00"
        own = test | {"system": system, "seed": number, "started_utc": started}
        told = dict(verdict)
        if number % INVALID_EVERY == 0:
            broken = {"verdict": "invalid", "anomalies": [anomaly]}
            told |= {"verdict": "invalid", "checkers": {"linearizable": broken}}
        (place / "test.yaml").write_text(yaml.dump(own, Dumper=yaml.CSafeDumper))
        (place / "verdict.json").write_text(json.dumps(told))
        (place / "run.json").write_text(run)
    return results


def measure(results: str) -> dict[str, Any]:
    """Index a results folder, look for changes, and make the slowest pages."""
    from harness.serve import pages
    from harness.serve.index import Index
    from harness.serve.links import Served
    from harness.serve.queries import RunQuery

    index = Index(Path(results))
    answer: dict[str, Any] = {}

    def timed(name: str, do: Any) -> None:
        begun = time.perf_counter()
        do()
        answer[name] = time.perf_counter() - begun

    timed("index", index.refresh)
    timed("again", index.refresh)
    base, links = index.base, Served()
    words = RunQuery(text="stale raft", verdict="invalid", sort="-ops")
    pages.runs(base, links, RunQuery(limit=1))  # loads the templates
    timed("runs", lambda: pages.runs(base, links, RunQuery()))
    timed("search", lambda: pages.runs(base, links, words))
    timed("fingerprints", lambda: pages.fingerprints(base, links))
    timed("trends", lambda: pages.trends(base, links, RunQuery()))
    index.close()
    return answer


def measure_results(lab: Lab, row: Row) -> list[Figure]:
    """Measure the index of many runs, and the slowest of the pages about them."""
    runs = RUNS_QUICK if lab.quick else RUNS
    with scratch(lab) as folder:
        made = children.measure("make_results", folder=folder, runs=runs)
        answers = []
        for _ in range(lab.repeat):
            (Path(made["results"]) / "index.sqlite").unlink(missing_ok=True)
            answers.append(children.measure("results", results=made["results"]))
    names = ("runs", "search", "fingerprints", "trends")
    slowest = [max(answer[name] for name in names) for answer in answers]
    index = row.figure("index", "s", column(answers, "index"))
    again = row.figure("look for changes", "s", column(answers, "again"))
    page = row.figure("slowest page", "s", slowest)
    share = runs / RUNS
    return [
        replace(index, budget=Budget(20.0 * share)),
        replace(again, detail=True),
        replace(page, budget=Budget(0.3)),
    ]


def rows() -> list[Row]:
    """One row."""
    return [Row("results/10k", "10,000 runs (1,000 if quick)", measure_results)]
