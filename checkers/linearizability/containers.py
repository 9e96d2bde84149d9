"""Sets, queues, stacks and counters: what each operation may return and change.

A remove's completion holds what it returned: a value, or nil if the object was empty,
so nil can't be put in. A failed operation did not happen. So a client whose removes
fail if the object is empty, as in Jepsen's queues, says nothing about emptiness.

A remove that never returned took an unknown value, if any (`UNKNOWN`). A bag has a
choice then, and so has a priority queue with ties. Their states are therefore sets of
possible contents: the power-set construction, as in Porcupine.

Choices:
- Adding to a set what it holds, and removing what it doesn't, is allowed, unless the
  completion's value is a boolean: then that tells whether the set changed.
- The smallest value leaves a priority queue first, numbers before texts. Of a list the
  first item is the priority, and among equals any may leave first.
- A counter counts in whole numbers: sums of floats depend on their order.
"""

from __future__ import annotations

import enum
from collections import Counter as Tally
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from checkers.linearizability.specification import (
    ILLEGAL,
    Model,
    Operation,
    State,
    failed,
    freeze,
    happened,
    in_order,
    malformed,
    show,
    show_items,
    unknown_function,
)
from harness.override import override

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.history import Op


class Nothing(enum.Enum):
    """Results of a remove that are no value."""

    EMPTY = "nothing: empty"
    UNKNOWN = "unknown"


EMPTY: Final = Nothing.EMPTY
"""The result of a remove that found the object empty."""

UNKNOWN: Final = Nothing.UNKNOWN
"""The result of a remove that never returned."""


# Containers that are filled and drained


@dataclass(frozen=True, slots=True)
class Container(Model):
    """What queues, stacks and bags have in common: one insert, one remove.

    Attributes:
        insert, remove: The names of the two functions.
        thing: What it is called in a sentence.
    """

    initial: State = ()

    name: ClassVar[str]
    summary: ClassVar[str]
    insert: ClassVar[str] = "enqueue"
    remove: ClassVar[str] = "dequeue"
    thing: ClassVar[str] = "queue"
    by_key: ClassVar[bool] = True

    @override
    def operation(self, invoked: Op, completed: Op | None) -> Operation | None:
        if invoked.f not in {self.insert, self.remove}:
            known = f"{self.insert}, {self.remove}"
            raise unknown_function(self, invoked, known)
        if invoked.f == self.insert:
            if invoked.value is None:
                what = f"nil can't be inserted: a {self.remove} of nil found nothing"
                raise malformed(invoked, what)
            value = self.value(invoked)
            return None if failed(completed) else Operation(self.insert, value)
        if failed(completed):
            return None
        if not happened(completed):
            return Operation(self.remove, None, UNKNOWN)
        assert completed is not None
        taken = EMPTY if completed.value is None else self.value(completed)
        return Operation(self.remove, None, taken)

    def value(self, op: Op) -> Hashable:
        """The value that an operation puts in or takes out."""
        return freeze(op.value)

    @override
    def read_only(self, operation: Operation) -> bool:
        # Only a remove that found nothing.
        return operation.result is EMPTY

    @override
    def describe(self, operation: Operation) -> str:
        if operation.f == self.insert:
            return f"{past_tense(self.insert)} {show(operation.argument)}"
        if operation.result is EMPTY:
            return f"found the {self.thing} empty"
        if operation.result is UNKNOWN:
            return f"{past_tense(self.remove)} something"
        return f"{past_tense(self.remove)} {show(operation.result)}"

    @override
    def noun(self, operation: Operation) -> str:
        if operation.f == self.insert:
            return f"{self.insert} of {show(operation.argument)}"
        if operation.result is EMPTY:
            return f"{self.remove} that found nothing"
        if operation.result is UNKNOWN:
            return f"open {self.remove}"
        return f"{self.remove} of {show(operation.result)}"


