"""The inner loop of the search, written for numba: numbers and arrays, no objects.

`advance` has the same prunings in the same order as `search.Search.run`, so it explores
the same configurations. `fast` prepares its arrays, and `handover` says when it is
used. Importing this imports numba, which takes half a second. The first call compiles,
which takes some ten seconds, once: the result is kept beside this file, or in the
user's cache. Without numba the functions are plain Python: right, but slow.

Crashed calls of one kind are spent in order of invocation, so a set of spent ones is a
count for each kind.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

numba: Any
try:
    numba = importlib.import_module("numba")
except ImportError:  # not installed, or not for this numpy
    numba = None

F = TypeVar("F", bound="Callable[..., Any]")


def compiled(function: F) -> F:
    """The function, compiled by numba when it is first called."""
    return function if numba is None else cast("F", numba.njit(cache=True)(function))


SCALARS: Final = 12
"""How many numbers `advance` keeps between two turns; they are named next."""
EVENT, STATE, DEPTH, FRAMES, CHOICES, USED, CHAINS = range(7)
CONFIGURATIONS, REACHED, PARTIALS, STAMP = range(7, 11)

NO, YES, PAUSED, FULL = range(4)
"""What `advance` returns: the answer, or why there is none yet."""

NOBODY: Final = -1
NOTHING_SPENT: Final = -2
"""In place of a chain of spent crashed calls: none spent, which nothing can better."""


@compiled
def place_of(event: Any, state: Any, low: Any, high: Any, places: Any) -> Any:
    """Where in a hash table of so many places, a power of two, to look first."""
    mixed = np.uint64(event) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ low) * np.uint64(0xFF51AFD7ED558CCD)
    mixed = (mixed ^ (mixed >> np.uint64(33)) ^ high) * np.uint64(0xC4CEB9FE1A85EC53)
    mixed = (mixed ^ (mixed >> np.uint64(29)) ^ np.uint64(state)) * np.uint64(
        0x9E3779B97F4A7C15
    )
    return np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(places - 1))


@compiled
def advance(
    # The history.
    events: Any,  # int32[event]: call, or ~call for its return
    slot_of: Any,  # int32[call]: NOBODY for crashed calls
    kind_of: Any,  # int32[call]
    due: Any,  # int64[call]
    # The model.
    table: Any,  # int32[state, kind]: the next state, or DEAD
    read_only: Any,  # bool[kind]
    # Crashed calls, by group: those of one kind.
    group_kind: Any,  # int32[group]
    group_of: Any,  # int32[kind]: NOBODY where no call of the kind crashed
    member_start: Any,  # int64[group]: where in `members` the group begins
    members: Any,  # int32: crashed calls by group and invocation
    # Where the search stands.
    scalars: Any,  # int64[SCALARS]
    mask: Any,  # uint64[2]: slots of open live calls that are linearized
    spent: Any,  # int32[group]: how many are linearized
    arrived: Any,  # int32[group]: how many are invoked
    open_: Any,  # int32[slot]: live call, or NOBODY
    order: Any,  # int32: the calls linearized so far
    # What was explored: a hash table, and chains of what was spent.
    seen: Any,  # int32[place, 3]: event or NOBODY, state, chain
    seen_mask: Any,  # uint64[place, 2]
    chain_next: Any,  # int32[link]
    chain_spent: Any,  # int32[link, group]
    # What is left to explore: frames, each with choices.
    frames: Any,  # int64[frame, 3]: event, depth, where its choices begin
    frame_mask: Any,  # uint64[frame, 2]
    frame_spent: Any,  # int32[frame, group]
    choices: Any,  # int32[choice, 3]: call, its group if it crashed, next state
    # For the choice of the most urgent call of each kind.
    urgent: Any,  # int32[slot]: calls
    urgent_at: Any,  # int32[kind]: place in `urgent`
    urgent_stamp: Any,  # int64[kind]: when `urgent_at` was set
    # The deepest dead ends.
    frontier: Any,  # bool[state]
    partials: Any,  # int32[PARTIALS_MAX, PARTIAL_TAIL]
    partial_length: Any,  # int64[PARTIALS_MAX]
    nodes_max: int,
) -> int:
    """Search on until there is an answer, no room, or `nodes_max` configurations.

    Compare `search.Search.run`, step by step.
    """
    one, low_bits = np.uint64(1), np.uint64(63)
    end, width, groups = len(events), len(open_), len(group_kind)
    places = len(seen)
    event, state, depth = scalars[EVENT], scalars[STATE], scalars[DEPTH]
    frame, top = scalars[FRAMES], scalars[CHOICES]
    used, links = scalars[USED], scalars[CHAINS]
    configurations, reached = scalars[CONFIGURATIONS], scalars[REACHED]
    dead_ends, stamp = scalars[PARTIALS], scalars[STAMP]
    nodes_end = configurations + nodes_max

    while True:
        answer = NOBODY
        if configurations >= nodes_end:
            answer = PAUSED
        if (
            2 * used >= places
            or links + 1 >= len(chain_next)
            or frame + 1 >= len(frames)
            or top + width + groups >= len(choices)
        ):
            answer = FULL

        # Walk to the next return whose call is not linearized yet.
        i = 0
        while answer == NOBODY:
            if event == end:
                answer = YES
                break
            i = events[event]
            if i >= 0:
                if slot_of[i] >= 0:
                    open_[slot_of[i]] = i
                else:
                    arrived[group_of[kind_of[i]]] += 1
            else:
                slot = slot_of[~i]
                bit = one << (np.uint64(slot) & low_bits)
                if not mask[slot >> 6] & bit:
                    break
                mask[slot >> 6] ^= bit
                open_[slot] = NOBODY
            event += 1
        if answer != NOBODY:
            scalars[EVENT], scalars[STATE], scalars[DEPTH] = event, state, depth
            scalars[FRAMES], scalars[CHOICES] = frame, top
            scalars[USED], scalars[CHAINS] = used, links
            scalars[CONFIGURATIONS], scalars[REACHED] = configurations, reached
            scalars[PARTIALS], scalars[STAMP] = dead_ends, stamp
            return answer

        # Read-only closure; of what remains, the most urgent call of each kind.
        stamp += 1
        found = 0
        for slot in range(width):
            call = open_[slot]
            bit = one << (np.uint64(slot) & low_bits)
            if call < 0 or mask[slot >> 6] & bit:
                continue
            kind = kind_of[call]
            if table[state, kind] < 0:
                continue
            if read_only[kind]:
                mask[slot >> 6] |= bit
                order[depth] = call
                depth += 1
            elif urgent_stamp[kind] != stamp:
                urgent_stamp[kind] = stamp
                urgent_at[kind] = found
                urgent[found] = call
                found += 1
            elif due[call] < due[urgent[urgent_at[kind]]]:
                urgent[urgent_at[kind]] = call
        slot = slot_of[~i]
        if mask[slot >> 6] & (one << (np.uint64(slot) & low_bits)):
            continue

        if event > reached:
            reached = event
            frontier[:] = False
            dead_ends = 0
        if event == reached:
            frontier[state] = True
        configurations += 1

        # Seen before, having spent no more? Then nothing new can come of it.
        place = place_of(event, state, mask[0], mask[1], places)
        while seen[place, 0] >= 0 and (
            seen[place, 0] != event
            or seen[place, 1] != state
            or seen_mask[place, 0] != mask[0]
            or seen_mask[place, 1] != mask[1]
        ):
            place = (place + 1) & (places - 1)
        is_new = True
        some_spent = False
        for group in range(groups):
            some_spent |= spent[group] > 0
        if seen[place, 0] < 0:
            seen[place, 0], seen[place, 1] = event, state
            seen_mask[place, 0], seen_mask[place, 1] = mask[0], mask[1]
            seen[place, 2] = NOBODY
            used += 1
        elif seen[place, 2] == NOTHING_SPENT:
            is_new = False
        link = seen[place, 2]
        while is_new and link >= 0:
            is_new = False
            for group in range(groups):
                is_new |= chain_spent[link, group] > spent[group]
            link = chain_next[link]
        if is_new and not some_spent:
            seen[place, 2] = NOTHING_SPENT
        elif is_new:
            chain_next[links] = seen[place, 2]
            chain_spent[links, :] = spent
            seen[place, 2] = links
            links += 1

        if is_new:
            start = top
            for group in range(groups):
                kind = group_kind[group]
                after = table[state, kind]
                if (
                    spent[group] < arrived[group]
                    and urgent_stamp[kind] != stamp
                    and after >= 0
                    and after != state
                ):
                    choices[top, 0] = members[member_start[group] + spent[group]]
                    choices[top, 1] = group
                    choices[top, 2] = after
                    top += 1
            # The most urgent call goes on top; there are few, so by insertion.
            live = top
            for n in range(found):
                call = urgent[n]
                at = top
                while at > live and due[choices[at - 1, 0]] < due[call]:
                    choices[at, :] = choices[at - 1, :]
                    at -= 1
                choices[at, 0], choices[at, 1] = call, NOBODY
                choices[at, 2] = table[state, kind_of[call]]
                top += 1
            if top > start:
                frames[frame, 0], frames[frame, 1] = event, depth
                frames[frame, 2] = start
                frame_mask[frame, :] = mask
                frame_spent[frame, :] = spent
                frame += 1
            elif event == reached and dead_ends < len(partials):
                tail = min(depth, partials.shape[1])
                partials[dead_ends, :tail] = order[depth - tail : depth]
                partial_length[dead_ends] = tail
                dead_ends += 1

        # Take the next choice of the deepest configuration that has one.
        while frame > 0 and frames[frame - 1, 2] == top:
            frame -= 1
        if frame == 0:
            scalars[CONFIGURATIONS], scalars[REACHED] = configurations, reached
            scalars[PARTIALS] = dead_ends
            return NO
        top -= 1
        call, group = choices[top, 0], choices[top, 1]
        state = choices[top, 2]
        target, depth = frames[frame - 1, 0], frames[frame - 1, 1]
        mask[:] = frame_mask[frame - 1]
        spent[:] = frame_spent[frame - 1]
        order[depth] = call
        depth += 1
        if group >= 0:
            spent[group] += 1
        else:
            slot = slot_of[call]
            mask[slot >> 6] |= one << (np.uint64(slot) & low_bits)
        while event > target:
            event -= 1
            i = events[event]
            if i < 0:
                open_[slot_of[~i]] = ~i
            elif slot_of[i] >= 0:
                open_[slot_of[i]] = NOBODY
            else:
                arrived[group_of[kind_of[i]]] -= 1


@compiled
def spread(seen: Any, seen_mask: Any, wide: Any, wide_mask: Any) -> None:
    """Put what is in one hash table into a larger one."""
    places = len(wide)
    for old in range(len(seen)):
        if seen[old, 0] < 0:
            continue
        place = place_of(
            seen[old, 0], seen[old, 1], seen_mask[old, 0], seen_mask[old, 1], places
        )
        while wide[place, 0] >= 0:
            place = (place + 1) & (places - 1)
        wide[place, :] = seen[old, :]
        wide_mask[place, :] = seen_mask[old, :]
