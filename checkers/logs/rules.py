"""The rules of a log, each a function that yields its breaches.

A step in a client's reading of a log should lead from one index to the next: further is
a *skip*, not as far is *nonmonotonic*. Steps whose indices nobody knows prove nothing.

Each rule is tested by the name of its breach in `test_kafka.py`.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal

from checkers.logs.evidence import (
    AbortedRead,
    BetweenPolls,
    BetweenSends,
    Duplicate,
    GarbageRead,
    InconsistentOffset,
    Inside,
    LostWrite,
    PrecommittedRead,
    Unseen,
)
from checkers.logs.steps import by_key

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    from checkers.logs.evidence import Breach
    from checkers.logs.orders import Orders
    from checkers.logs.steps import Record, Step

    Place = tuple[Step, Record]
    """Where a client is in a log: the step that took it there, and its last record."""


EVERY_KEY = object()


def judge(orders: Orders) -> Iterator[Breach]:
    """All that is broken. Cost: linear."""
    yield from inconsistent_offsets(orders)
    yield from duplicates(orders)
    yield from reads_of_nothing(orders)
    yield from precommitted_reads(orders)
    yield from lost_writes(orders)
    yield from unseen(orders)
    for step in orders.steps.transactions():
        yield from inside(orders, step, "poll", step.polls)
        yield from inside(orders, step, "send", step.sends)
    for steps in by_process(orders):
        yield from between_polls(orders, steps)
        yield from between_sends(orders, steps)


def inconsistent_offsets(orders: Orders) -> Iterator[Breach]:
    """An offset holds one message, whomever one asks."""
    for key, log in orders.logs.items():
        for offset in log.offsets:
            if len(log.at[offset]) > 1:
                yield InconsistentOffset(key, offset, (*log.messages_at(offset),))


def duplicates(orders: Orders) -> Iterator[Breach]:
    """A message is at one offset."""
    for key, log in orders.logs.items():
        for message, first in log.first.items():
            if log.last[message] != first:
                offsets = tuple(at for at in log.offsets if message in log.at[at])
                yield Duplicate(key, message, offsets)


def reads_of_nothing(orders: Orders) -> Iterator[Breach]:
    """G1a, a message that was never sent for sure, and messages out of nowhere."""
    for (key, message), readers in orders.readers.items():
        reader = next((step for step in readers if step.outcome == "ok"), None)
        if reader is None:
            continue
        writer = orders.writer.get((key, message))
        if writer is None:
            yield GarbageRead(key, message, reader)
        elif writer.outcome == "fail":
            yield AbortedRead(key, message, reader, writer)


def precommitted_reads(orders: Orders) -> Iterator[Breach]:
    """A transaction does not poll what it sent and has not committed yet."""
    for step in orders.steps.transactions():
        sent = {(record.key, record.message) for record in step.sends}
        for record in step.polls:
            if (record.key, record.message) in sent:
                yield PrecommittedRead(step, record)
                break


def lost_writes(orders: Orders) -> Iterator[Breach]:
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
                yield LostWrite(key, message, writer, reader, furthest)


def unseen(orders: Orders) -> Iterator[Breach]:
    """What was acknowledged is polled in the end, if anybody looks for it."""
    for key, message, writer, has_looked in never_polled(orders):
        if has_looked:
            yield Unseen(key, message, writer)


def never_polled(
    orders: Orders,
) -> Iterator[tuple[Hashable, Hashable, Step, bool]]:
    """What was acknowledged and never polled, and whether somebody looked for it.

    So did a client to which the key was assigned, and whose last act is a poll that
    ended ok and began after the acknowledgement. Where there is none, the system may
    have been down until the end, and its logs may hold the message.
    """
    looks = last_looks(orders)
    for (key, message), writer in orders.writer.items():
        if writer.outcome == "ok" and (key, message) not in orders.read_ok:
            looked = max(looks.get(key, -1), looks.get(EVERY_KEY, -1))
            yield key, message, writer, looked > writer.op.index


def last_looks(orders: Orders) -> Mapping[Hashable, int]:
    """Key -> where the last poll of it began that was its client's last act, and ok.

    EVERY_KEY stands for polls of clients that were assigned nothing, or subscribe.
    """
    looks: dict[Hashable, int] = {}
    for steps in by_process(orders):
        last = steps[-1]
        if not last.asks or last.outcome != "ok":
            continue
        assigned: Iterable[Hashable] = (EVERY_KEY,)
        for step in steps:
            if step.assigned is not None and step.outcome != "fail":
                is_all = step.role == "subscribe"
                assigned = (EVERY_KEY,) if is_all else step.assigned
        looks |= {key: max(looks.get(key, -1), last.begun) for key in assigned}
    return looks


def inside(
    orders: Orders, step: Step, kind: Literal["poll", "send"], records: list[Record]
) -> Iterator[Breach]:
    """Successive records of a key in one transaction."""
    for key, of_key in by_key(records).items():
        if kind == "poll" and key in step.rebalanced:
            continue
        for a, b in itertools.pairwise(of_key):
            stride = orders.stride(a, b)
            if stride != 1:
                yield Inside(step, kind, a, b, is_skip=stride > 1)


def by_process(orders: Orders) -> Iterable[list[Step]]:
    """The steps of each client, in order."""
    processes: dict[int | str, list[Step]] = {}
    for step in orders.steps.all:
        processes.setdefault(step.op.process, []).append(step)
    return processes.values()


def between_polls(orders: Orders, steps: Iterable[Step]) -> Iterator[Breach]:
    """Where a client goes on reading: right after what it last read and committed."""
    last: dict[Hashable, Place] = {}
    for step in steps:
        if step.assigned is not None:
            last = kept(step, last)
            continue
        polls = by_key(step.polls)
        for (before, a), b in turns(last, polls):
            stride = orders.stride(a, b)
            if stride != 1:
                yield BetweenPolls(before, a, step, b, is_skip=stride > 1)
        if step.outcome == "ok":
            last |= {key: (step, of_key[-1]) for key, of_key in polls.items()}


def between_sends(orders: Orders, steps: Iterable[Step]) -> Iterator[Breach]:
    """What a client sends lies behind what it sent to the same log before."""
    last: dict[Hashable, Place] = {}
    for step in steps:
        if step.assigned is not None:
            last = kept(step, last)
            continue
        if step.outcome == "fail":
            continue
        sends = by_key(step.sends)
        for (before, a), b in turns(last, sends):
            if orders.stride(a, b) < 1:
                yield BetweenSends(before, a, step, b)
        last |= {key: (step, of_key[-1]) for key, of_key in sends.items()}


def kept(step: Step, last: dict[Hashable, Place]) -> dict[Hashable, Place]:
    """What an assignment leaves of a client's places in logs."""
    assert step.assigned is not None
    if step.outcome == "fail":
        return last
    if step.rewinds:
        return {}
    return {key: place for key, place in last.items() if key in step.assigned}


def turns(
    last: Mapping[Hashable, Place], records: Mapping[Hashable, Sequence[Record]]
) -> Iterator[tuple[Place, Record]]:
    """Of each key, where the client was, and the first record that it went on to."""
    for key, of_key in records.items():
        if key in last:
            yield last[key], of_key[0]
