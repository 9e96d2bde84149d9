"""Elements appended more than once: who wrote which of those that were read.

A client that repeats an append which timed out may find its element in the list twice,
or once. If once, values don't tell which of the two appends was read. A history is
right just when it is right under some assignment of appends to what was read. An
assignment makes every element unique, as a `Copy` with a number, so that the rest of
the checker can judge it.

There may be very many assignments. So they are not enumerated. The one that fits real
time best is tried first. Each anomaly that it leads to rests on what was chosen for
some of the elements (on nothing, if it is certain), so no assignment that makes all
these choices again can be right. The next one tried makes none of the sets of choices
refuted so far. That is counterexample-guided search, as solvers of theories learn their
conflicts; VeriStrong (2025) gives the edges of such choices to a solver at once, as
hyper-polygraphs. The search ends with an assignment that explains the history, with
the certainty that there is none, or at its limits.

Without loss of generality, of the appends of one element by one transaction the earlier
ones are read before the later ones.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from checkers.isolation.conflicts import avoid, is_met, paced
from checkers.isolation.execution import Answer
from checkers.isolation.transactions import Copy, Labels
from harness.override import override

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Collection,
        Hashable,
        Iterator,
        Mapping,
        Sequence,
    )

    from checkers.isolation.conflicts import Conflict
    from checkers.isolation.transactions import MicroOps

    Group = tuple[Hashable, Hashable]

OPTIONS_MAX = 720
"""Assignments of one element that are considered."""

STEPS_MAX = 200_000
"""Choices tried for one assignment that avoids what was refuted."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One append of an element that was appended more than once.

    Attributes:
        row: Its transaction.
        ordinal: How many appends of the element the transaction made before it.
        start, end: When the transaction was invoked; when it returned ok, or NEVER.
        is_ok, is_failed: The transaction's outcome.
    """

    row: int
    ordinal: int
    start: int
    end: int
    is_ok: bool
    is_failed: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """The first, second or later occurrence of an element in the lists of a key.

    Attributes:
        by: When the first read returned that showed it.
        last: The last invocation of a read of the key.
    """

    by: int
    last: int


@dataclass(slots=True)
class Choice:
    """An element that was appended more than once, and its appends.

    Attributes:
        group: The key and the element.
        candidates: The appends.
        shown: Its occurrences in what was read, in the order of the lists.
        options: Assignments: for each of `shown` the number of a candidate, or a
            negative number if there are too few candidates.
        is_complete: Whether `options` has all assignments.
    """

    group: Group
    candidates: list[Candidate]
    shown: list[Shown]
    options: list[tuple[int, ...]] = field(default_factory=list)
    is_complete: bool = True

    def enumerate(self, *, failed_may_show: bool) -> bool:
        """Find the assignments; those that fit real time best come first.

        Args:
            failed_may_show: Whether it is no anomaly to read a failed append, so that
                one may be chosen though there are others.

        Returns:
            False if there is nothing to choose, and nothing to tell apart.
        """
        numbers = range(len(self.candidates))
        usable = [i for i in numbers if not self.candidates[i].is_failed]
        if failed_may_show or len(usable) < len(self.shown):
            usable = list(numbers)
        if len(usable) < 2 and len(self.shown) < 2:
            return False
        usable.sort(key=self._by_likelihood)
        spare = len(self.shown) - len(usable)
        pool = usable + [-1 - i for i in range(spare)]
        orders = filter(
            self._is_in_order, itertools.permutations(pool, len(self.shown))
        )
        self.options = list(itertools.islice(orders, OPTIONS_MAX + 1))
        self.is_complete = len(self.options) <= OPTIONS_MAX
        self.options.sort(key=self._penalty)
        return True

    def _by_likelihood(self, number: int) -> tuple[bool, bool, int, int]:
        candidate = self.candidates[number]
        return (
            candidate.is_failed,
            not candidate.is_ok,
            candidate.start,
            candidate.ordinal,
        )

    def _is_in_order(self, option: tuple[int, ...]) -> bool:
        """Whether a transaction's appends are chosen in order, and none left out."""
        used: Counter[int] = Counter()
        for number in option:
            if number < 0:
                continue
            candidate = self.candidates[number]
            if candidate.ordinal != used[candidate.row]:
                return False
            used[candidate.row] += 1
        return True

    def _penalty(self, option: tuple[int, ...]) -> int:
        """How often an assignment contradicts real time, or takes a failed append."""
        chosen = [self.candidates[number] for number in option if number >= 0]
        against = sum(
            shown.by < self.candidates[number].start
            for shown, number in zip(self.shown, option, strict=True)
            if number >= 0
        )
        against += sum(candidate.is_failed for candidate in chosen)
        against += sum(b.end < a.start for a, b in itertools.pairwise(chosen))
        last = self.shown[0].last if self.shown else -1
        for number, candidate in enumerate(self.candidates):
            is_missed = candidate.is_ok and candidate.end < last
            against += is_missed and number not in option
        return against


