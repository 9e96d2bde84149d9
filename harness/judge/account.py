"""The account of a run: its operations, errors and troubles, beside its verdict.

A verdict rests on the operations that succeeded. It says nothing about those that
didn't, and a run of which half never worked is no proof of that half. So a run is
unknown if no operation of some function ever succeeded, though those of all others did;
or if no operation succeeded after faults, so that their effect was never seen.

*Remarks* are the other facts that a reader must know with any verdict: how long nothing
succeeded at the end, whether anything was read after the last fault, nodes that exited
on their own or came back too late, answers that were never asked for.

*Troubles* tell why a run is unknown or invalid, in the order in which a reader would
look: the errors that clients saw most, operations that met their time limit, and other
counts of the wire. For a valid run they are told if no fault explains them.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from harness.systems.wire import ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.history import History, Op
    from harness.run.records import FaultLine

ATTEMPTS_MIN: Final = 10
ATTEMPTS_SPAN_NS_MIN: Final = 2_000_000_000
"""A function that never works only counts if it was tried this often, over this long:
in a short run, or in a minority for a while, no operation may work."""

ANSWERS: Final = frozenset({20, 21, 22})
"""Errors that answer a question about the state: a node that refuses a cas works."""

SILENT_NS_MIN: Final = 5_000_000_000
SILENT_SHARE_MIN: Final = 0.2
"""A run whose last success is this long before its end gets a remark."""

ERRORS_TOLD_MAX: Final = 3
ERROR_CHARS_MAX: Final = 200

READS: Final = frozenset(
    {"read", "final-read", "get", "learn", "delivered", "decisions", "poll", "dequeue"}
)
"""Functions that see the effects of others, by the names that workloads give them."""

UNASKED: Final = {
    "duplicate": "answered a second time",
    "unknown": "answered what nobody had asked, or in another's name",
    "malformed": "sent lines that are no messages",
    "printed": "printed lines to stdout that are no messages (nodes/n1/log shows the "
    "first; log to stderr instead)",
    "to_n0": "sent messages to n0, which there is only with --set first_node=0",
    "oversize": "sent lines of more than 1 MiB",
    "flood": "sent so much that nobody waited for that they were cut off",
}
"""Counter of the wire -> the breach of the protocol that it counts."""

LATE: Final = {
    "late": "answers came after their operation had been given up",
    "late_replies": "operations were answered after their time limit, in vain",
    "timeouts": "operations met their time limit",
    "no_client": "operations never left, as no connection could be made",
    "client_crashes": "operations ended with an exception in the client (errors.jsonl)",
    "abandoned": "clients went on after they were cancelled",
    "close_errors": "clients could not be closed",
}
"""Counter of the run -> the effect of slow and dead nodes that it counts."""

_CODE = re.compile(r"(.*) \((\d{1,6})\)", re.DOTALL)


@dataclass(frozen=True)
class ErrorKind:
    """Errors that clients saw, whose texts differ in numbers only.

    Attributes:
        code: Maelstrom's code, if the node gave one.
        text: The text of the first of them.
        functions: How often each function met it.
    """

    code: int | None
    text: str
    functions: Counter[str]

    @property
    def count(self) -> int:
        """How often it was met."""
        return self.functions.total()

    def name(self) -> str:
        """The error for a sentence: "error 12, malformed-request: no such key"."""
        if self.code is None:
            return self.text
        known = ERRORS.get(self.code)
        named = f"error {self.code}" + (f", {known.name}" if known else "")
        return named if known and self.text == known.name else f"{named}: {self.text}"

    def told(self) -> str:
        """A sentence: the error, how often it was met and by which functions."""
        by = ", ".join(f"{f} {count:,}" for f, count in self.functions.most_common(4))
        return f"{self.count:,} times {self.name()} ({by})"

    def as_json(self) -> dict[str, Any]:
        """The error as it stands in verdict.json."""
        known = ERRORS.get(self.code) if self.code is not None else None
        return {
            "count": self.count,
            "code": self.code,
            "name": known.name if known else None,
            "text": self.text,
            "functions": dict(self.functions),
        }


@dataclass
class Function:
    """The outcomes of the operations of one function.

    Attributes:
        ok, fail, info: How many operations had each outcome.
        answered: How many failures were answers (ANSWERS).
        first_ns, last_ns: When the first and the last operation began.
    """

    ok: int = 0
    fail: int = 0
    info: int = 0
    answered: int = 0
    first_ns: int = -1
    last_ns: int = -1

    @property
    def count(self) -> int:
        """How many operations there were."""
        return self.ok + self.fail + self.info

    @property
    def never_worked(self) -> bool:
        """Whether none succeeded, though they were tried often and long enough."""
        return (
            not self.ok + self.answered
            and self.count >= ATTEMPTS_MIN
            and self.last_ns - self.first_ns >= ATTEMPTS_SPAN_NS_MIN
        )


QUANTILES_PERCENT = (50, 95, 99)


@dataclass
class Account:
    """The account of one run.

    Attributes:
        functions: Name of a function -> the outcomes of its operations.
        latency_ms: Quantiles of how long operations took that succeeded: p50, p95, p99.
        errors: The errors that clients saw, most frequent first.
        remarks: Sentences that belong beside any verdict.
        troubles: Sentences that say why a verdict is not valid.
        reason: Why the run can't be valid; empty if it can.
    """

    functions: dict[str, Function] = field(default_factory=dict)
    latency_ms: dict[str, float] = field(default_factory=dict)
    errors: list[ErrorKind] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """The account's fields of verdict.json."""
        return {
            "functions": {
                f: {"ok": one.ok, "fail": one.fail, "info": one.info}
                for f, one in sorted(self.functions.items())
            },
            "latency_ms": self.latency_ms,
            "errors": [error.as_json() for error in self.errors],
            "remarks": self.remarks,
            "troubles": self.troubles,
        }


