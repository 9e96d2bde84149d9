"""What a run did: features, by which runs are new, and how close it came to trouble.

Features are hashes of short descriptions:

- what each node observed of its own protocol, up to three events in a row, in which
  numbers stand relative to the ones before (a term that grew, an index that fell back)
  and other nodes are merely others (ModelFuzz, OOPSLA 2025, does so with the states of
  a model);
- what happened in the whole cluster, three events in a row: observations and faults in
  the order of their times, with nodes numbered by their first appearance, so that
  features don't depend on names (DistFuzz, NDSS 2025, prunes symmetric sequences of
  messages in this way);
- how operations ended: function, outcome, and the shape of the error, under which
  faults;
- the lines of nodes' logs by shape, two in a row, for nodes that observe nothing.

Nodes' clocks may be wrong, as faults set them; then the order in the cluster is, too,
and a feature more or less is no harm. Messages themselves are not recorded by either
world, so sequences of them are seen only through what nodes observe. To have the
simulator tell which types of message reach a node in a row was tried: variations of
plans that were kept for these convicted no sooner.

A run was close to trouble if leaders changed while clients wanted something of them:
`upheavals` counts how often a node saw a greater term, epoch or ballot than before
while an operation was under way.
"""

from __future__ import annotations

import bisect
import hashlib
import heapq
import itertools
import math
import re
from typing import TYPE_CHECKING

from harness.campaign.outcome import Seen
from harness.host import nodefiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from harness.run.records import FaultLine
    from harness.run.store import RunFolder

EVENTS_MAX = 20_000
"""Events of a node, and lines of its log, that are looked at."""
LINE_CHARS_MAX = 400
"""Characters of a log line that are looked at."""

TERMS = ("term", "epoch", "ballot")
"""Fields of events that number the reigns of leaders."""
UNKNOWN_FOR_NS = 10**9
"""How long an operation that nobody knows about counts as under way."""

OWN_FIELDS = frozenset({"seq", "mono_ns", "wall_ns", "node", "kind"})

Word = tuple[object, ...]
"""An event without what differs from run to run."""
Happening = tuple[float, str, Word]
"""When, at which node ("" for none), and what."""

_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_HEX = re.compile(r"\b(?:0x)?[0-9a-fA-F]{6,}\b")
_DIGITS = re.compile(r"\d+")
_SPACE = re.compile(r"\s+")


def look(folder: RunFolder, nodes: Sequence[str]) -> Seen:
    """The features of the run in `folder`, sorted, and its upheavals.

    What can't be read has none: nodes may put anything in the place of their files.
    Cost: about 8 microseconds an event.
    """
    run = folder.run()
    start_ns = 0 if run is None or run.start_mono_ns is None else run.start_mono_ns
    faults = folder.faults()
    ops = list(_objects(folder, "history.jsonl"))
    busy = under_way(ops)
    found: set[Word] = set()
    terms: list[int | None] = []
    lives: list[list[Happening]] = [fault_happenings(faults)]
    for node in nodes:
        events = list(
            itertools.islice(
                _objects(folder, f"nodes/{node}/observe.jsonl"), EVENTS_MAX
            )
        )
        happenings = node_happenings(node, nodes, events, start_ns)
        found |= runs_of("node", [what for _, _, what in happenings], 3)
        lives.append(happenings)
        terms.append(upheavals(events, start_ns, busy))
        if not events:
            shapes = [(shape(line),) for line in _log(folder, node)]
            found |= runs_of("log", shapes, 2)
    together = heapq.merge(*lives, key=lambda each: each[0])
    found |= cluster_windows((node, what) for _, node, what in together)
    found |= outcomes(ops, faults)
    counted = [count for count in terms if count is not None]
    return Seen(tuple(sorted(map(hashed, found))), sum(counted) if counted else None)


def hashed(word: Word) -> int:
    """A number of 48 bits for a description, the same in every process."""
    digest = hashlib.blake2b(repr(word).encode(), digest_size=6).digest()
    return int.from_bytes(digest)


def node_happenings(
    node: str,
    nodes: Sequence[str],
    events: Iterable[Mapping[str, object]],
    start_ns: int,
) -> list[Happening]:
    """What a node observed; an event like the one before it is left out."""
    names = set(nodes)
    last: dict[str, float] = {}
    out: list[Happening] = []
    before: Word = ()
    for event in events:
        mono_ns = event.get("mono_ns")
        at_ns = mono_ns - start_ns if isinstance(mono_ns, int) else 0
        word: list[object] = [event.get("kind")]
        for name, value in event.items():
            if name not in OWN_FIELDS:
                word.append((name, _relative(name, value, node, names, last)))
        if (what := tuple(word)) != before:
            out.append((at_ns, node, what))
            before = what
    return out


def _relative(
    name: str, value: object, node: str, names: set[str], last: dict[str, float]
) -> object:
    """A field without what differs from run to run; `last` has its former values."""
    match value:
        case bool() | None:
            return value
        case int() | float():
            step = value - last.get(name, 0)
            last[name] = value
            return max(-2, min(2, step)) if isinstance(step, int) else step > 0
        case str():
            if value in names:
                return "self" if value == node else "other"
            return shape(value)
        case list() | dict():
            return min(2, len(value))
        case _:
            return type(value).__name__


