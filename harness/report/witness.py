"""An anomaly's witness as people see it: operations, the order they force, and why.

A checker gives a graph whose vertices are indices. Here the indices are resolved to
operations of clients, or events that nodes observed of themselves, of a run folder or
of a history that `splitbrain check` has read. Text and DOT are written here;
`spacetime` draws the picture.

All text of a history is untrusted: it is made visible, and escaped for the notation it
goes into.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.history import NO_COMPLETION
from harness.report import evidence, figures
from harness.report.folder import Call, mapping, sequence, string
from harness.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness.history import History
    from harness.report.folder import Fault

EDGES_SHOWN_MAX = 60
CALLS_TOLD_MAX = 20
EDGES_TOLD_MAX = 20
VALUE_CHARS_MAX = 60
WHOLE_CHARS_MAX = 1000
"""Longest value of an operation that is no transaction, if there is room for it."""

SHORT_CHARS_MAX = 240
"""Longest text of an operation that a table shows without a cut."""

PADDED_MAX = 60
"""Widest column; a longer text in it shifts the rest of its line."""

MESSAGE = "message"
"""The kind of an arrow that stands for a message between nodes."""

LOST = "lost"
"""The kind of an arrow that stands for a message that never had an effect."""


class Edge(NamedTuple):
    """One arrow of a witness graph, between positions in `Witness.calls`."""

    source: int
    target: int
    kind: str
    reason: str


@dataclass(frozen=True)
class Witness:
    """An anomaly with everything needed to show it.

    Attributes:
        name: The anomaly's name.
        explanation: Why these operations are impossible.
        checker: The checker that found it; empty if there was only one.
        key: The key concerned, as text.
        about: The name of the transaction that the anomaly is about, if it has one.
        calls: The operations and events, in order of time.
        edges: Arrows between them, those of the explanation first.
        edges_more: How many further arrows were left out.
        named: Name of a transaction -> the keys whose micro-operations count.
        unresolved: Indices of the anomaly that the history does not hold.
        also: Other names for the same operations, each with its explanation.
        details: Other facts that the checker tells.
        roles: Node -> its role in the anomaly, such as "coordinator".
        context: Positions in `calls` of events that only surround the anomaly.
        context_more: How many further events around it were left out.
        faults: The faults in force during the anomaly.
        end_ns: The end of the run.
        raw: The anomaly as it stands in verdict.json, if it does.
    """

    name: str
    explanation: str
    checker: str = ""
    key: str = ""
    about: str = ""
    calls: tuple[Call, ...] = ()
    edges: tuple[Edge, ...] = ()
    edges_more: int = 0
    named: Mapping[tuple[bool, int], evidence.Named] = field(default_factory=dict)
    unresolved: tuple[str, ...] = ()
    also: tuple[tuple[str, str], ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    context: frozenset[int] = frozenset()
    context_more: int = 0
    faults: tuple[Fault, ...] = ()
    end_ns: float = 0.0
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def blamed(self) -> list[Call]:
        """The calls that the anomaly itself names."""
        return [c for i, c in enumerate(self.calls) if i not in self.context]

    @property
    def place(self) -> str:
        """The place of an anomaly in a file: "nodes/n1/log:7: panic: torn"; else ""."""
        file, line = string(self.details.get("file")), self.details.get("line")
        if not file or type(line) is not int:
            return ""
        text = string(self.details.get("text"))
        return f"{file}:{line}" + (f": {text}" if text else "")

    @property
    def reasons(self) -> list[Edge]:
        """The numbered arrows: all but messages that arrived."""
        return [edge for edge in self.edges if edge.kind != MESSAGE]

    def text_of(self, call: Call, chars_max: int = 40) -> str:
        """The part of a call that concerns this anomaly, in a few characters."""
        if self.unfolded(call):
            return figures.clip(self.whole(call), chars_max + len("txn "))
        return call_text(call, chars_max, self.about)

    def whole(self, call: Call) -> str:
        """A call with all that the anomaly rests on, at any length."""
        keys = self.named.get(call.name)
        if keys is None and self.about:  # `about` selects the part of the value
            return call_text(call, VALUE_CHARS_MAX, self.about)
        if keys is None:
            text = call_text(call, evidence.CHARS_MAX)
            return evidence.bounded(text, WHOLE_CHARS_MAX)
        return f"{visible(call.invoke.f)} {evidence.folded(call.value, keys)}"

    def short(self, call: Call) -> str:
        """A call with long values cut in the middle, around what they differ in."""
        text, keys = self.whole(call), self.named.get(call.name)
        if len(text) <= SHORT_CHARS_MAX or call.is_event:
            return text
        others = [other for other in self.blamed if other.name != call.name]
        name = visible(call.invoke.f)
        if keys is None and not isinstance(call.value, list):
            return evidence.middle(text, map(self.whole, others))
        told = [self.explanation, *(edge.reason for edge in self.edges)]
        lists = (found for o in others for found in evidence.lists_in(o.value))
        focus = evidence.Focus(told, lists)
        if keys is None:
            arrow = "\N{RIGHTWARDS ARROW} " * (name == "read" and call.outcome == "ok")
            return f"{name} {arrow}{focus.part(call.value)}"
        return f"{name} {evidence.focused(call.value, keys, focus)}"

    def unfolded(self, call: Call) -> str:
        """All of a transaction of which `whole` leaves out a part; else empty."""
        if call.name not in self.named:
            return ""
        text = f"{visible(call.invoke.f)} {evidence.unfolded(call.value)}"
        return "" if text == self.whole(call) else text


def resolve(
    anomaly: Mapping[str, Any], call_at: Callable[[Any], Call | None], checker: str = ""
) -> Witness:
    """The witness of an anomaly as it stands in verdict.json.

    Args:
        anomaly: The anomaly, as of `Anomaly.as_json`; it may hold anything.
        call_at: Gives the operation or event that an index stands for, or None.
        checker: The checker that found it.
    """
    graph = mapping(anomaly.get("witness"))
    edges = [mapping(edge) for edge in sequence(graph.get("edges"))]
    ends = [edge.get(end) for edge in edges for end in ("source", "target")]
    calls: dict[tuple[bool, int], Call] = {}
    unresolved: list[str] = []
    named = [*sequence(anomaly.get("ops")), *sequence(graph.get("nodes"))]
    for index in named + ends:
        call = call_at(index)
        if call is not None:
            calls.setdefault(call.name, call._replace(named=index))
        elif index is not None:
            unresolved.append(figures.value(index, 20))
    ordered = sorted(calls.values(), key=lambda c: (c.invoke.time, c.invoke.index))
    place = {call.name: position for position, call in enumerate(ordered)}

    def position(index: Any) -> int | None:
        call = call_at(index)
        return None if call is None else place[call.name]

    drawn = []
    for edge in edges:
        source, target = position(edge.get("source")), position(edge.get("target"))
        if source is not None and target is not None:
            kind = string(edge.get("kind"), "before")
            drawn.append(Edge(source, target, kind, string(edge.get("reason"))))
    details = mapping(anomaly.get("details"))
    return Witness(
        name=string(anomaly.get("name"), "anomaly"),
        explanation=_sentence(string(anomaly.get("explanation"))),
        checker=checker,
        key=figures.value(anomaly.get("key")),
        about=string(details.get("transaction")),
        calls=tuple(ordered),
        edges=tuple(drawn[:EDGES_SHOWN_MAX]),
        edges_more=max(0, len(drawn) - EDGES_SHOWN_MAX),
        named=evidence.named(ordered, drawn, anomaly.get("key")),
        unresolved=tuple(dict.fromkeys(unresolved)),
        details=details,
    )


def calls_of(history: History) -> Callable[[Any], Call | None]:
    """Looks up operations of a whole history by the index of either end."""

    def call_at(index: Any) -> Call | None:
        if isinstance(index, bool) or not isinstance(index, int):
            return None
        if not 0 <= index < len(history):
            return None
        op, other = history[index], history.completion[index]
        if other == NO_COMPLETION:
            is_open = op.is_client and op.type == "invoke"
            return Call(op, None if is_open else op)
        return Call(history[min(index, other)], history[max(index, other)])

    return call_at


def _sentence(text: str) -> str:
    """`text` with an initial capital, unless it begins with a name such as n2."""
    first = text.partition(" ")[0]
    return text if not first.isalpha() else text[:1].upper() + text[1:]


# Operations in words


def call_text(call: Call, chars_max: int = 40, about: str = "") -> str:
    """An operation in a few characters: "write 3", "read \N{RIGHTWARDS ARROW} 7".

    If the value is too long, only the part that concerns `about` is shown.
    """
    if call.is_event:
        return event_text(call, about)
    name, value = visible(call.invoke.f), call.value
    shown = figures.value(value, chars_max)
    if name == "txn":
        shown = evidence.label(value) or shown
    elif name == "read" and call.outcome == "ok":
        return f"read \N{RIGHTWARDS ARROW} {shown or 'nil'}"
    elif name == "cas" and isinstance(value, list) and len(value) == 2:
        old, new = (figures.value(part, chars_max) or "nil" for part in value)
        return f"cas {old} \N{RIGHTWARDS ARROW} {new}"
    elif about and len(shown) >= chars_max:
        told = ", ".join(f"{n} {figures.plain(v, 24)}" for n, v in _under(value, about))
        shown = f"{about}: {told}" if told else shown
    return figures.clip(f"{name} {shown}".rstrip(), chars_max + len(name) + 1)


def _under(value: Any, about: str, depth: int = 4) -> list[tuple[str, Any]]:
    """The values under keys called `about`, each with the name of its mapping."""
    if not isinstance(value, dict) or depth == 0:
        return []
    found = [
        (visible(str(name)), part[about])
        for name, part in value.items()
        if isinstance(part, dict) and about in part
    ]
    return found or [
        pair for v in value.values() for pair in _under(v, about, depth - 1)
    ]


PHRASES = {
    ("voted", "vote"): "votes {vote}",
    ("voted", "candidate"): "votes for {candidate}, term {term}",
    ("decided", "decision"): "decides {decision}",
    ("precommitting", "id"): "sends preCommit",
    ("precommitted", "id"): "preCommit",
    ("turning_back", "id"): "sends preAbort",
    ("preaborted", "id"): "preAbort",
    ("in_doubt", "id"): "in doubt",
    ("resolved", "id"): "out of doubt",
    ("terminating", "id"): "starts termination",
    ("proposed", "ballot"): "proposes {value} at {ballot}",
    ("promised", "ballot"): "promises {ballot}",
    ("accepted", "ballot"): "accepts {value} at {ballot}",
    ("chosen", "ballot"): "sees {value} chosen at {ballot}",
    ("learned", "value"): "learns {value}",
    ("became_candidate", "term"): "stands in term {term}",
    ("became_follower", "leader"): "follows {leader}, term {term}",
    ("became_leader", "term"): "leads term {term}",
    ("delivered", "message"): "delivers {message} as ({epoch}, {counter})",
}
"""Kinds of event -> phrases with fields; events of other kinds show all fields."""


def event_text(call: Call, about: str = "") -> str:
    """An event that a node observed of itself, without the field `about`."""
    kind, fields = call.invoke.f, mapping(call.invoke.value)
    for name in fields:
        phrase = PHRASES.get((kind, name))
        if phrase is not None:
            words = _Words((name, _short(field)) for name, field in fields.items())
            return figures.clip(phrase.format_map(words), 60)
    told = [f"{name}={_short(f)}" for name, f in fields.items() if f != about]
    text = " ".join([kind.replace("_", " "), *told])
    return figures.clip(visible(text), 60)


class _Words(dict[str, str]):
    """The fields for a phrase; a missing one is a question mark."""

    def __missing__(self, name: str) -> str:
        return "?"


def _short(field: Any) -> str:
    """A field of an event; a ballot or zxid [3, "n1"] as 3.n1."""
    if isinstance(field, list) and 0 < len(field) <= 2:
        return ".".join(figures.plain(part, 12) for part in field)
    return figures.plain(field, 24)


def name_of(call: Call) -> str:
    """The name of a call in sentences: "op 102", "n2 'decides commit'"."""
    if call.is_event:
        return f"{string(call.node, '?')} \N{LEFT SINGLE QUOTATION MARK}" + (
            f"{event_text(call)}\N{RIGHT SINGLE QUOTATION MARK}"
        )
    return f"op {call.number}"


def who(call: Call, roles: Mapping[str, str] | None = None) -> str:
    """The name of its row: "process 3 \N{RIGHTWARDS ARROW} n1", "n1 (leader)"."""
    node = visible(call.node) if call.node else ""
    if call.is_event:
        role = (roles or {}).get(node, "")
        name = node or visible(str(call.invoke.process))
        return f"{name} ({role})" if role else name
    return f"process {visible(str(call.invoke.process))}" + (
        f" \N{RIGHTWARDS ARROW} {node}" if node else ""
    )


def when(call: Call) -> str:
    """The times of its beginning and end, as far as the history tells them."""
    if call.invoke.time < 0:
        return ""
    start = figures.moment(call.invoke.time)
    if call.is_event or call.done is call.invoke:
        return start
    end = "never returned" if call.done is None else figures.moment(call.done.time)
    return f"{start} .. {end}"


# Text


def as_text(witness: Witness, letter: Callable[[int], str] | None = None) -> list[str]:
    """The witness in lines without indentation: operations, then numbered reasons.

    Args:
        witness: The witness.
        letter: Gives the letters of operations by their order, if they have any.
    """
    shown = witness.blamed[:CALLS_TOLD_MAX]
    rows = [_columns(witness, call) for call in shown]
    letters: dict[tuple[bool, int], str] = {}
    if letter is not None:
        letters = {call.name: letter(n) for n, call in enumerate(shown)}
        rows = [[letters[c.name], *row] for c, row in zip(shown, rows, strict=True)]
    widths = [
        max((len(cell) for cell in column if len(cell) <= PADDED_MAX), default=0)
        for column in zip(*rows, strict=True)
    ]
    lines = [
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
    lines += filter(None, [witness.place])
    lines += _rest(len(witness.blamed) - len(shown), "operation")
    told = witness.reasons[:EDGES_TOLD_MAX]
    tell = edge_text(witness, letters)
    lines += [f"{n}. {edge.kind}: {tell(edge)}" for n, edge in enumerate(told, 1)]
    lines += _rest(len(witness.reasons) - len(told) + witness.edges_more, "reason")
    return [" ".join(line.splitlines()).replace("\t", " ") for line in lines]


def _columns(witness: Witness, call: Call) -> list[str]:
    outcome = "" if call.is_event else call.outcome
    if call.error is not None:
        outcome += f" ({figures.value(call.error, VALUE_CHARS_MAX)})"
    number = "" if call.is_event else f"#{call.number}"
    text = witness.whole(call)
    if call.invoke.key is not None:
        text = f"key {figures.value(call.invoke.key, 20)}: {text}"
    return [number, when(call), who(call, witness.roles), text, outcome]


def edge_text(
    witness: Witness, letters: Mapping[tuple[bool, int], str] = MappingProxyType({})
) -> Callable[[Edge], str]:
    """A function that says which calls an edge connects, and why."""

    def named(call: Call) -> str:
        return letters.get(call.name) or name_of(call)

    def tell(edge: Edge) -> str:
        if edge.kind in {MESSAGE, LOST}:
            return edge.reason
        source, target = witness.calls[edge.source], witness.calls[edge.target]
        reason = f": {edge.reason}" if edge.reason else ""
        arrow = "\N{RIGHTWARDS ARROW}"
        return f"{named(source)} {arrow} {named(target)}{reason}"

    return tell


def _rest(more: int, noun: str) -> list[str]:
    return [f"... and {figures.plural(more, f'further {noun}')}"] if more > 0 else []


# DOT


def as_dot(witness: Witness) -> str:
    """The witness for Graphviz: a box for each operation, an arrow for each reason."""
    lines = [
        f"digraph {_quoted(witness.name)} {{",
        f"  label={_quoted(wrapped(witness.explanation))}; labelloc=t;",
        "  rankdir=LR; node [shape=box, fontname=monospace]; edge [fontsize=10];",
    ]
    for position, call in enumerate(witness.calls):
        told = [wrapped(f"{name_of(call)}: {witness.whole(call)}")]
        outcome = "" if call.is_event else f", {call.outcome}"
        told.append(f"{who(call, witness.roles)}{outcome}")
        told += filter(None, [when(call)])
        lines.append(f"  v{position} [label={_quoted(chr(10).join(told))}];")
    for edge in witness.edges:
        label = edge.kind + (f": {edge.reason}" if edge.reason else "")
        look = ", style=dashed" if edge.kind in {LOST, "realtime", "process"} else ""
        said = f"[label={_quoted(wrapped(label))}{look}]"
        lines.append(f"  v{edge.source} -> v{edge.target} {said};")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    r"""`text` as a quoted string of DOT; backslashes are data, newlines become \n."""
    text = visible(text).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + text.replace("\n", "\\n") + '"'


def wrapped(text: str, width: int = 60) -> str:
    """`text` in lines of at most `width` characters."""
    return "\n".join(_broken(text.split(), width))


def _broken(words: Sequence[str], width: int) -> Iterator[str]:
    line = ""
    pieces = (w[at : at + width] for w in words for at in range(0, len(w), width))
    for word in pieces:
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}".strip()
    yield line
