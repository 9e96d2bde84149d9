'''Your own models: a frozen dataclass that is the object's state, with a `step`.

    splitbrain check history.jsonl --model bank.py:Account
    splitbrain check history.jsonl --model mypackage.models:Account --option initial=100

    @dataclass(frozen=True)
    class Account:
        """A bank account that is never overdrawn."""

        balance: int = 0

        def step(self, op):
            match op.f:
                case "deposit":
                    return Account(self.balance + op.argument)
                case "withdraw" if op.argument <= self.balance:
                    return Account(self.balance - op.argument)
                case "read" if op.result == self.balance:
                    return self

`step(op)` answers what becomes of the state when `op` takes effect:

- an instance of the class: the one next state;
- None: `op` can't happen, or can't return what it returned, in this state;
- an iterable of instances (a list, or `step` is a generator): the possible next states
  of a nondeterministic object; none of them, and `op` can't happen.

`op.f` is the function, `op.argument` the value of its invocation, `op.result` the value
of its completion, as the history has them. A failed operation did not happen, and the
model never sees it. Of an operation that nobody saw return, the result is `ANY`, which
equals everything, so that `op.result == self.balance` holds; `op.returned` tells.

Instances are compared and kept in dictionaries: hashable, so tuples and frozensets, no
lists. They are never changed. The class may also have

- `reads`, a set of functions that change no state *in any* state in which they can
  happen: the search takes them early, and is faster;
- `by_key = False`, when the keys of the history are not independent objects.

The first state is `Account()`. `--option initial=VALUE` (JSON or EDN) makes it
`Account(VALUE)`, or `Account(**VALUE)` when that is a map.

A nondeterministic model is searched by the power-set construction, as in Porcupine: the
state is the set of all states that the object may be in.
'''

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from checkers.linearizability.specification import (
    ILLEGAL,
    Model,
    Operation,
    State,
    failed,
    freeze,
    show,
)
from harness.errors import UsageError
from harness.history import HistoryError
from harness.override import override

if TYPE_CHECKING:
    from harness.history import Op


class Any_:  # noqa: N801 - ANY is what it is called
    """The type of ANY."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    def __lt__(self, other: object) -> bool:
        return True

    __le__ = __gt__ = __ge__ = __lt__

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "ANY"


ANY: Final = Any_()
"""The result of an operation that never returned; it equals everything."""


@dataclass(frozen=True)
class UserOp:
    """What the class's `step` is given; the module's docstring describes it."""

    f: str
    argument: Any
    result: Any
    returned: bool


INSTANCES_MAX: Final = 3
"""Instances that are shown of a state."""

_OPEN: Final = ("open",)
"""Stands for ANY in an `Operation`, which must not equal everything."""


@dataclass(frozen=True, slots=True)
class UserModel(Model):
    """A user's class as a `Model`. A state is the set of instances it may be in."""

    # With `field()`, the properties of `Model` are not taken for default values.
    name: str = field()
    cls: type[Any] = field()
    initial: State = field()
    by_key: bool = True
    pure: frozenset[str] = frozenset()
    # The operations as the user sees them, and the position where each was met first.
    _seen: dict[Operation, tuple[UserOp, int]] = field(
        default_factory=dict, compare=False, repr=False
    )

    summary: ClassVar[str] = "a model of your own"

    @override
    def operation(self, invoked: Op, completed: Op | None) -> Operation | None:
        if failed(completed):
            return None
        returned = completed is not None and completed.type == "ok"
        if not returned and invoked.f in self.pure:
            return None
        result = completed.value if completed is not None and returned else ANY
        operation = Operation(
            invoked.f,
            freeze(invoked.value),
            ("returned", freeze(result)) if returned else _OPEN,
        )
        try:
            plain = UserOp(invoked.f, invoked.value, result, returned)
            self._seen.setdefault(operation, (plain, invoked.index))
        except TypeError as problem:
            raise HistoryError(
                f"op {invoked.index}: {invoked.f}: its value can't be compared: "
                f"{problem}"
            ) from None
        return operation

    @override
    def step(self, state: State, operation: Operation) -> State:
        """The states after `operation` in each of those that it may be in.

        Raises:
            HistoryError: The class's `step` failed, or returned what it shouldn't.
        """
        assert isinstance(state, frozenset)
        op, index = self._seen[operation]
        after: set[Hashable] = set()
        for instance in state:
            try:
                after.update(self._next(instance, op))
            except (UsageError, MemoryError):
                raise
            except (Exception, SystemExit) as problem:  # all of it is bad input
                raise HistoryError(
                    f"op {index}: {op.f}: {self.name}.step raised "
                    f"{type(problem).__name__}: {problem} (in state {instance!r})"
                ) from problem
        if len(after) > 1 and self.pure:
            raise UsageError(
                f"model {self.name}: a class whose step has several outcomes (here of "
                f"op {index}: {op.f}) can't have `reads`; leave them out"
            )
        return frozenset(after) or ILLEGAL

    def _next(self, instance: Any, op: UserOp) -> list[Hashable]:
        """The states that `step` allows after one state, checked."""
        after = instance.step(op)
        if after is None or after is NotImplemented:
            return []
        if isinstance(after, self.cls):
            after = [after]
        elif not isinstance(after, Iterable):
            after = [after]  # refused below, in the same words
        states = list(after)
        for state in states:
            if not isinstance(state, self.cls):
                raise UsageError(
                    f"model {self.name}: step returned {state!r} for {op.f}; it should "
                    f"return an instance of {self.cls.__name__}, several, or None"
                )
            hash(state)
        return states

    @override
    def read_only(self, operation: Operation) -> bool:
        # The class says so, in `reads`.
        return operation.f in self.pure

    @override
    def describe(self, operation: Operation) -> str:
        return f"did {self.noun(operation)}"

    @override
    def noun(self, operation: Operation) -> str:
        f, argument, result = operation
        given = "" if argument is None else f" {show(argument)}"
        match result:
            case ("returned", value) if value not in (None, argument):
                return f"{f}{given} -> {show(value)}"
            case _:
                return f"{f}{given}"

    @override
    def shows(self, state: State) -> str:
        """The instances as the class writes them.

        Raises:
            HistoryError: The class's `repr` failed.
        """
        assert isinstance(state, frozenset)
        try:
            few = sorted(map(repr, state))[:INSTANCES_MAX]
        except (Exception, SystemExit) as problem:  # all of it is bad input
            raise HistoryError(
                f"{self.name}: repr raised {type(problem).__name__}: {problem}"
            ) from problem
        more = len(state) - len(few)
        return " or ".join(few) + (f" or {more} others" if more else "")


