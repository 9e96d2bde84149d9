"""What the analysis of a history's values yields, whatever kind of values they are.

`Findings` collects what is wrong with single values or transactions; `Inference` adds
the dependencies, and can say what each is about. Cycles among these are found
elsewhere.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from checkers.isolation.graph import Kind
from checkers.isolation.unfolded import Unfolds
from checkers.linearizability.specification import thaw

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from checkers.isolation.graph import Column, Edges
    from checkers.isolation.question import Question
    from checkers.isolation.serial import SerialSearch
    from checkers.isolation.transactions import Transactions
    from checkers.isolation.walks import Cycle, Step
    from checkers.isolation.writers import Choice, Group

EXAMPLES_MAX = 20
"""Anomalies of one name that are explained; all are counted."""

PAUSE_EVERY = 4096
"""Transactions looked at between two looks at the limits."""


def no_pause() -> None:
    """For those who have all the time in the world."""


@dataclass(frozen=True)
class Reason:
    """One edge of a witness: why one transaction comes before another."""

    source: int
    target: int
    kind: str
    text: str


@dataclass(frozen=True)
class Finding:
    """An anomaly among transactions, given as rows.

    Attributes:
        name: The anomaly.
        rows: The transactions, the one to blame first.
        text: Why this is impossible; transactions are called by name.
        key: The key concerned.
        reasons: The edges of the witness.
    """

    name: str
    rows: tuple[int, ...]
    text: str
    key: Any = None
    reasons: Sequence[Reason] = ()


@dataclass
class Findings:
    """Examples of each anomaly, and how many of it there are."""

    examples: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def wants(self, name: str) -> bool:
        """Count one more anomaly; whether it is still worth explaining."""
        self.counts[name] += 1
        return self.counts[name] <= EXAMPLES_MAX

    def add(self, finding: Finding) -> None:
        """Keep an example that `wants` asked for."""
        self.examples.append(finding)


class Explains(Protocol):
    """Who inferred a dependency, and can say why."""

    def reason(self, source: int, target: int, kind: Kind, via: int) -> str:
        """Why `source` comes before `target`, as a clause."""
        ...


class Inference(Explains, Unfolds, Protocol):
    """Dependencies inferred from what transactions read and wrote.

    Attributes:
        dependencies: The ww, wr and rw edges.
        findings: Anomalies that are no cycles of these.
        undecided: Why nothing but anomalies can be proved; empty if all can.
        remark: What remains in doubt though nothing is wrong; empty if nothing.
        accesses: Rows and the numbers of the keys that they read or wrote, if real time
            counts on each key by itself.
        has_reads: Whether a committed transaction read anything at all.
        choices: Elements of which it has to be chosen who wrote them; while there are
            any, nothing else was inferred.
    """

    dependencies: Edges
    findings: Findings
    undecided: str
    remark: str
    has_reads: bool
    choices: Sequence[Choice]

    def serial_search(self) -> SerialSearch | None:
        """Looks for orders of transactions, whoever wrote what; None if it can't."""
        ...

    def grounds(self, finding: Finding, cycle: Cycle | None) -> set[Group]:
        """What was chosen that an anomaly rests on, or more than that.

        Args:
            finding: The anomaly.
            cycle: The same, if it is a cycle.
        """
        ...

    @property
    def accesses(self) -> tuple[Column, Column] | None:
        """See the class."""
        ...

    def judge(
        self, question: Question, found: frozenset[str], pause: Callable[[], None]
    ) -> None:
        """Add to `findings` what neither single values nor cycles tell.

        Args:
            question: What is asked.
            found: Names of the cycles found.
            pause: Called now and then; may raise.
        """
        ...


STEPS_TOLD_MAX = 6
"""Steps of a cycle that the sentence tells; the witness has all."""


def explain(
    transactions: Transactions, inference: Explains, steps: Iterable[Step]
) -> list[Reason]:
    """Steps of a cycle with their reasons."""
    return [
        Reason(
            step.source,
            step.target,
            step.kind.name.lower(),
            explain_step(transactions, inference, step),
        )
        for step in steps
    ]


def explain_step(transactions: Transactions, inference: Explains, step: Step) -> str:
    """Why the one transaction comes before the other, as a clause."""
    a, b = transactions.name(step.source), transactions.name(step.target)
    if step.kind == Kind.PROCESS:
        return f"process {transactions.process_name(step.source)} ran {a} before {b}"
    if step.kind == Kind.REALTIME:
        invoked = transactions.start[step.target]
        return f"{a} had returned when {b} was invoked (op {invoked})"
    return inference.reason(step.source, step.target, step.kind, step.via)


def tell(transactions: Transactions, name: str, reasons: Sequence[Reason]) -> Finding:
    """A cycle in words."""
    called = transactions.name
    parts = [
        f"{called(r.source)} comes before {called(r.target)}, because {r.text}"
        for r in reasons[:STEPS_TOLD_MAX]
    ]
    if len(reasons) > STEPS_TOLD_MAX:
        parts.append(f"and so on, in {len(reasons)} steps")
    first = called(reasons[0].source)
    text = "; ".join(parts) + f": so {first} would have to come before itself."
    return Finding(name, tuple(r.source for r in reasons), text, None, reasons)


def show(value: Hashable) -> str:
    """A frozen value for a sentence: short, and nil where there is none.

    Text stands without quotes, unless it could be taken for another value.
    """
    value = plain(value)
    if value is None:
        return "nil"
    if isinstance(value, str) and not _LIKE_ANOTHER.fullmatch(value):
        text = value
    elif isinstance(value, str | bool | list | dict):
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


_LIKE_ANOTHER = re.compile(r"|nil|null|true|false|[-+.\d].*|[\[{].*", re.DOTALL)


def plain(value: Hashable) -> Any:
    """The value that a history holds, from what checkers make of it."""
    return thaw(value.value if isinstance(value, Copy) else value)


@dataclass(frozen=True, slots=True)
class Copy:
    """One append of an element that was appended more than once.

    Attributes:
        value: The element.
        number: Which append of it to the key; a negative one nobody made.
    """

    value: Hashable
    number: int


def show_all(names: Sequence[str]) -> str:
    """Two or more names for a sentence; of many, the first."""
    if len(names) == 2:
        return f"{names[0]} and {names[1]} both"
    if len(names) > 4:
        return f"{', '.join(names[:4])} and {len(names) - 4} more all"
    return f"{', '.join(names[:-1])} and {names[-1]} all"


def show_list(elements: Sequence[Any]) -> str:
    """A list for a sentence; of a long one, the end."""
    if len(elements) > 12:
        return "[... " + " ".join(map(show, elements[-11:])) + "]"
    return "[" + " ".join(map(show, elements)) + "]"
