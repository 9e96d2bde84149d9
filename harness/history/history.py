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
        ops: The ops; `ops[i].index == i`. They must not change, as columns are made of
            them.
        partner: `completion` as a numpy column.
        completions_only: Whether a completion lacks its invocation, as in a foreign
            history that holds completions only. Then `calls` misses operations, and
            nothing is known about real time: each completion is an operation of its
            own, which a checker has to take from `ops`.
        bystanders: The names that a reader of a file, or `History`, found to be
            bystanders'.
        source: File name or other origin, for messages.
        lines: The line of `source` that holds each op; None if that is not known.
        remark: A sentence about choices that a reader of the file made, such as what it
            left out; it stands beside the verdict.

    Args:
        ops: The events, in order.
        strict: Refuse a history whose clients' events don't pair up.
        source: The attribute.
        where: Turns the position of an op into its name in messages; by default
            `source` and the position.
        completion: The attribute, if `ops` are known to pair up.
        columns: The attribute, if it is known.
        bystanders: The attribute, if it is known.

    Raises:
        HistoryError: From the constructor, if `strict` and a client's invocation and
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
        # Imported here, as code that only records needs no numpy: it takes 0.1 s.
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
            # The slow way says what is wrong, or pairs what is certain all the same.
            if strict:
                pair(ops, where or (lambda i: f"{source}: op {i}"))
                raise AssertionError("both ways of pairing should refuse the same")
            partner, self.completions_only = pair_leniently(ops)
        self.partner = partner

    @property
    def completion(self) -> Sequence[int]:
        """The other end of each call, by index.

        `completion[i]` is the index of the completion of invocation i, or
        NO_COMPLETION. For a completion it is the index of its invocation, or
        NO_COMPLETION in a foreign history that holds completions only.
        """
        if self._completion is None:
            self._completion = self.partner.tolist()
        return self._completion

    @property
    def columns(self) -> Columns:
        """All events as numpy columns."""
        if self._columns is None:
            from harness.history import columns

            self._columns = columns.columns(self.ops)
        return self._columns

    def place(self, index: int) -> str:
        """The place of an op, for messages: its line if known, else its position."""
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
