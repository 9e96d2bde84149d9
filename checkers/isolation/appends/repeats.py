"""Elements appended more than once: which appends of them may have been read.

`checkers.isolation.writers` chooses among them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np

from checkers.isolation.graph import NOTHING
from checkers.isolation.transactions import Outcome
from checkers.isolation.writers import Candidate, Choice, Shown

if TYPE_CHECKING:
    from collections.abc import Hashable

    from checkers.isolation.appends.lists import Lists
    from checkers.isolation.writers import Group


def choices(lists: Lists, *, failed_may_show: bool) -> list[Choice]:
    """Elements of which it is not clear which append of them was read.

    Args:
        lists: What was read and appended.
        failed_may_show: Whether reads may see what failed transactions appended, by
            what is asked.
    """
    if not lists.repeated:
        return []
    shown = _occurrences(lists)
    found = []
    for group, candidates in _candidates(lists).items():
        choice = Choice(group, candidates, shown[group])
        if choice.enumerate(failed_may_show=failed_may_show):
            found.append(choice)
    return found


def _candidates(lists: Lists) -> dict[Group, list[Candidate]]:
    """All appends of the repeated elements."""
    found: dict[Group, list[Candidate]] = {group: [] for group in lists.repeated}
    rows = lists.transactions
    for row, micro_ops in rows.micro_ops():
        made: Counter[Group] = Counter()
        outcome = rows.outcome[row]
        for f, name, element in micro_ops:
            group = name, element
            if f != "append" or group not in found:
                continue
            if rows.has_realtime or outcome != Outcome.INFO:
                found[group].append(
                    Candidate(
                        row,
                        made[group],
                        rows.start[row],
                        rows.end[row],
                        outcome == Outcome.OK,
                        outcome == Outcome.FAIL,
                    )
                )
            made[group] += 1
    return found


def _occurrences(lists: Lists) -> dict[Group, list[Shown]]:
    """The first, second... of repeated elements in what was read of their keys."""
    reads, rows = lists.reads, lists.transactions
    in_order = np.argsort(reads.branch, kind="stable")
    bounds = np.searchsorted(reads.branch[in_order], np.arange(len(lists.branches) + 1))
    start = np.asarray(rows.start)[reads.row]
    end = np.asarray(rows.end)[reads.row]
    out: dict[Group, list[Shown]] = {}
    names: dict[Hashable, set[Hashable]] = defaultdict(set)
    for name, element in lists.repeated:
        out[name, element] = []
        names[name].add(element)
    for name, elements in names.items():
        of_branch = [
            (branch, in_order[bounds[branch.number] : bounds[branch.number + 1]])
            for branch in lists.keys[name].branches
        ]
        last = max(
            (int(start[which].max()) for _, which in of_branch if len(which)),
            default=NOTHING,
        )
        for branch, which in of_branch:
            seen: Counter[Hashable] = Counter()
            for place, element in enumerate(branch.value):
                if element not in elements:
                    continue
                by = int(end[which[reads.length[which] > place]].min())
                shown, nth = out[name, element], seen[element]
                seen[element] += 1
                if nth == len(shown):
                    shown.append(Shown(by, last))
                else:
                    shown[nth] = Shown(min(by, shown[nth].by), last)
    return out
