"""The server: pages, files and JSON of a results folder, for reading only.

What keeps it harmless:

- Only GET and HEAD. A Host header that is none of ours is refused, so no page of
  another site can read results under a name that it made point here (DNS rebinding).
- A path is taken apart before it is used: no `..`, no empty part, no NUL, no backslash;
  what it leads to must lie in the results folder with all links followed, and be a
  plain file. Hidden files and the index are not served.
- Pages carry a policy without scripts. A report has its own, which allows its one
  script by its hash. Everything else is text or a download, in a sandbox.
"""

from __future__ import annotations

import math
import re
import threading
import time
import zipfile
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from harness.errors import UsageError
from harness.serve import pages, queries, summaries
from harness.serve.index import NAME, Index
from harness.serve.links import Served
from harness.serve.queries import RunQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
FILE_POLICY = "default-src 'none'; sandbox"
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
TEXT_SUFFIXES = {".jsonl", ".json", ".yaml", ".txt", ".md", ".log", ".edn", ".py", ""}
PATH_CHARS_MAX = 4096
ZIP_CHUNK = 1 << 16
AWAITED_S = 0.1
PAUSES = 5
"""For so many times as long as a look took there is no other."""

_PART = re.compile(r"[^/\\\0]+")


def make_app(results: Path, hosts: Iterable[str]) -> Starlette:
    """The server's application.

    Args:
        results: The results folder.
        hosts: The names, perhaps with ports, under which it may be asked.

    Raises:
        UsageError: There is no such folder.
    """
    site = Site(Index(results))
    routes = [
        Route("/", site.runs),
        Route("/run/{path:path}", site.run),
        Route("/fingerprints", site.fingerprints),
        Route("/fingerprint", site.fingerprint),
        Route("/nights", site.nights),
        Route("/trends", site.trends),
        Route("/compare", site.compare),
        Route("/files/{path:path}", site.file),
        Route("/zip/{path:path}", site.zip),
        Route("/api/runs", site.api_runs),
        Route("/api/runs/{path:path}", site.api_run),
        Route("/api/fingerprints", site.api_fingerprints),
        Route("/api/nights", site.api_nights),
    ]
    app = Starlette(routes=routes, exception_handlers={UsageError: _refuse})
    app.add_middleware(Guard, hosts=frozenset(hosts))
    return app


