"""Long forks: two reads that saw two writes in opposite orders.

Jepsen's `long-fork`, for the anomaly that parallel snapshot isolation allows and
snapshot isolation forbids. Each key is written once, by a transaction of that write
alone; keys come in groups of `group-size`, and a read is a transaction of reads of one
whole group. Where T1 writes x and T2 writes y, one read that saw x without y and
another that saw y without x can't both be right.

Theory: as a key goes from nil to its one value, a read is the set of keys that it saw
written. Reads agree on an order of the writes just when these sets form a chain, that
is, sorted by size, when each is part of the next.

What breaks the rules of the workload proves nothing, so it is unknown: a key written
twice or read with two values, or a read of another number of keys.

Beyond Jepsen: no order of writes explains a value that nobody tried to write to its key
(`garbage-read`), or whose write failed (`G1a`), whatever else is wrong. That is certain
only where all writes are in the history: not where calls are known by their ends alone,
nor in an excerpt that holds reads and no write at all.

More reads don't make a chain of sets that were none, and a write that failed stays so:
both are final. A garbage read is not, as the value may be written later on.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from checkers.findings import draw
from checkers.functions import Functions
from checkers.tallies import (
    Kinds,
    bad_op,
    invocation,
    is_attempt,
    is_first,
    object_of,
    outcome,
    verdict_of,
)
from checkers.values import element
from harness.options import Whole
from harness.registry import Option, Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from checkers.findings import Edge
    from checkers.functions import Known
    from harness.history import History, Op
    from harness.verdict import CheckerFactory

GROUP_SIZE = Whole(1, 1000)

OPTIONS = (Option("group-size", "2", "keys that one read reads", GROUP_SIZE),)

FUNCTIONS = Functions(
    "the long-fork checker",
    {"transaction": ("txn", "read", "write", "transaction", "r", "w")},
)

Seen = frozenset["Hashable"]


class _RuleBrokenError(Exception):
    """The history is not one of this workload; says how."""


class LongForkChecker:
    """Judges the reads of each group of keys, two at a time."""

    final_on_prefix = frozenset({"long-fork", "G1a"})

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings("the long-fork checker", OPTIONS, options)
        self._group_size: int = given["group-size"]

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: n log n.

        Raises:
            HistoryError: A transaction is neither one write nor reads alone; or a read
                of a value of a kind that nobody wrote to its key; or see
                `Functions.of`.
        """
        also = {op.f for op in history if op.is_client and _is_transaction(op.value)}
        known = FUNCTIONS.of(history, dict.fromkeys(also, "transaction"))
        baseless = list(_baseless_reads(history, known))
        try:
            writers = _writers(history, known)
            groups, figures = self._groups(history, known)
        except _RuleBrokenError as rule:
            broken = CheckResult(Verdict.UNKNOWN, reason=str(rule))
            if not baseless:
                return known.weighed(broken)
            found = verdict_of(baseless, {}, judged=len(baseless), empty="")
            return known.weighed(replace(found, reason=str(rule)))
        forks = [
            _fork(a, b, group, writers)
            for group, reads in groups.items()
            for a, b in _forks(reads)
        ]
        return verdict_of(
            baseless + forks,
            figures | {"groups": len(groups), "writes": len(writers)},
            judged=figures["reads"],
            empty="no read of a group succeeded",
            known=known,
        )

    def _groups(
        self, history: History, known: Known
    ) -> tuple[dict[Any, dict[Seen, Op]], dict[str, int]]:
        """Group -> what was seen of it -> the first read that saw it; and figures."""
        groups: dict[Any, dict[Seen, Op]] = {}
        values: dict[Any, tuple[Any, Op]] = {}
        figures = {"reads": 0, "early_reads": 0, "late_reads": 0}
        for op in history:
            if op.type != "ok" or not known.role(op):
                continue
            micro_ops = list(_micro_ops(history, op))
            if any(f == "w" for f, _, _ in micro_ops):
                continue
            keys = frozenset((object_of(op), element(key)) for _, key, _ in micro_ops)
            if len(keys) != self._group_size:
                raise _RuleBrokenError(
                    f"op {op.index} reads {len(keys)} keys, and a group has "
                    f"{self._group_size}"
                )
            seen = set()
            for _, key, value in micro_ops:
                name = (object_of(op), element(key))
                if value is None:
                    continue
                seen.add(name)
                other, reader = values.setdefault(name, (value, op))
                if element(other) != element(value):
                    raise _RuleBrokenError(
                        f"op {reader.index} read {other!r} of key {key!r}, and op "
                        f"{op.index} read {value!r}: a key is to be written once"
                    )
            groups.setdefault(keys, {}).setdefault(frozenset(seen), op)
            figures["reads"] += 1
            figures["early_reads"] += not seen
            figures["late_reads"] += len(seen) == len(keys)
        return groups, figures


def _writers(history: History, known: Known) -> dict[Hashable, Op]:
    """Key -> the op that tells of its write."""
    writers: dict[Hashable, Op] = {}
    for op in history:
        if not known.role(op) or not is_attempt(history, op) or op.value is None:
            continue
        micro_ops = list(_micro_ops(history, op))
        if outcome(history, op) == "fail" or not micro_ops:
            continue
        f, key, value = micro_ops[0]
        if f != "w":
            continue
        if value is None:
            raise _RuleBrokenError(
                f"op {op.index} writes nil to key {key!r}, as if it were not written"
            )
        other = writers.setdefault((object_of(op), element(key)), op)
        if other is not op:
            raise _RuleBrokenError(
                f"ops {other.index} and {op.index} both write key {key!r}: a key is to "
                "be written once"
            )
    return writers


