"""What a reader does with a report in a browser, with a mouse and with keys alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from harness.report import build
from harness.tests.browser import Tab, started
from harness.tests.report_runs import REPRO, write_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

OPS = 1500


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from started()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a run with one stale read."""
    place = tmp_path_factory.mktemp("run")
    return build(write_run(place, ops=OPS, seconds=20))


@pytest.fixture
def tab(browser: Browser, report: Path) -> Iterator[Tab]:
    with Tab(browser, report) as tab:
        yield tab


def width_of(tab: Tab) -> float:
    a, b = tab.span()
    return b - a


def end_of(tab: Tab) -> float:
    """When the run ended, in seconds."""
    us: float = tab.js("JSON.parse(document.getElementById('run').textContent).end")
    return us / 1e6


def near(value: float | tuple[float, float]) -> object:
    return pytest.approx(value, rel=0.05, abs=0.2)


# Zooming and panning


def test_buttons_zoom_and_move_all_plots(tab: Tab) -> None:
    whole = width_of(tab)
    assert whole == near(end_of(tab) * 1.02)
    tab.find("[data-do=in]").click()
    assert width_of(tab) == near(whole * 0.6)
    a, b = tab.span()
    tab.find("[data-do=right]").click()
    assert tab.span()[0] == near(a + (b - a) / 4)
    tab.find("[data-do=left]").click()
    assert tab.span() == near((a, b))
    tab.find("[data-do=out]").click()
    tab.find("[data-do=out]").click()
    assert width_of(tab) == near(whole)
    tab.find("[data-do=in]").click()
    tab.find("[data-do=all]").click()
    assert width_of(tab) == near(whole)
    for canvas in ("lanes", "latencies", "rates", "wall", "mono"):
        axis = [word.text for word in tab.drawn(canvas) if word.text.endswith(" s")]
        assert "10 s" in axis, canvas


def test_dragging_pans_and_dragging_with_shift_picks_a_span(tab: Tab) -> None:
    tab.find("[data-do=in]").click()
    tab.find("[data-do=in]").click()
    a, b = tab.span()
    left, right, _ = tab.edges("lanes")
    quarter = (right - left) / 4
    drag(tab, left + 2 * quarter, left + quarter)
    assert tab.span() == near((a + (b - a) / 4, b + (b - a) / 4))
    tab.find("[data-do=all]").click()
    a, b = tab.span()
    tab.page.keyboard.down("Shift")
    drag(tab, left + quarter, left + 2 * quarter)
    tab.page.keyboard.up("Shift")
    assert tab.span() == near((a + (b - a) / 4, a + (b - a) / 2))


def drag(tab: Tab, start: float, end: float) -> None:
    lanes = tab.find("#lanes")
    lanes.hover(position={"x": start, "y": 200})
    tab.page.mouse.down()
    lanes.hover(position={"x": (start + end) / 2, "y": 200})
    lanes.hover(position={"x": end, "y": 200})
    tab.page.mouse.up()


def test_the_wheel_zooms_with_ctrl_and_scrolls_the_page_without(tab: Tab) -> None:
    lanes = tab.find("#lanes")
    lanes.scroll_into_view_if_needed()
    whole = width_of(tab)
    lanes.hover(position={"x": 600, "y": 150})
    tab.page.keyboard.down("Control")
    tab.page.mouse.wheel(0, -200)
    tab.page.keyboard.up("Control")
    zoomed = width_of(tab)
    assert zoomed < whole * 0.9
    lanes.hover(position={"x": 600, "y": 150})
    above = tab.js("scrollY")
    tab.page.mouse.wheel(0, 120)
    tab.until(f"scrollY > {above}")
    assert width_of(tab) == near(zoomed)


def test_a_double_click_zooms_in_on_the_moment_under_the_pointer(tab: Tab) -> None:
    left, right, _ = tab.edges("lanes")
    tab.find("#lanes").dblclick(position={"x": (left + right) / 2, "y": 8})
    a, b = tab.span()
    assert b - a == near(end_of(tab) * 1.02 * 0.4)
    assert (a + b) / 2 == near(end_of(tab) / 2)


def test_the_overview_moves_what_the_plots_show(tab: Tab) -> None:
    for _ in range(3):
        tab.find("[data-do=in]").click()
    left, right, y = tab.edges("overview")
    tab.find("#overview").click(position={"x": left + (right - left) / 4, "y": y})
    a, b = tab.span()
    assert (a + b) / 2 == pytest.approx(end_of(tab) / 4, abs=0.5)


# Operations and anomalies


def pinned(tab: Tab) -> str:
    tab.settle()
    box = tab.find("#pinned")
    return "" if box.is_hidden() else box.inner_text()


def anomaly_in_view(tab: Tab) -> None:
    tab.find("#jump").select_option(index=1)
    tab.settle()


def operation(tab: Tab) -> tuple[float, float]:
    """A place on the timeline where an operation is."""
    found = [
        word for word in tab.drawn() if re.match(r"(r|w|c|read|write|cas)\b", word.text)
    ]
    assert found, [word.text for word in tab.drawn()]
    return found[0].x + 3, found[0].y + found[0].h / 2


def test_an_operation_tells_itself_and_is_pinned_by_a_click(tab: Tab) -> None:
    anomaly_in_view(tab)
    x, y = operation(tab)
    what, who, *_ = tab.hover("lanes", x, y)
    number = re.match(r"op (\d+), process \d+ on n\d", who)
    assert number, who
    tab.find("#lanes").click(position={"x": x, "y": y})
    assert re.split(r"\s+\(key", what)[0] in pinned(tab)
    assert number[1] in pinned(tab)
    tab.find("#pinned button", has_text="next of this client").click()
    assert number[1] not in pinned(tab).split("process")[0]
    tab.find("#pinned button", has_text="previous of this client").click()
    assert number[1] in pinned(tab).split("process")[0]
    tab.find("#pinned button", has_text="only key").click()
    assert "of 1,500 operations" in tab.find("#filter-said").inner_text()
    tab.find("#pinned button", has_text="Unpin").click()
    assert pinned(tab) == ""


