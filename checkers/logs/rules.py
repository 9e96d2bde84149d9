"""The rules of a log, each with the name that Jepsen gives to its breach.

A step in a client's reading of a log should lead from one index to the next: further is
a *skip*, not as far is *nonmonotonic*. Steps whose indices nobody knows prove nothing.

The witness of what more than one operation shows has these kinds of edges: `process`,
one client did the one before the other; `wr`, the one polled what the other sent;
`log-order`, what the one saw or sent lies before what the other did; `skipped`, what
the one sent was passed over by the other; `contradicts`, they tell two tales of a log.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from checkers.findings import Findings, draw, listed
from checkers.logs.steps import Record, by_key
from harness.verdict import Anomaly

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    from checkers.logs.orders import Orders
    from checkers.logs.steps import Step

EXAMPLES_MAX = 8
"""Breaches of one rule that are told; all are counted."""

SHOWN_MAX = 5
"""Messages named in a sentence."""

Edge = tuple["Step", "Step", str, str]
"""An arrow of a witness: from one step to another, kind, and reason."""


class Breaches(Findings[Anomaly]):
    """What was found, by name."""

    def __init__(self) -> None:
        super().__init__(EXAMPLES_MAX)

    def add(
        self,
        name: str,
        steps: Sequence[Step],
        text: str,
        key: Hashable,
        edges: Iterable[Edge] = (),
    ) -> None:
        """Count a breach, and keep it if there are few of its name.

        Args:
            name: What it is called.
            steps: Those that show it; of many, the first.
            text: Why it is one.
            key: The log concerned.
            edges: Why these steps don't fit together; looked at only if it is kept.
        """
        if self.wants(name):
            ops = tuple(dict.fromkeys(step.op.index for step in steps))
            arrows = (
                (source.op.index, target.op.index, kind, reason)
                for source, target, kind, reason in edges
                if source is not target
            )
            witness = draw(arrows, ops) if len(ops) > 1 else None
            sentence = text[0].upper() + text[1:]
            self.keep(Anomaly(name, ops, sentence, witness, key))


def judge(orders: Orders, found: Breaches) -> None:
    """Try every rule. Cost: linear."""
    _inconsistent_offsets(orders, found)
    _duplicates(orders, found)
    _reads_of_nothing(orders, found)
    _precommitted_reads(orders, found)
    _lost_writes(orders, found)
    _unseen(orders, found)
    for step in orders.steps.transactions():
        _inside(orders, found, step, "poll", step.polls)
        _inside(orders, found, step, "send", step.sends)
    for steps in _by_process(orders):
        _between_polls(orders, found, steps)
        _between_sends(orders, found, steps)


def _inconsistent_offsets(orders: Orders, found: Breaches) -> None:
    for key, log in orders.logs.items():
        for offset in log.offsets:
            if len(log.at[offset]) > 1:
                messages = sorted(log.at[offset], key=repr)
                tales = _Tales(orders, key, [(offset, m) for m in messages])
                found.add(
                    "inconsistent-offsets",
                    tales.steps(),
                    f"Offset {offset} of key {key} holds {_list(orders, messages)}, "
                    "depending on whom one asks.",
                    key,
                    tales.edges(),
                )


def _duplicates(orders: Orders, found: Breaches) -> None:
    for key, log in orders.logs.items():
        for message, first in log.first.items():
            if log.last[message] != first:
                offsets = [at for at in log.offsets if message in log.at[at]]
                tales = _Tales(orders, key, [(offset, message) for offset in offsets])
                found.add(
                    "duplicate",
                    tales.steps(),
                    f"{orders.steps.show(message)} was sent to key {key} once and is "
                    f"at offsets {', '.join(map(str, offsets))}.",
                    key,
                    tales.edges(),
                )


class _Tales:
    """What is told of a log, and does not fit together: offsets and messages.

    Of many places, the first.
    """

    def __init__(
        self, orders: Orders, key: Hashable, places: Sequence[tuple[int, Hashable]]
    ) -> None:
        self._orders = orders
        self._key = key
        self._told = [
            (self._teller(offset, message), offset, message)
            for offset, message in places[:SHOWN_MAX]
        ]

    def steps(self) -> list[Step]:
        """Who tells it, and who sent it."""
        writers = (self._writer(message) for _, _, message in self._told)
        tellers = (teller for teller, _, _ in self._told)
        return [step for step in (*writers, *tellers) if step is not None]

    def edges(self) -> Iterator[Edge]:
        """Each tale against the next, and where its message came from."""
        show = self._orders.steps.show
        for teller, _, message in self._told:
            writer = self._writer(message)
            if writer is not None:
                reason = f"it sent {show(message)}, which the other polled"
                yield writer, teller, "wr", reason
        for (one, *tale), (other, *another) in itertools.pairwise(self._told):
            here, there = (f"{show(m)} is at offset {at}" for at, m in (tale, another))
            reason = f"here {here} of key {self._key}, and there {there}"
            yield one, other, "contradicts", reason

    def _writer(self, message: Hashable) -> Step | None:
        return self._orders.writer.get((self._key, message))

    def _teller(self, offset: int, message: Hashable) -> Step:
        """Who first said that a message is at an offset."""
        record = Record(self._key, offset, message)
        writer = self._writer(message)
        if writer is not None and record in writer.sends:
            return writer
        readers = self._orders.readers[self._key, message]
        return next(step for step in readers if record in step.polls)


def _reads_of_nothing(orders: Orders, found: Breaches) -> None:
    """G1a, a message that was never sent for sure, and messages out of nowhere."""
    for (key, message), readers in orders.readers.items():
        reader = next((step for step in readers if step.outcome == "ok"), None)
        if reader is None:
            continue
        writer = orders.writer.get((key, message))
        polled = f"{_who(reader)} polled {orders.steps.show(message)} of key {key}"
        if writer is None:
            found.add("garbage-read", [reader], f"{polled}, which nobody sent.", key)
        elif writer.outcome == "fail":
            found.add(
                "G1a",
                [writer, reader],
                f"{polled}, which {_who(writer)} failed to send.",
                key,
                [(writer, reader, "wr", f"{polled}, though sending it failed")],
            )


def _precommitted_reads(orders: Orders, found: Breaches) -> None:
    for step in orders.steps.transactions():
        sent = {(record.key, record.message) for record in step.sends}
        for record in step.polls:
            if (record.key, record.message) in sent:
                found.add(
                    "precommitted-read",
                    [step],
                    f"{_who(step)} polled {orders.steps.show(record.message)} of key "
                    f"{record.key}, which it sent itself and had not committed yet.",
                    record.key,
                )
                break


def _lost_writes(orders: Orders, found: Breaches) -> None:
    """Messages that nobody read, though somebody read further.

    A message at several offsets must be read only from the last of them on, and reading
    it shows only that the first was reached.
    """
    for key, log in orders.logs.items():
        reached, furthest = -1, None
        for message, index in log.first.items():
            if index > reached and (key, message) in orders.read_ok:
                reached, furthest = index, message
        if furthest is None:
            continue
        readers = orders.readers[key, furthest]
        reader = next(step for step in readers if step.outcome == "ok")
        for message, index in log.last.items():
            writer = orders.writer.get((key, message))
            if (
                index <= reached
                and (key, message) not in orders.read_ok
                and writer is not None
                and orders.must_have_happened(writer)
            ):
                found.add(
                    "lost-write",
                    [writer, reader],
                    f"{_who(writer)} sent {orders.steps.show(message)} to key {key}, "
                    f"offset {log.offsets[index]}, and nobody polled it, though "
                    f"{_who(reader)} polled {orders.steps.show(furthest)} at offset "
                    f"{log.offsets[reached]}.",
                    key,
                    _passed_by(orders, key, message, reader, furthest),
                )


def _passed_by(
    orders: Orders, key: Hashable, message: Hashable, reader: Step, seen: Hashable
) -> Iterator[Edge]:
    """Why a message was there to be read: it lies before, or where, another was."""
    writer, other = orders.writer[key, message], orders.writer.get((key, seen))
    show, log = orders.steps.show, orders.logs[key]
    low, high = log.offsets[log.last[message]], log.offsets[log.first[seen]]
    lies = (
        f"{show(message)} is at offset {low} of key {key}, and {show(seen)} at {high}"
    )
    if other is not None:
        yield other, reader, "wr", f"it sent {show(seen)}, which the other polled"
        yield writer, other, "log-order", lies
    else:
        yield writer, reader, "log-order", lies


def _unseen(orders: Orders, found: Breaches) -> None:
    for (key, message), writer in orders.writer.items():
        if writer.outcome == "ok" and (key, message) not in orders.read_ok:
            found.add(
                "unseen",
                [writer],
                f"{_who(writer)} was acknowledged {orders.steps.show(message)} of key "
                f"{key}, and nobody ever polled it.",
                key,
            )


def _inside(
    orders: Orders, found: Breaches, step: Step, kind: str, records: list[Record]
) -> None:
    """Successive records of a key in one transaction."""
    for key, of_key in by_key(records).items():
        if kind == "poll" and key in step.rebalanced:
            continue
        verb = "polled" if kind == "poll" else "sent"
        for a, b in itertools.pairwise(of_key):
            delta, skipped = _stride(orders, a, b)
            if delta == 1:
                continue
            name, why = f"int-nonmonotonic-{kind}", "has them in another order"
            if delta > 1:
                name, why = f"int-{kind}-skip", f"has {_list(orders, skipped)} between"
            show = orders.steps.show
            found.add(
                name,
                [step],
                f"{_who(step)} {verb} {show(a.message)} and then {show(b.message)} of "
                f"key {key}, whose log {why}.",
                key,
            )


def _by_process(orders: Orders) -> Iterable[list[Step]]:
    processes: dict[int | str, list[Step]] = {}
    for step in orders.steps.all:
        processes.setdefault(step.op.process, []).append(step)
    return processes.values()


def _between_polls(orders: Orders, found: Breaches, steps: Iterable[Step]) -> None:
    """Where a client goes on reading: right after what it last read and committed."""
    last: dict[Hashable, tuple[Step, Record]] = {}
    for step in steps:
        if step.assigned is not None:
            last = _kept(step, last)
            continue
        polls = by_key(step.polls)
        for key, a, b, before in _turns(last, polls):
            delta, skipped = _stride(orders, a, b)
            text = (
                f"{_who(step)} went on to poll {orders.steps.show(b.message)} of key "
                f"{key} after {orders.steps.show(a.message)} (op {before.op.index})"
            )
            order = _process_order(before, step)
            if delta > 1:
                more = f"{text}, and skipped {_list(orders, skipped)}."
                left = _left_out(orders, key, skipped, step)
                edges = itertools.chain([order], left)
                found.add("poll-skip", [before, step], more, key, edges)
            elif delta < 1:
                more = f"{text}, and so went back in the log."
                back = _log_order(orders, step, b, before, a)
                steps_back = [before, step]
                found.add("nonmonotonic-poll", steps_back, more, key, [order, back])
        if step.outcome == "ok":
            last |= {key: (step, of_key[-1]) for key, of_key in polls.items()}


def _between_sends(orders: Orders, found: Breaches, steps: Iterable[Step]) -> None:
    last: dict[Hashable, tuple[Step, Record]] = {}
    for step in steps:
        if step.assigned is not None:
            last = _kept(step, last)
            continue
        if step.outcome == "fail":
            continue
        sends = by_key(step.sends)
        for key, a, b, before in _turns(last, sends):
            if _stride(orders, a, b)[0] < 1:
                found.add(
                    "nonmonotonic-send",
                    [before, step],
                    f"{_who(step)} sent {orders.steps.show(b.message)} to key {key} "
                    f"after {orders.steps.show(a.message)} (op {before.op.index}), and "
                    "the log has them in another order.",
                    key,
                    [
                        _process_order(before, step),
                        _log_order(orders, step, b, before, a),
                    ],
                )
        last |= {key: (step, of_key[-1]) for key, of_key in sends.items()}


def _process_order(before: Step, after: Step) -> Edge:
    reason = f"process {before.op.process} ran op {before.op.index} first"
    return before, after, "process", reason


def _log_order(orders: Orders, low: Step, a: Record, high: Step, b: Record) -> Edge:
    """The record `a` of one step is not after the record `b` of another."""
    show, log = orders.steps.show, orders.logs[a.key]
    at_a, at_b = (log.offsets[log.first[record.message]] for record in (a, b))
    reason = f"{show(a.message)} is at offset {at_a} of key {a.key}"
    if a.message != b.message:
        reason += f", and {show(b.message)} at {at_b}"
    return low, high, "log-order", reason


def _left_out(
    orders: Orders, key: Hashable, skipped: Iterable[Hashable], step: Step
) -> Iterator[Edge]:
    """Who sent what a poll passed over."""
    for message in itertools.islice(skipped, SHOWN_MAX):
        writer = orders.writer.get((key, message))
        if writer is not None:
            reason = (
                f"it sent {orders.steps.show(message)}, which the other passed over"
            )
            yield writer, step, "skipped", reason


def _kept(
    step: Step, last: dict[Hashable, tuple[Step, Record]]
) -> dict[Hashable, tuple[Step, Record]]:
    """What an assignment leaves of a client's places in logs."""
    assert step.assigned is not None
    if step.outcome == "fail":
        return last
    if step.rewinds:
        return {}
    return {key: place for key, place in last.items() if key in step.assigned}


def _turns(
    last: Mapping[Hashable, tuple[Step, Record]],
    records: Mapping[Hashable, Sequence[Record]],
) -> Iterator[tuple[Hashable, Record, Record, Step]]:
    """(key, last record before, first record now, the step before) of each key."""
    for key, of_key in records.items():
        if key in last:
            before, record = last[key]
            yield key, record, of_key[0], before


def _stride(orders: Orders, a: Record, b: Record) -> tuple[int, list[Hashable]]:
    """How far `b` is after `a` in their log, 1 if unknown, and what is between them."""
    log = orders.logs.get(a.key)
    if log is None or a.message not in log.first or b.message not in log.first:
        return 1, []
    low, high = log.first[a.message], log.first[b.message]
    return high - low, log.between(low + 1, high)


def _who(step: Step) -> str:
    return f"process {step.op.process} (op {step.op.index})"


def _list(orders: Orders, messages: Sequence[Hashable]) -> str:
    return listed(list(map(orders.steps.show, messages)), SHOWN_MAX)
