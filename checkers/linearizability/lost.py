"""Stale for a while, or lost: what became of an acknowledged write that a read missed.

A node that lags answers with an old value, and with a fresh one later. A write is lost
if it was acknowledged and never seen again: no read that began after the first one to
miss it found it, or anything newer. One read does not prove that, so:

- a write is lost everywhere if every later read finds what was there before it, and
  more than one node answered such a read;
- it is lost on one node if every later read of that node finds what was there before
  it, the last one at least LAG_NS after the write was acknowledged. Other nodes may
  have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkers.linearizability.calls import Call
    from checkers.linearizability.specification import Model
    from harness.history import History

LOST_WRITE: Final = "lost-write"

LAG_NS: Final = 1_000_000_000
"""No replica that works lags behind for longer."""

CHANGES: Final = frozenset({"write", "cas"})


@dataclass(frozen=True)
class Lost:
    """An acknowledged write that was never seen again.

    Attributes:
        write: What was acknowledged.
        missed_by: The reads that should have found it, or something newer.
        node: The only node that is known to lack it; None if nobody has it.
        last_ns: When the last of these reads began, since the write had returned.
    """

    write: Call
    missed_by: Sequence[Call]
    node: str | None
    last_ns: int


def find_lost(
    history: History, calls: Sequence[Call], stale: Call, model: Model
) -> Lost | None:
    """The write that `stale` missed, if it was lost and not just late.

    Args:
        history: What the calls' positions refer to.
        calls: All calls of the key.
        stale: A read that returned what had been replaced before it began.
        model: Of a register.

    Cost: linear in `calls`, times the values that were read after `stale` began.
    """
    if stale.operation.f not in model.reads:
        return None
    changes = [call for call in calls if call.operation.f in CHANGES]
    known = [call for call in changes if call.returned < stale.invoked]
    if not known:
        return None
    write = max(known, key=lambda call: call.invoked)
    old = _old_values(changes, write, model)
    later = [call for call in calls if call.invoked >= stale.invoked]
    reads = [call for call in later if call.operation.f in model.reads]
    missed = [call for call in reads if call.operation.result in old]
    swapped = any(
        call.operation.f == "cas" and call.operation.argument not in old
        for call in later
    )
    if len(missed) == len(reads) and not swapped and len(_who(history, missed)) > 1:
        return Lost(write, missed, None, _waited_ns(history, write, missed))
    node = history[stale.position].node
    if node is None:
        return None
    here = [call for call in reads if history[call.position].node == node]
    waited_ns = _waited_ns(history, write, here)
    if all(call.operation.result in old for call in here) and waited_ns >= LAG_NS:
        return Lost(write, here, node, waited_ns)
    return None


def _old_values(changes: Sequence[Call], write: Call, model: Model) -> set[Any]:
    """What was there before `write`, and can't have been there after it.

    That is a value all of whose writers had returned before `write` began; and the
    initial one, if nobody writes it.
    """
    old = {_value(call) for call in changes if call.returned < write.invoked}
    old.add(model.initial)
    return old - {_value(call) for call in changes if call.returned >= write.invoked}


def _value(change: Call) -> Any:
    """What a write or cas leaves behind."""
    f, argument, result = change.operation
    return argument if f == "write" else result


def _who(history: History, calls: Sequence[Call]) -> set[Any]:
    """The nodes that answered, or the processes where nodes have no names."""
    ops = [history[call.position] for call in calls]
    return {op.process if op.node is None else op.node for op in ops}


def _waited_ns(history: History, write: Call, reads: Sequence[Call]) -> int:
    """How long after `write` had returned the last of `reads` began."""
    returned = history[write.position]
    if returned.type == "invoke":
        returned = history[history.completion[write.position]]
    last = max(reads, key=lambda call: call.invoked)
    return history[last.position].time - returned.time
