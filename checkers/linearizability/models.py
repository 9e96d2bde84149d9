"""Registers and locks: what each operation may return, and what it changes.

Choices:
- A failed operation did not happen, so it is dropped. One exception, marked by the
  reader of the format: in Porcupine's etcd histories a failed cas is an answer ("the
  value was not the expected one") and must find its place like a read.
- `nil` is a value like any other, and the initial one. Knossos lets a read of nil match
  every state; a read that returned nothing is then no evidence at all, and we think a
  client that saw nothing should say so.
- The mutex knows no owner, as in Knossos: any process may release it.
- A process holds the fenced lock if it knows the token, and only an acquire's answer
  tells the token. So no process ever uses or releases what an acquire of unknown
  outcome got. Such an acquire could only block others and need not have happened, so it
  is dropped.
"""

from __future__ import annotations

import json
import math
from collections import Counter as Tally
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from checkers.linearizability.containers import (
    Counter,
    FifoQueue,
    GrowOnlySet,
    PriorityQueue,
    Set,
    Stack,
    UnorderedQueue,
    priority,
)
from checkers.linearizability.specification import (
    ILLEGAL,
    UNOBSERVED,
    Model,
    Operation,
    State,
    failed,
    freeze,
    happened,
    in_order,
    is_refusal,
    malformed,
    show,
    unknown_function,
)
from checkers.linearizability.user_model import load_model
from harness.errors import UsageError
from harness.history.formats import edn
from harness.options import shown
from harness.override import override
from harness.registry import nearest

if TYPE_CHECKING:
    from harness.history import Op


def cas_operation(invoked: Op, completed: Op | None) -> Operation | None:
    """The operation of a compare-and-set.

    Its value is [from, to], in the invocation, or else in the completion.
    """
    value = invoked.value
    if not isinstance(value, list | tuple) and completed is not None:
        value = completed.value
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise malformed(invoked, f"wants a value [from, to], got {invoked.value!r}")
    expected, new = freeze(value[0]), freeze(value[1])
    if failed(completed):
        assert completed is not None
        if is_refusal(completed):
            return Operation("cas-mismatch", expected, new)
        return None
    if expected == new and not happened(completed):
        return None  # changes nothing, so it need not have happened
    return Operation("cas", expected, new)


def step_register(state: State, operation: Operation) -> State:
    """The state after a register's read, write, cas or refused cas, or ILLEGAL."""
    f, argument, result = operation
    if f == "read":
        return state if state == result else ILLEGAL
    if f == "write":
        return argument
    if f == "cas":
        return result if state == argument else ILLEGAL
    assert f == "cas-mismatch", f
    return state if state != argument else ILLEGAL


def register_read_only(operation: Operation) -> bool:
    """Whether it is a read, a refused cas, or a cas from a value to itself."""
    f, argument, result = operation
    return f in {"read", "cas-mismatch"} or (f == "cas" and argument == result)


def describe_register(operation: Operation) -> str:
    """Words for a register's operations."""
    f, argument, result = operation
    if f == "read":
        return f"read {show(result)}"
    if f == "cas":
        return f"changed {show(argument)} to {show(result)} by cas"
    if f == "cas-mismatch":
        return f"was refused a cas from {show(argument)}"
    return f"{'wrote' if f == 'write' else 'appended'} {show(argument)}"


def noun_register(operation: Operation) -> str:
    """Nouns for a register's operations."""
    f, argument, result = operation
    if f == "read":
        return f"read of {show(result)}"
    if f == "cas":
        return f"cas from {show(argument)} to {show(result)}"
    if f == "cas-mismatch":
        return f"refused cas from {show(argument)}"
    return f"{f} of {show(argument)}"


# Models


