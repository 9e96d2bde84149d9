"""What checkers that count share: those of sets, queues, counters and banks.

Rules are those of Jepsen's checkers of the same names (jepsen.checker, and its tests).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from checkers.findings import collect, conclude, listed
from checkers.values import element, kind
from harness.history import HistoryError
from harness.verdict import nothing_to_judge

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
    from fractions import Fraction

    from checkers.functions import Known
    from harness.history import History, Op
    from harness.verdict import Anomaly, CheckResult


def completed(history: History, known: Known, role: str) -> Iterable[Op]:
    """The ok completions of a role's functions, in order."""
    return (op for op in history if op.type == "ok" and known.role(op) == role)


def invocation(history: History, op: Op) -> Op:
    """The invocation of a completion; the completion itself where there is none."""
    j = history.completion[op.index]
    return history[j] if j >= 0 else op


def object_of(op: Op) -> Hashable:
    """Which independent object an op is about; without keys there is only one."""
    return element(op.key)


def named(op: Op, value: Any) -> Hashable:
    """A value of one of several independent objects, as a member of sets."""
    return (object_of(op), element(value))


UNKNOWN_BEGIN = -1
"""Before every op: the begin of a completion whose invocation nobody recorded."""


def began(history: History, op: Op) -> int:
    """Where the call of a completion began, or UNKNOWN_BEGIN.

    In a history of completions only, a call may have begun before anything else, so
    nothing is known to have been over by then.
    """
    j = history.completion[op.index]
    return j if j >= 0 else UNKNOWN_BEGIN


def is_first(history: History, op: Op) -> bool:
    """Whether `op` is where the history first tells of a call.

    That is its invocation, or its completion where the history has no invocation of it.
    """
    return op.type == "invoke" or history.completion[op.index] < 0


def is_attempt(history: History, op: Op) -> bool:
    """Whether `op` is where a history first tells of a call that may have happened."""
    return op.type != "fail" and is_first(history, op)


def outcome(history: History, op: Op) -> str:
    """How the call of `op` ended, "info" where it never did."""
    if op.type != "invoke":
        return op.type
    j = history.completion[op.index]
    return "info" if j < 0 else history[j].type


def contents(history: History, op: Op) -> Collection[Any]:
    """What a read of a collection gave; nil is an empty one.

    Raises:
        HistoryError: It gave something else.
    """
    if op.value is None:
        return ()
    if not isinstance(op.value, list | tuple | set | frozenset):
        raise bad_op(history, op, f"{op.f} of {op.value!r:.60}, which is no collection")
    return op.value


class Kinds:
    """What kinds of values went into each object.

    A value of another kind that comes out is no answer of the system's, right or wrong:
    the history was not made for this checker, or its recorder took a number for a text.
    Of an object that nothing went into, any kind may come out.

    Args:
        put: The ops that put something into the object that `object_of` names; they
            are looked through when `judge` is first called.
    """

    def __init__(self, put: Iterable[Op] = ()) -> None:
        self._of: dict[Hashable, dict[type, str]] = {}
        self._put = put

    def note(self, name: Hashable, value: Any) -> None:
        """`value` went into the object of that name, or may have."""
        known = self._of.setdefault(name, {})
        if type(value) not in known:
            known[type(value)] = kind(value)

    def judge(self, history: History, op: Op, name: Hashable, value: Any) -> None:
        """`op` says that `value`, which nobody put in, came out.

        Raises:
            HistoryError: Nothing of its kind ever went in.
        """
        for one in self._put:
            self.note(object_of(one), one.value)
        self._put = ()
        due = set(self._of.get(name, {}).values())
        if due and kind(value) not in due:
            raise bad_op(
                history,
                op,
                f"{op.f} gave {value!r:.60}, {kind(value)}, but what went in was "
                f"{' or '.join(sorted(due))}",
            )


def acknowledged(history: History, op: Op) -> Any:
    """What an ok completion says was put in.

    Raises:
        HistoryError: That is of another kind than what was asked for, or for another
            key.
    """
    begun = invocation(history, op)
    if begun.key is op.key and type(begun.value) is type(op.value):
        return op.value
    if element(begun.key) != element(op.key):
        problem = f"{op.f} of key {begun.key!r:.60} was acknowledged for {op.key!r:.60}"
        raise bad_op(history, op, problem)
    asked = begun.value
    if None not in (asked, op.value) and kind(asked) != kind(op.value):
        raise bad_op(
            history,
            op,
            f"{op.f} of {asked!r:.60}, {kind(asked)}, was acknowledged as "
            f"{op.value!r:.60}, {kind(op.value)}",
        )
    return op.value


def from_node(read: Op) -> str:
    """Which node answered, as the end of a clause, where it has a name."""
    return "" if read.node is None else f" from {read.node}"


class Answers:
    """What nodes answered where all should have answered the same."""

    def __init__(self) -> None:
        self._of: dict[str, Counter[int | Fraction]] = {}

    def note(self, node: str | None, answer: int | Fraction) -> None:
        """One more answer; its node may be unknown."""
        if node is not None:
            self._of.setdefault(node, Counter())[answer] += 1

    def beside(self, node: str | None, answer: int | Fraction) -> str:
        """Whether nodes agree on an answer of one of them, as the end of a sentence.

        Empty where the node has no name, or is the only one.
        """
        if node is None or len(self._of) == 1:
            return ""
        if all(answers.keys() == {answer} for answers in self._of.values()):
            return f"; all {len(self._of)} nodes that were read agree on it"
        nodes = sorted(self._of.items())
        told = [f"{name} {_told(answers)}" for name, answers in nodes]
        return f"; the nodes disagree: {listed(told, NODES_TOLD_MAX)}"


NODES_TOLD_MAX = 20
"""Nodes in a sentence that says what each answered."""

ANSWERS_TOLD_MAX = 4
"""Different answers of one node in a sentence."""


def _told(answers: Counter[int | Fraction]) -> str:
    """The answers of one node: the most frequent ones, in order of their size."""
    some = [answer for answer, _ in answers.most_common(ANSWERS_TOLD_MAX)]
    more = len(answers) - len(some)
    told = " and ".join(map(str, sorted(some)))
    return f"{told} and {more} more" if more else told


def bad_op(history: History, op: Op, problem: str) -> HistoryError:
    """The error of a history with an op that the checker can't judge."""
    return HistoryError(f"{history.source}: op {op.index}: {problem}")


def verdict_of(
    anomalies: Sequence[Anomaly],
    stats: Mapping[str, Any],
    *,
    judged: int,
    empty: str,
    doubt: str = "",
    known: Known | None = None,
) -> CheckResult:
    """INVALID with anomalies, UNKNOWN when nothing was judged, else VALID.

    Args:
        anomalies: What is wrong.
        stats: Figures.
        judged: How much there was that could have been wrong.
        empty: What was missing, if that is nothing.
        doubt: Why a history without anomalies is not valid, if it is not.
        known: What the checker knew of the history; weighs the result, if given.
    """
    findings = collect(anomalies)
    reason = ""
    if not anomalies:
        reason = doubt if judged else nothing_to_judge(empty)
    result = conclude(findings.counts, findings.examples, stats, reason=reason)
    return result if known is None else known.weighed(result)
