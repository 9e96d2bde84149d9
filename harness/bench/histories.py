"""Seeded histories with a known verdict, to measure checkers on.

They are simulated without a cluster: every client has one operation in flight, except
for a short think time; latencies are exponential. Each operation takes effect at one
moment, uniform between its invocation and its completion, and answers by the state at
that moment, so the history is linearizable by construction.

A crashed operation never returns: its client gives up after a timeout (`info`) and goes
on as another process, as in Jepsen. Half of the crashed operations take effect, in time
or long after.

A planted violation changes one late read, so that the history certainly is not
linearizable. If values are unique, the read becomes stale: it answers a value whose
successor was written, from invocation to completion, between that value's write and the
read. Otherwise it answers a value that was never written.

Beside registers there are texts to which operations append, sets, and queues; their
values repeat. All operations that show the state of these count as reads, even a
dequeue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from harness.history import Op

if TYPE_CHECKING:
    from numpy.typing import NDArray

RegisterKind = Literal["register", "cas-register", "kv"]
ObjectKind = Literal["texts", "set", "fifo-queue"]
Kind = RegisterKind | ObjectKind
REGISTERS: tuple[RegisterKind, ...] = get_args(RegisterKind)
"""The kinds that the peer judges, too."""
OBJECTS: tuple[ObjectKind, ...] = get_args(ObjectKind)
KINDS: tuple[Kind, ...] = (*REGISTERS, *OBJECTS)

NODES = 5
LATENCY_S = 0.005
"""Mean latency; the minimum is a twentieth of it."""
TIMEOUT_LATENCIES = 3.0
THINK_LATENCIES = 0.05
CAS_VALUES = 5
"""Values of a cas-register are 1 to this; it is hard to check as they are few."""
UNWRITTEN = 1_000_009
PLANTED_AT = 0.98
"""The part of the history that lies before the planted violation."""

MIX: dict[Kind, tuple[float, float, float]] = {
    "register": (0.5, 0.5, 0.0),
    "kv": (0.5, 0.5, 0.0),
    "cas-register": (0.4, 0.3, 0.3),
    "texts": (0.4, 0.3, 0.3),
    "set": (0.5, 0.25, 0.25),
    "fifo-queue": (0.5, 0.5, 0.0),
}
"""Shares of read, write and cas, or of the functions in their place."""
FUNCTIONS = ("read", "write", "cas")
FUNCTIONS_OF: dict[Kind, tuple[str, ...]] = {
    "texts": ("read", "write", "append"),
    "set": ("read", "add", "remove"),
    "fifo-queue": ("dequeue", "enqueue"),
}
"""The functions of other objects in the places of read, write and cas."""
READ, WRITE, CAS = range(3)


@dataclass(frozen=True)
class Shape:
    """The shape of a history; the same shape gives the same history.

    Attributes:
        kind: "register" and "kv" write each value once, a kv strings; "cas-register"
            reads, writes and compares values from 1 to `values`. "texts" are a kv with
            appends, and hold texts of these values, as sets and queues hold values.
        calls: Client operations; each has an invocation and mostly a completion.
        clients: How many clients have an operation in flight at a time.
        keys: Independent objects; an operation picks one at random.
        crash: The chance that an operation never returns.
        think: Mean pause between two operations of a client, in mean latencies. Large
            values make operations overlap little.
        planted: Whether a violation makes it not linearizable.
        seed: Every random choice comes from it.
        values: How many different values there are, if they repeat.
    """

    kind: Kind
    calls: int
    clients: int
    keys: int = 1
    crash: float = 0.0
    think: float = THINK_LATENCIES
    planted: bool = False
    seed: int = 1
    values: int = CAS_VALUES

    @property
    def model(self) -> str:
        """The checker's model that judges it."""
        return "kv" if self.kind == "texts" else self.kind


class CannotPlantError(ValueError):
    """The history has no read that could be changed into a violation."""