@dataclass(frozen=True, slots=True)
class Register(Model):
    """One value: read returns it, write replaces it."""

    initial: State = None

    name: ClassVar[str] = "register"
    summary: ClassVar[str] = "one value with read and write"
    reads: ClassVar[frozenset[str]] = frozenset({"read"})
    writes: ClassVar[frozenset[str]] = frozenset({"write"})
    by_key: ClassVar[bool] = True

    @override
    def operation(self, invoked: Op, completed: Op | None) -> Operation | None:
        if invoked.f == "read":
            if completed is None or completed.type != "ok":
                return None
            return Operation("read", None, freeze(completed.value))
        if invoked.f == "write":
            if failed(completed):
                return None
            return Operation("write", freeze(invoked.value))
        return self.other(invoked, completed)

    def other(self, invoked: Op, completed: Op | None) -> Operation | None:
        """The operation of a call that is no read and no write.

        Raises:
            HistoryError: The register has no such operation.
        """
        raise unknown_function(self, invoked, "read, write")

    @override
    def step(self, state: State, operation: Operation) -> State:
        return step_register(state, operation)

    @override
    def read_only(self, operation: Operation) -> bool:
        return register_read_only(operation)

    @override
    def describe(self, operation: Operation) -> str:
        return describe_register(operation)

    @override
    def noun(self, operation: Operation) -> str:
        return noun_register(operation)


@dataclass(frozen=True, slots=True)
class CasRegister(Register):
    """A register with compare-and-set."""

    name: ClassVar[str] = "cas-register"
    summary: ClassVar[str] = "one value with read, write and cas [from, to]"

    @override
    def other(self, invoked: Op, completed: Op | None) -> Operation | None:
        if invoked.f == "cas":
            return cas_operation(invoked, completed)
        raise unknown_function(self, invoked, "read, write, cas")


@dataclass(frozen=True, slots=True)
class KV(Model):
    """A string per key: get, put, append (Porcupine's kv), and read, write, cas."""

    initial: State = ""

    name: ClassVar[str] = "kv"
    summary: ClassVar[str] = (
        "a string per key with get, put, append (or read, write), cas"
    )
    reads: ClassVar[frozenset[str]] = frozenset({"get", "read"})
    writes: ClassVar[frozenset[str]] = frozenset({"put", "write"})
    appends: ClassVar[frozenset[str]] = frozenset({"append"})
    nil_is_initial: ClassVar[bool] = True
    by_key: ClassVar[bool] = True

    @override
    def operation(self, invoked: Op, completed: Op | None) -> Operation | None:
        f = invoked.f
        if f in self.reads:
            if completed is None or completed.type != "ok":
                return None
            return Operation("read", None, self.value(completed.value))
        if f == "cas":
            return cas_operation(invoked, completed)
        if f not in self.writes and f != "append":
            raise unknown_function(self, invoked, "get, put, append, read, write, cas")
        if f == "append" and not isinstance(invoked.value, str):
            raise malformed(invoked, f"wants a string, got {invoked.value!r}")
        if failed(completed):
            return None
        if f == "append":
            # An empty append that did not return changes nothing.
            pointless = not invoked.value and not happened(completed)
            return None if pointless else Operation("append", invoked.value)
        return Operation("write", self.value(invoked.value))

    def value(self, raw: Any) -> Hashable:
        """A value that was put or found; nil means that nothing is there."""
        return self.initial if raw is None else freeze(raw)

    @override
    def step(self, state: State, operation: Operation) -> State:
        # Nothing can be appended to a value that is no string.
        if operation.f != "append":
            return step_register(state, operation)
        if state is UNOBSERVED:
            return UNOBSERVED
        if not isinstance(state, str):
            return ILLEGAL
        assert isinstance(operation.argument, str)
        return state + operation.argument

    @override
    def read_only(self, operation: Operation) -> bool:
        return register_read_only(operation) or operation == Operation("append", "")

    @override
    def describe(self, operation: Operation) -> str:
        return describe_register(operation)

    @override
    def noun(self, operation: Operation) -> str:
        return noun_register(operation)


