"""Where the pages lie: as URLs of a server, or as files that link to each other."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

from harness.serve.queries import RunQuery

if TYPE_CHECKING:
    from pathlib import Path


class Links(Protocol):
    """The address of each page, for use in a page."""

    searches: bool
    """Whether lists can be asked for anything, as there is somebody who answers."""

    def runs(self, query: RunQuery) -> str:
        """A list of runs."""

    def run(self, path: str) -> str:
        """A run."""

    def report(self, path: str) -> str:
        """A run's report."""

    def file(self, path: str, name: str) -> str:
        """A file of a run."""

    def fingerprints(self) -> str:
        """The ways to fail."""

    def fingerprint(self, name: str) -> str:
        """One of them."""

    def nights(self, suite: str) -> str:
        """The nights of a suite, beside each other."""

    def trends(self) -> str:
        """Trends over days."""


class Served:
    """Addresses below a server's root."""

    searches = True

    def runs(self, query: RunQuery) -> str:
        """A list of runs; what is as it is without asking is left out."""
        usual = asdict(RunQuery())
        asked = {k: v for k, v in asdict(query).items() if v != usual[k]}
        return _with("/", asked)

    def run(self, path: str) -> str:
        """A run."""
        return f"/run/{quote(path)}"

    def report(self, path: str) -> str:
        """A run's report."""
        return self.file(path, "report.html")

    def file(self, path: str, name: str) -> str:
        """A file of a run."""
        return f"/files/{quote(path)}/{quote(name)}"

    def fingerprints(self) -> str:
        """The ways to fail."""
        return "/fingerprints"

    def fingerprint(self, name: str) -> str:
        """One of them."""
        return _with("/fingerprint", {"name": name})

    def nights(self, suite: str) -> str:
        """The nights of a suite."""
        return _with("/nights", {"suite": suite} if suite else {})

    def trends(self) -> str:
        """Trends over days."""
        return "/trends"


class Filed:
    """Names of files in one folder; runs lie where they lie, seen from there.

    Args:
        runs_at: The path from that folder to the results.
    """

    searches = False

    def __init__(self, runs_at: Path) -> None:
        self._runs_at = runs_at.as_posix()

    def runs(self, query: RunQuery) -> str:
        """A page of the list of all runs."""
        return "index.html" if query.page == 1 else f"runs-{query.page}.html"

    def run(self, path: str) -> str:
        """A run: its report, as there is nobody to make a page."""
        return self.report(path)

    def report(self, path: str) -> str:
        """A run's report."""
        return self.file(path, "report.html")

    def file(self, path: str, name: str) -> str:
        """A file of a run."""
        return f"./{quote(f'{self._runs_at}/{path}/{name}')}"

    def fingerprints(self) -> str:
        """The ways to fail."""
        return "fingerprints.html"

    def fingerprint(self, name: str) -> str:
        """One of them."""
        return f"fingerprint-{hashlib.sha256(name.encode()).hexdigest()[:16]}.html"

    def nights(self, suite: str) -> str:
        """The nights of a suite."""
        return f"nights-{_plain(suite)}.html" if suite else "nights.html"

    def trends(self) -> str:
        """Trends over days."""
        return "trends.html"


def _plain(name: str) -> str:
    """A name as a part of a file's name, and no other name's."""
    kept = "".join(c for c in name if c.isascii() and (c.isalnum() or c in "-_"))[:60]
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return kept if kept == name else f"{kept}-{digest}"


def _with(path: str, asked: dict[str, Any]) -> str:
    return f"{path}?{urlencode(asked)}" if asked else path
