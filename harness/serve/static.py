"""The pages as files, for the artefacts of a CI job: they work from file://."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.report.page import write_page
from harness.serve import pages, queries, summaries
from harness.serve.index import Index
from harness.serve.links import Filed
from harness.serve.queries import RunQuery

if TYPE_CHECKING:
    from collections.abc import Iterator


def write(results: Path, target: Path) -> Path:
    """Write all pages about `results` into the folder `target`; returns the first.

    Raises:
        UsageError: There are no results, or the folder can't be written.
    """
    index = Index(results)
    try:
        index.refresh()
        target.mkdir(parents=True, exist_ok=True)
        runs_at = Path(os.path.relpath(index.results, target.resolve()))
        for name, html in _pages(index, Filed(runs_at)):
            write_page(target / name, html)
    except OSError as problem:
        raise UsageError(f"cannot write {target}: {problem.strerror}") from None
    finally:
        index.close()
    return target / "index.html"


def _pages(index: Index, links: Filed) -> Iterator[tuple[str, str]]:
    base, query = index.base, RunQuery()
    total, _ = queries.runs(base, replace(query, limit=1))
    for number in range(1, max(1, -(-total // query.limit)) + 1):
        of_page = replace(query, page=number)
        yield links.runs(of_page), pages.runs(base, links, of_page)
    yield links.fingerprints(), pages.fingerprints(base, links)
    for name in (each.name for each in summaries.fingerprints(base)):
        yield links.fingerprint(name), pages.fingerprint(base, links, name) or ""
    for suite in ("", *summaries.suites(base)):
        yield links.nights(suite), pages.nights(base, links, suite) or ""
    yield links.trends(), pages.trends(base, links, query)
