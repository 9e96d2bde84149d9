"""The run as compact columns, for the scripts that draw it.

All operations are there. What there is one of for each operation is packed (`packing`):
a million of them are 10 to 20 MiB. The rest is JSON. Times are whole microseconds since
the start of the run, and strings are positions in one table.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.report import figures, loglines, messages, resources, roles
from harness.report.packing import Bulk
from harness.report.spacetime import fault_class
from harness.report.story import label, proof_of, struck_nodes
from harness.report.witness import call_text
from harness.run.store import natural
from harness.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from harness.report.folder import Call, Fault, Recording
    from harness.report.points import Points
    from harness.report.story import Story
    from harness.report.witness import Witness

CLOCK_POINTS_MAX = 20_000

OUTCOMES = {"ok": 0, "fail": 1, "info": 2}
BINS_MIN, BINS_MAX = 60, 240
CALLS_A_BIN = 50
QUANTILES = (0.5, 0.95, 0.99, 1.0)

_NUMBER_MAX = 2**52


class Strings:
    """A table of distinct strings; `add` gives a string's position in it."""

    def __init__(self) -> None:
        self.table: list[str] = [""]
        self._position: dict[str, int] = {"": 0}

    def add(self, text: str) -> int:
        """The position of `text`."""
        position = self._position.setdefault(text, len(self.table))
        if position == len(self.table):
            self.table.append(text)
        return position


class Times(NamedTuple):
    """When operations began and ended, in ns, and how: arrays as long as the calls."""

    start: NDArray[np.float64]
    took: NDArray[np.float64]
    """Never less than 0, but -1 if the call never returned."""
    outcome: NDArray[np.int8]


def times_of(calls: Sequence[Call]) -> Times:
    """Their times. Cost: 1 us a call."""
    count = len(calls)
    start = np.fromiter((c.invoke.time for c in calls), np.float64, count)
    done = (c.invoke.time - 1 if c.done is None else c.done.time for c in calls)
    took = np.fromiter(done, np.float64, count) - start
    took[took < 0] = 0
    took[np.fromiter((c.done is None for c in calls), np.bool_, count)] = -1
    kinds = (OUTCOMES.get(c.outcome, OUTCOMES["info"]) for c in calls)
    return Times(start, took, np.fromiter(kinds, np.int8, count))


def run_columns(
    story: Story, points: Points | None = None
) -> tuple[dict[str, Any], str]:
    """All data that the scripts draw: what is JSON-able, and what is packed."""
    folder = story.folder
    strings, bulk = Strings(), Bulk()
    times = times_of(folder.calls)
    _pack_calls(folder, times, strings, bulk)
    data = {
        "end": _us(folder.end_ns),
        "nodes": folder.nodes,
        "lanes": folder.lane_names,
        "faults": [_fault(fault) for fault in folder.faults],
        "notes": [
            {
                "t": _us(note.time_ns),
                "kind": note.kind,
                "title": figures.clip(note.title),
                "nodes": list(note.nodes),
            }
            for note in folder.notes
        ],
        "anomalies": [_anomaly(folder, anomaly) for anomaly in story.anomalies],
        "clocks": _clock_columns(folder),
        "rates": rates(times, folder.end_ns),
        "roles": roles.columns(folder),
        "resources": resources.columns(folder),
        **messages.columns(folder, story.anomalies),
        "logs": loglines.columns(folder, story.anomalies, strings.add),
    }
    if points is not None:
        _pack_points(points, strings, bulk)
    bulk.strings("strings", strings.table)
    directory, packed = bulk.packed()
    return data | {"bulk": directory}, packed


def _positions(folder: Recording, witness: Witness) -> list[int | None]:
    """The positions of a witness's calls in `folder.calls`; None for events."""
    return [
        None if call.is_event else folder.call_by_index.get(call.invoke.index)
        for call in witness.calls
    ]


def _anomaly(folder: Recording, witness: Witness) -> dict[str, Any]:
    at = _positions(folder, witness)
    return {
        "name": witness.name,
        "calls": [position for position in at if position is not None],
        "edges": [
            [at[e.source], at[e.target], e.kind, e.reason]
            for e in witness.edges
            if at[e.source] is not None and at[e.target] is not None
        ],
    }


def _pack_calls(folder: Recording, times: Times, strings: Strings, bulk: Bulk) -> None:
    """Pack a column for each property of operations; core.js tells what they are."""
    calls, count = folder.calls, len(folder.calls)
    nodes = {node: position for position, node in enumerate(folder.nodes)}
    start = _whole_us(times.start)
    end = _whole_us(times.start + np.maximum(times.took, 0))
    bulk.column("start", np.diff(start, prepend=0))
    bulk.column("took", np.where(times.took < 0, -1, end - start))
    bulk.column("outcome", times.outcome)

    def column(name: str, numbers: Iterable[int]) -> None:
        bulk.column(name, np.fromiter(numbers, np.int64, count))

    bulk.column("index", np.diff(_whole([c.invoke.index for c in calls]), prepend=0))
    bulk.column("lane", folder.lanes)
    bulk.column("process", _whole([int(call.invoke.process) for call in calls]))
    column("node", (nodes.get(call.node or "", -1) for call in calls))
    column("f", (strings.add(visible(call.invoke.f)) for call in calls))
    column("key", (strings.add(figures.value(c.invoke.key, 60)) for c in calls))
    column("text", (strings.add(call_text(call, 80)) for call in calls))
    column("error", (strings.add(figures.plain(c.error, 160)) for c in calls))