def fault_happenings(faults: Iterable[FaultLine]) -> list[Happening]:
    """Starts and ends of faults, as happenings of the one node that they are for."""
    out: list[Happening] = []
    for line in faults:
        if line.event in {"start", "end"}:
            nodes = [node for node in line.nodes if isinstance(node, str)]
            where = nodes[0] if len(nodes) == 1 else ""
            out.append((line.time, where, (line.event, line.kind, min(3, len(nodes)))))
    return sorted(out, key=lambda each: each[0])


def cluster_windows(happenings: Iterable[tuple[str, Word]]) -> set[Word]:
    """Every three happenings in a row, their nodes numbered by first appearance."""
    kinds = ((node, what[:2] if not node else what[:1]) for node, what in happenings)
    out: set[Word] = set()
    window: list[tuple[str, Word]] = []
    for happening in kinds:
        if window and window[-1] == happening:
            continue
        window = [*window[-2:], happening]
        numbers: dict[str, int] = {"": -1}
        out.add(
            (
                "cluster",
                *(
                    (numbers.setdefault(node, len(numbers) - 1), what)
                    for node, what in window
                ),
            )
        )
    return out


def runs_of(sort: str, words: Sequence[Word], longest: int) -> set[Word]:
    """Every 1 to `longest` words in a row."""
    out: set[Word] = set()
    for length in range(1, longest + 1):
        shifted = (words[i:] for i in range(length))
        out.update((sort, *run) for run in zip(*shifted, strict=False))
    return out


def outcomes(
    ops: Iterable[Mapping[str, object]], faults: Sequence[FaultLine]
) -> set[Word]:
    """How operations ended, and which kinds of fault were in force then."""
    changes = [line for line in faults if line.event in {"start", "end", "failed"}]
    changes.sort(key=lambda line: line.time)
    in_force: dict[object, str] = {}
    out: set[Word] = set()
    place = 0
    for op in ops:
        time, kind = op.get("time"), op.get("type")
        if kind == "invoke" or not isinstance(op.get("process"), int):
            continue
        while place < len(changes) and (
            not isinstance(time, int | float) or changes[place].time <= time
        ):
            line = changes[place]
            if line.event == "start":
                in_force[repr(line.id)] = line.kind
            else:
                in_force.pop(repr(line.id), None)
            place += 1
        error = op.get("error")
        told = shape(error) if isinstance(error, str) else ""
        kinds = tuple(sorted(set(in_force.values())))
        out.add(("op", op.get("f"), kind, told, kinds))
    return out


def under_way(ops: Iterable[Mapping[str, object]]) -> list[tuple[float, float]]:
    """When clients' operations were under way, as intervals in order, none touching.

    One that nobody knows about may happen for a while after its end.
    """
    began: dict[object, float] = {}
    spans: list[tuple[float, float]] = []
    for op in ops:
        process, time, kind = op.get("process"), op.get("time"), op.get("type")
        if not isinstance(process, int) or not isinstance(time, int | float):
            continue
        if kind == "invoke":
            began[process] = time
        elif process in began:
            after_ns = UNKNOWN_FOR_NS if kind == "info" else 0
            spans.append((began.pop(process), time + after_ns))
    out: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if out and begin <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((begin, end))
    return out


def upheavals(
    events: Iterable[Mapping[str, object]],
    start_ns: int,
    busy: Sequence[tuple[float, float]],
) -> int | None:
    """How often what a node observed of its term grew while operations were under way.

    Returns:
        None if it observes no term. Of a ballot of several parts, the first counts.
    """
    last: dict[str, float] = {}
    count = 0
    for event in events:
        at_ns = event.get("mono_ns")
        for name in TERMS:
            term = event.get(name)
            if isinstance(term, list) and term:
                term = term[0]
            if not isinstance(term, int | float) or not isinstance(at_ns, int):
                continue
            if term > last.get(name, term):
                place = bisect.bisect(busy, (at_ns - start_ns, math.inf)) - 1
                count += place >= 0 and at_ns - start_ns <= busy[place][1]
            last[name] = term
    return count if last else None


def shape(text: str) -> str:
    """A line without quoted texts, numbers and hexadecimal ones."""
    # What stands in for a quoted text is no quote, which could begin another one.
    text = _QUOTED.sub("~", text[:LINE_CHARS_MAX])
    text = _DIGITS.sub("0", _HEX.sub("0", text))
    return _SPACE.sub(" ", text).strip()


def _objects(folder: RunFolder, name: str) -> Iterator[Mapping[str, object]]:
    """The objects of a file of JSON lines, if it can be read."""
    try:
        yield from nodefiles.objects(folder.path / name)
    except OSError:
        return


def _log(folder: RunFolder, node: str) -> Iterator[str]:
    """The first lines of a node's log, if it can be read."""
    try:
        with nodefiles.open_plain(folder.path / f"nodes/{node}/log") as log:
            for _ in range(EVENTS_MAX):
                line = log.readline(LINE_CHARS_MAX * 4)
                if not line:
                    return
                yield line.decode(errors="replace")
    except OSError:
        return