@dataclass(frozen=True, slots=True)
class Mutex(Model):
    """A lock: acquire when free, release when held."""

    initial: State = False

    name: ClassVar[str] = "mutex"
    summary: ClassVar[str] = (
        "a lock with acquire and release; owners are not told apart"
    )
    by_key: ClassVar[bool] = True

    @override
    def operation(self, invoked: Op, completed: Op | None) -> Operation | None:
        if invoked.f not in {"acquire", "release"}:
            raise unknown_function(self, invoked, "acquire, release")
        return None if failed(completed) else Operation(invoked.f)

    @override
    def step(self, state: State, operation: Operation) -> State:
        # The state is whether the lock is held.
        if operation.f == "acquire":
            return ILLEGAL if state else True
        return False if state else ILLEGAL

    @override
    def read_only(self, operation: Operation) -> bool:
        return False

    @override
    def describe(self, operation: Operation) -> str:
        return f"{operation.f}d the lock"

    @override
    def noun(self, operation: Operation) -> str:
        return operation.f

    @override
    def shows(self, state: State) -> str:
        return "held" if state else "free"


@dataclass(frozen=True, slots=True)
class FencedLock(Model):
    """A lock whose acquire returns a token that use and release must bring along.

    The state is the last token granted, and whether its holder still has the lock.
    Tokens grow; by how much is left open.
    """

    initial: State = (None, False)

    name: ClassVar[str] = "fenced-lock"
    summary: ClassVar[str] = (
        "a lock with acquire (of a growing token), use and release (by that token)"
    )
    by_key: ClassVar[bool] = True

    @override
    def operation(self, invoked: Op, completed: Op | None) -> Operation | None:
        if invoked.f not in {"acquire", "use", "release"}:
            raise unknown_function(self, invoked, "acquire, use, release")
        if failed(completed):
            return None
        if invoked.f == "acquire" and not happened(completed):
            return None
        told = completed if invoked.f == "acquire" else invoked
        if told is None or type(told.value) is not int:
            raise malformed(invoked, "wants a token, a whole number")
        return Operation(invoked.f, told.value)

    @override
    def step(self, state: State, operation: Operation) -> State:
        assert isinstance(state, tuple)
        last, held = state
        f, token, _ = operation
        if f == "acquire":
            assert isinstance(token, int)
            grows = last is None or token > last
            return (token, True) if grows and not held else ILLEGAL
        if state != (token, True):
            return ILLEGAL
        return (token, False) if f == "release" else state

    @override
    def read_only(self, operation: Operation) -> bool:
        return operation.f == "use"

    @override
    def describe(self, operation: Operation) -> str:
        f, token, _ = operation
        if f == "acquire":
            return f"acquired the lock with token {token}"
        return f"{f}d the lock with token {token}"

    @override
    def noun(self, operation: Operation) -> str:
        return f"{operation.f} with token {operation.argument}"

    @override
    def shows(self, state: State) -> str:
        assert isinstance(state, tuple)
        last, held = state
        if held:
            return f"held with token {show(last)}"
        return "free" if last is None else f"free, last token {show(last)}"