def account(
    history: History | None,
    counters: Mapping[str, int],
    faults: Sequence[FaultLine],
) -> Account:
    """The account of a run. Cost: linear in the history.

    Args:
        history: The history; None if it can't be read.
        counters: The counters of run.json.
        faults: The lines of faults.jsonl.
    """
    found = Account()
    if history is not None:
        calls = list(history.calls())
        found.functions = _functions(calls)
        found.latency_ms = _latency_ms(calls)
        found.errors = _errors(done for _, done in calls if done is not None)
        unseen = _unseen(calls, faults)
        found.reason = _never_worked(found) or unseen
        found.remarks += _silences(calls, () if unseen else faults)
    found.remarks += _nodes(faults)
    found.remarks += _counted(counters, UNASKED, "Nodes")
    told = found.errors[:ERRORS_TOLD_MAX]
    found.troubles += [error.told() for error in told]
    if rest := found.errors[ERRORS_TOLD_MAX:]:
        total = sum(error.count for error in rest)
        found.troubles.append(f"{total:,} times other errors, of {len(rest)} kinds")
    found.troubles += _counted(counters, LATE)
    return found


def _functions(calls: Iterable[tuple[Op, Op | None]]) -> dict[str, Function]:
    functions: dict[str, Function] = {}
    for begun, done in calls:
        of = functions.setdefault(begun.f, Function())
        if of.first_ns < 0:
            of.first_ns = begun.time
        of.last_ns = begun.time
        match "info" if done is None else done.type:
            case "ok":
                of.ok += 1
            case "fail":
                of.fail += 1
                assert done is not None
                of.answered += _code(done.error)[0] in ANSWERS
            case _:
                of.info += 1
    return functions


