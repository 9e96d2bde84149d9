"""What every checker does with what it finds: count it, keep examples, tell of them.

One fault can show in thousands of operations. All findings are counted by name, a few
of each name are explained, and a sentence lists a few things and shows short values;
so a report stays readable, and still says how much is wrong.

A checker decides first: it collects evidence (which rule, who, which operations) in
`Findings`. What was kept is then told: each example becomes an `Anomaly`, with a
sentence and a witness. `conclude` makes the result of both.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from harness.verdict import (
    Anomaly,
    CheckResult,
    Verdict,
    new_witness,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import networkx as nx

    from harness.history import Op

EXAMPLES_MAX = 20
"""Findings of one name that are explained; the others are only counted."""

PROMISES_EXAMPLES_MAX = 10
"""The same, of checkers of a protocol's promises, whose explanations are longer."""

LISTED_MAX = 6
"""Names in a sentence; of more, the last place says how many are left."""

SHOWN_MAX = 60
"""Characters of a value in a sentence."""

Edge = tuple[int, int, str, str]
"""An arrow of a witness: from operation, to operation, kind, and why, as a clause."""


class Named(Protocol):
    """Evidence: it belongs to a rule, and is counted by that rule's name."""

    @property
    def name(self) -> str:
        """The name of the anomaly that it is evidence of."""
        ...


FoundT = TypeVar("FoundT", bound=Named)
ExampleT = TypeVar("ExampleT")


class Findings(Generic[FoundT]):
    """How much was found of each name, and the first few of each as examples.

    Args:
        examples_max: Examples kept of each name.

    Attributes:
        counts: By name, those included that were not kept.
        examples: What was kept, in the order found.
    """

    def __init__(self, examples_max: int = EXAMPLES_MAX) -> None:
        self.examples_max = examples_max
        self.counts: Counter[str] = Counter()
        self.examples: list[FoundT] = []

    def note(self, found: FoundT) -> None:
        """Count one more, and keep it if there are few of its name."""
        if self.wants(found.name):
            self.keep(found)

    def wants(self, name: str) -> bool:
        """Count one more; whether to make an example of it, and `keep` that.

        For evidence that costs something to make.
        """
        self.counts[name] += 1
        return self.counts[name] <= self.examples_max

    def keep(self, found: FoundT) -> None:
        """Keep an example that `wants` asked for."""
        self.examples.append(found)


def collect(
    found: Iterable[FoundT], examples_max: int = EXAMPLES_MAX
) -> Findings[FoundT]:
    """The findings of all that rules yield; few of it is kept at any time."""
    findings: Findings[FoundT] = Findings(examples_max)
    for one in found:
        findings.note(one)
    return findings


@dataclass
class Earliest(Generic[ExampleT]):
    """The examples that come first by rank, whatever the order in which they come up.

    Attributes:
        ranked: Each with its rank, the lowest first; of equal ones, the older first.
    """

    ranked: list[tuple[int, ExampleT]] = field(default_factory=list)

    def wants(self, rank: int) -> bool:
        """Whether an example of that rank is among the first so far."""
        return len(self.ranked) < EXAMPLES_MAX or rank < self.ranked[-1][0]

    def keep(self, *more: tuple[int, ExampleT]) -> None:
        """Add these, each with its rank, and drop those that are no longer first."""
        ranked = sorted([*self.ranked, *more], key=lambda one: one[0])
        self.ranked = ranked[:EXAMPLES_MAX]

    @property
    def examples(self) -> list[ExampleT]:
        """Those kept, in the order of their ranks."""
        return [example for _, example in self.ranked]


def anomaly(
    name: str,
    explanation: str,
    edges: Iterable[Edge] = (),
    *,
    ops: Iterable[int] = (),
    key: Any = None,
    details: Mapping[str, Any] | None = None,
) -> Anomaly:
    """An anomaly whose operations are `ops` and the ends of `edges`, in order."""
    witness = draw(edges, sorted(ops))
    found = tuple(sorted(witness.nodes))
    return Anomaly(name, found, explanation, witness, key, details or {})


def draw(edges: Iterable[Edge], ops: Iterable[int] = ()) -> nx.DiGraph[int]:
    """A witness: `ops`, which may stand alone, and the edges with their ends."""
    witness = new_witness()
    witness.add_nodes_from(ops)
    for source, target, kind, reason in edges:
        witness.add_edge(source, target, kind=kind, reason=reason)
    return witness


def conclude(
    counts: Mapping[str, int],
    anomalies: Sequence[Anomaly],
    stats: Mapping[str, Any],
    *,
    reason: str = "",
    not_models: Sequence[str] = (),
    remarks: Sequence[str] = (),
) -> CheckResult:
    """INVALID where anything was found, else UNKNOWN for a reason, else VALID.

    Args:
        counts: How much was found, by name.
        anomalies: The examples of it, told.
        stats: Figures; the counts are put beside them.
        reason: What keeps the history from being judged in full; an INVALID result
            tells it, too.
        not_models: What is broken by any anomaly.
        remarks: Sentences that belong beside any verdict.
    """
    if counts:
        return CheckResult(
            Verdict.INVALID,
            tuple(anomalies),
            not_models=tuple(not_models),
            reason=reason,
            stats={**stats, "anomalies": dict(counts)},
            remarks=tuple(remarks),
        )
    verdict = Verdict.UNKNOWN if reason else Verdict.VALID
    return CheckResult(
        verdict, reason=reason, stats=dict(stats), remarks=tuple(remarks)
    )


def name_of(op: Op) -> str:
    """Who is speaking: the node, or else the process."""
    if op.node is not None:
        return op.node
    return f"process {op.process}" if op.is_client else str(op.process)


def enumerate_names(names: Iterable[object]) -> str:
    """The different names as a list for a sentence: "n1, n2 and n3"; cut if long."""
    different = list(dict.fromkeys(map(str, names)))
    if len(different) > LISTED_MAX:
        return listed(different, LISTED_MAX - 1)
    return enumerated(different)


def enumerated(words: Sequence[str], conjunction: str = "and") -> str:
    """All the words for a sentence: "1", "1 and 2", "1, 2 and 3"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {conjunction} {words[-1]}"


def listed(words: Sequence[str], most: int = LISTED_MAX) -> str:
    """The first words and how many more there are: "1, 2, 3 and 4 more"."""
    text = ", ".join(words[:most])
    return text if len(words) <= most else f"{text} and {len(words) - most} more"


def shown(value: object) -> str:
    """A value for a sentence, as Python writes it."""
    return shortened(repr(value))


def shortened(text: str, chars_max: int = SHOWN_MAX) -> str:
    """The text, or as much of it as fits, with dots."""
    return text if len(text) <= chars_max else f"{text[: chars_max - 3]}..."
