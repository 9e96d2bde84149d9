"""A fifth pruning: states that no operation of the history tells apart are one state.

A register's state matters only by the reads and cas that it satisfies. Values that no
read and no cas names can't be told apart, so all of them become UNOBSERVED: a history
of writes that nobody reads has one state, however many values it wrote. Where
operations append to strings, a state matters only while it is a prefix of something
that was read. Otherwise k open appends would have k! states.

Theory: the merged states are bisimilar, so the answer is the same. Every operation maps
UNOBSERVED to where it maps each of the values that it stands for.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from checkers.linearizability.specification import UNOBSERVED, Operation

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from checkers.linearizability.specification import Model, State


class Quotient:
    """The states of a register-like model, merged for one list of operations.

    Models that are not a register's (no `reads`) are left as they are.
    """

    def __init__(
        self, model: Model, operations: Sequence[Operation], *, trivial: bool = False
    ) -> None:
        self.trivial = trivial or not model.reads
        self._named: set[Hashable] = set()
        self._texts: list[str] = []
        if self.trivial:
            return
        for operation in operations:
            if operation.f == "read":
                self._named.add(operation.result)
            elif operation.f in {"cas", "cas-mismatch"}:
                self._named.add(operation.argument)
        self._appends = any(operation.f in model.appends for operation in operations)
        if self._appends:
            self._texts = sorted(text for text in self._named if isinstance(text, str))

    def state(self, state: State) -> State:
        """The representative of `state`."""
        if self.trivial or state in self._named:
            return state
        if self._appends and (not isinstance(state, str) or self._begins_a_text(state)):
            return state
        return UNOBSERVED

    def operation(self, operation: Operation) -> Operation:
        """The representative of `operation`: it writes a representative."""
        if self.trivial:
            return operation
        if operation.f == "write":
            return Operation("write", self.state(operation.argument))
        if operation.f == "cas":
            return Operation("cas", operation.argument, self.state(operation.result))
        return operation

    def _begins_a_text(self, prefix: str) -> bool:
        """Whether some text that was read starts with `prefix`.

        If any does, the first that is not less than `prefix` does.
        """
        place = bisect_left(self._texts, prefix)
        return place < len(self._texts) and self._texts[place].startswith(prefix)