def past_tense(verb: str) -> str:
    """Past tense of a regular verb: "enqueued", "popped"."""
    if verb.endswith("e"):
        return f"{verb}d"
    return f"{verb}ped" if verb == "pop" else f"{verb}ed"


@dataclass(frozen=True, slots=True)
class Line(Container):
    """Items in the order in which they came; a state is a tuple, the newest last."""

    newest_first: ClassVar[bool]

    @override
    def step(self, state: State, operation: Operation) -> State:
        assert isinstance(state, tuple)
        if operation.f == self.insert:
            return (*state, operation.argument)
        if operation.result is EMPTY:
            return ILLEGAL if state else state
        rest = state[:-1] if self.newest_first else state[1:]
        if operation.result is UNKNOWN:
            return rest
        leaves = state[-1:] if self.newest_first else state[:1]
        return rest if leaves == (operation.result,) else ILLEGAL

    @override
    def shows(self, state: State) -> str:
        assert isinstance(state, tuple)
        return f"[{show_items(state)}]" if state else "empty"


@dataclass(frozen=True, slots=True)
class FifoQueue(Line):
    """A queue."""

    name: ClassVar[str] = "fifo-queue"
    summary: ClassVar[str] = "a queue with enqueue and dequeue (nil: it was empty)"
    newest_first: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Stack(Line):
    """A stack."""

    name: ClassVar[str] = "stack"
    summary: ClassVar[str] = "a stack with push and pop (nil: it was empty)"
    insert: ClassVar[str] = "push"
    remove: ClassVar[str] = "pop"
    thing: ClassVar[str] = "stack"
    newest_first: ClassVar[bool] = True


Contents = frozenset[tuple[Hashable, int]]
"""A multiset: items and how often each is there."""


CONTENTS_MAX: Final = 3
"""Possible contents of a bag that are shown."""


def show_contents(contents: Contents) -> str:
    """What is in a bag, each item as often as it is there."""
    tally = Tally(dict(contents))
    items = sorted(tally.elements(), key=in_order)
    return f"{{{show_items(items)}}}" if items else "empty"


@dataclass(frozen=True, slots=True)
class UnorderedQueue(Container):
    """A bag: any item may leave; a state is the set of possible contents."""

    initial: State = frozenset({frozenset()})

    name: ClassVar[str] = "unordered-queue"
    summary: ClassVar[str] = "a bag with enqueue and dequeue of any item (nil: empty)"

    @override
    def step(self, state: State, operation: Operation) -> State:
        # Cost: linear in the possible contents.
        assert isinstance(state, frozenset)
        after = frozenset(
            content for before in state for content in self.contents(before, operation)
        )
        return after or ILLEGAL

    def contents(self, before: Contents, operation: Operation) -> list[Contents]:
        """What may be inside after `operation`, when `before` was."""
        tally = Tally(dict(before))
        if operation.f == self.insert:
            tally[operation.argument] += 1
            return [frozenset(tally.items())]
        if operation.result is EMPTY:
            return [] if before else [before]
        first = self.first(tally)
        if operation.result is not UNKNOWN:
            first = [item for item in first if item == operation.result]
        elif not first:
            return [before]
        return [frozenset((tally - Tally([item])).items()) for item in first]

    def first(self, items: Iterable[Hashable]) -> list[Hashable]:
        """The items that may leave next."""
        return list(items)

    @override
    def shows(self, state: State) -> str:
        # Removes that never returned leave open what they took.
        assert isinstance(state, frozenset)
        few = sorted(map(show_contents, state))[:CONTENTS_MAX]
        more = len(state) - len(few)
        return " or ".join(few) + (f" or {more} others" if more else "")

    @override
    def read_only(self, operation: Operation) -> bool:
        # Even a remove that found nothing narrows down the possible contents.
        return False


