"""Collects what a checker of promises found, as anomalies with drawn witnesses.

A broken promise often shows in thousands of operations at once. The first few of every
kind are explained, and the others are counted, so that a report stays readable.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from harness.verdict import Anomaly, CheckResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    import networkx as nx

    from harness.history import History, Op

EXPLAINED_MAX = 10
"""Anomalies of one name that are explained; the others are only counted."""

LISTED_MAX = 6
"""Things named in a sentence before it says how many more there are."""

SHOWN_MAX = 60
"""Characters of a value in a sentence."""

Edge = tuple[int, int, str, str]
"""An arrow of a witness: from op, to op, kind, and the reason as a sentence."""


class Findings:
    """The anomalies of one check.

    Attributes:
        history: What is judged.
        anomalies: Those that are explained, in the order found.
        counts: How many there are by name, the others included.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.anomalies: list[Anomaly] = []
        self.counts: Counter[str] = Counter()

    def add(
        self,
        name: str,
        explanation: str,
        edges: Iterable[Edge] = (),
        *,
        ops: Iterable[int] = (),
        key: Any = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """One more anomaly; its operations are `ops` and the ends of `edges`."""
        import networkx as nx

        self.counts[name] += 1
        if self.counts[name] > EXPLAINED_MAX:
            return
        witness: nx.DiGraph[int] = nx.DiGraph()
        witness.add_nodes_from(sorted(ops))
        for source, target, kind, reason in edges:
            witness.add_edge(source, target, kind=kind, reason=reason)
        self.anomalies.append(
            Anomaly(
                name,
                tuple(sorted(witness.nodes)),
                explanation,
                witness,
                key=key,
                details=details or {},
            )
        )

    def result(
        self,
        stats: Mapping[str, Any],
        *,
        unknown: str = "",
        not_models: Sequence[str] = (),
        remark: str = "",
    ) -> CheckResult:
        """INVALID with any anomaly, else UNKNOWN with a reason for it, else VALID."""
        counted = {"anomalies": dict(self.counts)} if self.counts else {}
        if self.counts:
            verdict = Verdict.INVALID
        else:
            verdict = Verdict.UNKNOWN if unknown else Verdict.VALID
        return CheckResult(
            verdict,
            tuple(self.anomalies),
            not_models=tuple(not_models) if self.counts else (),
            reason=unknown or remark,
            stats={**stats, **counted},
        )


def name_of(op: Op) -> str:
    """Who is speaking: the node, or else the process."""
    if op.node is not None:
        return op.node
    return f"process {op.process}" if op.is_client else str(op.process)


def enumerate_names(names: Iterable[object]) -> str:
    """One list for a sentence: "n1, n2 and n3"; a long one is cut short."""
    listed = list(dict.fromkeys(map(str, names)))
    if len(listed) > LISTED_MAX:
        listed = [*listed[: LISTED_MAX - 1], f"{len(listed) - LISTED_MAX + 1} more"]
    if len(listed) < 2:
        return "".join(listed)
    return f"{', '.join(listed[:-1])} and {listed[-1]}"


def shown(value: object) -> str:
    """A value for a sentence, not too long."""
    text = repr(value)
    return text if len(text) <= SHOWN_MAX else f"{text[: SHOWN_MAX - 3]}..."


def freeze(value: Any) -> Hashable:
    """A JSON value as something that can be a dictionary's key; equal stays equal.

    Kinds are kept apart where JSON does: `true` is not 1, though Python says so.
    """
    if isinstance(value, list | tuple):
        return tuple(map(freeze, value))
    if isinstance(value, dict):
        pairs = ((str(k), freeze(v)) for k, v in value.items())
        return (dict, *sorted(pairs, key=lambda pair: pair[0]))
    return (bool, value) if isinstance(value, bool) else value
