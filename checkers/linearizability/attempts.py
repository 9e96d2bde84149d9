"""Attempts that explain what was found: those that failed, or began too late.

Calls that failed are no part of what algorithms judge, as they did not happen. But if
the value of one was found all the same, a reader should be told.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from checkers.linearizability.arguments import depends_on
from checkers.linearizability.calls import client_positions, earliest
from checkers.linearizability.specification import freeze
from harness.history import NO_COMPLETION
from harness.history.columns import FAIL

if TYPE_CHECKING:
    from collections.abc import Hashable

    from checkers.linearizability.evidence import Unknown, Unwritten
    from checkers.linearizability.specification import Model
    from harness.history import History, Op


class Attempts:
    """All attempts of one history to put a value somewhere."""

    def __init__(self, history: History, model: Model) -> None:
        self.history = history
        self.model = model

    def to_write(self, why: Unwritten, seen: int) -> Unwritten:
        """The evidence with the failed writes of its value.

        A failed write is no explanation if it began after `seen`, when the value had
        been seen.
        """
        wanted = depends_on(why.reader.operation)
        assert wanted is not None
        key = freeze(self.history[why.reader.position].key)
        attempts = self.failed_writes.get((key, wanted[0]), [])
        failed = [self.history[i] for began, i in attempts if began < seen]
        return why._replace(failed=tuple(failed))

    @cached_property
    def failed_writes(self) -> dict[tuple[Hashable, Hashable], list[tuple[int, int]]]:
        """By key and value: when each failed write began, and its position.

        When it began, at the earliest, is on the scale of `Call.invoked`. Positions
        ascend. Cost: linear in the history, once.
        """
        invoked, completed = client_positions(self.history)
        (at,) = np.nonzero(completed != NO_COMPLETION)
        at = at[self.history.columns.type[completed[at]] == FAIL]
        places = invoked[at]
        began = earliest(self.history, places)
        found: dict[tuple[Hashable, Hashable], list[tuple[int, int]]] = {}
        for start, i in zip(began.tolist(), places.tolist(), strict=True):
            op = self.history[i]
            value = op.value
            if op.f == "cas" and isinstance(value, list | tuple) and len(value) == 2:
                value = value[1]
            elif op.f not in self.model.writes:
                continue
            found.setdefault((freeze(op.key), freeze(value)), []).append((start, i))
        return found

    def to_put_in(self, why: Unknown, seen: int) -> Unknown:
        """The evidence with the attempts that failed, and the first that came too late.

        One that failed is no explanation if it began after `seen`, when the value had
        been seen.

        Cost: linear in the history.
        """
        key = freeze(self.history[why.found.position].key)
        failed: list[Op] = []
        later: list[Op] = []
        invoked, completed = client_positions(self.history)
        began = earliest(self.history, invoked)
        columns = (began, invoked, completed)
        for start, i, j in zip(*(c.tolist() for c in columns), strict=True):
            op = self.history[i]
            if op.f != why.f or freeze(op.value) != why.value or freeze(op.key) != key:
                continue
            if j == NO_COMPLETION or self.history[j].type != "fail":
                later.append(op)
            elif start < seen:
                failed.append(op)
        return why._replace(failed=tuple(failed), later=next(iter(later), None))
