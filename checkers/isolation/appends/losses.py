"""Lost appends: acknowledged, and missing from all reads from some moment on.

From the moment on at which the append and every read that shows it had returned, there
is at least one read. An append that is shown again later was not lost: reads between
that lack it were stale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from checkers.isolation.evidence import LostAppend
from checkers.isolation.graph import NOTHING
from checkers.isolation.transactions import NEVER

if TYPE_CHECKING:
    from collections.abc import Hashable

    from checkers.findings import Findings
    from checkers.isolation.appends.lists import Key, Lists
    from checkers.isolation.appends.versions import Versions
    from checkers.isolation.evidence import Evidence
    from checkers.isolation.graph import Column


def look_for_lost_appends(
    lists: Lists, versions: Versions, findings: Findings[Evidence]
) -> None:
    """Add lost appends to the findings. The history must have real time, and reads."""
    rows, reads = lists.transactions, lists.reads
    of_read = lists.keys_of_branches()[reads.branch]
    start = np.asarray(rows.start)[reads.row]
    latest = np.full(len(versions.keys), NOTHING, np.int64)
    np.maximum.at(latest, of_read, start)
    for (number, element), shown_last in _doubtful(lists, versions, latest).items():
        key = versions.keys[number]
        row = key.writer.get(element)
        if row is None:
            continue
        since = max(rows.end[row], shown_last)
        if since < latest[number] and findings.wants("lost-append"):
            of_key = np.flatnonzero(of_read == number)
            after = of_key[start[of_key] > since]
            reader = lists.read(int(after[np.argmin(start[after])]))
            findings.keep(
                LostAppend(
                    "lost-append",
                    (row, reader.row),
                    key.name,
                    element,
                    reader.value,
                    len(after),
                )
            )


def _doubtful(
    lists: Lists, versions: Versions, latest: Column
) -> dict[tuple[int, Hashable], int]:
    """Elements that some late read may lack.

    Args:
        lists: What was read and appended.
        versions: The version orders.
        latest: Number of a key -> the last invocation of a read of it.

    Returns:
        Number of the key and element -> when the last read that shows it returned;
        NOTHING if none does.
    """
    branches = lists.branches
    sizes = np.array([len(b.value) for b in branches], np.int64)
    bases = np.append(0, np.cumsum(sizes))
    shown = _last_shown(lists, sizes, bases)
    key_of = lists.keys_of_branches()
    of_branch = np.repeat(np.arange(len(branches)), sizes)
    # Elements that the latest read of their key shows need no closer look.
    doubtful = shown < latest[key_of[of_branch]]
    doubtful |= np.array([len(b.key.branches) > 1 for b in branches])[of_branch]
    for branch in np.unique(of_branch[doubtful]).tolist():
        # A list may show an element again at a place that is in no doubt.
        value = branches[branch].value
        if len(set(value)) < len(value):
            doubtful[bases[branch] : bases[branch + 1]] = True
    last: dict[tuple[int, Hashable], int] = {}
    for i in np.flatnonzero(doubtful).tolist():
        branch = int(of_branch[i])
        which = int(key_of[branch]), branches[branch].value[i - int(bases[branch])]
        last[which] = max(last.get(which, NOTHING), int(shown[i]))
    for key in versions.not_in_order:
        if latest[key.number] != NOTHING:
            for element in key.writer.keys() - _read_of(key):
                last[key.number, element] = NOTHING
    return last


def _last_shown(lists: Lists, sizes: Column, bases: Column) -> Column:
    """When the last read returned that shows a place, for all places of all branches.

    Args:
        lists: What was read.
        sizes: How long the branches are.
        bases: Where each one's places begin, and where the last one's end.
    """
    reads = lists.reads
    shown = np.full(bases[-1], NOTHING, np.int64)
    some = np.flatnonzero(reads.length)
    at = bases[reads.branch[some]] + reads.length[some] - 1
    end = np.asarray(lists.transactions.end)[reads.row]
    np.maximum.at(shown, at, end[some])
    # A longer list shows the place as well, so it is a maximum over the places behind.
    # Lifting each branch above those behind it keeps the maximum within the branch.
    lift = np.repeat(np.arange(len(sizes), 0, -1), sizes) * (2 * NEVER)
    return np.maximum.accumulate((shown + lift)[::-1])[::-1] - lift


def _read_of(key: Key) -> set[Hashable]:
    """Every element that was read of a key."""
    return set().union(*(branch.value for branch in key.branches))