MICRO_OPERATIONS: Mapping[str, str] = {
    "read": "r", "r": "r", "write": "w", "w": "w",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MultiRegister(Model):
    """Several registers, read and written together in atomic transactions.

    The value of a `txn` is a list of micro-operations [read k v] and [write k v] (also
    r and w), which happen in that order. A state is a frozen set of (key, value) pairs;
    a key that is not in it holds nil.
    """

    initial: State = frozenset()

    name: ClassVar[str] = "multi-register"
    summary: ClassVar[str] = "registers with transactions of [read k v] and [write k v]"
    by_key: ClassVar[bool] = False

    @override
    def operation(self, invoked: Op, completed: Op | None) -> Operation | None:
        if invoked.f != "txn":
            raise unknown_function(self, invoked, "txn")
        if failed(completed):
            return None
        if happened(completed):
            assert completed is not None
            return Operation("txn", micro_operations(completed))
        # What an unfinished transaction read is unknown: only its writes matter.
        writes = tuple(m for m in micro_operations(invoked) if m[0] == "w")
        return Operation("txn", writes) if writes else None

    @override
    def step(self, state: State, operation: Operation) -> State:
        # Cost: linear in the number of registers.
        assert isinstance(state, frozenset)
        assert isinstance(operation.argument, tuple)
        registers: dict[Hashable, Hashable] = dict(state)
        for f, key, value in operation.argument:
            if f == "w":
                registers[key] = value
            elif registers.get(key) != value:
                return ILLEGAL
        return frozenset(
            (key, value) for key, value in registers.items() if value is not None
        )

    @override
    def read_only(self, operation: Operation) -> bool:
        assert isinstance(operation.argument, tuple)
        return all(f == "r" for f, _, _ in operation.argument)

    @override
    def describe(self, operation: Operation) -> str:
        return f"committed the {self.noun(operation)}"

    @override
    def noun(self, operation: Operation) -> str:
        assert isinstance(operation.argument, tuple)
        micro = ", ".join(
            f"{'read' if f == 'r' else 'write'} {show(key)} {show(value)}"
            for f, key, value in operation.argument
        )
        return f"transaction [{micro}]"

    @override
    def shows(self, state: State) -> str:
        assert isinstance(state, frozenset)
        registers = dict(state)
        keys = sorted(registers, key=in_order)
        return ", ".join(f"{show(k)} = {show(registers[k])}" for k in keys) or "all nil"


def micro_operations(op: Op) -> tuple[tuple[str, Hashable, Hashable], ...]:
    """The micro-operations of a transaction; a read without a value read nil."""
    if not isinstance(op.value, list | tuple):
        raise malformed(op, f"wants a list of micro-operations, got {op.value!r}")
    out = []
    for micro in op.value:
        match micro:
            case [str(f), key, *rest] if f in MICRO_OPERATIONS and len(rest) <= 1:
                value = freeze(rest[0]) if rest else None
                out.append((MICRO_OPERATIONS[f], freeze(key), value))
            case _:
                raise malformed(op, f"wants [read k v] or [write k v], got {micro!r}")
    return tuple(out)


# Registry


@dataclass(frozen=True)
class ModelSpec:
    """A model by name: how to build it from the text of the option `initial`."""

    name: str
    summary: str
    build: Callable[[str], Model]


def parse_value(text: str) -> Any:
    """A value given on the command line, as JSON or EDN.

    Raises:
        UsageError: It is neither (as HistoryError, which names the place).
    """
    try:
        return json.loads(text, parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError):
        return edn.loads(text, source=f"initial={shown(text)}")


def finite(text: str) -> float:
    """A number of JSON. Raises ValueError for NaN, Infinity and 1e999."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def build_register(text: str) -> Model:
    """A register from its initial value; nil when `text` is empty."""
    return Register(freeze(parse_value(text)) if text else None)


def build_cas_register(text: str) -> Model:
    """A cas-register from its initial value; nil when `text` is empty."""
    return CasRegister(freeze(parse_value(text)) if text else None)


def build_kv(text: str) -> Model:
    """A string per key; every key starts as `text` says, or empty."""
    return KV(freeze(parse_value(text)) if text else "")


def build_mutex(text: str) -> Model:
    """A lock; `initial=true` starts with it held."""
    held = parse_value(text) if text else False
    if not isinstance(held, bool):
        raise UsageError(
            f"mutex: initial={shown(text)} should be true (held) or false (free)"
        )
    return Mutex(held)


def build_fenced_lock(text: str) -> Model:
    """A free lock; `initial=7`: the last token granted was 7."""
    last = parse_value(text) if text else None
    if last is not None and type(last) is not int:
        raise UsageError(
            f"fenced-lock: initial={shown(text)} should be a token, such as 7"
        )
    return FencedLock((last, False))


def build_multi_register(text: str) -> Model:
    """Registers that start as a map says, the others as nil."""
    start = parse_value(text) if text else {}
    if not isinstance(start, Mapping):
        raise UsageError(
            f"multi-register: initial={shown(text)} should be a map, "
            "such as {:x 0, :y 0}"
        )
    pairs = ((freeze(key), freeze(value)) for key, value in start.items())
    return MultiRegister(frozenset(pair for pair in pairs if pair[1] is not None))


def build_items(text: str) -> list[Hashable]:
    """The items that a container holds at first, as a list; none when `text` is empty.

    Raises:
        UsageError: It is no list.
    """
    start = parse_value(text) if text else []
    if not isinstance(start, list | tuple | set | frozenset):
        raise UsageError(
            f"initial={shown(text)} should be a list of items, such as [1, 2]"
        )
    return [freeze(item) for item in start]


def build_fifo_queue(text: str) -> Model:
    """A queue; the first item of the list is its head."""
    return FifoQueue(tuple(build_items(text)))


def build_stack(text: str) -> Model:
    """A stack; the last item of the list is its top."""
    return Stack(tuple(build_items(text)))


def build_unordered_queue(text: str) -> Model:
    """A bag of items."""
    return UnorderedQueue(frozenset({frozenset(Tally(build_items(text)).items())}))


def build_priority_queue(text: str) -> Model:
    """A priority queue of items."""
    items = build_items(text)
    if any(priority(item) is None for item in items):
        raise UsageError(
            f"priority-queue: initial={shown(text)}: not all have a priority"
        )
    return PriorityQueue(frozenset({frozenset(Tally(items).items())}))


def build_set(text: str) -> Model:
    """A set of elements."""
    return Set(frozenset(build_items(text)))


def build_gset(text: str) -> Model:
    """A set of elements that only grows."""
    return GrowOnlySet(frozenset(build_items(text)))


def build_counter(text: str) -> Model:
    """A counter; 0 when `text` is empty."""
    start = parse_value(text) if text else 0
    if type(start) is not int:
        raise UsageError(f"counter: initial={shown(text)} should be a whole number")
    return Counter(start)


MODELS: Mapping[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(Register.name, Register.summary, build_register),
        ModelSpec(CasRegister.name, CasRegister.summary, build_cas_register),
        ModelSpec(MultiRegister.name, MultiRegister.summary, build_multi_register),
        ModelSpec(Mutex.name, Mutex.summary, build_mutex),
        ModelSpec(FencedLock.name, FencedLock.summary, build_fenced_lock),
        ModelSpec(KV.name, KV.summary, build_kv),
        ModelSpec(Set.name, Set.summary, build_set),
        ModelSpec(GrowOnlySet.name, GrowOnlySet.summary, build_gset),
        ModelSpec(Counter.name, Counter.summary, build_counter),
        ModelSpec(FifoQueue.name, FifoQueue.summary, build_fifo_queue),
        ModelSpec(UnorderedQueue.name, UnorderedQueue.summary, build_unordered_queue),
        ModelSpec(PriorityQueue.name, PriorityQueue.summary, build_priority_queue),
        ModelSpec(Stack.name, Stack.summary, build_stack),
    )
}
"""All models by name, as listed by `splitbrain list`."""


def find_model(name: str, initial: str = "") -> Model:
    """The model called `name`, or yours, when it is `module:Class` or `file.py:Class`.

    Raises:
        UsageError: There is no such model, or not with that initial state.
    """
    if ":" in name:
        start = None if initial == "" else (parse_value(initial),)
        return load_model(name, start)
    return MODELS[model_name(name)].build(initial)


def model_name(name: str) -> str:
    """`name`, which is that of a model of ours, or looks like one of yours.

    Raises:
        UsageError: It is neither; names the nearest.
    """
    if ":" not in name and name not in MODELS:
        raise UsageError(
            f"there is no model called {name!r}{nearest(name, MODELS)} (known: "
            f"{', '.join(MODELS)}; or your own, as module:Class or file.py:Class)"
        )
    return name
