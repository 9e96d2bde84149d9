"""The run as compact columns, for the scripts that draw it.

100k operations as JSON objects would be 15 MB of text and half a second of parsing.
As columns of small numbers (start times as differences, strings as positions in one
table) they are 2 to 3 MB. Times are whole microseconds since the start of the run.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.report import figures
from harness.report.spacetime import fault_class
from harness.report.story import label, proof_of, struck_nodes
from harness.report.witness import call_text
from harness.run.store import natural
from harness.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from harness.report.folder import Call, Fault, Recording
    from harness.report.story import Story
    from harness.report.witness import Witness

CALLS_MAX = 200_000
"""If there are more operations, they are thinned out: those of anomalies, those around
these, and unknown ones stay; of the others every k-th does. That keeps the page below
20 MiB and quick to open."""

CONTEXT_CALLS = 1000
"""Operations before and after an anomaly that are always drawn."""

STRINGS_CHARS_MAX = 6_000_000
"""Once the table of strings holds this many characters, further strings are cut."""

CLOCK_POINTS_MAX = 20_000

OUTCOMES = {"ok": 0, "fail": 1, "info": 2}
BINS_MIN, BINS_MAX = 60, 240
CALLS_A_BIN = 50
QUANTILES = (0.5, 0.95, 0.99, 1.0)

_TIME_US_MAX = 2**53


class Strings:
    """A table of distinct strings; `add` gives a string's position in it."""

    def __init__(self) -> None:
        self.table: list[str] = [""]
        self._position: dict[str, int] = {"": 0}
        self._chars = 0

    def add(self, text: str) -> int:
        """The position of `text`, which is cut short once the table is full."""
        if self._chars > STRINGS_CHARS_MAX:
            text = figures.clip(text, 24)
        position = self._position.get(text)
        if position is None:
            position = self._position[text] = len(self.table)
            self.table.append(text)
            self._chars += len(text)
        return position


def run_columns(story: Story) -> dict[str, Any]:
    """All data that the scripts draw, JSON-able."""
    folder = story.folder
    kept = kept_calls(story)
    place = {position: column for column, position in enumerate(kept)}
    strings = Strings()
    return {
        "end": _us(folder.end_ns),
        "nodes": folder.nodes,
        "lanes": folder.lane_names,
        "calls": _call_columns(folder, kept, strings),
        "total": len(folder.calls),
        "strings": strings.table,
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
        "anomalies": [_anomaly(folder, a, place) for a in story.anomalies],
        "clocks": _clock_columns(folder),
        "rates": rates(folder.calls, folder.end_ns),
    }


def kept_calls(story: Story) -> list[int]:
    """Positions of the calls to draw, in order; all of them up to CALLS_MAX."""
    calls = story.folder.calls
    if len(calls) <= CALLS_MAX:
        return list(range(len(calls)))
    step = -(-len(calls) // (CALLS_MAX // 2))
    kept = set(range(0, len(calls), step))
    odd = [p for p, call in enumerate(calls) if call.outcome == "info"]
    kept.update(odd[:: -(-len(odd) // (CALLS_MAX // 2)) or 1])
    for anomaly in story.anomalies:
        named = [p for p in _positions(story.folder, anomaly) if p is not None]
        kept.update(named)
        if named:
            first, last = named[0] - CONTEXT_CALLS, named[-1]
            last = min(last + CONTEXT_CALLS, first + 5 * CONTEXT_CALLS)
            kept.update(range(max(first, 0), min(last, len(calls))))
    return sorted(kept)


def _positions(folder: Recording, witness: Witness) -> list[int | None]:
    """The positions of a witness's calls in `folder.calls`; None for events."""
    return [
        None if call.is_event else folder.call_by_index.get(call.invoke.index)
        for call in witness.calls
    ]


def _anomaly(
    folder: Recording, witness: Witness, place: Mapping[int, int]
) -> dict[str, Any]:
    at = [None if p is None else place[p] for p in _positions(folder, witness)]
    return {
        "name": witness.name,
        "calls": [column for column in at if column is not None],
        "edges": [
            [at[e.source], at[e.target], e.kind, e.reason]
            for e in witness.edges
            if at[e.source] is not None and at[e.target] is not None
        ],
    }


def _call_columns(
    folder: Recording, kept: Sequence[int], strings: Strings
) -> dict[str, list[int]]:
    calls = [folder.calls[position] for position in kept]
    nodes = {node: position for position, node in enumerate(folder.nodes)}
    starts = [_us(call.invoke.time) for call in calls]
    return {
        "i": _steps(call.invoke.index for call in calls),
        "t": _steps(starts),
        "d": [_took(call, start) for call, start in zip(calls, starts, strict=True)],
        "y": [OUTCOMES.get(call.outcome, 2) for call in calls],
        "l": [folder.lanes[position] for position in kept],
        "p": [int(call.invoke.process) for call in calls],
        "n": [nodes.get(call.node or "", -1) for call in calls],
        "f": [strings.add(visible(call.invoke.f)) for call in calls],
        "k": [strings.add(figures.value(call.invoke.key, 60)) for call in calls],
        "v": [strings.add(call_text(call, 80)) for call in calls],
        "e": [strings.add(figures.plain(call.error, 160)) for call in calls],
    }


def _took(call: Call, start_us: int) -> int:
    """Microseconds from invocation to completion; -1 if the call never completed."""
    return -1 if call.done is None else max(0, _us(call.done.time) - start_us)


def _steps(numbers: Iterable[int]) -> list[int]:
    """Each number minus the one before it."""
    out: list[int] = []
    last = 0
    for number in numbers:
        out.append(number - last)
        last = number
    return out


def _us(ns: float) -> int:
    return int(min(max(ns / 1000, -_TIME_US_MAX), _TIME_US_MAX))


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


def rates(calls: Sequence[Call], end_ns: float) -> dict[str, Any]:
    """Completions a second by outcome, and latency quantiles of ok calls, over time.

    Returns:
        `width` of a bin in us; `ok`, `fail`, `info`: calls a second that *ended* in
        each bin; `quantiles`: for each of QUANTILES a list of us, with None for a bin
        without ok calls. Calls that never returned count in the bin of their beginning.
    """
    bins_count = min(max(len(calls) // CALLS_A_BIN, BINS_MIN), BINS_MAX)
    width = end_ns / bins_count
    ends = np.array([(c.done or c.invoke).time for c in calls], dtype=np.float64)
    took = np.array(
        [c.done.time - c.invoke.time if c.done else -1 for c in calls], dtype=np.float64
    )
    kinds = np.array([OUTCOMES.get(c.outcome, 2) for c in calls], dtype=np.int8)
    bins = np.clip(ends / width, 0, bins_count - 1).astype(np.int64)
    out: dict[str, Any] = {"width": width / 1000}
    for name, kind in OUTCOMES.items():
        tally = np.bincount(bins[kinds == kind], minlength=bins_count)
        out[name] = [round(x, 3) for x in (tally * (1e9 / width)).tolist()]
    ok = kinds == OUTCOMES["ok"]
    out["quantiles"] = _quantiles_over_time(bins[ok], took[ok], bins_count)
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