class Guard:
    """Refuses requests that are no reading of ours, and marks all answers."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        named = [value for name, value in scope["headers"] if name == b"host"]
        if len(named) != 1 or named[0].decode("latin-1").lower() not in self._hosts:
            refusal = _plain(400, "the Host header names another server")
            await refusal(scope, receive, send)
            return
        raw = scope.get("raw_path") or scope["path"].encode()
        if _is_odd(raw):
            await _plain(400, "such a path is never asked for")(scope, receive, send)
            return

        async def marked(message: Any) -> None:
            if message["type"] == "http.response.start":
                have = {name for name, _ in message["headers"]}
                message["headers"] += [
                    (name.encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.encode() not in have
                ]
            await send(message)

        await self._app(scope, receive, marked)


def _is_odd(raw: bytes) -> bool:
    """Whether a path, as it came, hides a part of it."""
    text = raw.lower()
    return (
        any(sign in text for sign in (b"%2f", b"%5c", b"%00", b"\\", b"\0", b"//"))
        or b".." in re.sub(rb"%2e", b".", text).split(b"/")
        or b"." in re.sub(rb"%2e", b".", text).split(b"/")
        or len(raw) > PATH_CHARS_MAX
    )


class Renewal:
    """Keeps an index true while it is asked, without keeping those who ask waiting.

    A look at ten thousand folders takes half a second. The first look is awaited, and
    later ones as long as they are short; else they go on beside the answers, which are
    then as old as a look takes.
    """

    def __init__(self, results: Path) -> None:
        self._results = results
        self._lock = threading.Lock()
        self._looking: threading.Thread | None = None
        self._took_s = math.inf
        self._due_s = 0.0

    def look(self) -> None:
        """See to it that the index is renewed, if it is time."""
        with self._lock:
            if self._looking is not None and self._looking.is_alive():
                looking = self._looking
            elif time.monotonic() >= self._due_s:
                looking = threading.Thread(target=self._renew, daemon=True)
                looking.start()
                self._looking = looking
            else:
                return
        if self._took_s > AWAITED_S and math.isfinite(self._took_s):
            return
        looking.join()

    def _renew(self) -> None:
        begun_s = time.monotonic()
        index = Index(self._results)  # of its own, as it is in another thread
        try:
            index.refresh()
        finally:
            index.close()
            took_s = time.monotonic() - begun_s
            self._took_s = took_s
            self._due_s = time.monotonic() + PAUSES * took_s


class Site:
    """Answers, from an index that is renewed meanwhile."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._links = Served()
        self._lock = threading.Lock()  # sqlite's connection serves one at a time
        self._renewal = Renewal(index.results)

    # pages

    async def runs(self, request: Request) -> Response:
        """A list of runs."""
        query = RunQuery.of(_asked(request))
        return await self._page(lambda base: pages.runs(base, self._links, query))

    async def run(self, request: Request) -> Response:
        """A run."""
        path = request.path_params["path"]
        folder = self._place(path)
        if folder is None:
            return _plain(404, "there is no such run")
        return await self._page(lambda b: pages.run(b, self._links, path, folder))

    async def fingerprints(self, _: Request) -> Response:
        """All ways to fail."""
        return await self._page(lambda base: pages.fingerprints(base, self._links))

    async def fingerprint(self, request: Request) -> Response:
        """One of them."""
        name = request.query_params.get("name", "")
        return await self._page(lambda b: pages.fingerprint(b, self._links, name))

    async def nights(self, request: Request) -> Response:
        """The nights of a suite."""
        suite = request.query_params.get("suite", "")
        return await self._page(lambda b: pages.nights(b, self._links, suite))

    async def trends(self, request: Request) -> Response:
        """Curves over days."""
        query = RunQuery.of(_asked(request))
        return await self._page(lambda base: pages.trends(base, self._links, query))

    async def compare(self, request: Request) -> Response:
        """Two runs beside each other."""
        paths = [request.query_params.get(name, "").strip() for name in ("a", "b")]
        folders = [folder for path in paths if (folder := self._place(path))]
        if len(folders) != len(paths):
            return _plain(404, "there is no such run")
        return await self._page(
            lambda base: pages.compare(base, self._links, folders, paths)
        )

    # files

    async def file(self, request: Request) -> Response:
        """A file of a run or a suite."""
        path = self._place(request.path_params["path"])
        if path is None or not path.is_file():
            return _plain(404, "there is no such file")
        if path.name in {"report.html", "index.html"}:
            return FileResponse(path, media_type="text/html")
        headers = {"content-security-policy": FILE_POLICY}
        if path.suffix in TEXT_SUFFIXES:
            return FileResponse(
                path, media_type="text/plain; charset=utf-8", headers=headers
            )
        return FileResponse(
            path,
            media_type="application/octet-stream",
            filename=path.name,
            headers=headers,
        )

    async def zip(self, request: Request) -> Response:
        """A run's folder as one file."""
        folder = self._place(request.path_params["path"])
        if folder is None or not (folder / "test.yaml").is_file():
            return _plain(404, "there is no such run")
        disposition = f"attachment; filename*=utf-8''{quote(folder.name)}.zip"
        return StreamingResponse(
            zipped(folder),
            media_type="application/zip",
            headers={"content-disposition": disposition},
        )

    def _place(self, path: str) -> Path | None:
        """What lies at a path of the results folder; None if nothing of ours does."""
        parts = path.split("/")
        if not all(_PART.fullmatch(part) for part in parts):
            return None
        if any(part.startswith(".") for part in parts) or parts[0].startswith(NAME):
            return None
        try:
            place = (self._index.results / path).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):
            return None
        return place if place.is_relative_to(self._index.results) else None

    # JSON

    async def api_runs(self, request: Request) -> Response:
        """The runs of a query, as `splitbrain runs --json` has them."""
        query = RunQuery.of(_asked(request))
        total, found = await self._ask(lambda base: queries.runs(base, query))
        return JSONResponse({"total": total, "runs": found})

    async def api_run(self, request: Request) -> Response:
        """One run."""
        path = request.path_params["path"]

        def find(base: Any) -> Any:
            row = base.execute("select * from runs where path = ?", (path,)).fetchone()
            return None if row is None else queries.as_json(base, row)

        found = await self._ask(find)
        if found is None:
            return _plain(404, "there is no such run")
        return JSONResponse(found)

    async def api_fingerprints(self, _: Request) -> Response:
        """All ways to fail."""
        found = await self._ask(summaries.fingerprints)
        return JSONResponse({"fingerprints": [each.as_json() for each in found]})

    async def api_nights(self, request: Request) -> Response:
        """The nights of a suite, or of all."""
        suite = request.query_params.get("suite", "")
        found = await self._ask(lambda base: summaries.nights(base, suite))
        return JSONResponse({"nights": [night.as_json() for night in found]})

    # helpers

    async def _page(self, make: Callable[[Any], str | None]) -> Response:
        html = await self._ask(make)
        if html is None:
            return _plain(404, "there is no such page")
        return HTMLResponse(html, headers={"content-security-policy": PAGE_POLICY})

    async def _ask(self, question: Callable[[Any], Any]) -> Any:
        def answer() -> Any:
            if self._index.remark:  # it is in memory, so nobody else can renew it
                with self._lock:
                    self._index.refresh()
            else:
                self._renewal.look()
            with self._lock:
                return question(self._index.base)

        return await run_in_threadpool(answer)


def zipped(folder: Path) -> Iterator[bytes]:
    """A folder's plain files as a zip file, piece by piece; links are left out."""
    sink = _Sink()
    with zipfile.ZipFile(cast("IO[bytes]", sink), "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            name = f"{folder.name}/{path.relative_to(folder).as_posix()}"
            with path.open("rb") as source, archive.open(name, "w") as target:
                while chunk := source.read(ZIP_CHUNK):
                    target.write(chunk)
                    yield sink.taken()
            yield sink.taken()
    yield sink.taken()


class _Sink:
    """A file that is only written to, and emptied meanwhile."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        self._written += len(data)
        return len(data)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        pass

    def taken(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def _asked(request: Request) -> dict[str, str]:
    """The parameters of a query, each at most once."""
    return {k: v for k, v in request.query_params.items() if v}


async def _refuse(_: Request, problem: Exception) -> Response:
    return _plain(400, str(problem))


def _plain(status: int, text: str) -> PlainTextResponse:
    return PlainTextResponse(f"{text}\n", status)