def _baseless_reads(history: History, known: Known) -> Iterator[Anomaly]:
    """Reads of values that no write brought about; see the module.

    Raises:
        HistoryError: See `LongForkChecker.check`.
    """
    written: dict[Hashable, dict[Hashable, Op]] = {}
    kinds = Kinds()
    reads: list[tuple[Op, Any, Any]] = []
    for op in history:
        if not known.role(op) or op.value is None:
            continue
        if op.type != "ok" and not is_first(history, op):
            continue
        if op.type == "ok":
            _did_as_asked(history, op)
        for f, key, value in _micro_ops(history, op):
            name = (object_of(op), element(key))
            if f == "w":
                kinds.note(name, value)
                # Of several writes of a value, one that may have happened counts.
                earlier = written.setdefault(name, {}).setdefault(element(value), op)
                if outcome(history, earlier) == "fail":
                    written[name][element(value)] = op
            elif op.type == "ok" and value is not None:
                reads.append((op, key, value))
    if history.completions_only or not written:
        return
    for op, key, value in reads:
        name = (object_of(op), element(key))
        writer = written.get(name, {}).get(element(value))
        if writer is None:
            kinds.judge(history, op, name, value)
            yield _garbage_read(op, key, value)
        elif outcome(history, writer) == "fail":
            yield _aborted_read(op, key, value, writer)


def _did_as_asked(history: History, op: Op) -> None:
    """Raises HistoryError for an answer about other keys than were asked for."""
    asked = invocation(history, op)
    if asked is op or asked.value is None:
        return
    before, after = (
        [(f, element(key)) for f, key, _ in _micro_ops(history, each)]
        for each in (asked, op)
    )
    if len(before) == len(after) and before != after:
        problem = f"was to do {asked.value!r:.60}, and says it did {op.value!r:.60}"
        raise bad_op(history, op, problem)


def _garbage_read(read: Op, key: Any, value: Any) -> Anomaly:
    return Anomaly(
        "garbage-read",
        (read.index,),
        f"Op {read.index} (process {read.process}) read {value!r:.60} from key "
        f"{key!r:.60}, which nobody ever tried to write.",
        key=key,
    )


def _aborted_read(read: Op, key: Any, value: Any, writer: Op) -> Anomaly:
    saw = f"op {read.index} read {value!r:.60} from key {key!r:.60}"
    return Anomaly(
        "G1a",
        (writer.index, read.index),
        f"{saw.capitalize()}, but the write of it, by process {writer.process} (op "
        f"{writer.index}), failed.",
        witness=draw([(writer.index, read.index, "wr", saw)]),
        key=key,
    )


def _micro_ops(history: History, op: Op) -> Iterator[tuple[str, Any, Any]]:
    """The (f, key, value) of a transaction."""
    if not isinstance(op.value, list | tuple):
        raise bad_op(history, op, f"{op.value!r:.60} is no list of reads and writes")
    for micro_op in op.value:
        if not isinstance(micro_op, list | tuple) or len(micro_op) not in {2, 3}:
            raise bad_op(history, op, f"{micro_op!r:.60} is no [f key value]")
        f, key, value = (*micro_op, None)[:3]
        if f not in ("r", "w") or (f == "w" and len(op.value) > 1):
            raise bad_op(
                history,
                op,
                f"{op.value!r:.60}: a transaction is one write, ['w', key, value], or "
                "reads alone, ['r', key, value]",
            )
        yield f, key, value


def _is_transaction(value: Any) -> bool:
    """Whether a value is plainly that of a transaction, whatever its op is called."""
    first = value[0] if isinstance(value, list | tuple) and value else None
    return isinstance(first, list | tuple) and [*first[:1]] in (["r"], ["w"])


def _forks(reads: Mapping[Seen, Op]) -> Iterator[tuple[tuple[Seen, Op], ...]]:
    """Pairs of reads neither of which saw all that the other did."""
    chain = sorted(reads.items(), key=lambda read: (len(read[0]), read[1].index))
    for a, b in itertools.pairwise(chain):
        if not a[0] <= b[0]:
            yield a, b


def _fork(
    a: tuple[Seen, Op], b: tuple[Seen, Op], group: Any, writers: Mapping[Hashable, Op]
) -> Anomaly:
    (a_seen, a_op), (b_seen, b_op) = a, b
    x, y = min(a_seen - b_seen, key=repr), min(b_seen - a_seen, key=repr)
    x_name, y_name = _name(x), _name(y)
    edges: list[Edge] = []
    for key, name, reader, other in ((x, x_name, a_op, b_op), (y, y_name, b_op, a_op)):
        saw = f"op {reader.index} read what was written to key {name}"
        missed = f"op {other.index} read key {name} before anything was written to it"
        writer = writers.get(key)
        if writer is None:
            edges.append((other.index, reader.index, "rw", f"{saw}, and {missed}"))
        else:
            edges.append((writer.index, reader.index, "wr", saw))
            edges.append((other.index, writer.index, "rw", missed))
    return Anomaly(
        "long-fork",
        (a_op.index, b_op.index),
        f"Op {a_op.index} (process {a_op.process}) saw the write of key {x_name} and "
        f"not that of key {y_name}, and op {b_op.index} (process {b_op.process}) the "
        "reverse: there is no order of the two writes that both can have read.",
        witness=draw(edges),
        details={"group": sorted(map(_name, group))},
    )


def _name(key: Any) -> str:
    independent, name = key
    return repr(name) if independent is None else f"{name!r} of {independent!r}"


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "long-fork",
    "no two reads saw two writes in opposite orders",
    LongForkChecker,
    OPTIONS,
)
