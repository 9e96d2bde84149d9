"""What a sequential model is, and the vocabulary that all models share.

A history is linearizable when its operations can be put in one order that respects real
time and that a model accepts step by step (Herlihy and Wing 1990). A model turns a call
into an `Operation` (or drops it, when it constrains nothing), and steps through states.
States and operations are hashable: the search remembers both.

The models themselves are in `models` (registers, locks), `containers` (sets, queues,
stacks, counters) and `user_model` (yours).
"""

from __future__ import annotations

import enum
import json
from collections.abc import Collection, Hashable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol

from harness.history import HistoryError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.history import Op

State = Hashable
"""A state of a model; compared and remembered, never changed."""


class Illegal(enum.Enum):
    """The type of ILLEGAL."""

    ILLEGAL = "illegal"


ILLEGAL: Final = Illegal.ILLEGAL
"""What `step` answers when the operation can't happen in that state."""


class Unobserved(enum.Enum):
    """The type of UNOBSERVED."""

    UNOBSERVED = "unobserved"


UNOBSERVED: Final = Unobserved.UNOBSERVED
"""A state that stands for all values that no operation names; see `quotient`."""


class Operation(NamedTuple):
    """What a call did, as its model sees it; equal operations are interchangeable."""

    f: str
    argument: Hashable = None
    result: Hashable = None


class Model(Protocol):
    """A sequential specification.

    Attributes:
        name: As in `--model`.
        summary: One line for `splitbrain list`.
        initial: The state before the first operation.
        reads: Functions that return the whole state and change nothing.
        writes: Functions that replace the whole state. Histories that use only `reads`
            and `writes` are a register's, which is what zones can decide.
        appends: Operations after which the old state, a string, is a prefix of the new.
        nil_is_initial: True when nil, read or written, means "nothing there".
        by_key: True when `Op.key` names independent objects (locality: a history is
            linearizable iff it is for each object).
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - see Attributes
    @property
    def initial(self) -> State: ...  # noqa: D102 - see Attributes
    @property
    def by_key(self) -> bool: ...  # noqa: D102 - see Attributes

    summary: ClassVar[str]
    reads: ClassVar[frozenset[str]] = frozenset()
    writes: ClassVar[frozenset[str]] = frozenset()
    appends: ClassVar[frozenset[str]] = frozenset()
    nil_is_initial: ClassVar[bool] = False

    def operation(self, invoked: Op, completed: Op | None) -> Operation | None:
        """What this call did, or None when it constrains nothing.

        The answer may depend only on the functions, values and types of the two, and on
        `is_refusal`.

        Args:
            invoked: The invocation, or the completion where a history has only that.
            completed: Its completion, if any. Without one, or when that is `info`, the
                operation may happen at any later time or never.

        Raises:
            HistoryError: The model has no such operation, or its value is malformed.
        """
        ...

    def step(self, state: State, operation: Operation) -> State:
        """The state after `operation` in `state`, or ILLEGAL."""
        ...

    def read_only(self, operation: Operation) -> bool:
        """Whether it changes no state *in any* state in which it is legal.

        "Leaves this state alone" is not enough: write(a) in state a does, and still
        must not be taken early, since later it may be needed to undo a write(b).
        """
        ...

    def describe(self, operation: Operation) -> str:
        """The operation in words, as a verb phrase in the past tense: "read 3"."""
        ...

    def noun(self, operation: Operation) -> str:
        """The operation in words, as a noun: "read of 3"."""
        ...

    def shows(self, state: State) -> str:
        """A state as text: the value of a register, the items of a queue."""
        return show(state)


# Values


def freeze(value: Any) -> Hashable:
    """A hashable stand-in that is equal exactly when the JSON or EDN values are.

    Booleans are wrapped, as in Python `True == 1`; so is NaN, which equals itself here.
    """
    kind = type(value)
    if kind in {str, int, type(None)}:
        return value  # type: ignore[no-any-return]  # narrowed by its exact type
    if kind is bool:
        return ("bool", value)
    if kind is float:
        return value if value == value else ("nan",)  # NaN differs from itself
    if isinstance(value, list | tuple):
        return ("list", *map(freeze, value))
    if isinstance(value, Mapping):
        return (
            "map",
            frozenset((freeze(key), freeze(val)) for key, val in value.items()),
        )
    if isinstance(value, set | frozenset):
        return ("set", frozenset(map(freeze, value)))
    return value  # type: ignore[no-any-return]  # whatever a reader made, hashable


def thaw(value: Hashable) -> Any:
    """The value that `freeze` was given, for messages."""
    match value:
        case ("bool", bool(plain)):
            return plain
        case ("nan",):
            return float("nan")
        case ("list", *items):
            return [thaw(item) for item in items]
        case ("map", frozenset() as items):
            return {str(thaw(key)): thaw(val) for key, val in items}
        case ("set", frozenset() as items):
            return sorted((thaw(item) for item in items), key=repr)
        case _:
            return value


SHOWN_MAX: Final = 80
"""Characters of a value in a sentence; of a longer one, both ends are shown."""


def show(value: Hashable) -> str:
    """A frozen value as text: JSON, with `nil` for nothing."""
    if value is None:
        return "nil"
    if value is UNOBSERVED:
        return "a value that nobody read"
    if type(value) is int:
        text = str(value)
    else:
        text = json.dumps(thaw(value), ensure_ascii=False, default=plain)
    if len(text) <= SHOWN_MAX:
        return text
    return f"{text[: SHOWN_MAX // 2]} ... {text[-SHOWN_MAX // 2 :]}"


ITEMS_MAX: Final = 12
"""Items of a state that are shown; of more, those at both ends."""


def show_items(items: Collection[Hashable]) -> str:
    """Items with commas between them: "1, 2, 3"; a set's in one fixed order."""
    if isinstance(items, frozenset):
        items = sorted(items, key=in_order)
    items, half = list(items), ITEMS_MAX // 2
    if len(items) <= ITEMS_MAX:
        return ", ".join(map(show, items))
    left_out = f"... {len(items) - 2 * half} more ..."
    return ", ".join([*map(show, items[:half]), left_out, *map(show, items[-half:])])


def in_order(value: Hashable) -> tuple[bool, float, str]:
    """Sorts values of any types: numbers by size, then the others by their text."""
    if isinstance(value, int | float):
        return False, value, ""
    return True, 0, show(value)


def plain(part: object) -> Any:
    """What JSON has for a part of a state: the items of a set in one fixed order."""
    if isinstance(part, frozenset):
        return sorted(part, key=show)
    return str(part)


def malformed(op: Op, problem: str) -> HistoryError:
    """The error for an operation that `Model.operation` can't understand."""
    return HistoryError(f"op {op.index}: {op.f}: {problem}")


def happened(completed: Op | None) -> bool:
    """True when the call certainly took effect."""
    return completed is not None and completed.type == "ok"


def failed(completed: Op | None) -> bool:
    """True when the call certainly did not."""
    return completed is not None and completed.type == "fail"


def is_refusal(completed: Op) -> bool:
    """True when a failed cas is an answer that must fit in: "the value was another"."""
    return are_refusals((completed,))[0]


def are_refusals(failures: Iterable[Op]) -> list[bool]:
    """Whether each of these failures is a refusal; see `is_refusal`."""
    return [
        (extra := failure.extra) is not None and bool(extra.get("cas_fail_is_mismatch"))
        for failure in failures
    ]


def unknown_function(model: Model, op: Op, known: str) -> HistoryError:
    """The error for an `f` that the model does not have."""
    return malformed(
        op, f"the {model.name} model has no such operation (it has {known})"
    )