class WriterSearch:
    """Yields assignments of writers, each of which avoids all that was refuted.

    Attributes:
        choices: What is to be chosen.
        gave_up: Why the search ended though assignments may be left; else empty.
    """

    def __init__(self, choices: Sequence[Choice], pause: Callable[[], None]) -> None:
        self.choices = choices
        self._pause = pause
        self._number = {choice.group: i for i, choice in enumerate(choices)}
        self._chosen = dict.fromkeys(range(len(choices)), 0)
        self._refuted: list[Conflict] = []
        self.gave_up = ""

    def next(self) -> Assignment | None:
        """The next assignment; None if there is none left, or the search `gave_up`."""
        found = self._avoid()
        if found is Answer.FOUND:
            return Assignment(self.choices, list(self._chosen.values()))
        if found is Answer.GAVE_UP:
            self.gave_up = "there are too many assignments"
        elif not all(choice.is_complete for choice in self.choices):
            self.gave_up = "an element was appended too many times"
        return None

    def open(self, groups: Collection[Group]) -> set[Group]:
        """Those of these elements that have more than one option."""
        return {group for group in groups if not self._is_fixed(group)}

    def _is_fixed(self, group: Group) -> bool:
        choice = self.choices[self._number[group]]
        return choice.is_complete and len(choice.options) == 1

    def refute(self, groups: Collection[Group]) -> None:
        """Never again choose for all of these elements what is chosen now."""
        numbers = sorted(self._number[group] for group in groups)
        self._refuted.append({i: self._chosen[i] for i in numbers})

    def _avoid(self) -> Answer:
        """Choose so that no refuted set of choices is made."""
        steps = paced(self._pause, STEPS_MAX)
        for members, refuted in self._components():
            found = avoid(refuted, self._chosen, members, self._options, steps)
            if found is not Answer.FOUND:
                return found
        return Answer.FOUND

    def _options(self, number: int) -> Iterator[int]:
        """The options of an element, the one that is chosen now first."""
        now = self._chosen[number]
        yield now
        for option in range(len(self.choices[number].options)):
            if option != now:
                yield option

    def _components(self) -> Iterator[tuple[list[int], list[Conflict]]]:
        """Groups of elements that refuted choices connect, with these choices.

        Only groups in which a refuted set of choices is made now.
        """
        group: dict[int, int] = {}

        def root(number: int) -> int:
            while (up := group.setdefault(number, number)) != number:
                group[number] = number = group[up]
            return number

        for conflict in self._refuted:
            first, *others = conflict
            for other in others:
                group[root(other)] = root(first)
        parts: dict[int, list[Conflict]] = defaultdict(list)
        for conflict in self._refuted:
            parts[root(next(iter(conflict)))].append(conflict)
        for refuted in parts.values():
            if any(is_met(conflict, self._chosen) for conflict in refuted):
                often = Counter(itertools.chain.from_iterable(refuted))
                yield sorted(often, key=lambda n: (-often[n], n)), refuted


class Assignment(Labels):
    """Tells elements apart that were appended more than once, as was chosen."""

    def __init__(self, choices: Sequence[Choice], chosen: list[int]) -> None:
        self._copies: dict[Hashable, dict[Hashable, tuple[int, ...]]] = {}
        self._numbers: dict[tuple[int, Hashable, Hashable, int], int] = {}
        self._rows: dict[Group, set[int]] = {}
        self._groups: dict[int, set[Group]] = defaultdict(set)
        for choice, option in zip(choices, chosen, strict=True):
            name, element = choice.group
            of_key = self._copies.setdefault(name, {})
            of_key[element] = choice.options[option]
            self._rows[choice.group] = {c.row for c in choice.candidates}
            for number, candidate in enumerate(choice.candidates):
                which = (candidate.row, name, element, candidate.ordinal)
                self._numbers[which] = number
                self._groups[candidate.row].add(choice.group)

    def groups(self) -> list[Group]:
        """All keys and elements that something was chosen for."""
        return list(self._rows)

    def rows_of(self, group: Group) -> set[int]:
        """Transactions that appended the element to the key."""
        return self._rows[group]

    def groups_of(self, row: int) -> set[Group]:
        """Keys and elements among these that a transaction appended."""
        return self._groups.get(row, set())

    @override
    def of(self, row: int, micro_ops: MicroOps) -> MicroOps:
        out: MicroOps = []
        made: Counter[tuple[Hashable, Hashable]] = Counter()
        for micro_op in micro_ops:
            f, name, value = micro_op
            copies = self._copies.get(name)
            if copies is None:
                out.append(micro_op)
            elif f == "append":
                if value in copies:
                    number = self._numbers.get((row, name, value, made[name, value]))
                    made[name, value] += 1
                    if number is not None:
                        micro_op = (f, name, Copy(value, number))
                out.append(micro_op)
            elif f == "r" and value:
                out.append((f, name, _told_apart(value, copies)))
            else:
                out.append(micro_op)
        return out


def _told_apart(
    elements: list[Any], copies: Mapping[Hashable, tuple[int, ...]]
) -> list[Any]:
    """A list that was read, with copies for elements."""
    out: list[Any] = []
    seen: Counter[Hashable] = Counter()
    for element in elements:
        if element in copies:
            out.append(Copy(element, copies[element][seen[element]]))
            seen[element] += 1
        else:
            out.append(element)
    return out