@dataclass(frozen=True, slots=True)
class PriorityQueue(UnorderedQueue):
    """A bag whose smallest item leaves first."""

    name: ClassVar[str] = "priority-queue"
    summary: ClassVar[str] = (
        "a queue whose smallest item (or list's first) leaves first (nil: empty)"
    )

    @override
    def value(self, op: Op) -> Hashable:
        value = freeze(op.value)
        if priority(value) is None:
            what = "wants a number or text, or a list that begins with one"
            raise malformed(op, f"{what}, got {op.value!r}")
        return value

    @override
    def first(self, items: Iterable[Hashable]) -> list[Hashable]:
        items = list(items)
        best = min(map(rank, items), default=None)
        return [item for item in items if rank(item) == best]


Rank = tuple[int, Any]
"""Sorts numbers (0, number) before texts (1, text)."""


def priority(value: Hashable) -> Rank | None:
    """What a priority queue sorts a value by; None if there is no such thing."""
    match value:
        case ("list", first, *_):
            value = first
        case _:
            pass
    if isinstance(value, str):
        return 1, value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 0, value
    return None


def rank(value: Hashable) -> Rank:
    """The priority of a value that has one."""
    found = priority(value)
    assert found is not None, value
    return found


# Sets


@dataclass(frozen=True, slots=True)
class GrowOnlySet(Model):
    """A set that only grows: add, contains, and read of all elements."""

    initial: State = frozenset()

    name: ClassVar[str] = "gset"
    summary: ClassVar[str] = "a set that only grows, with add, contains and read of all"
    functions: ClassVar[tuple[str, ...]] = ("add", "contains", "read")
    by_key: ClassVar[bool] = True

    @override
    def operation(self, invoked: Op, completed: Op | None) -> Operation | None:
        f = invoked.f
        if f not in self.functions:
            raise unknown_function(self, invoked, ", ".join(self.functions))
        if f in {"read", "contains"}:
            if completed is None or not happened(completed):
                return None
            if f == "read":
                return Operation("read", None, elements(completed))
            return Operation("contains", freeze(invoked.value), answer(completed))
        if failed(completed):
            return None
        changed = None
        if completed is not None and happened(completed):
            changed = told(invoked, completed)
        return Operation(f, freeze(invoked.value), changed)

    @override
    def step(self, state: State, operation: Operation) -> State:
        # A read with an element twice is never legal: its result is a tuple.
        assert isinstance(state, frozenset)
        f, element, result = operation
        if f == "read":
            return state if state == result else ILLEGAL
        inside = element in state
        if f == "contains":
            return state if inside == result else ILLEGAL
        changes = inside != (f == "add")
        if result is not None and result != changes:
            return ILLEGAL
        return state | {element} if f == "add" else state - {element}

    @override
    def read_only(self, operation: Operation) -> bool:
        # Reads, and adds and removes that are known to have changed nothing.
        return operation.f in {"read", "contains"} or operation.result is False

    @override
    def describe(self, operation: Operation) -> str:
        f, element, result = operation
        if f == "read":
            return f"read {show_elements(result)}"
        if f == "contains":
            return f"found {show(element)} {'present' if result else 'absent'}"
        if result is False:
            where = "already there" if f == "add" else "not there"
            return f"was told that {show(element)}, to {f}, was {where}"
        return f"{past_tense(f)} {show(element)}"

    @override
    def noun(self, operation: Operation) -> str:
        f, element, result = operation
        if f == "read":
            return f"read of {show_elements(result)}"
        if f == "contains":
            return f"{'finding' if result else 'missing'} of {show(element)}"
        return f"{f} of {show(element)}"

    @override
    def shows(self, state: State) -> str:
        assert isinstance(state, frozenset)
        return f"{{{show_items(state)}}}" if state else "empty"


@dataclass(frozen=True, slots=True)
class Set(GrowOnlySet):
    """A set with add and remove, contains, and read of all elements."""

    name: ClassVar[str] = "set"
    summary: ClassVar[str] = "a set with add, remove, contains and read of all elements"
    functions: ClassVar[tuple[str, ...]] = ("add", "remove", "contains", "read")


