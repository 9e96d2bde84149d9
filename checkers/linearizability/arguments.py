"""Arguments for a reader: evidence that is plain to see, without a search.

A search or a decider has already found the key broken, and knows the return that ends
its shortest impossible prefix. Mostly the operation that returned then depends on a
value that nobody had written, or that had been replaced, whole and for good, before the
operation began: the stale read, the lost update. For anything more involved, the
evidence is the smallest set of operations that can't be ordered (`shrink`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from checkers.linearizability.containers import Counter
from checkers.linearizability.evidence import (
    Outgrown,
    OutOfBounds,
    Replaced,
    Surprise,
    Unorderable,
    Unwritten,
)
from checkers.linearizability.specification import UNOBSERVED, show

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from checkers.linearizability.calls import Call
    from checkers.linearizability.evidence import Evidence
    from checkers.linearizability.shrink import Core
    from checkers.linearizability.specification import Model, Operation, State


# What operations on a register say of its value


def depends_on(operation: Operation) -> tuple[Hashable] | None:
    """The value that the state must have for it, in a tuple; None for no such value."""
    if operation.f == "read":
        return (operation.result,)
    return (operation.argument,) if operation.f == "cas" else None


def leaves(operation: Operation) -> tuple[Hashable] | None:
    """The value that the state has after it, in a tuple; None when that depends."""
    if operation.f in {"read", "cas"}:
        return (operation.result,)
    return (operation.argument,) if operation.f == "write" else None


def produces(operation: Operation, value: Hashable) -> bool:
    """Whether it is a write, or a cas, of `value`."""
    return operation.f in {"write", "cas"} and leaves(operation) == (value,)


def excludes(operation: Operation, value: Hashable) -> bool:
    """Whether the state surely is not `value` right after it."""
    if operation.f == "cas-mismatch":
        return operation.argument == value
    after = leaves(operation)
    return after is not None and after != (value,)


# Arguments


def plain(calls: Sequence[Call], stuck: Call, model: Model) -> Evidence | None:
    """An argument that needs no search, if there is one. Cost: linear.

    Args:
        calls: All calls on the key.
        stuck: The call with whose return they cease to be linearizable.
        model: What the object may do.
    """
    if isinstance(model, Counter):
        return out_of_bounds(calls, stuck, model)
    wanted = depends_on(stuck.operation) if model.reads else None
    if wanted is None:
        return None
    if any(call.operation.f in model.appends for call in calls):
        return outgrown(calls, stuck, model)
    (value,) = wanted
    producers = [call for call in calls if produces(call.operation, value)]
    if value != model.initial:
        producers = [call for call in producers if call is not stuck]
        if all(call.invoked > stuck.returned for call in producers):
            return unwritten(calls, stuck, value, producers)
    return replaced(calls, stuck, value, producers, model)


def unwritten(
    calls: Sequence[Call], reader: Call, value: Hashable, later: Sequence[Call]
) -> Unwritten:
    """No write of the value began before `reader` returned; `later` are those after."""
    excluded = any(
        call.returned < reader.invoked and excludes(call.operation, value)
        for call in calls
    )
    first = min(later, key=lambda call: call.invoked, default=None)
    return Unwritten(reader, later=first, at_first=not excluded)


def replaced(
    calls: Sequence[Call],
    stale: Call,
    value: Hashable,
    producers: Sequence[Call],
    model: Model,
) -> Replaced | None:
    """The argument that `value` had been replaced before `stale` began, if any.

    It takes an operation that began after all `producers` were through, shows another
    value, and returned before `stale` began. A producer is through when it returned. If
    there is only one, it is also through when its value was seen.
    """
    relevant = [call for call in producers if call.invoked < stale.returned]
    through = {call.position: call for call in relevant}
    if len(relevant) == 1 and value != model.initial:
        (only,) = relevant
        seen = [
            call
            for call in calls
            if depends_on(call.operation) == (value,) and call is not stale
        ]
        through[only.position] = min([only, *seen], key=lambda call: call.returned)
    early = max(through.values(), key=lambda call: call.returned, default=None)
    since = -1 if early is None else early.returned
    others = [
        call
        for call in calls
        if since < call.invoked
        and call.returned < stale.invoked
        and excludes(call.operation, value)
    ]
    if not others:
        return None
    fresh = min(others, key=lambda call: (call.operation.f == "read", call.returned))
    return Replaced(stale, tuple(relevant), early, fresh, fresh)


def replaced_cluster(old: Sequence[Call], new: Sequence[Call]) -> Replaced:
    """The argument for two clusters whose zones conflict, where `old` began first.

    Cost: linear. That the calls exist follows from the zones: `old` has a call invoked
    after one of `new` returned, and it is a read, as the write of `old` was invoked
    before any of `old` returned, which was before any of `new` did.
    """
    writers = [call for call in old if call.operation.f == "write"]
    fresh = min(new, key=lambda call: call.returned)
    stale = min(
        (call for call in old if call.invoked > fresh.returned),
        key=lambda call: call.invoked,
    )
    source = next((call for call in new if call.operation.f == "write"), None)
    if not writers:  # the initial value: everything else comes later
        return Replaced(stale, (), None, fresh, fresh, source)
    early = min(old, key=lambda call: call.returned)
    later = min(
        (call for call in new if call.invoked > early.returned),
        key=lambda call: (call is not fresh, call is not source, call.invoked),
    )
    return Replaced(stale, tuple(writers), early, later, fresh, source)


def outgrown(calls: Sequence[Call], stale: Call, model: Model) -> Outgrown | None:
    """The argument that a read lacks what an append or read before it shows, if any.

    Nothing that replaces the value may come between the two.
    """
    text = stale.operation.result
    if not isinstance(text, str):
        return None
    replacers = [
        call
        for call in calls
        if call.invoked < stale.returned
        and call.operation.f not in model.appends
        and not model.read_only(call.operation)
    ]
    settled = max((call.returned for call in replacers), default=-1)
    for call in calls:
        if not settled < call.invoked or call.returned >= stale.invoked:
            continue
        f, argument, result = call.operation
        if f in model.appends and str(argument) not in text:
            return Outgrown(stale, call)
        if f == "read" and not text.startswith(str(result)):
            return Outgrown(stale, call)
    return None


def out_of_bounds(
    calls: Sequence[Call], read: Call, model: Counter
) -> OutOfBounds | None:
    """The argument that a counter that only grows can't have had that value, if any."""
    seen = read.operation.result
    adds = [call for call in calls if call.operation.f == "add"]
    if seen is None or any(amount(call) < 0 for call in adds):
        return None
    before = [call for call in adds if call.returned < read.invoked]
    begun = [call for call in adds if call.invoked < read.returned]
    assert isinstance(model.initial, int)
    assert isinstance(seen, int)
    least = model.initial + sum(map(amount, before))
    most = model.initial + sum(map(amount, begun))
    if least <= seen <= most:
        return None
    return OutOfBounds(read, least, most, tuple(before if seen < least else begun))


