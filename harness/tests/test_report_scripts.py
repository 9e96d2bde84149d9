"""The parts of the page's scripts that touch no page, run by node."""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import pairwise
from typing import Any

import pytest

from harness.report.page import asset

PURE = ("axis.js", "placing.js", "query.js", "address.js")
S = 1_000_000


def ask(expression: str) -> Any:
    """What an expression of JavaScript gives, with the pure scripts around it."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here to run the page's scripts")
    text = "\n".join(map(asset, PURE))
    told = f"{text}\nconsole.log(JSON.stringify({expression}));"
    done = subprocess.run(
        [node, "-"], input=told, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# The axis


def gaps(moments: list[float], end: float) -> list[list[float]]:
    add = f"for (const us of {json.dumps(moments)}) busy.add(us);"
    found: list[list[float]] = ask(
        f"(() => {{ const busy = new Busy({end}); {add} return busy.gaps(); }})()"
    )
    return found


def test_a_span_of_more_than_a_fifth_of_the_run_without_events_is_a_gap() -> None:
    events = [n * S / 10 for n in range(73)] + [60.9 * S + n * S / 10 for n in range(9)]
    ((a, b),) = gaps(events[::-1], 62 * S)
    assert 7.2 * S <= a <= 8 * S
    assert 60 * S <= b <= 60.9 * S


def test_a_run_that_is_busy_throughout_has_no_gap() -> None:
    assert gaps([n * S for n in range(101)], 100 * S) == []
    assert gaps([n * S for n in range(100) if n % 20 < 2], 100 * S) == []


def test_a_few_events_are_all_there_is_to_see_so_that_nothing_is_shortened() -> None:
    assert gaps([0, 50 * S], 100 * S) == []


def test_the_quiet_before_and_after_all_events_are_gaps_as_well() -> None:
    found = gaps([40 * S + n for n in range(50)], 100 * S)
    assert len(found) == 2


def test_places_and_moments_are_each_others_inverse_and_in_order() -> None:
    gaps = [[7 * S, 60 * S], [70 * S, 90 * S]]
    moments = [-S, 0, 3 * S, 7 * S, 20 * S, 60 * S, 65 * S, 80 * S, 95 * S, 101 * S]
    places, back, length = ask(
        f"""(() => {{
          const axis = new Axis({100 * S}, {json.dumps(gaps)});
          const places = {moments}.map((us) => axis.place(us));
          return [places, places.map((place) => axis.moment(place)), axis.length];
        }})()"""
    )
    assert places == sorted(places)
    assert back == pytest.approx(moments)
    assert places[4] - places[3] < S, "a gap takes little room"
    assert places[6] - places[5] == pytest.approx(5 * S), "what is busy keeps its scale"
    assert length < 35 * S


def test_an_axis_without_gaps_is_true_to_scale() -> None:
    assert ask(f"new Axis({S}, []).place({S / 3})") == S / 3


@pytest.mark.parametrize("zoom", [1, 3, 10, 100])
def test_ticks_have_room_for_their_texts_and_none_is_in_a_short_gap(zoom: int) -> None:
    a, b = 0, 100 * S / zoom
    ticks = ask(
        f"""(() => {{
          const axis = new Axis({100 * S}, [[{7 * S}, {60 * S}]]);
          const scale = 900 / (axis.place({b}) - axis.place({a}));
          return ticksOf(axis, {a}, {b}, (us) => axis.place(us) * scale);
        }})()"""
    )
    written = [tick for tick in ticks if tick["text"]]
    assert len(written) >= 3
    for one, other in pairwise(written):
        assert other["x"] - one["x"] >= 8 * len(one["text"])
    if zoom == 1:
        assert not [tick for tick in ticks if 8 * S < tick["us"] < 59 * S]


# Labels


def test_labels_that_would_touch_become_one() -> None:
    labels = [{"x": x, "text": f"A{n}"} for n, x in enumerate([0, 300, 5, 9, 310])]
    found = ask(f"joined({json.dumps(labels)}, 8, (text) => 7 * text.length)")
    assert [(one["x"], one["text"]) for one in found] == [
        (0, "A0 … A3"),
        (300, "A1 A4"),
    ]


def test_no_label_covers_another_however_many_there_are() -> None:
    labels = [{"x": (n * 37) % 1000, "text": f"A{n}"} for n in range(80)]
    found = ask(f"joined({json.dumps(labels)}, 8, (text) => 7 * text.length)")
    for one, other in pairwise(found):
        assert one["x"] + one["width"] < other["x"]
    assert sum(len(one["members"]) for one in found) == 80


def test_a_title_ends_where_the_next_band_of_its_row_begins() -> None:
    bands = [
        {"x": -50, "right": 400, "row": 0},
        {"x": 100, "right": 200, "row": 0},
        {"x": 150, "right": 2000, "row": 1},
    ]
    assert ask(f"roomForTitles({json.dumps(bands)}, 0, 1000)") == [100, 100, 850]


def test_spans_share_a_row_only_if_they_are_apart_or_rows_are_used_up() -> None:
    assert ask("rowsFor([[0, 10], [5, 15], [10, 20], [6, 8]], 2)") == [0, 1, 0, 0]
    assert ask("rowsFor([[0, 10], [5, 15], [6, 8]], 3)") == [0, 1, 2]
    assert ask("rowsFor([], 3)") == []


# The search


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("12.5", [12_500_000, 12_500_000]),
        ("12.5-13.1", [12_500_000, 13_100_000]),
        (" 13.1 s to 12.5 s ", [12_500_000, 13_100_000]),
        (".5-1", [500_000, 1_000_000]),
        ("x", None),
        ("-1", None),
        ("1e400", None),
        ("9" * 400, None),
        ("1-2-3", None),
        ("", None),
    ],
)
def test_moments_and_spans_are_read(text: str, span: list[int] | None) -> None:
    assert ask(f"parseSpan({json.dumps(text)})") == span


def test_a_search_has_words_and_fields() -> None:
    query = ask("""parseQuery('Read process:3 key:"a B" t:1-2 http://x node:')""")
    assert query["words"] == ["read", "http://x", "node:"]
    assert query["fields"] == {"process": "3", "key": "a b", "t": [S, 2 * S]}
    assert query["wrong"] == ""
    assert not query["empty"]
    assert ask("parseQuery('   ').empty") is True


def test_a_time_that_is_none_is_named() -> None:
    assert "t:soon is no time" in ask("parseQuery('t:soon').wrong")


def test_the_first_that_is_not_before_is_found() -> None:
    times = [1, 3, 3, 7]
    found = ask(f"[0, 1, 2, 3, 4, 7, 8].map((us) => firstFrom({times}, us))")
    assert found == [0, 0, 1, 1, 3, 3, 4]
    assert ask("firstFrom([], 5)") == 0


# The address


def test_an_address_says_again_what_it_was_made_of() -> None:
    state = {
        "t": [12_500_000, 13_100_000],
        "m": [500_000, 500_000],
        "anomaly": 2,
        "op": None,
        "key": 'a&b="c" #',
        "q": "process:3 fail",
        "node": "",
    }
    address = ask(f"formatAddress({json.dumps(state)})")
    assert address.startswith("#t=12.5-13.1&m=0.5&anomaly=2&")
    asked = ask(f"parseAddress({json.dumps(address)})")
    kept = {name: value for name, value in state.items() if value not in (None, "")}
    assert asked == {"wrong": "", **kept}
    assert ask("formatAddress({t: null, q: ''})") == ""


@pytest.mark.parametrize("odd", ["", "#", "#timeline", "#A", "#Ax", "#A1e9", "#%00"])
def test_what_is_no_address_of_ours_is_left_alone(odd: str) -> None:
    assert ask(f"parseAddress({json.dumps(odd)})") is None


def test_an_address_whose_time_or_number_is_none_says_so() -> None:
    assert "t=x in the address is no time" in ask("parseAddress('#t=x').wrong")
    assert "op=-1 in the address is no number" in ask("parseAddress('#op=-1').wrong")
    assert ask("parseAddress('#A2')") == {"anomaly": 2, "wrong": ""}
