"""A history: all ops of a run, with invocations and completions paired."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.history.ops import NO_COMPLETION, set_bystanders_aside
from harness.history.pairing import pair, pair_leniently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from harness.history.columns import Columns
    from harness.history.ops import Op


class History:
    """A checked sequence of ops, with invocations and completions paired.

    Attributes:
        ops: The ops; `ops[i].index == i`. They don't change any more, for columns are
            made of them.
        partner: As `completion`, as a numpy column.
        completions_only: Not every completion has its invocation, as in a foreign
            history that holds completions only. Then `calls` misses operations, and
            nothing is known about real time: each completion is an operation of its
            own, which a checker has to take from `ops`.
        bystanders: Names that a reader of a file, or `History`, found to be such.
        source: File name or other origin, for messages.
        lines: The line of `source` that holds each op; None when nobody knows.
        remark: What a reader of the file took upon itself, for whoever reads a verdict.

    Args:
        ops: The events, in order.
        strict: Refuse a history whose clients' events don't pair up.
        source: See the attribute.
        where: Turns the position of an op into what messages call it; by default
            `source` and the position.
        completion: See the attribute; given when `ops` are known to pair up.
        columns: See the attribute; given when they are known.
        bystanders: See the attribute; given when they are known.

    Raises:
        HistoryError: From the constructor, when `strict` and a client's invocation and
            completion do not pair up. Cost: linear.
    """

    __slots__ = (
        "_columns",
        "_completion",
        "bystanders",
        "completions_only",
        "lines",
        "ops",
        "partner",
        "remark",
        "source",
    )

    def __init__(
        self,
        ops: Sequence[Op],
        *,
        strict: bool = True,
        source: str = "history",
        where: Callable[[int], str] | None = None,
        completion: Sequence[int] | None = None,
        columns: Columns | None = None,
        bystanders: frozenset[str] | None = None,
    ) -> None:
        # Who only records has no need of numpy, which takes 0.1 s to import.
        from harness.history import columns as numbered

        self.ops = ops
        self.source = source
        self.lines: Sequence[int] | None = None
        self.remark = ""
        self.completions_only = False
        self.bystanders: frozenset[str] = bystanders or frozenset()
        self._completion = completion
        self._columns: Columns | None = None
        if completion is not None:
            self.partner: NDArray[np.int64] = numbered.as_column(completion)
            return
        self._columns = columns or numbered.columns(ops)
        if bystanders is None and self._columns.has_names:
            self.bystanders = set_bystanders_aside(ops)
            if self.bystanders:
                self._columns = numbered.columns(ops)
        partner = numbered.pair(self._columns)
        if partner is None:
            # The slow way knows what is wrong, or what is certain all the same.
            if strict:
                pair(ops, where or (lambda i: f"{source}: op {i}"))
                raise AssertionError("both ways of pairing should refuse the same")
            partner, self.completions_only = pair_leniently(ops)
        self.partner = partner

    @property
    def completion(self) -> Sequence[int]:
        """The other end of each call, by index.

        `completion[i]` is the index of the completion of invocation i, or
        NO_COMPLETION; for a completion, the index of its invocation, or NO_COMPLETION
        where a foreign history holds completions only.
        """
        if self._completion is None:
            self._completion = self.partner.tolist()
        return self._completion

    @property
    def columns(self) -> Columns:
        """What every event is, as numpy columns."""
        if self._columns is None:
            from harness.history import columns

            self._columns = columns.columns(self.ops)
        return self._columns

    def place(self, index: int) -> str:
        """Where an op stands, for messages: its line, or else its position."""
        if self.lines is None:
            return f"{self.source}: op {index}"
        return f"{self.source}:{self.lines[index]}"

    def __len__(self) -> int:
        return len(self.ops)

    def __iter__(self) -> Iterator[Op]:
        return iter(self.ops)

    def __getitem__(self, index: int) -> Op:
        return self.ops[index]

    def calls(self) -> Iterator[tuple[Op, Op | None]]:
        """Client operations in order of invocation: (invoke, completion or None)."""
        completion = self.completion
        for i, op in enumerate(self.ops):
            if op.type == "invoke" and op.is_client:
                j = completion[i]
                yield op, (None if j == NO_COMPLETION else self.ops[j])