def elements(completed: Op) -> Hashable:
    """What a read of the whole set returned: a frozen set, or a tuple of duplicates."""
    raw = completed.value
    if raw is None:
        raw = []
    if not isinstance(raw, list | tuple | set | frozenset):
        raise malformed(completed, f"wants a list of elements, got {raw!r}")
    tally = Tally(map(freeze, raw))
    twice = tuple(element for element, count in tally.items() if count > 1)
    return twice or frozenset(tally)


def answer(completed: Op) -> bool:
    """What `contains` returned: a boolean, alone or after its element."""
    match completed.value:
        case bool(found) | [_, bool(found)]:
            return found
        case other:
            what = f"wants true or false, or [element true], got {other!r}"
            raise malformed(completed, what)


def told(invoked: Op, completed: Op) -> bool | None:
    """Whether an add or remove said that it changed the set; None if it didn't say."""
    match completed.value:
        case bool(changed) if not isinstance(invoked.value, bool):
            return changed
        case [element, bool(changed)] if completed.value != invoked.value:
            return changed if freeze(element) == freeze(invoked.value) else None
        case _:
            return None


def show_elements(result: Hashable) -> str:
    """A set, as a list in some fixed order."""
    if isinstance(result, tuple):
        return f"{', '.join(map(show, result))} twice"
    return show(("set", result))


# Counter


SIGNS: Final = {"add": 1, "increment": 1, "decrement": -1}
"""What changes a counter, and in which direction."""


@dataclass(frozen=True, slots=True)
class Counter(Model):
    """A whole number with add and read."""

    initial: State = 0

    name: ClassVar[str] = "counter"
    summary: ClassVar[str] = "a whole number with add, increment, decrement and read"
    by_key: ClassVar[bool] = True

    @override
    def operation(self, invoked: Op, completed: Op | None) -> Operation | None:
        if invoked.f == "read":
            if completed is None or not happened(completed):
                return None
            return Operation("read", None, whole(completed, completed.value))
        if invoked.f not in SIGNS:
            raise unknown_function(self, invoked, "add, increment, decrement, read")
        plain = invoked.f != "add" and invoked.value is None
        amount = SIGNS[invoked.f] * (1 if plain else whole(invoked, invoked.value))
        if failed(completed) or (amount == 0 and not happened(completed)):
            return None
        return Operation("add", amount)

    @override
    def step(self, state: State, operation: Operation) -> State:
        assert isinstance(state, int)
        if operation.f == "read":
            return state if state == operation.result else ILLEGAL
        assert isinstance(operation.argument, int)
        return state + operation.argument

    @override
    def read_only(self, operation: Operation) -> bool:
        # Reads, and an add of zero.
        return operation.f == "read" or operation.argument == 0

    @override
    def describe(self, operation: Operation) -> str:
        if operation.f == "read":
            return f"read {show(operation.result)}"
        return f"added {show(operation.argument)}"

    @override
    def noun(self, operation: Operation) -> str:
        if operation.f == "read":
            return f"read of {show(operation.result)}"
        return f"add of {show(operation.argument)}"


def whole(op: Op, value: Any) -> int:
    """A whole number.

    Raises:
        HistoryError: It is anything else, booleans and floats included.
    """
    if type(value) is not int:
        raise malformed(op, f"wants a whole number, got {value!r}")
    return value


def blind_functions(model: Model) -> frozenset[str]:
    """Functions that fit any state, so that they alone can't contradict one another.

    An add or remove that told whether it changed anything is an exception.
    """
    if isinstance(model, Container):
        return frozenset({model.insert})
    if isinstance(model, GrowOnlySet):
        return frozenset({"add"})
    return frozenset(SIGNS) if isinstance(model, Counter) else frozenset()
