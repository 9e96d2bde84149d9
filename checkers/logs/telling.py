"""The breaches of a log's rules in words, each with its witness.

The witness of what more than one operation shows has these kinds of edges: `process`,
one client did the one before the other; `wr`, the one polled what the other sent;
`log-order`, what the one saw or sent lies before what the other did; `skipped`, what
the one sent was passed over by the other; `contradicts`, they tell two tales of a log.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from checkers.findings import draw, listed
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
from checkers.logs.steps import Record
from harness.verdict import Anomaly

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from checkers.logs.evidence import Breach
    from checkers.logs.orders import Orders
    from checkers.logs.steps import Step

MESSAGES_TOLD_MAX = 5
"""Messages named in a sentence, and tales of a log in a witness."""

Edge = tuple["Step", "Step", str, str]
"""An arrow of a witness: from one step to another, kind, and reason."""


def anomaly_of(
    breach: Breach,
    steps: Sequence[Step],
    text: str,
    key: Hashable,
    edges: Iterable[Edge] = (),
) -> Anomaly:
    """An anomaly that these steps show; edges are why they don't fit together."""
    ops = tuple(dict.fromkeys(step.op.index for step in steps))
    arrows = (
        (source.op.index, target.op.index, kind, reason)
        for source, target, kind, reason in edges
        if source is not target
    )
    witness = draw(arrows, ops) if len(ops) > 1 else None
    return Anomaly(breach.name, ops, text[0].upper() + text[1:], witness, key)


def who(step: Step) -> str:
    """Who did a step, and where."""
    return f"process {step.op.process} (op {step.op.index})"


