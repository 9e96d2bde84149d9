"""A browser for tests and pictures: Debian's Chromium, driven by Playwright.

`started` starts one; tests share it within a module. A `Tab` is one page in a window of
its own, which remembers all that went wrong in it: errors on the console, exceptions,
breaches of the page's content security policy, dialogs, and requests to other places.
`Tab.close` fails if there was any.

Plots are canvases, whose text no selector finds. So before a page's own scripts run,
`browser.js` is put around what draws text: `Tab.drawn` tells which words stand on a
canvas now, and where.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal, Self

    from playwright.sync_api import Browser, FloatRect, Locator, Page

AT_REST_TRIES = 50
PATIENCE_S = 60
PROBE = Path(__file__).with_name("browser.js")


class Word(NamedTuple):
    """A text on a canvas, with its box in CSS pixels of the canvas."""

    text: str
    x: float
    y: float
    w: float
    h: float

    def covers(self, other: Word, spare: float = 1.0) -> bool:
        """Whether the two boxes share more than `spare` pixels each way."""
        across = min(self.x + self.w, other.x + other.w) - max(self.x, other.x)
        down = min(self.y + self.h, other.y + other.h) - max(self.y, other.y)
        return across > spare and down > spare


def chromium() -> str:
    """The path of Chromium; skips the test where there is none."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium here to open pages with")
    return found


def started() -> Iterator[Browser]:
    """A browser without a window, until the generator is closed.

    Playwright keeps an event loop in the thread that started it, so nothing else in
    that thread may run one of its own meanwhile: start it for a module, not a session.
    """
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright isn't installed here"
    )
    path = chromium()
    options = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=path, args=options)
        except playwright.Error as problem:
            pytest.skip(f"chromium does not run here: {str(problem)[:300]}")
        yield browser
        browser.close()


class Tab:
    """One page in a window of its own; what it complained of is in `complaints`."""

    def __init__(
        self,
        browser: Browser,
        address: str | Path,
        *,
        width: int = 1400,
        height: int = 900,
        scheme: Literal["light", "dark"] = "light",
        scripts: bool = True,
        scale: float = 1,
    ) -> None:
        self.complaints: list[str] = []
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            device_scale_factor=scale,
            color_scheme=scheme,
            reduced_motion="reduce",
            java_script_enabled=scripts,
            permissions=["clipboard-read", "clipboard-write"],
        )
        self.context.set_default_timeout(PATIENCE_S * 1000)
        self.page: Page = self.context.new_page()
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self._complain("exception", error))
        self.page.on("dialog", self._on_dialog)
        self.page.on("request", self._on_request)
        if scripts:
            self.page.add_init_script(path=PROBE)
        self.address = address if isinstance(address, str) else address.as_uri()
        self.page.goto(self.address)
        if scripts and self.page.locator("#lanes").count():
            self.until("drawn(document.getElementById('lanes')).length")

    def _complain(self, what: str, text: object) -> None:
        self.complaints.append(f"{what}: {text}")

    def _on_console(self, message: Any) -> None:
        if message.type in {"error", "warning", "assert"}:
            self._complain(f"console {message.type}", message.text)

    def _on_dialog(self, dialog: Any) -> None:
        self._complain("dialog", dialog.message)
        dialog.dismiss()

    def _on_request(self, request: Any) -> None:
        host = "/".join(self.address.split("/")[:3])
        place = host if host.startswith("http") else "file://"
        if not request.url.startswith((place, "data:")):
            self._complain("request", request.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        breaches = [] if kind else self.js("window.breaches ?? []")
        self.context.close()
        if kind is None:
            found = [*self.complaints, *breaches]
            assert found == [], f"{self.address}: {found[:5]}"

    def js(self, expression: str, argument: Any = None) -> Any:
        """What an expression or function of JavaScript gives in the page."""
        return self.page.evaluate(expression, argument)

    def find(self, selector: str, **wanted: Any) -> Locator:
        """The elements that a selector finds, by now or later."""
        return self.page.locator(selector, **wanted)

    def until(self, expression: str) -> None:
        """Wait until an expression of JavaScript is true.

        Playwright's own `wait_for_function` needs eval, which our pages forbid.
        """
        deadline_s = time.monotonic() + PATIENCE_S
        while not self.js(expression):
            assert time.monotonic() < deadline_s, f"never: {expression}"
            self.settle()

    def settle(self) -> None:
        """Wait until what was asked for is drawn: two frames."""
        self.js("twoFrames()")

    # The plots

    def drawn(self, canvas: str = "lanes") -> list[Word]:
        """The words that stand on a canvas now."""
        self.settle()
        found = self.js("(id) => drawn(document.getElementById(id))", canvas)
        return [Word(**each) for each in found]

    def hover(self, canvas: str, x: float, y: float) -> list[str]:
        """Put the pointer at a place of a canvas; the lines of the tooltip there."""
        place = self.js("(id) => bring(document.getElementById(id))", canvas)
        self.page.mouse.move(place["x"] + x, place["y"] + y)
        self.settle()
        if self.find("#tip").is_hidden():
            return []
        return self.find("#tip > *").all_inner_texts()

    def span(self) -> tuple[float, float]:
        """The span of time in view in seconds, as the rates' tooltips tell it."""
        left, right, y = self.edges("rates")
        marks = [left + (right - left) * share for share in (0.1, 0.9)]
        a, b = (float(self.hover("rates", x, y)[0].removesuffix(" s")) for x in marks)
        return a - (b - a) / 8, b + (b - a) / 8

    def at_rest(self, selector: str) -> FloatRect:
        """The box of an element, once two frames leave it as it is."""
        before = None
        for _ in range(AT_REST_TRIES):
            self.settle()
            size = self.find(selector).bounding_box()
            assert size is not None
            if size == before:
                return size
            before = size
        raise AssertionError(f"{selector} never comes to rest: {before}")

    def edges(self, canvas: str) -> tuple[float, float, float]:
        """Where a plot's axis begins and ends, and the middle of its height."""
        size = self.at_rest(f"#{canvas}")
        narrow = self.js("document.body.clientWidth < 720")
        return (60.0 if narrow else 116.0), size["width"] - 10, size["height"] / 2

    # Where things stand

    def sideways(self) -> int:
        """How many pixels the page is wider than its window."""
        wide: int = self.js("document.documentElement.scrollWidth - innerWidth")
        return wide

    def overlapping(self) -> list[str]:
        """Pairs of texts in the document that cover each other."""
        found: list[str] = self.js("overlaps()")
        return found

    def focused(self) -> dict[str, Any]:
        """What has the keyboard's focus, and whether one sees so."""
        seen: dict[str, Any] = self.js("focused()")
        return seen