def test_an_anomaly_is_jumped_to_by_choice_by_button_and_by_address(
    tab: Tab, browser: Browser, report: Path
) -> None:
    tab.find("#jump").select_option(index=1)
    chosen = tab.span()
    assert chosen[1] - chosen[0] < 2
    assert any(word.text == "A1" for word in tab.drawn())
    tab.find("[data-do=all]").click()
    tab.find("#anomaly-1 a", has_text="Show in timeline").click()
    assert tab.span() == near(chosen)
    tab.find("[data-do=all]").click()
    tab.find("#anomaly-1 a", has_text="Show in timeline").click()
    assert tab.span() == near(chosen), "a second click of the same link"
    with Tab(browser, report.as_uri() + "#A1") as direct:
        assert direct.span() == near(chosen)
        for odd in ("A0", "A99", "Ax", "A1e9", "%00", "t=x", "t=-1", "t=1e400"):
            direct.js("(odd) => { location.hash = odd; }", odd)
            assert width_of(direct) > 0, odd


def test_a_moment_of_the_table_of_faults_is_jumped_to(tab: Tab) -> None:
    tab.find("#faults summary").first.click()
    button = tab.find("#faults [data-time]").nth(1)
    moment = float(button.get_attribute("data-time") or "") / 1e9
    button.click()
    a, b = tab.span()
    assert a < moment < b
    assert b - a < end_of(tab) / 2
    assert tab.find("#lanes").is_visible()


# Filters


def said(tab: Tab) -> int:
    """How many operations the filters let through."""
    tab.settle()
    text = tab.find("#filter-said").inner_text()
    found = re.search(r"([\d,]+) of 1,500 operations", text)
    return int(found[1].replace(",", "")) if found else 1500


def test_each_filter_lets_its_operations_through(tab: Tab) -> None:
    tally = [int(n.replace(",", "")) for n in tab.find(".tally b").all_inner_texts()]
    for outcome, amount in enumerate(tally):
        tab.find(f"[data-outcome='{outcome}']").uncheck()
        assert said(tab) == 1500 - amount
        tab.find(f"[data-outcome='{outcome}']").check()
    assert said(tab) == 1500
    for select in ("#filter-f", "#filter-node"):
        options = tab.find(f"{select} option").count()
        shares = []
        for index in range(1, options):
            tab.find(select).select_option(index=index)
            shares.append(said(tab))
        assert sum(shares) == 1500
        assert min(shares) > 0
        tab.find(select).select_option(index=0)
    tab.find("#filter-key").fill("3")
    keyed = said(tab)
    assert 0 < keyed < 1500
    tab.find("#filter-process").fill("4")
    assert 0 < said(tab) < keyed
    tab.find("#filter-process").fill("no such process")
    assert said(tab) == 0
    for name in ("key", "process"):
        tab.find(f"#filter-{name}").fill("")
    assert said(tab) == 1500


# The rest of the page


def test_the_command_is_copied(tab: Tab) -> None:
    tab.find("[data-copy=repro]").click()
    tab.until("document.querySelector('[data-copy]').textContent === 'Copied'")
    assert tab.js("navigator.clipboard.readText()") == REPRO
    tab.until("document.querySelector('[data-copy]').textContent === 'Copy'")


def test_links_of_the_header_lead_to_sections_that_the_header_leaves_free(
    tab: Tab,
) -> None:
    links = tab.find(".top nav a")
    assert links.count() >= 6
    for index in range(links.count()):
        links.nth(index).click()
        target = tab.find(links.nth(index).get_attribute("href") or "")
        place = target.bounding_box()
        assert place is not None
        assert 40 <= place["y"] < 900, target


def test_everything_is_reached_by_tab_in_order_and_seen_when_it_is(tab: Tab) -> None:
    stops: list[dict[str, Any]] = []
    for _ in range(200):
        tab.page.keyboard.press("Tab")
        at = tab.focused()
        if at["tag"] == "body" or (stops and at["order"] == stops[0]["order"]):
            break
        stops.append(at)
    orders = [at["order"] for at in stops]
    assert orders == sorted(orders)
    assert [at for at in stops if not at["ringed"]] == []
    assert [at for at in stops if not at["seen"]] == []
    assert {"lanes", "jump", "filter-f", "filter-key", "filter-node"} <= {
        at["id"] for at in stops
    }
    assert len(stops) == len({at["order"] for at in stops}) > 20


def test_the_timeline_is_worked_by_keys_alone(tab: Tab) -> None:
    lanes = tab.find("#lanes")
    whole = width_of(tab)
    lanes.focus()
    lanes.press("+")
    assert width_of(tab) == near(whole * 0.6)
    a, b = tab.span()
    lanes.press("ArrowRight")
    assert tab.span() == near((a + (b - a) / 4, b + (b - a) / 4))
    lanes.press("ArrowLeft")
    lanes.press("-")
    assert width_of(tab) == near(whole)
    lanes.press("a")
    assert width_of(tab) < 2
    assert "Other keys than" in tab.find("#filter-said").inner_text()
    lanes.press("Escape")
    assert tab.find("#filter-said").inner_text() == ""
    lanes.press("0")
    assert width_of(tab) == near(whole)
