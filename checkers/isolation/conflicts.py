"""Choices that avoid all combinations known to be wrong.

`checkers.isolation.writers` and `checkers.isolation.assignments` try one assignment
after the other. Each assignment that does not explain the history yields a conflict: a
set of choices that must not be made together again. The next assignment avoids all
conflicts so far, as solvers of theories learn their clauses.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

from checkers.isolation.execution import Answer

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Collection,
        Iterable,
        Iterator,
        Mapping,
        MutableMapping,
        Sequence,
    )

Conflict = dict[int, int]
"""Question -> option; not all of these options may be chosen together."""

STEPS_BETWEEN_PAUSES = 1024


def is_met(conflict: Conflict, chosen: Mapping[int, int]) -> bool:
    """Whether all that a conflict forbids together is chosen."""
    return all(chosen[one] == option for one, option in conflict.items())


def avoid(
    conflicts: Collection[Conflict],
    chosen: MutableMapping[int, int],
    order: Sequence[int],
    options: Callable[[int], Iterable[int]],
    steps: Iterator[int],
) -> Answer:
    """Choose again, so that no conflict is met: a search in depth.

    Args:
        conflicts: What is to be avoided.
        chosen: What is chosen; changed until no conflict is met.
        order: All questions that conflicts are about, in the order to decide them in.
        options: Question -> its options, the best first.
        steps: One for each choice that is made; see `paced`.
    """
    if not order:
        return Answer.FOUND
    # A conflict is looked at once the last question it is about has been decided.
    place = {one: i for i, one in enumerate(order)}
    ending: dict[int, list[Conflict]] = defaultdict(list)
    for conflict in conflicts:
        ending[max(conflict, key=place.__getitem__)].append(conflict)
    untried = [iter(options(order[0]))]
    for _ in steps:
        one = order[len(untried) - 1]
        option = next(untried[-1], None)
        if option is None:
            untried.pop()
            if not untried:
                return Answer.IMPOSSIBLE
            continue
        chosen[one] = option
        if any(is_met(conflict, chosen) for conflict in ending[one]):
            continue
        if len(untried) == len(order):
            return Answer.FOUND
        untried.append(iter(options(order[len(untried)])))
    return Answer.GAVE_UP


def paced(pause: Callable[[], None], most: int | None = None) -> Iterator[int]:
    """Steps of a search, counted from 1, with a pause now and then.

    Args:
        pause: May raise.
        most: How many steps there are; None for no end.
    """
    for step in itertools.count(1) if most is None else range(1, most + 1):
        if not step % STEPS_BETWEEN_PAUSES:
            pause()
        yield step
