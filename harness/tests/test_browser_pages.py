"""Every kind of page looks as it should at every size, and says nothing to the console.

Whatever strings nodes and clients gave: `Tab` fails a test in which one of them ran.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("starlette", reason="the extra [serve] isn't installed here")
pytest.importorskip("httpx2", reason="httpx2 isn't installed here")

from harness.report import build
from harness.tests import browser_pages
from harness.tests.browser import Tab, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

DAILY = ("odd", "hostile", "killed", "/run/raft-register/big")
KINDS = (
    *(make.__name__ for make in browser_pages.RUNS),
    "suite",
    "explain",
    "file index.html",
    "file fingerprints.html",
    "file nights.html",
    "file trends.html",
    *browser_pages.SERVED,
)
WIDTHS = (375, 720, 1024, 1400, 2560)
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def browser(places: Places) -> Iterator[Browser]:
    """Started after the pages are made: that may run an event loop of its own."""
    assert places
    yield from started()


class Places:
    """Addresses of pages by their kind; each is made when it is first asked for."""

    def __init__(self, folder: Path, host: str, filed: dict[str, str]) -> None:
        self._folder = folder
        self._host = host
        self._known = filed

    def __getitem__(self, kind: str) -> str:
        if kind.startswith("/"):
            return self._host + kind
        if kind not in self._known:
            make = getattr(browser_pages, kind)
            make(self._folder / kind)
            self._known[kind] = build(self._folder / kind).as_uri()
        return self._known[kind]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    folder = tmp_path_factory.mktemp("pages")
    results = browser_pages.results(folder / "results")
    known = browser_pages.filed(results, folder / "site")
    known["suite"] = browser_pages.suite(folder / "suite")
    known["explain"] = browser_pages.explanations(folder / "explain")
    with browser_pages.served(results) as host:
        yield Places(folder, host, known)


def assert_well_laid_out(tab: Tab) -> None:
    assert tab.sideways() <= 0, "the page is wider than its window"
    assert tab.overlapping() == []


def assert_accessible(tab: Tab) -> None:
    """Axe finds nothing serious or critical."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(tab.page, options={"resultTypes": ["violations"]})
    grave = [
        (each["id"], [node["html"][:200] for node in each["nodes"][:5]])
        for each in found.response["violations"]
        if each["impact"] in {"serious", "critical"}
    ]
    assert grave == []


@pytest.mark.parametrize("kind", DAILY)
def test_a_page_fits_a_phone_in_the_dark_and_a_wide_screen_by_day(
    browser: Browser, places: Places, kind: str
) -> None:
    with Tab(browser, places[kind], width=375, scheme="dark") as tab:
        assert_well_laid_out(tab)
        tab.page.set_viewport_size({"width": 2560, "height": 1400})
        tab.page.emulate_media(color_scheme="light")
        assert_well_laid_out(tab)


@pytest.mark.parametrize("kind", ["invalid", "/", "suite"])
def test_axe_finds_nothing_serious(browser: Browser, places: Places, kind: str) -> None:
    with Tab(browser, places[kind]) as tab:
        assert_accessible(tab)
        tab.page.emulate_media(color_scheme="dark")
        assert_accessible(tab)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_page_at_every_width(
    browser: Browser, places: Places, kind: str, scheme: Any
) -> None:
    with Tab(browser, places[kind], scheme=scheme) as tab:
        for width in WIDTHS:
            tab.page.set_viewport_size({"width": width, "height": 900})
            assert_well_laid_out(tab)
        assert_accessible(tab)


def test_labels_of_a_timeline_do_not_cover_each_other(
    browser: Browser, places: Places
) -> None:
    with Tab(browser, places["invalid"]) as tab:
        for width in (375, 1400):
            tab.page.set_viewport_size({"width": width, "height": 900})
            words = tab.drawn()
            pairs = [
                (one.text, other.text)
                for number, one in enumerate(words)
                for other in words[number + 1 :]
                if one.text != other.text and one.covers(other, 2)
            ]
            assert pairs == [], width


@pytest.mark.parametrize("kind", ["invalid", "odd"])
def test_all_is_printed_and_nothing_is_cut(
    browser: Browser, places: Places, kind: str
) -> None:
    with Tab(browser, places[kind], width=718) as tab:
        log = tab.find("#logs details pre").first
        assert not log.is_visible()
        tab.page.emulate_media(media="print")
        assert log.is_visible(), "details are printed open"
        assert tab.js("closedDetails()") == []
        assert tab.sideways() <= 0
        assert tab.js("cutOff()") == [], "printed beyond the edge of the paper"
        assert tab.find(".top").is_hidden()
        assert tab.page.pdf(format="A4").startswith(b"%PDF")


def test_all_text_is_there_without_scripts(browser: Browser, places: Places) -> None:
    with Tab(browser, places["invalid"], scripts=False) as tab:
        text = tab.find("main").inner_text()
        for said in ("Invalid: stale-read", "need JavaScript", "Repeat this run"):
            assert said in text
        assert tab.find("#lanes").is_hidden()


def test_runs_are_searched_sorted_and_compared_in_a_browser(
    browser: Browser, places: Places
) -> None:
    with Tab(browser, places["/"]) as tab:
        rows = tab.find("table.runs tbody tr")
        everything = rows.count()
        tab.find("input[name=text]").fill("big")
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_url("**text=big**")
        assert 0 < rows.count() < everything
        tab.find("a.button", has_text="All").click()
        tab.find("th a", has_text="Operations").click()
        tab.page.wait_for_url("**sort=**")
        column = tab.find("th[aria-sort]")
        assert column.count() == 1
        assert rows.count() == everything
        amounts = [
            int(text.replace(",", ""))
            for text in tab.find("table.runs tbody td:nth-child(7)").all_inner_texts()
        ]
        down = column.get_attribute("aria-sort") == "descending"
        assert amounts == sorted(amounts, reverse=down)
        tab.page.goto(places["/run/raft-register/big"])
        tab.find("input[name=b]").fill("raft-register/odd")
        tab.find("button", has_text="Compare").click()
        tab.page.wait_for_url("**/compare**")
        assert tab.find("table.compare .differs").count() > 0


def test_pages_that_are_files_lead_to_a_report(
    browser: Browser, places: Places
) -> None:
    with Tab(browser, places["file index.html"]) as tab:
        for name in ("Ways to fail", "Nights", "Trends", "Runs"):
            tab.find(".top nav a", has_text=name).click()
            assert tab.find("h1").is_visible(), name
    with Tab(browser, places["file index.html"]) as tab:
        link = tab.find("td a[href$='big/report.html']").first
        address = tab.js("(a) => a.href", link.element_handle())
    with Tab(browser, address) as report:
        assert report.find("#headline").is_visible()