@dataclass
class Timetable:
    """The times of calls in mean latencies, in arrays in the order of invocation.

    Attributes:
        process: The process of each call.
        invoked, returned: Its beginning and end; a crashed call ends with `info`.
        effect: When it takes effect; infinite for never.
        crashed: Whether it ends with `info`.
    """

    process: NDArray[np.int64]
    invoked: NDArray[np.float64]
    returned: NDArray[np.float64]
    effect: NDArray[np.float64]
    crashed: NDArray[np.bool_]


@dataclass
class Calls:
    """The content of calls, in lists in the order of invocation.

    Attributes:
        f: READ, WRITE or CAS.
        key: The object.
        argument: The value written, or [from, to] of a cas.
        answer: The value read; True or False for a cas; None until it took effect.
    """

    f: list[int]
    key: list[int]
    argument: list[Any]
    answer: list[Any]


def generate(shape: Shape) -> list[Op]:
    """The ops of a history; they pair up, with dense indices and rising times.

    Cost: linear, some 3 s and 1 GB for a million calls.

    Raises:
        CannotPlantError: A violation is to be planted, and no read is completed.
    """
    rng = np.random.default_rng(shape.seed)
    times = timetable(shape, rng)
    calls = draw(shape, rng)
    if shape.kind in OBJECTS:
        take_effect_on_objects(calls, times, shape.kind)
    else:
        take_effect(calls, times)
    if shape.planted:
        plant(shape, calls, times)
    return list_ops(shape, calls, times)