class Teller:
    """Tells the breaches of the logs of one history."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.show = orders.steps.show

    def tell(self, breach: Breach) -> Anomaly:
        """The anomaly of a breach."""
        match breach:
            case InconsistentOffset():
                return self.inconsistent_offset(breach)
            case Duplicate():
                return self.duplicate(breach)
            case GarbageRead():
                return self.garbage_read(breach)
            case AbortedRead():
                return self.aborted_read(breach)
            case PrecommittedRead():
                return self.precommitted_read(breach)
            case LostWrite():
                return self.lost_write(breach)
            case Unseen():
                return self.unseen(breach)
            case Inside():
                return self.inside(breach)
            case BetweenPolls():
                return self.between_polls(breach)
            case BetweenSends():
                return self.between_sends(breach)

    def show_all(self, messages: Iterable[Hashable]) -> str:
        """Messages for a sentence."""
        return listed(list(map(self.show, messages)), MESSAGES_TOLD_MAX)

    # --- what a log holds --------------------------------------------------------

    def inconsistent_offset(self, breach: InconsistentOffset) -> Anomaly:
        """An offset at which different messages were seen."""
        key, offset, messages = breach.key, breach.offset, breach.messages
        tales = Tales(self.orders, key, [(offset, message) for message in messages])
        return anomaly_of(
            breach,
            tales.steps(),
            f"Offset {offset} of key {key} holds {self.show_all(messages)}, depending "
            "on whom one asks.",
            key,
            tales.edges(),
        )

    def duplicate(self, breach: Duplicate) -> Anomaly:
        """A message that was seen at different offsets."""
        key, message, offsets = breach.key, breach.message, breach.offsets
        tales = Tales(self.orders, key, [(offset, message) for offset in offsets])
        return anomaly_of(
            breach,
            tales.steps(),
            f"{self.show(message)} was sent to key {key} once and is at offsets "
            f"{', '.join(map(str, offsets))}.",
            key,
            tales.edges(),
        )

    # --- what was polled, and what wasn't ----------------------------------------

    def polled(self, breach: GarbageRead | AbortedRead) -> str:
        """Who polled what, as a clause."""
        message = self.show(breach.message)
        return f"{who(breach.reader)} polled {message} of key {breach.key}"

    def garbage_read(self, breach: GarbageRead) -> Anomaly:
        """A message out of nowhere."""
        text = f"{self.polled(breach)}, which nobody sent."
        return anomaly_of(breach, [breach.reader], text, breach.key)

    def aborted_read(self, breach: AbortedRead) -> Anomaly:
        """A message that was not sent."""
        writer, reader, polled = breach.writer, breach.reader, self.polled(breach)
        return anomaly_of(
            breach,
            [writer, reader],
            f"{polled}, which {who(writer)} failed to send.",
            breach.key,
            [(writer, reader, "wr", f"{polled}, though sending it failed")],
        )

    def precommitted_read(self, breach: PrecommittedRead) -> Anomaly:
        """A transaction that polled its own message."""
        step, record = breach.step, breach.record
        return anomaly_of(
            breach,
            [step],
            f"{who(step)} polled {self.show(record.message)} of key {record.key}, "
            "which it sent itself and had not committed yet.",
            record.key,
        )

    def lost_write(self, breach: LostWrite) -> Anomaly:
        """A message that nobody polled, and somebody polled past."""
        key, message, seen = breach.key, breach.message, breach.seen
        low, high = self.between(breach)
        return anomaly_of(
            breach,
            [breach.writer, breach.reader],
            f"{who(breach.writer)} sent {self.show(message)} to key {key}, offset "
            f"{low}, and nobody polled it, though {who(breach.reader)} polled "
            f"{self.show(seen)} at offset {high}.",
            key,
            self.passed_by(breach),
        )

    def between(self, breach: LostWrite) -> tuple[int, int]:
        """The offsets of what was lost, and of what was polled all the same."""
        log = self.orders.logs[breach.key]
        at = log.last[breach.message], log.first[breach.seen]
        return log.offsets[at[0]], log.offsets[at[1]]

    def passed_by(self, breach: LostWrite) -> Iterator[Edge]:
        """Why a message was there to be read: it lies before, or where, another was."""
        writer, reader = breach.writer, breach.reader
        message, seen = self.show(breach.message), self.show(breach.seen)
        low, high = self.between(breach)
        lies = f"{message} is at offset {low} of key {breach.key}, and {seen} at {high}"
        other = self.orders.writer.get((breach.key, breach.seen))
        if other is not None:
            yield other, reader, "wr", f"it sent {seen}, which the other polled"
            yield writer, other, "log-order", lies
        else:
            yield writer, reader, "log-order", lies

    def unseen(self, breach: Unseen) -> Anomaly:
        """A message that nobody polled."""
        return anomaly_of(
            breach,
            [breach.writer],
            f"{who(breach.writer)} was acknowledged {self.show(breach.message)} of key "
            f"{breach.key}, and nobody ever polled it.",
            breach.key,
        )

    # --- the order in which clients poll and send --------------------------------

    def inside(self, breach: Inside) -> Anomaly:
        """A transaction that skips, or is in the wrong order."""
        step, a, b = breach.step, breach.a, breach.b
        why = "has them in another order"
        if breach.is_skip:
            why = f"has {self.show_all(self.orders.skipped(a, b))} between"
        return anomaly_of(
            breach,
            [step],
            f"{who(step)} {'polled' if breach.kind == 'poll' else 'sent'} "
            f"{self.show(a.message)} and then {self.show(b.message)} of key {a.key}, "
            f"whose log {why}.",
            a.key,
        )

    def between_polls(self, breach: BetweenPolls) -> Anomaly:
        """A client that skips between two polls, or goes back."""
        before, a, step, b = breach.before, breach.a, breach.step, breach.b
        how = ", and so went back in the log."
        edges: Iterable[Edge] = [self.log_order(step, b, before, a)]
        if breach.is_skip:
            skipped = self.orders.skipped(a, b)
            how = f", and skipped {self.show_all(skipped)}."
            edges = self.passed_over(a.key, skipped, step)
        return anomaly_of(
            breach,
            [before, step],
            f"{who(step)} went on to poll {self.show(b.message)} of key {a.key} after "
            f"{self.show(a.message)} (op {before.op.index}){how}",
            a.key,
            [process_order(before, step), *edges],
        )

    def between_sends(self, breach: BetweenSends) -> Anomaly:
        """A client whose messages are in another order in the log."""
        before, a, step, b = breach.before, breach.a, breach.step, breach.b
        return anomaly_of(
            breach,
            [before, step],
            f"{who(step)} sent {self.show(b.message)} to key {a.key} after "
            f"{self.show(a.message)} (op {before.op.index}), and the log has them in "
            "another order.",
            a.key,
            [process_order(before, step), self.log_order(step, b, before, a)],
        )

    def log_order(self, low: Step, a: Record, high: Step, b: Record) -> Edge:
        """The record `a` of one step is not after the record `b` of another."""
        log = self.orders.logs[a.key]
        at_a, at_b = (log.offsets[log.first[record.message]] for record in (a, b))
        reason = f"{self.show(a.message)} is at offset {at_a} of key {a.key}"
        if a.message != b.message:
            reason += f", and {self.show(b.message)} at {at_b}"
        return low, high, "log-order", reason

    def passed_over(
        self, key: Hashable, skipped: Sequence[Hashable], step: Step
    ) -> Iterator[Edge]:
        """Who sent what a poll passed over."""
        for message in skipped[:MESSAGES_TOLD_MAX]:
            writer = self.orders.writer.get((key, message))
            if writer is not None:
                reason = f"it sent {self.show(message)}, which the other passed over"
                yield writer, step, "skipped", reason


def process_order(before: Step, after: Step) -> Edge:
    """One client did the one before the other."""
    reason = f"process {before.op.process} ran op {before.op.index} first"
    return before, after, "process", reason


class Tales:
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
            for offset, message in places[:MESSAGES_TOLD_MAX]
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
