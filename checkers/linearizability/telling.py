"""What evidence says, for a reader: a name, a sentence or two, and a witness.

There is one function for each class of `evidence`. It may add operations and edges to
the witness that it is given; a cycle among these edges is the contradiction.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, get_args

from checkers.findings import enumerated
from checkers.linearizability import evidence
from checkers.linearizability.lost import LOST_WRITE
from checkers.linearizability.specification import show
from checkers.linearizability.words import duration, listed, only_failed, wanted
from harness.verdict import AllOf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from checkers.linearizability.evidence import Evidence
    from checkers.linearizability.intervals import Item
    from checkers.linearizability.lost import Lost
    from checkers.linearizability.words import Witness, Words

OPS_MAX: Final = 60
"""Operations in a witness; of a larger conflict the latest are shown."""

STATES_MAX: Final = 6
"""States named in a sentence; all are in the details."""

VALUES_MAX: Final = 8
"""Values on a stack that a sentence names."""

OTHERS_MAX: Final = 6
"""Operations on an element of a set that a sentence names."""

PERHAPS_INITIAL: Final = "perhaps_initial"
"""In an anomaly's details: the value that was read, which nobody had written, where it
may have been there from the start."""

INITIAL_CHARS_MAX: Final = 40
"""Of a value that could be given as an option in a sentence."""

ANOMALIES: Final = AllOf(
    {
        *("cas-cycle", "duplicate-element", "duplicate-value", "element-from-future"),
        *("failed-element", "failed-value", "false-empty", "fifo-violation"),
        *("incomparable-reads", "lifo-violation", "priority-violation"),
        *("read-from-future", "read-of-failed-write", "read-of-unwritten-value"),
        *("set-violation", "unknown-element", "unknown-value", "value-from-future"),
        LOST_WRITE,
        *get_args(evidence.Surprise),
    }
)
"""All names that are given here."""


class Told(NamedTuple):
    """What an anomaly says.

    Attributes:
        name: The field's name for it.
        text: Why it is impossible, in one or two sentences.
        details: Figures and values, for the anomaly's details.
    """

    name: str
    text: str
    details: Mapping[str, Any] = MappingProxyType({})


def tell(why: Evidence, witness: Witness) -> Told:
    """Name and sentences for evidence; its operations go into `witness`."""
    match why:
        case evidence.Unwritten():
            return unwritten(why, witness)
        case evidence.Replaced():
            return replaced(why, witness)
        case evidence.ReplacedTwice():
            return replaced_twice(why, witness)
        case evidence.CasCircle():
            return cas_circle(why, witness.words)
        case evidence.OutOfStage():
            return out_of_stage(why, witness)
        case evidence.Interleaved():
            return interleaved(why, witness.words)
        case evidence.Outgrown():
            return outgrown(why, witness)
        case evidence.OutOfBounds():
            return out_of_bounds(why, witness)
        case evidence.Unknown():
            return unknown(why, witness)
        case evidence.TakenEarly():
            return taken_early(why, witness)
        case evidence.TakenTooOften():
            return taken_too_often(why, witness.words)
        case evidence.FalseEmpty():
            return false_empty(why, witness)
        case evidence.Overtaken():
            return overtaken(why, witness)
        case evidence.Overdue():
            return overdue(why, witness.words)
        case evidence.SmallerInside():
            return smaller_inside(why, witness)
        case evidence.NoBottom():
            return no_bottom(why, witness.words)
        case evidence.OutOfRank():
            return out_of_rank(why, witness)
        case evidence.Doubled():
            return doubled(why, witness.words)
        case evidence.Incomparable():
            return incomparable(why, witness)
        case evidence.Misplaced():
            return misplaced(why, witness.words)
        case evidence.Unorderable():
            return unorderable(why, witness)


# Registers


def unwritten(why: evidence.Unwritten, witness: Witness) -> Told:
    """Nobody had written the value that was found."""
    words, reader = witness.words, why.reader
    value, past = wanted(reader), words.past(reader)
    may_be_initial = why.at_first and len(value) <= INITIAL_CHARS_MAX
    details = {PERHAPS_INITIAL: value} if may_be_initial else {}
    if why.failed:
        witness.add(reader)
        reason = f"{past}, which only a failed write wrote"
        first = why.failed[0].index
        witness.link(first, reader.position, "reads-from", reason)
        text = f"{past}, but {only_failed(f'write {value}', why.failed)}"
        return Told("read-of-failed-write", text, details)
    if why.later is not None:
        witness.realtime(reader, why.later)
        witness.reads_from(why.later, reader)
        return Told("read-from-future", words.too_early(reader, why.later), details)
    witness.add(reader)
    text = f"{past}, but nobody ever wrote {value}."
    return Told("read-of-unwritten-value", text, details)


def replaced(why: evidence.Replaced, witness: Witness) -> Told:
    """The value had been replaced; the cycle is old value, new value, old value."""
    words, stale, fresh = witness.words, why.stale, why.fresh
    witness.add(*why.producers[-OPS_MAX:])
    if why.early is not None:
        witness.realtime(why.early, why.later)
    witness.realtime(fresh, stale)
    if len(why.producers) == 1:
        (producer,) = why.producers
        witness.reads_from(producer, stale)
        if why.early is not None:
            witness.reads_from(producer, why.early)
    new = why.source or fresh
    if new is not fresh:
        witness.reads_from(new, fresh)
    if new is not why.later:
        witness.reads_from(new, why.later)
    value = wanted(stale)
    reason = (
        f"{words.noun(new)} shows that {value} was replaced, and it did not come "
        "back, so whatever found it came first"
    )
    witness.must_precede(stale, new, reason)
    text = (
        f"{words.past(stale)} although {words.noun(fresh)} had returned "
        f"{words.ahead(fresh, stale)} that {words.verb(stale)} began"
    )
    if why.early is None:
        text = f"{text}, and {value} is only the initial value."
    else:
        text = (
            f"{text}, and {value} had been replaced by then: {words.noun(why.early)} "
            f"had returned {words.ahead(why.early, why.later)} "
            f"{words.noun(why.later)} began."
        )
    return Told("stale-read" if stale.operation.f == "read" else "lost-update", text)


def replaced_twice(why: evidence.ReplacedTwice, witness: Witness) -> Told:
    """Whichever of the two cas came first replaced the value."""
    words, value = witness.words, show(why.value)
    reason = f"it replaced {value}, which did not come back"
    witness.must_precede(why.first, why.second, reason)
    witness.must_precede(why.second, why.first, reason)
    text = (
        f"{words.past(why.second)} and {words.past(why.first)}, but {value} "
        "was there only once, and whichever came first replaced it."
    )
    return Told("lost-update", text)


def cas_circle(why: evidence.CasCircle, words: Words) -> Told:
    """No value of the circle can have been the first."""
    text = (
        f"{words.past(why.latest)}, but {listed(why.values)} came about only from one "
        "another, by cas, and none of them was there to begin with."
    )
    return Told("cas-cycle", text)


def out_of_stage(why: evidence.OutOfStage, witness: Witness) -> Told:
    """Cas say which came first, and real time says otherwise."""
    words, late, value = witness.words, why.late, show(why.value)
    witness.must_precede(late, why.early, f"{value} came first")
    text = words.although(late, why.early)
    if why.same:
        return Told("read-from-future", f"{text}, and nobody else wrote {value}.")
    text = (
        f"{text}, and by then {value} had been replaced, by cas, and it did not "
        "come back."
    )
    return Told("lost-update" if late.operation.f == "cas" else "stale-read", text)


def interleaved(why: evidence.Interleaved, words: Words) -> Told:
    """Each of two chains must precede the other."""
    text = words.although(why.late, why.early)
    if why.opening is None or why.closing is None:
        text = f"{text}, and what it depends on began with the initial value."
    else:
        text = (
            f"{text}, so {show(why.value)} came later; but "
            f"{words.noun(why.closing)} began only after {words.noun(why.opening)} had "
            "returned, and neither value came twice."
        )
    names = {"read": "stale-read", "cas": "lost-update"}
    return Told(names.get(why.late.operation.f, "nonlinearizable"), text)


def outgrown(why: evidence.Outgrown, witness: Witness) -> Told:
    """The read came before what it lacks."""
    words, stale, shown = witness.words, why.stale, why.shown
    witness.realtime(shown, stale)
    reason = f"{words.past(stale)}, which lacks what {words.noun(shown)} shows"
    witness.must_precede(stale, shown, reason)
    text = (
        f"{words.past(stale)} although {words.noun(shown)} had returned "
        f"{words.ahead(shown, stale)} that read began, and nothing replaced "
        "the value in between."
    )
    return Told("stale-read", text)


def told_lost(lost: Lost, stale: Told, witness: Witness) -> Told:
    """What is told of a stale read that missed a write which is gone for good."""
    witness.add(lost.write)
    where = "" if lost.node is None else f" on {lost.node}"
    count = len(lost.missed_by)
    reads = f"all {count} reads" if count > 1 else "the only read"
    text = (
        f"{witness.words.noun(lost.write)} was acknowledged and never seen again"
        f"{where}: {reads} that began later{where} found what was there before it, "
        f"the last one {duration(lost.last_ns)} later"
    )
    return Told(LOST_WRITE, f"{text}; {stale.text}", stale.details)


# Counters


def out_of_bounds(why: evidence.OutOfBounds, witness: Witness) -> Told:
    """The read differs from every sum that the counter can have had."""
    read, past = why.read, witness.words.past(why.read)
    shown = why.adds[-OPS_MAX + 1 :]
    witness.add(*shown, read)
    for add in shown:
        if add.returned < read.invoked:
            witness.realtime(add, read)
    details = {"conflict_calls": len(why.adds) + 1}
    assert isinstance(read.operation.result, int)
    if read.operation.result < why.least:
        reached = f"{why.least} had been reached for certain when that began"
        return Told("stale-read", f"{past}, but {reached}.", details)
    most = f"no more than {why.most} can have been reached by then"
    return Told("read-from-future", f"{past}, but {most}.", details)


# Containers


def unknown(why: evidence.Unknown, witness: Witness) -> Told:
    """What was found had not been put in, or the attempt failed, or came too late."""
    past, value = witness.words.past(why.found), show(why.value)
    thing = "element" if why.f == "add" else "value"
    if why.failed:
        failed_at = why.failed[0].index
        witness.link(failed_at, why.found.position, "reads-from", "though it failed")
        failed = only_failed(f"{why.f} {value}", why.failed)
        return Told(f"failed-{thing}", f"{past}, but {failed}")
    if why.later is not None:
        began_at = why.later.index
        reason = "though it began later"
        witness.link(began_at, why.found.position, "reads-from", reason)
        text = (
            f"{past}, and returned before process {why.later.process}'s {why.f} of "
            f"{value} began, the first there was."
        )
        return Told(f"{thing}-from-future", text)
    put_in = f"added {value}" if why.f == "add" else f"put {value} in"
    return Told(f"unknown-{thing}", f"{past}, but nobody {put_in}.")


def taken_early(why: evidence.TakenEarly, witness: Witness) -> Told:
    """The insert had to come first."""
    reason = "what comes out went in before"
    witness.must_precede(why.insert, why.remove, reason)
    text = witness.words.too_early(why.remove, why.insert)
    return Told("value-from-future", text)


def taken_too_often(why: evidence.TakenTooOften, words: Words) -> Told:
    """Others had taken all that had gone in."""
    *others, last = why.removes
    text = f"{words.past(last)}, but "
    if len(others) == 1:
        text += (
            f"{words.noun(others[0])} had taken it out already, and it had gone in "
            "only once."
        )
    else:
        value = show(last.operation.result)
        text += (
            f"{value} had come out {len(others)} times before, and gone in no more "
            "often."
        )
    return Told("duplicate-value", text)


def false_empty(why: evidence.FalseEmpty, witness: Witness) -> Told:
    """The first of the items would have had to be out."""
    words, empty, first = witness.words, why.empty, why.chain[0]
    value = show(first.value)
    if first.remove is None:
        witness.must_precede(empty, first.insert, f"{value} never came out")
    else:
        witness.must_precede(first.remove, empty, f"{value} had to be out")
    text = f"{words.past(empty)} although {always_inside(words, why.chain)}."
    return Told("false-empty", text)


def overtaken(why: evidence.Overtaken, witness: Witness) -> Told:
    """The first had to be dequeued first."""
    words, first, second = witness.words, why.first, why.second
    dequeue = second.remove
    assert dequeue is not None
    value = show(first.value)
    after = "had not been dequeued"
    if first.remove is not None:
        reason = f"{value} was enqueued before {show(second.value)}"
        witness.must_precede(first.remove, dequeue, reason)
        after = f"was dequeued only later, by {words.actor(first.remove)}"
    text = (
        f"{words.past(dequeue)} although {value} was ahead of it and "
        f"{after}: {words.noun(first.insert)} had returned "
        f"{words.ahead(first.insert, second.insert)} {words.noun(second.insert)} "
        "began."
    )
    return Told("fifo-violation", text)


def overdue(why: evidence.Overdue, words: Words) -> Told:
    """One open dequeue takes one value at most."""
    text = (
        f"{words.past(why.dequeue)} although {listed(why.ahead)} were ahead of what "
        f"was dequeued by then, and only {why.spare} open dequeue"
        f"{'s' * (why.spare > 1)} can have taken one of them."
    )
    return Told("fifo-violation", text)


def smaller_inside(why: evidence.SmallerInside, witness: Witness) -> Told:
    """A smaller value had to leave first."""
    words, remove, first = witness.words, why.remove, why.chain[0]
    if first.remove is not None:
        witness.must_precede(first.remove, remove, "the smaller one leaves first")
    text = (
        f"{words.past(remove)} although something smaller was inside: "
        f"{always_inside(words, why.chain)}."
    )
    return Told("priority-violation", text)


def always_inside(words: Words, chain: Sequence[Item]) -> str:
    """That one of `chain` was inside all the while, as a clause."""
    first = chain[0]
    if len(chain) == 1:
        entered = f"{words.noun(first.insert)} had returned before that began"
        if first.remove is None:
            return f"{entered}, and nobody had taken {show(first.value)} out"
        return f"{entered}, and {words.noun(first.remove)} began only after it returned"
    return (
        f"all the while one of {listed(item.value for item in chain)} was inside: each "
        "went in for certain before the one ahead of it began to be taken out"
    )


def no_bottom(why: evidence.NoBottom, words: Words) -> Told:
    """Every value was pushed too late or popped too early to be at the bottom."""
    some = why.items[:VALUES_MAX]
    more = ", ..." if len(why.items) > VALUES_MAX else ""
    start, end = show(why.start.value), show(why.end.value)
    reasons = []
    for item in some:
        value = show(item.value)
        if item.insert.invoked > why.start.entered:
            reasons.append(f"{value} was pushed after {start} was there")
        elif why.end.remove is None:
            reasons.append(f"{value} was popped and {end} was not")
        else:
            reasons.append(f"{value} was popped before {end} was")
    text = (
        f"{words.past(why.last)}, but of {listed(item.value for item in some)}{more}, "
        "which were on the stack without a break, none can have been at the bottom: "
        f"{', '.join(reasons)}{more}."
    )
    return Told("lifo-violation", text)


# Sets


def out_of_rank(why: evidence.OutOfRank, witness: Witness) -> Told:
    """What was found of the elements puts the late operation first."""
    words, early, late = witness.words, why.early, why.late
    named = " and ".join(show(element) for element in why.elements)
    reason = f"what they found of {named} puts it first"
    witness.must_precede(late, early, reason)
    alone = len(why.elements) == 1
    if alone and late.operation.f == "add" and late.operation.result is not False:
        return Told("element-from-future", words.too_early(early, late))
    text = words.although(late, early)
    if alone:
        return Told("stale-read", f"{text}, so {named} was there already.")
    apart = f"another operation found one of {named} without the other"
    return Told("stale-read", f"{text}, and {apart}.")


def doubled(why: evidence.Doubled, words: Words) -> Told:
    """No order makes a set hold an element twice."""
    text = f"{words.past(why.read)}, but a set holds an element once."
    return Told("duplicate-element", text)


def incomparable(why: evidence.Incomparable, witness: Witness) -> Told:
    """Each of the reads came first."""
    words, first, second = witness.words, why.first, why.second
    x, y = show(why.x), show(why.y)
    witness.must_precede(first, second, f"{y} was not there yet")
    witness.must_precede(second, first, f"{x} was not there yet")
    text = (
        f"{words.past(first)} and {words.past(second)}: one holds {x} and "
        f"not {y}, the other {y} and not {x}, and nothing is "
        "ever removed."
    )
    return Told("incomparable-reads", text)


def misplaced(why: evidence.Misplaced, words: Words) -> Told:
    """The last operation fits into no order of the others on its element."""
    others = [words.noun(call) for call in why.others[:OTHERS_MAX]]
    past, element = words.past(why.last), show(why.last.operation.argument)
    text = f"{past}, but the set began empty."
    if others:
        text = (
            f"{past}, but that fits into no order of what else was done "
            f"with {element}: {', '.join(others)}."
        )
    return Told("stale-read" if why.looks else "set-violation", text)


# Whatever only a search can show


def unorderable(why: evidence.Unorderable, witness: Witness) -> Told:
    """No order of the operations in conflict leads past the stuck one."""
    words, stuck, states = witness.words, why.stuck, why.states
    shown = sorted(why.calls, key=lambda call: call.position)[-OPS_MAX:]
    witness.add(*shown)
    witness.all_realtime(shown)
    is_register = bool(words.model.reads)
    text = (
        f"{words.past(stuck)}, but no order of the {len(why.calls)} operations "
        "in conflict allows that"
    )
    if len(why.calls) == 1 and not is_register:
        text = (
            f"{words.past(stuck)}, but whichever of the operations before it took "
            "effect, and in whatever order, it does not fit"
        )
    plain = all(type(state) in {str, int} for state in states)
    if states and (is_register or plain):
        held = enumerated([show(state) for state in states[:STATES_MAX]], "or")
        more = ", ..." if len(states) > STATES_MAX and not is_register else ""
        text += f": by then the value could only be {held}{more}"
    if not why.whole:
        text += ", whatever came before them"
    details = {
        "conflict_calls": len(why.calls),
        "from_the_start": why.whole,
        "possible_states": [show(state) for state in states],
    }
    return Told(why.surprise, text + ".", details)
