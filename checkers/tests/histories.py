"""Histories for tests: a mini-language for literature examples, and random ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st

from harness.history import History, Op

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MILLISECOND_NS = 1_000_000

EXAMPLES = max(100, settings().max_examples)
"""For each comparison with the definition; a hundred times as many at night."""

MANY = settings(max_examples=EXAMPLES)
"""For comparisons of algorithms with the definition."""

FEWER = settings(max_examples=EXAMPLES // 4)
"""For properties of what the algorithms return, where the verdict is not in doubt."""


def history(text: str) -> History:
    """A history from lines such as `0 invoke write 1`, a millisecond apart.

    A line is process, type, function, value (a Python literal, nil when missing) and
    optionally `@key`.
    """
    ops = []
    for i, line in enumerate(filter(None, map(str.strip, text.splitlines()))):
        words, _, key = line.partition("@")
        process, kind, f, *value = words.split(maxsplit=3)
        ops.append(
            Op(
                i,
                i * MILLISECOND_NS,
                int(process) if process.isdigit() else process,
                kind,  # type: ignore[arg-type]  # the texts are ours
                f,
                literal(value[0]) if value else None,
                literal(key) if key else None,
                node=f"n{int(process) % 5 + 1}" if process.isdigit() else None,
            )
        )
    return History(ops)


def literal(text: str) -> Any:
    """A value from its Python text."""
    return eval(text, {"nil": None})


@dataclass
class Pending:
    """An operation that a simulated process has open."""

    f: str
    value: Any
    key: Any
    applied: bool = False
    result: Any = None
    refused: bool = False


CONTAINERS: Mapping[str, tuple[str, str]] = {
    "fifo-queue": ("enqueue", "dequeue"),
    "unordered-queue": ("enqueue", "dequeue"),
    "priority-queue": ("enqueue", "dequeue"),
    "stack": ("push", "pop"),
    "set": ("add", "remove"),
    "shrinking-set": ("add", "remove"),
    "gset": ("add", "add"),
    "counter": ("add", "add"),
}
"""Kinds of simulated containers: what puts in, and what takes out."""


class Simulation:
    """A correct object per key, and processes that drive it step by step."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.ops: list[Op] = []
        self.state: dict[Any, Any] = {}
        self.open: dict[int, Pending] = {}
        self.names: dict[int, int] = {}
        self.ghosts: list[Pending] = []
        self.written = 0
        self.tokens: dict[Any, list[int]] = {}

    def record(self, process: int, kind: str, call: Pending, value: Any) -> None:
        name = self.names.setdefault(process, process)
        i = len(self.ops)
        self.ops.append(
            Op(i, i * MILLISECOND_NS, name, kind, call.f, value, call.key)  # type: ignore[arg-type]
        )

    def invoke(self, process: int, choice: int, x: int, y: int, key: Any) -> None:
        """Start an operation that the numbers choose."""
        self.open[process] = call = self.draw(choice, x, y, key)
        self.record(process, "invoke", call, call.value)

    def draw(self, choice: int, x: int, y: int, key: Any) -> Pending:
        if self.kind == "mutex":
            return Pending("acquire" if choice % 2 else "release", None, key)
        if self.kind == "fenced-lock":
            # Only who was told a token can use it (see `models`).
            known = self.tokens.get(key, [0])
            f = ("acquire", "use", "release")[choice % 3]
            return Pending(f, None if f == "acquire" else known[x % len(known)], key)
        if self.kind == "multi-register":
            micro = [["read" if choice % 2 else "write", "ab"[x % 2], x]]
            if y > 2:
                micro.append(["write" if choice % 3 else "read", "ab"[y % 2], y])
            return Pending("txn", micro, None)
        if self.kind in CONTAINERS:
            return self.draw_from_container(choice, x, y, key)
        if choice < 4:
            return Pending("read", None, key)
        if self.kind == "unique-cas":
            self.written += 1
            if choice < 6:
                return Pending("write", self.written, key)
            now = self.state.get(key)
            expected = now if y else max(0, self.written - x) or None
            return Pending("cas", [expected, self.written], key)
        if self.kind == "unique":
            self.written += 1
            return Pending("write", self.written, key)
        if self.kind == "kv":
            return Pending("append" if choice < 8 else "put", "ab"[x % 2], key)
        if choice < 7 or self.kind == "register":
            return Pending("write", x, key)
        return Pending("cas", [x, y], key)

    def draw_from_container(self, choice: int, x: int, y: int, key: Any) -> Pending:
        """An operation on a queue, a stack, a bag, a set or a counter."""
        insert, remove = CONTAINERS[self.kind]
        if self.kind == "counter":
            return Pending("read" if choice < 4 else "add", choice and x - 1, key)
        if self.kind in {"set", "gset", "shrinking-set"}:
            f = ("read", "contains", remove, insert)[min(choice // 2, 3)]
            if self.kind == "shrinking-set" and f == "read":
                f = "contains"
            return Pending(f, None if f == "read" else x, key)
        if choice < 5:
            return Pending(remove, None, key)
        self.written += 1
        priority = self.kind == "priority-queue"
        return Pending(insert, [x, self.written] if priority else self.written, key)

    def apply_to_container(self, call: Pending) -> None:
        """Let an operation take effect on a queue, a stack, a bag, a set, a counter."""
        now = self.state.setdefault(call.key, [])
        if self.kind == "counter":
            call.result = sum(now)
            if call.f == "add":
                now.append(call.value)
            return
        match call.f:
            case "enqueue" | "push":
                now.append(call.value)
            case "dequeue" | "pop":
                place = {"stack": -1, "unordered-queue": len(now) // 2}
                first = now[place.get(self.kind, 0)] if now else None
                if self.kind == "priority-queue":
                    first = min(now, default=None)
                if first is not None:
                    now.remove(first)
                call.result = first
            case "add" if call.value not in now:
                now.append(call.value)
            case "remove" if call.value in now:
                now.remove(call.value)
            case "read":
                call.result = list(now)
            case "contains":
                call.result = call.value in now
            case _:
                pass  # adds what is there, removes what isn't

    def lie_about_container(self, call: Pending, lie: int) -> None:
        """Let an operation have returned something else."""
        match call.f:
            case "dequeue" | "pop":
                call.result = max(0, self.written - lie) or None
                if self.kind == "priority-queue" and call.result:
                    call.result = [lie, call.result]
            case "read" if self.kind == "counter":
                call.result += lie - 1
            case "read":
                call.result = sorted({*call.result} ^ {lie})
            case "contains":
                call.result = not call.result
            case _:
                pass

    def apply(self, call: Pending) -> None:
        """Let it take effect; `refused` when the object says no."""
        call.applied = True
        if self.kind in CONTAINERS:
            self.apply_to_container(call)
            return
        now = self.state.get(call.key, "" if self.kind == "kv" else None)
        match call.f:
            case "read":
                call.result = now
            case _ if self.kind == "fenced-lock":
                self.apply_to_lock(call)
            case "write" | "put":
                self.state[call.key] = call.value
            case "append":
                self.state[call.key] = now + call.value
            case "cas":
                call.refused = now != call.value[0]
                if not call.refused:
                    self.state[call.key] = call.value[1]
            case "acquire" | "release":
                call.refused = bool(now) == (call.f == "acquire")
                if not call.refused:
                    self.state[call.key] = call.f == "acquire"
            case "txn":
                call.result = [self.micro(*m) for m in call.value]
            case _:
                raise AssertionError(call.f)

    def apply_to_lock(self, call: Pending) -> None:
        token, held = self.state.get(call.key, (0, False))
        if call.f == "acquire":
            call.refused, call.result = held, token + 1
        else:
            call.refused = (call.value, True) != (token, held)
        if not call.refused:
            self.state[call.key] = (call.result or token, call.f != "release")

    def micro(self, f: str, key: str, value: Any) -> list[Any]:
        if f == "write":
            self.state[key] = value
        return [f, key, self.state.get(key) if f == "read" else value]

    def complete(self, process: int, choice: int, lie: Any) -> None:
        """Return from the open operation, as it was or with a lie."""
        call = self.open.pop(process)
        if choice == 9:
            self.record(process, "info", call, call.value)
            if not call.applied:
                self.ghosts.append(call)
            self.names[process] = self.names[process] + 10
            return
        if choice == 8 and not call.applied:
            self.record(process, "fail", call, call.value)
            return
        if not call.applied:
            self.apply(call)
        if call.refused and lie is None:
            self.record(process, "fail", call, call.value)
            return
        if self.kind in CONTAINERS:
            if lie is not None:
                self.lie_about_container(call, lie)
            answers = call.f in {"read", "contains", "dequeue", "pop"}
            self.record(process, "ok", call, call.result if answers else call.value)
            return
        value = call.value if call.result is None and call.f != "read" else call.result
        if lie is not None and call.f in {"read", "acquire"}:
            value = lie
        if lie is not None and call.f == "txn":
            value = [[f, k, lie if f == "read" else v] for f, k, v in call.value]
        if call.f == "acquire":
            self.tokens.setdefault(call.key, []).append(value)
        self.record(process, "ok", call, value)


def digits(number: int, sizes: Sequence[int]) -> list[int]:
    """A number taken apart: one digit below each of the sizes, the lowest first."""
    out = []
    for size in sizes:
        number, digit = divmod(number, size)
        out.append(digit)
    return out


@st.composite
def histories(
    draw: st.DrawFn, kind: str, *, keys: int = 1, steps: int = 26, lies: bool = True
) -> History:
    """A history of a correct object; with `lies`, some completions are mutated.

    Args:
        draw: Given by Hypothesis.
        kind: register, unique (each write another value), cas-register, kv, mutex,
            fenced-lock or multi-register.
        keys: How many independent keys.
        steps: At most so many steps of the simulation, three to an operation.
        lies: Whether results may be wrong.
    """
    simulation = Simulation(kind)
    # One number says all of a step: drawing five takes most of a test's time.
    sizes = (4, 10, 5, 5, keys)
    steps_drawn = st.lists(
        st.integers(0, math.prod(sizes) - 1), min_size=steps // 2, max_size=steps
    )
    for number in draw(steps_drawn):
        process, choice, x, y, key = digits(number, sizes)
        if simulation.ghosts and choice == 7:
            simulation.apply(simulation.ghosts.pop())
        elif process not in simulation.open:
            name = None if keys == 1 else key
            simulation.invoke(process, choice, x, y, name)
        elif choice < 4 and not simulation.open[process].applied:
            simulation.apply(simulation.open[process])
        else:
            lie = x if kind != "kv" else "ab"[: x % 3]
            simulation.complete(process, choice, lie if lies and y < 2 else None)
    return History(simulation.ops)


def forgetting(whole: History, forgotten: set[int]) -> History:
    """The history, but nobody recorded the invocations at those positions.

    Those that were answered, and not with true or false alone: that does not say which
    element it is about.
    """
    if not forgotten:
        return whole
    answered = {
        i
        for i, j in enumerate(whole.completion)
        if j > i and not isinstance(whole[j].value, bool)
    }
    kept = [op for op in whole if op.index not in forgotten & answered]
    ops = [
        Op(i, op.time, op.process, op.type, op.f, op.value, op.key)
        for i, op in enumerate(kept)
    ]
    return History(ops, strict=False)


def with_repeats(judged: History) -> History:
    """The same history with few values, which repeat."""

    def few(value: Any) -> Any:
        if isinstance(value, list):
            return [few(item) for item in value]
        return value if value is None else value % 3

    return History(
        [
            Op(op.index, op.time, op.process, op.type, op.f, few(op.value), op.key)
            for op in judged
        ]
    )