def timetable(shape: Shape, rng: np.random.Generator) -> Timetable:
    """Draw all intervals. Clients do equally many calls, except for the last few."""
    each = -(-shape.calls // shape.clients)
    size = (shape.clients, each)
    crashed = rng.random(size) < shape.crash
    latency = np.where(crashed, TIMEOUT_LATENCIES, rng.exponential(1.0, size) + 0.05)
    # Never zero: a client's next call begins strictly after its last one has ended.
    think = rng.exponential(shape.think, size) + 1e-6
    returned = np.cumsum(latency + think, axis=1)
    invoked = returned - latency
    # A crashed call may still take effect after its client has given up.
    reach = np.where(crashed, 2 * latency, latency)
    effect = invoked + rng.random(size) * reach
    effect[crashed & (rng.random(size) < 0.5)] = np.inf
    crashes_before: NDArray[np.int64] = np.cumsum(crashed, axis=1) - crashed
    process = crashes_before * shape.clients + np.arange(shape.clients)[:, None]
    first = np.argsort(invoked, axis=None, kind="stable")[: shape.calls]
    return Timetable(
        process.ravel()[first],
        invoked.ravel()[first],
        returned.ravel()[first],
        effect.ravel()[first],
        crashed.ravel()[first],
    )


def draw(shape: Shape, rng: np.random.Generator) -> Calls:
    """Draw the content of every call, without answers."""
    f = rng.choice(len(FUNCTIONS), size=shape.calls, p=MIX[shape.kind]).tolist()
    key = rng.integers(0, shape.keys, shape.calls).tolist()
    few = rng.integers(1, shape.values + 1, (shape.calls, 2)).tolist()
    argument: list[Any] = [None] * shape.calls
    for i, function in enumerate(f):
        if function == CAS and shape.kind == "cas-register":
            argument[i] = few[i]
        elif function != READ:
            argument[i] = i + 1 if shape.kind in {"register", "kv"} else few[i][0]
    if shape.kind == "texts":
        argument = [None if value is None else f"{value} " for value in argument]
    if shape.kind == "kv":
        argument = [None if value is None else f"v{value}" for value in argument]
    return Calls(f, key, argument, [None] * shape.calls)


def happening(times: Timetable) -> list[int]:
    """The calls that take effect at all, in the order of their effects."""
    order = np.argsort(times.effect, kind="stable")
    happens: list[int] = order[np.isfinite(times.effect[order])].tolist()
    return happens


def take_effect(calls: Calls, times: Timetable) -> None:
    """Apply the calls one after the other, and note their answers."""
    state: dict[int, Any] = {}
    for i in happening(times):
        key = calls.key[i]
        if calls.f[i] == READ:
            calls.answer[i] = state.get(key)
        elif calls.f[i] == WRITE:
            state[key] = calls.argument[i]
        else:
            expected, new = calls.argument[i]
            calls.answer[i] = state.get(key) == expected
            if calls.answer[i]:
                state[key] = new


def take_effect_on_objects(calls: Calls, times: Timetable, kind: Kind) -> None:
    """Apply the calls, and note their answers, if objects are texts, sets or queues."""
    objects: dict[int, list[Any]] = {}
    for i in happening(times):
        held, value = objects.setdefault(calls.key[i], []), calls.argument[i]
        reads, writes = calls.f[i] == READ, calls.f[i] == WRITE
        match kind:
            case "fifo-queue" if reads:
                calls.answer[i] = held.pop(0) if held else None
            case "set" if reads:
                calls.answer[i] = sorted(held)
            case _ if reads:
                calls.answer[i] = "".join(held)
            case "set" if writes:
                if value not in held:
                    held.append(value)
            case "set":
                if value in held:
                    held.remove(value)
            case "texts" if writes:
                held[:] = [value]
            case _:
                held.append(value)


def plant(shape: Shape, calls: Calls, times: Timetable) -> None:
    """Make one completed read wrong.

    Raises:
        CannotPlantError: No read is completed.
    """
    f = np.array(calls.f)
    reads = np.flatnonzero((f == READ) & ~times.crashed)
    if not len(reads):
        raise CannotPlantError(f"no read completes in {shape}")
    late = int(PLANTED_AT * shape.calls)
    chosen = int(reads[np.argmin(np.abs(reads - late))])
    foreign = {"texts": f"{UNWRITTEN} ", "set": [UNWRITTEN]}
    if shape.kind not in {"register", "kv"}:
        calls.answer[chosen] = foreign.get(shape.kind, UNWRITTEN)
        return
    same_key = np.array(calls.key) == calls.key[chosen]
    writes = np.flatnonzero((f == WRITE) & ~times.crashed & same_key)
    stale = overwritten(writes, times, before=float(times.invoked[chosen]))
    unwritten = f"v{UNWRITTEN}?" if shape.kind == "kv" else -UNWRITTEN
    calls.answer[chosen] = unwritten if stale is None else calls.argument[stale]


def overwritten(
    writes: NDArray[np.int64], times: Timetable, *, before: float
) -> int | None:
    """A write that another write followed, both returned before that time; or None."""
    done = writes[times.returned[writes] < before]
    if not len(done):
        return None
    successor = done[np.argmax(times.invoked[done])]
    earlier = done[times.returned[done] < times.invoked[successor]]
    return int(earlier[-1]) if len(earlier) else None


def list_ops(shape: Shape, calls: Calls, times: Timetable) -> list[Op]:
    """Invocations and completions in order of time."""
    count = shape.calls
    moments = np.concatenate([times.invoked, times.returned])
    order = np.argsort(moments, kind="stable")
    time_ns = (moments * LATENCY_S * 1e9).astype(np.int64).tolist()
    process, crashed = times.process.tolist(), times.crashed.tolist()
    key_of = calls.key.__getitem__ if shape.keys > 1 else no_key
    functions = FUNCTIONS_OF.get(shape.kind, FUNCTIONS)
    ops = []
    for index, event in enumerate(order.tolist()):
        i = event % count
        f, node = calls.f[i], f"n{process[i] % shape.clients % NODES + 1}"
        op = Op(
            index,
            time_ns[event],
            process[i],
            "invoke",
            functions[f],
            calls.argument[i],
            key_of(i),
            node=node,
        )
        if event >= count:
            complete(op, calls.answer[i], crashed=crashed[i])
        ops.append(op)
    return ops


def complete(op: Op, answer: object, *, crashed: bool) -> None:
    """Turn an invocation into its completion.

    A checker may use a refused cas as an answer: the value was another one.
    """
    if crashed:
        op.type, op.error = "info", "timeout"
    elif op.f == "cas" and not answer:
        op.type, op.extra = "fail", {"cas_fail_is_mismatch": True}
    else:
        op.type = "ok"
        if op.f in {"read", "dequeue"}:
            op.value = answer


def no_key(_: int) -> None:
    """The key if there is only one object: None."""
