"""Cycles that depend on keys and on the order of events, against their definitions."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from checkers import list_append, rw_register
from checkers.findings import EXAMPLES_MAX
from checkers.isolation import walks
from checkers.isolation.graph import Edges, Graph, Kind
from checkers.isolation.unfolded import Labels, labelled_cycles, within_components
from checkers.tests import isolation_oracles as oracles
from checkers.tests.histories import MANY
from checkers.tests.isolation_histories import (
    histories,
    judge,
    shuffled,
    transactions,
)
from checkers.tests.test_isolation_definitions import as_lists, show
from harness.history import History, Op
from harness.verdict import CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVELS = (
    "cursor-stability",
    "monotonic-view",
    "monotonic-snapshot-read",
    "consistent-view",
    "forward-consistent-view",
    "update-serializable",
)


def test_of_many_examples_some_are_told() -> None:
    ops: list[Op] = []
    for i in range(0, 2 * (EXAMPLES_MAX + 1), 2):
        skew = [
            [["r", i, None], ["append", i + 1, 1]],
            [["r", i + 1, None], ["append", i, 1]],
        ]
        for kind in ("invoke", "ok"):
            for process, value in enumerate(skew):
                ops.append(Op(len(ops), len(ops), process, kind, "txn", value))
    result = list_append.build({}).check(History(ops), Limits())
    told = Counter(anomaly.name for anomaly in result.anomalies)
    assert told == dict.fromkeys(("write-skew", "G-update", "G2-item"), EXAMPLES_MAX)


UNTRIED = ("monotonic-view", "monotonic-snapshot-read", "update-serializable")
"""Levels for which orders of writes that nothing tells are not tried."""


def test_an_order_of_unread_appends_that_may_matter_is_named() -> None:
    """Whichever came first, its writer overwrote or saw what it misses later on."""
    history = transactions("ax1rzay2 ax3ryaz4")
    assert not oracles.satisfies_adya(history, "monotonic-view")
    result = judge(list_append.build({"consistency": "monotonic-view"}), history)
    assert result.verdict is Verdict.UNKNOWN
    assert "stays open, such as that of T2 and T3 for key x" in result.reason


def is_settled(result: CheckResult, model: str) -> bool:
    """Whether there is a verdict; only some models may stay open."""
    event(f"{model}: {result.verdict}")
    assume("internal" not in result.stats.get("also_found", ()))
    if result.verdict is not Verdict.UNKNOWN:
        return True
    assert model in UNTRIED
    assert "stays open" in result.reason
    return False


@MANY
@given(st.data(), st.booleans(), st.sampled_from(LEVELS))
def test_lists_are_valid_just_when_some_version_order_has_no_phenomenon(
    data: st.DataObject, is_shuffled: bool, model: str
) -> None:
    if is_shuffled:
        history = as_lists(data.draw(shuffled(transactions=5)))
    else:
        history = data.draw(histories(lists=True))
    result = judge(list_append.build({"consistency": model}), history)
    if not is_settled(result, model):
        return
    right = oracles.satisfies_adya(history, model)
    expected = Verdict.VALID if right else Verdict.INVALID
    assert result.verdict is expected, show(history, result)


@MANY
@given(st.data(), st.booleans(), st.sampled_from(LEVELS))
def test_registers_are_valid_just_when_some_version_order_has_no_phenomenon(
    data: st.DataObject, is_shuffled: bool, model: str
) -> None:
    drawn = shuffled(transactions=5) if is_shuffled else histories(lists=False)
    history = data.draw(drawn)
    result = judge(rw_register.build({"consistency": model}), history)
    if not is_settled(result, model):
        return
    right = oracles.satisfies_adya(history, model) and oracles.satisfies_axiom(
        history, "read-committed", sessions=False
    )
    expected = Verdict.VALID if right else Verdict.INVALID
    assert result.verdict is expected, show(history, result)


# Graphs


@st.composite
def labelled(draw: st.DrawFn, vertices: int = 5) -> tuple[Edges, Labels]:
    """The dependencies of a small graph that are on cycles, and labels that fit."""
    vertex, place = st.integers(0, vertices - 1), st.integers(-1, 3)
    key = st.integers(0, 2)
    kind = st.sampled_from([Kind.WW, Kind.WR, Kind.RW, Kind.RW])
    drawn = draw(st.lists(st.tuples(vertex, vertex, kind, key, place), max_size=12))
    if draw(st.booleans()):  # what is rarely drawn: every other edge rw
        ring = [(0, Kind.WR), (1, Kind.RW), (2, Kind.WR), (3, Kind.RW)]
        drawn = drawn[:4] + [(v, (v + 1) % 4, k, draw(key), v) for v, k in ring]
    rows = [row for row in drawn if row[0] != row[1]]
    table = np.array(rows, np.int64).reshape(-1, 5).T
    edges = Edges(table[0], table[1], table[2].astype(np.int8), np.arange(len(rows)))
    inside = within_components(Graph(vertices, np.arange(vertices), edges))
    _, _, kinds, keys, places = table[:, inside.via]
    is_rw = kinds == Kind.RW
    wrote = {(a, k) for a, b, kind, k, _ in rows if kind != Kind.RW}
    wrote |= {(b, k) for a, b, kind, k, _ in rows if kind != Kind.WR}
    writers = {a for a, _ in wrote}
    intends = [(a, k) in wrote for a, k in zip(inside.source, keys, strict=True)]
    updates = [a in writers for a in inside.source]
    return inside, Labels(
        keys,
        np.where(is_rw, places, -1),
        np.where(is_rw, -1, places),
        np.array(intends, np.bool_),
        np.array(updates, np.bool_),
    )


def classes(edges: Edges, labels: Labels, cycle: list[int]) -> set[str]:
    """The classes of a cycle, given as positions of edges, by their definitions."""
    is_rw = (edges.kind[cycle] == Kind.RW).tolist()
    before = [cycle[i - 1] for i in range(len(cycle))]
    in_order = [
        not rw or -1 < labels.arrives[b] <= labels.leaves[e]
        for rw, e, b in zip(is_rw, cycle, before, strict=True)
    ]
    by_wr = [
        not rw or edges.kind[b] == Kind.WR for rw, b in zip(is_rw, before, strict=True)
    ]
    readers = {int(edges.source[e]) for e in cycle if not labels.updates[e]}
    found = set()
    if sum(is_rw) == 1:
        is_labelled = len(set(labels.key[cycle].tolist())) == 1
        if is_labelled and Kind.WR not in edges.kind[cycle]:
            found.add("G-cursor")
        if all(in_order):
            found.add("G-monotonic")
    if sum(is_rw) > 1:
        if all(in_order) and all(by_wr):
            found.add("G-MSR")
        if len(readers) < 2:
            found.add("G-update")
    if is_rw == [True, True] and len(set(labels.key[cycle].tolist())) == 2:
        found.add("write-skew")
    return found


def all_cycles(edges: Edges) -> Iterator[list[int]]:
    """All cycles of a multigraph, as positions of edges."""
    between: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, (a, b) in enumerate(zip(edges.source, edges.target, strict=True)):
        between[int(a), int(b)].append(i)
    for vertices in nx.simple_cycles(nx.DiGraph(list(between))):
        steps = zip(vertices, [*vertices[1:], vertices[0]], strict=True)
        yield from map(list, itertools.product(*(between[step] for step in steps)))


@MANY
@given(labelled(), st.booleans())
def test_each_class_is_found_with_a_shortest_example(
    drawn: tuple[Edges, Labels], abreast: bool
) -> None:
    edges, labels = drawn
    lengths: dict[str, int] = {}
    singles = worst = False
    for cycle in all_cycles(edges):
        rw = int((edges.kind[cycle] == Kind.RW).sum())
        worst, singles = worst or not rw, singles or rw == 1
        for name in classes(edges, labels, cycle):
            lengths[name] = min(lengths.get(name, len(cycle)), len(cycle))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walks, "FEW", 0 if abreast else walks.FEW)
        found = labelled_cycles(edges, labels, np.arange(5), lambda: None)
    for name, cycles in found.items():
        for example in cycles:
            rows = [step.via for step in example.steps]
            positions = [edges.via.tolist().index(via) for via in rows]
            ends = [(step.source, step.target) for step in example.steps]
            assert all(a[1] == b[0] for a, b in itertools.pairwise([*ends, ends[0]]))
            assert len({step.source for step in example.steps}) == len(ends)
            if name != "G-cursor" or "G-cursor" in lengths:
                assert name in classes(edges, labels, positions)
    shortest = {name: len(cycles[0].steps) for name, cycles in found.items()}
    for name in ("G-cursor", "G-monotonic", "write-skew"):
        if name in lengths:
            event(name)
            assert shortest.get(name) == lengths[name]
    # What is implied by another one is left out, and a cycle without rw is worse.
    if "G-MSR" in lengths and not worst and "G-monotonic" not in lengths:
        event("G-MSR")
        assert shortest.get("G-MSR") == lengths["G-MSR"]
    if "G-update" in lengths and not worst and not singles:
        event("G-update")
        assert shortest.get("G-update") == lengths["G-update"]