def amount(call: Call) -> int:
    """What a call adds to a counter."""
    assert isinstance(call.operation.argument, int)
    return call.operation.argument


# What only a search can show

LOCK_SURPRISES: Final[Mapping[str, Surprise]] = {
    "acquire": "double-acquire",
    "use": "use-without-lock",
    "release": "release-of-free-lock",
}
"""By operation: what is wrong when a lock should not have allowed it."""


def unorderable(
    calls: Sequence[Call], core: Core, stuck: Call, model: Model
) -> Unorderable:
    """That no order of a core, which is a part of `calls`, leads past `stuck`."""
    return Unorderable(
        stuck,
        core.strong,
        core_states(core),
        core.whole,
        surprise(calls, core, stuck, model),
    )


def core_states(core: Core) -> tuple[State, ...]:
    """Every state the object could be in when the conflict came to a head."""
    states = {
        state: None
        for outcome in core.outcomes
        for state in outcome.states
        if state is not UNOBSERVED
    }
    # The text of a frozen set is another in every process, what `show` makes is not.
    return tuple(
        sorted(states, key=lambda s: show(s) if isinstance(s, frozenset) else repr(s))
    )


def surprise(calls: Sequence[Call], core: Core, stuck: Call, model: Model) -> Surprise:
    """What is wrong with `stuck`.

    Its value is stale when whatever brought that about was over before `stuck` began.
    """
    f = stuck.operation.f
    if f in LOCK_SURPRISES:
        return LOCK_SURPRISES[f]
    wanted = depends_on(stuck.operation) if model.reads else None
    if wanted is None:
        return "nonlinearizable"
    if f == "cas" and any(
        call.operation.f == "cas" and depends_on(call.operation) == wanted
        for call in core.strong
        if call.position != stuck.position
    ):
        return "lost-update"
    if any(
        produces(call.operation, wanted[0])
        and call.invoked < stuck.returned
        and call.returned > stuck.invoked
        for call in calls
        if call is not stuck
    ):
        return "nonlinearizable"
    return "stale-read" if f == "read" else "lost-update"