def _pack_points(points: Points, strings: Strings, bulk: Bulk) -> None:
    """Pack when operations took effect, in order of time, and the object after each."""
    bulk.column("pointCall", points.calls)
    bulk.column("pointTime", np.diff(_whole(points.times), prepend=0))
    bulk.column("pointState", [strings.add(state) for state in points.states])


def _whole(numbers: list[int]) -> NDArray[np.int64]:
    """Numbers of a history, which may be of any size."""
    try:
        return np.clip(np.array(numbers, np.int64), -_NUMBER_MAX, _NUMBER_MAX)
    except OverflowError:
        bounded = [min(max(n, -_NUMBER_MAX), _NUMBER_MAX) for n in numbers]
        return np.array(bounded, np.int64)


def _whole_us(ns: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.clip(ns / 1000, -_NUMBER_MAX, _NUMBER_MAX).astype(np.int64)


def _us(ns: float) -> int:
    return int(min(max(ns / 1000, -_NUMBER_MAX), _NUMBER_MAX))


def _fault(fault: Fault) -> dict[str, Any]:
    return {
        "kind": fault.kind,
        "class": fault_class(fault.kind),
        "title": figures.clip(fault.title, 200),
        "nodes": list(fault.nodes),
        "on": struck_nodes(fault),
        "t0": _us(fault.start_ns),
        "t1": None if fault.end_ns is None else _us(fault.end_ns),
        "effect": fault.effect,
        "applied": fault.applied,
        "proof": proof_of([fault]),
    }


def _clock_columns(folder: Recording) -> dict[str, dict[str, list[float | None]]]:
    """Node -> columns of its sample times in us, wall and monotonic offsets in ms."""
    step = -(-len(folder.clocks) // CLOCK_POINTS_MAX) or 1
    sampled = folder.clocks[::step]
    seen = {label(clock.node) for clock in sampled}
    out: dict[str, dict[str, list[float | None]]] = {
        node: {"t": [], "wall": [], "mono": []} for node in sorted(seen, key=natural)
    }
    for clock in sampled:
        node = out[label(clock.node)]
        node["t"].append(_us(clock.time))
        node["wall"].append(clock.wall_offset_ms)
        node["mono"].append(clock.mono_offset_ms)
    return out


# Rates and quantiles


def rates(times: Times, end_ns: float) -> dict[str, Any]:
    """Completions a second by outcome, and latency quantiles of ok calls, over time.

    Returns:
        `width` of a bin in us; `ok`, `fail`, `info`: calls a second that *ended* in
        each bin; `quantiles`: for each of QUANTILES a list of us, with None for a bin
        without ok calls. Calls that never returned count in the bin of their beginning.
    """
    bins_count = min(max(times.start.size // CALLS_A_BIN, BINS_MIN), BINS_MAX)
    width = end_ns / bins_count
    ends = times.start + np.maximum(times.took, 0)
    bins = np.clip(ends / width, 0, bins_count - 1).astype(np.int64)
    out: dict[str, Any] = {"width": width / 1000}
    for name, kind in OUTCOMES.items():
        tally = np.bincount(bins[times.outcome == kind], minlength=bins_count)
        out[name] = [round(x, 3) for x in (tally * (1e9 / width)).tolist()]
    ok = times.outcome == OUTCOMES["ok"]
    out["quantiles"] = _quantiles_over_time(bins[ok], times.took[ok], bins_count)
    return out


def _quantiles_over_time(
    bins: NDArray[np.int64], took_ns: NDArray[np.float64], bins_count: int
) -> list[list[int | None]]:
    order = np.argsort(bins, kind="stable")
    bins, took_ns = bins[order], took_ns[order]
    edges = np.searchsorted(bins, np.arange(bins_count + 1))
    rows: list[list[int | None]] = [[None] * bins_count for _ in QUANTILES]
    for b in range(bins_count):
        inside = took_ns[edges[b] : edges[b + 1]]
        if inside.size:
            for row, q in zip(rows, np.quantile(inside, QUANTILES), strict=True):
                row[b] = max(1, round(q / 1000))
    return rows


def latency_table(calls: Sequence[Call]) -> list[dict[str, str]]:
    """Latency quantiles by operation and outcome, written out."""
    groups: dict[tuple[str, str], list[int]] = {}
    for call in calls:
        if call.done is not None:
            took = call.done.time - call.invoke.time
            groups.setdefault((call.invoke.f, call.outcome), []).append(took)
    return [
        {
            "f": visible(f),
            "outcome": outcome,
            "count": figures.count(len(took)),
            **{
                f"p{name}": figures.duration(float(q))
                for name, q in zip(
                    ("50", "95", "99", "100"), np.quantile(took, QUANTILES), strict=True
                )
            },
        }
        for (f, outcome), took in sorted(groups.items(), key=_by_operation)
    ]


def _by_operation(group: tuple[tuple[str, str], list[int]]) -> tuple[str, int]:
    (f, outcome), _ = group
    return f, OUTCOMES.get(outcome, 2)


def inline_json(data: Any) -> str:
    r"""`data` as JSON that may stand inside a <script> element.

    It is ASCII only, so U+2028 and lone surrogates are escapes; `<`, `>` and `&` are
    escapes too, so neither `</script>` nor `<!--` can occur.
    """
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
