"""Keys that only grow: observations must fit into one order.

Elle's monotonic-key graph (elle.core). The value of each ok operation is a map from
keys to what was observed of them, such as {"x": 1, "y": 2}. As values of a key only
grow, whoever observed a lower one came before whoever observed a higher one, and a
cycle of such reasons is a contradiction. `order` adds more reasons: `process`, one
process ran the one before the other, or `realtime`, which also orders what was over
before another began. Nil is below all else.

Theory: "everybody with this value comes before everybody with the next" would be edges
from all to all. An auxiliary vertex between two successive values keeps their number
linear. For real time there is one such vertex for each completion, leading to the next.
More observations only add reasons, or lead one through a value in between, so a cycle
stays one.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from checkers.findings import draw
from checkers.functions import INCREMENTS, READS, Functions
from checkers.tallies import bad_op, verdict_of
from checkers.values import element
from harness.options import OneOf
from harness.registry import Option, Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    import networkx as nx

    from harness.history import History, Op
    from harness.verdict import CheckerFactory

OPTIONS = (
    Option(
        "order",
        "none",
        "what else orders operations",
        OneOf("none", "process", "realtime"),
    ),
)

FUNCTIONS = Functions(
    "the monotonic checker",
    {"read": READS, "grow": INCREMENTS},
    observed="whatever gives a map of keys to values",
)

STARTS_MAX = 20
"""Operations of a component from which a short cycle is looked for."""

Vertex = int | tuple[Any, ...]
"""An op's index, or an auxiliary vertex: (key, value) or ("time", number)."""


class MonotonicChecker:
    """Judges observations of keys that only grow."""

    final_on_prefix = frozenset({"monotonic-cycle"})

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings("the monotonic checker", OPTIONS, options)
        self._order: str = given["order"]

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: n log n, and linear in the graph.

        Raises:
            HistoryError: A read that is no map, or values that can't be compared; or
                see `Functions.of`.
        """
        import networkx as nx

        observed = [op for op in history if _is_observation(history, op)]
        known = FUNCTIONS.of(history, {op.f: "observe" for op in observed})
        graph: nx.DiGraph[Vertex] = nx.DiGraph()
        keys, compared = _add_values(graph, history, observed)
        if self._order != "none":
            _add_sessions(graph, observed)
        if self._order == "realtime" and not history.completions_only:
            _add_time(graph, history, observed)
        anomalies = [
            _anomaly(history, _short_cycle(graph.subgraph(component)))
            for component in nx.strongly_connected_components(graph)
            if len(component) > 1
        ]
        anomalies.sort(key=lambda anomaly: anomaly.ops)
        return verdict_of(
            anomalies,
            {"observations": len(observed), "keys": keys},
            judged=compared,
            empty="nothing was observed of any key twice",
            known=known,
        )


def _is_observation(history: History, op: Op) -> bool:
    if op.type != "ok" or not op.is_client:
        return False
    if isinstance(op.value, dict):
        return bool(op.value)
    if op.f == "read" and op.value is not None:
        raise bad_op(
            history, op, f"read of {op.value!r:.60}, which is no map of keys to values"
        )
    return False


def _add_values(
    graph: nx.DiGraph[Vertex], history: History, observed: Iterable[Op]
) -> tuple[int, int]:
    """Edges from lower to higher values.

    Returns:
        The number of keys, and of how many of them something was observed twice.
    """
    by_key: dict[tuple[Hashable, Hashable], dict[Any, list[Op]]] = {}
    for op in observed:
        for key, value in op.value.items():
            if not _is_comparable(value):
                raise bad_op(
                    history, op, f"{value!r:.60} of key {key!r:.60} can't be compared"
                )
            of_key = by_key.setdefault((element(op.key), element(key)), {})
            of_key.setdefault(value, []).append(op)
    for key, of_key in by_key.items():
        kinds = {isinstance(value, str) for value in of_key if value is not None}
        if len(kinds) > 1:
            first = next(op for ops in of_key.values() for op in ops)
            raise bad_op(
                history, first, f"values of key {key[1]!r:.60} are texts and numbers"
            )
        low_to_high = sorted(of_key, key=lambda value: (value is not None, value))
        for low, high in itertools.pairwise(low_to_high):
            between = (key, low)
            for op in of_key[low]:
                graph.add_edge(op.index, between)
            for op in of_key[high]:
                graph.add_edge(between, op.index)
    compared = sum(sum(map(len, of_key.values())) > 1 for of_key in by_key.values())
    return len(by_key), compared


def _is_comparable(value: Any) -> bool:
    if type(value) is float:
        return not math.isnan(value)
    return value is None or type(value) in {int, str}


def _add_sessions(graph: nx.DiGraph[Vertex], observed: Iterable[Op]) -> None:
    last: dict[Any, int] = {}
    for op in observed:
        before = last.get(op.process)
        if before is not None:
            graph.add_edge(before, op.index)
        last[op.process] = op.index


def _add_time(
    graph: nx.DiGraph[Vertex], history: History, observed: Iterable[Op]
) -> None:
    """Edges of real time, along a timeline of completions."""
    ends = {op.index for op in observed}
    now: Vertex | None = None
    for op in history:
        if op.type == "invoke" and now is not None:
            end = history.completion[op.index]
            if end in ends:
                graph.add_edge(now, end)
        elif op.index in ends:
            moment: Vertex = ("time", op.index)
            graph.add_edge(op.index, moment)
            if now is not None:
                graph.add_edge(now, moment)
            now = moment


def _short_cycle(component: nx.DiGraph[Vertex]) -> list[int]:
    """The ops of a cycle, in order; the shortest through one of a few starts."""
    import networkx as nx

    starts = sorted(v for v in component if isinstance(v, int))[:STARTS_MAX]
    best: list[int] = []
    for start in starts:
        paths = nx.single_source_shortest_path(component, start)
        back = [paths[v] for v in component.predecessors(start) if v in paths]
        ops = [v for v in min(back, key=len) if isinstance(v, int)]
        if not best or len(ops) < len(best):
            best = ops
    return best


def _anomaly(history: History, cycle: list[int]) -> Anomaly:
    edges = [
        (a, b, *_reason(history, history[a], history[b]))
        for a, b in zip(cycle, [*cycle[1:], cycle[0]], strict=True)
    ]
    reasons = (reason for *_, reason in edges)
    return Anomaly(
        "monotonic-cycle",
        tuple(cycle),
        f"{'; '.join(reasons)}: so op {cycle[0]} would have to come before itself.",
        witness=draw(edges),
    )


def _reason(history: History, a: Op, b: Op) -> tuple[str, str]:
    """(kind, clause): why `a` comes before `b`."""
    if a.key == b.key:
        for key, low in a.value.items():
            high = b.value.get(key, low)
            if high != low and (low is None or (high is not None and low < high)):
                return (
                    "monotonic",
                    f"op {a.index} observed {key} = {low!r} and op {b.index} the "
                    f"higher {high!r}",
                )
    if a.process == b.process and a.index < b.index:
        return "process", f"process {a.process} ran op {a.index} before op {b.index}"
    begun = history.completion[b.index]
    assert a.index < begun
    return (
        "realtime",
        f"op {a.index} had returned when op {b.index} was invoked (op {begun})",
    )


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "monotonic",
    "observations of keys that only grow fit into one order",
    MonotonicChecker,
    OPTIONS,
)