# Loading


def load_model(name: str, initial: tuple[Any] | None) -> UserModel:
    """The model `module:Class` or `file.py:Class`.

    Args:
        name: As on the command line.
        initial: The first state as the user gave it, in a tuple; None for `Class()`.

    Raises:
        UsageError: It can't be found or used; one line that says why.
    """
    place, _, attribute = name.rpartition(":")
    cls = getattr(_module(place, name), attribute, None)
    if not isinstance(cls, type) or not dataclasses.is_dataclass(cls):
        known = f"no dataclass {attribute!r} in {place}"
        raise UsageError(f"model {name}: there is {known}")
    if not callable(getattr(cls, "step", None)):
        raise UsageError(f"model {name}: {attribute} has no method step(self, op)")
    start = _first_state(cls, name, initial)
    pure = getattr(cls, "reads", ())
    if isinstance(pure, str) or not isinstance(pure, Iterable):
        raise UsageError(f"model {name}: `reads` should be a set of functions")
    return UserModel(
        name,
        cls,
        frozenset({start}),
        by_key=bool(getattr(cls, "by_key", True)),
        pure=frozenset(pure),
    )


def _module(place: str, name: str) -> object:
    """The module in which the class should be."""
    if place.endswith(".py") and not Path(place).is_file():
        raise UsageError(f"model {name}: there is no file {place}")
    try:
        if not place.endswith(".py"):
            if "" not in sys.path:  # an installed command does not look around itself
                sys.path.insert(0, "")
            return importlib.import_module(place)
        # Dataclasses look their module up among those that are loaded.
        alias = f"splitbrain_user_model_{Path(place).stem}"
        spec = importlib.util.spec_from_file_location(alias, place)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[alias] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as problem:  # all of it is bad input
        raise UsageError(
            f"model {name}: {place} can't be loaded: "
            f"{type(problem).__name__}: {problem}"
        ) from problem
    return module


def _first_state(cls: type[Any], name: str, initial: tuple[Any] | None) -> Hashable:
    """The state before the first operation."""
    try:
        match initial:
            case None:
                start = cls()
            case (Mapping() as fields,):
                start = cls(**{str(key): value for key, value in fields.items()})
            case _:
                start = cls(*initial)
        hash(start)
    except (Exception, SystemExit) as problem:  # it's the user's code that ran
        raise UsageError(
            f"model {name}: no first state: {type(problem).__name__}: {problem} (a "
            "model is a frozen dataclass of hashable fields, with defaults or initial=)"
        ) from problem
    assert isinstance(start, Hashable)
    return start