def _latency_ms(calls: Iterable[tuple[Op, Op | None]]) -> dict[str, float]:
    """Quantiles of those that are ok; empty if none has times."""
    took_ns = sorted(
        done.time - begun.time
        for begun, done in calls
        if done is not None and done.type == "ok" and 0 <= begun.time <= done.time
    )
    if not took_ns:
        return {}
    last = len(took_ns) - 1
    return {
        f"p{percent}": round(took_ns[last * percent // 100] / 1e6, 3)
        for percent in QUANTILES_PERCENT
    }


def _code(error: Any) -> tuple[int | None, str]:
    """(Maelstrom's code or None, text) of an operation's error."""
    text = error if isinstance(error, str) else repr(error)
    match = _CODE.fullmatch(text)
    return (int(match[2]), match[1]) if match else (None, text)


def _errors(completions: Iterable[Op]) -> list[ErrorKind]:
    """The errors, most frequent first, without those that answer about the state."""
    kinds: dict[tuple[int | None, str], ErrorKind] = {}
    for op in completions:
        if op.error is None or op.type == "ok":
            continue
        code, text = _code(op.error)
        if code in ANSWERS:
            continue
        name = code, re.sub(r"\d+", "#", text[:ERROR_CHARS_MAX])
        if name not in kinds:
            kinds[name] = ErrorKind(code, text[:ERROR_CHARS_MAX], Counter())
        kinds[name].functions[op.f] += 1
    return sorted(kinds.values(), key=lambda kind: -kind.count)


def _never_worked(found: Account) -> str:
    """A sentence: which functions never worked, and which errors they met."""
    silent = {f: one for f, one in found.functions.items() if one.never_worked}
    if not silent:
        return ""
    told = [
        f"no {f} ever succeeded, of {one.count:,} tried in "
        f"{(one.last_ns - one.first_ns) / 1e9:.1f} s"
        for f, one in sorted(silent.items())
    ]
    met = max(
        found.errors,
        key=lambda error: sum(error.functions[f] for f in silent),
        default=None,
    )
    is_theirs = met is not None and any(met.functions[f] for f in silent)
    mostly = f": mostly {met.name()}" if met is not None and is_theirs else ""
    said = " and ".join(told) + mostly
    return said[:1].upper() + said[1:]


def _silences(
    calls: Sequence[tuple[Op, Op | None]], faults: Sequence[FaultLine]
) -> Iterable[str]:
    """Sentences about a last success long before the end, or the last fault."""
    good = [(begun, done) for begun, done in calls if done and done.type == "ok"]
    if not good:
        return
    end_ns = max((done or begun).time for begun, done in calls)
    last_ns = max(done.time for _, done in good)
    silent_ns = end_ns - last_ns
    if silent_ns >= max(SILENT_NS_MIN, SILENT_SHARE_MIN * end_ns):
        yield (
            f"No operation succeeded after {last_ns / 1e9:.1f} s of "
            f"{end_ns / 1e9:.1f} s."
        )
    struck = _struck(faults)
    healed_ns = max((line.time for line in struck), default=-1)
    if healed_ns < 0:
        return
    readers = _readers(calls)
    after = [begun for begun, _ in good if begun.time >= healed_ns]
    if readers and not any(begun.f in readers for begun in after):
        kind = struck[-1].kind
        yield (
            f"No {' or '.join(sorted(readers))} succeeded after the last fault "
            f"({kind}, over at {healed_ns / 1e9:.1f} s): what it did to the data may "
            "not have been seen."
        )
    elif not readers and not after:
        yield f"No operation succeeded after the last fault ({healed_ns / 1e9:.1f} s)."


def _unseen(calls: Sequence[tuple[Op, Op | None]], faults: Sequence[FaultLine]) -> str:
    """Why no operation saw the effects of faults; empty if one did, or none was tried.

    Either no operation succeeded from the first fault on, so the run is as good as one
    without faults; or none did after the last fault, from which a node never came back.
    """
    struck = _struck(faults)
    absent = any(line.kind == NODE_ABSENT for line in faults)
    if not struck:
        return ""
    which, line = ("last", struck[-1]) if absent else ("first", struck[0])
    since_ns = line.time
    functions = _readers(calls) or {begun.f for begun, _ in calls}
    tried = [one for one in calls if one[0].f in functions and one[0].time >= since_ns]
    if not tried or any(done and done.type == "ok" for _, done in tried):
        return ""
    return (
        f"No {' or '.join(sorted(functions))} succeeded after the {which} fault "
        f"({line.kind}, at {since_ns / 1e9:.1f} s), of {len(tried):,} tried: "
        "what it did was not seen"
    )


def _struck(faults: Sequence[FaultLine]) -> list[FaultLine]:
    return [line for line in faults if line.event in {"start", "end"}]


def _readers(calls: Iterable[tuple[Op, Op | None]]) -> set[str]:
    return {begun.f for begun, _ in calls} & READS


def _nodes(faults: Sequence[FaultLine]) -> Iterable[str]:
    """Sentences on nodes that exited on their own, or came back too late or never.

    What happens to a node again and again is one sentence.
    """
    told: dict[str, list[FaultLine]] = {}
    for line in faults:
        if line.event == "note" and line.kind in NODE_NOTES:
            told.setdefault(line.title or line.kind, []).append(line)
    for title, lines in told.items():
        more = len(lines) - 1
        often = "once more" if more == 1 else f"{more:,} times more"
        again = f", and {often}" * bool(more)
        until = f" until {lines[-1].time / 1e9:.1f} s" * (len(lines) > 1)
        yield f"{title}, at {lines[0].time / 1e9:.1f} s{again}{until}."


NODE_ABSENT: Final = "node-absent"
NODE_NOTES: Final = frozenset({"node-exit", NODE_ABSENT})
"""Kinds of notes that tell of a node what no fault explains.

A node that ended itself because of its disk has another kind, "node-ended".
"""


def _counted(
    counters: Mapping[str, int], meanings: Mapping[str, str], who: str = ""
) -> Iterable[str]:
    """A sentence for each counter that is not zero."""
    for name, meaning in meanings.items():
        if count := counters.get(name, 0):
            yield (
                f"{who} {meaning}: {count:,} times." if who else f"{count:,} {meaning}"
            )
