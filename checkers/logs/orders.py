"""Who sent what, who saw it, and in which order each key's log has it.

The order of a log is read off offsets: those of sends that must have happened, and
those of all polls, of failed transactions too, since a poller is never shown what may
yet be undone. Offsets may have gaps, where there are records of transactions that
nobody sees; an *index* counts only the offsets of which a message is known.

A send of unknown outcome must have happened when somebody read one of the messages of
its transaction. So it is all or nothing, and what it was told of offsets holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from checkers.logs.steps import Record, Step, Steps
    from harness.history import History

from checkers.tallies import Kinds, bad_op


@dataclass
class Log:
    """One key's log.

    Attributes:
        at: Offset -> the messages that were said to be there; one, if all is well.
        offsets: Index -> offset.
        first, last: Message -> the lowest and the highest index at which it was.
    """

    at: dict[int, set[Hashable]] = field(default_factory=dict)
    offsets: list[int] = field(default_factory=list)
    first: dict[Hashable, int] = field(default_factory=dict)
    last: dict[Hashable, int] = field(default_factory=dict)

    def note(self, record: Record) -> None:
        """Somebody said that a message is at an offset."""
        if record.offset is not None:
            self.at.setdefault(record.offset, set()).add(record.message)

    def number(self) -> None:
        """Count the offsets, when all is noted."""
        self.offsets = sorted(self.at)
        for index, offset in enumerate(self.offsets):
            for message in self.messages_at(offset):
                self.first.setdefault(message, index)
                self.last[message] = index

    def between(self, low: int, high: int) -> list[Hashable]:
        """The messages at the indices from `low` up to `high`, the latter excluded."""
        return [
            message
            for offset in self.offsets[low:high]
            for message in self.messages_at(offset)
        ]

    def messages_at(self, offset: int) -> list[Hashable]:
        """The messages that were said to be at an offset, in an order of their own.

        Sets of texts are in another order in each process.
        """
        return sorted(self.at[offset], key=repr)


@dataclass
class Orders:
    """All logs, and where each message came from and went.

    Attributes:
        steps: What clients did.
        logs: By key.
        writer: (key, message) -> who sent it; a failed send only if there is no other.
        readers: (key, message) -> the transactions that polled it, failed ones too.
        read_ok: What transactions polled that ended ok.
    """

    steps: Steps
    logs: dict[Hashable, Log]
    writer: dict[tuple[Hashable, Hashable], Step]
    readers: dict[tuple[Hashable, Hashable], list[Step]]
    read_ok: set[tuple[Hashable, Hashable]]

    def must_have_happened(self, step: Step) -> bool:
        """Whether the sends of a transaction took effect for sure."""
        if step.outcome != "info":
            return step.outcome == "ok"
        return any((sent.key, sent.message) in self.read_ok for sent in step.sends)

    def stride(self, a: Record, b: Record) -> int:
        """By how many indices `b` is after `a` in their log; 1 if nobody knows."""
        log = self.logs.get(a.key)
        if log is None or a.message not in log.first or b.message not in log.first:
            return 1
        return log.first[b.message] - log.first[a.message]

    def skipped(self, a: Record, b: Record) -> list[Hashable]:
        """The messages between `a` and `b` in their log."""
        log = self.logs[a.key]
        return log.between(log.first[a.message] + 1, log.first[b.message])


def find_orders(history: History, steps: Steps) -> Orders:
    """The logs of all keys. Cost: linear, but for sorting offsets.

    Raises:
        HistoryError: A message was sent to a key twice, so it has no one writer; or one
            was polled of a kind that nobody sent to that key.
    """
    kinds = Kinds()
    orders = Orders(steps, {}, {}, {}, set())
    for step in steps.transactions():
        for sent in step.sends:
            name = (sent.key, sent.message)
            kinds.note(sent.key, steps.messages[sent.message])
            other = orders.writer.get(name)
            if other is None or other.outcome == "fail":
                orders.writer[name] = step
            elif step.outcome != "fail":
                raise bad_op(
                    history,
                    step.op,
                    f"sends {steps.show(sent.message)} to key {sent.key}, as op "
                    f"{other.op.index} does: the messages of a key must differ",
                )
        for polled in step.polls:
            name = (polled.key, polled.message)
            orders.readers.setdefault(name, []).append(step)
            if step.outcome == "ok":
                orders.read_ok.add(name)
    for (key, message), readers in orders.readers.items():
        if (key, message) not in orders.writer:
            kinds.judge(history, readers[0].op, key, steps.messages[message])
    for step in steps.transactions():
        told = [*step.sends] if orders.must_have_happened(step) else []
        for record in [*told, *step.polls]:
            orders.logs.setdefault(record.key, Log()).note(record)
    for log in orders.logs.values():
        log.number()
    return orders
