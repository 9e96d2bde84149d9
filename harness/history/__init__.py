"""What was seen: operations, histories, and the files that hold them.

    ops.py           Op, Bystander, HistoryError: one event, and the process it is of
    history.py       History: all events, invocations and completions paired
    pairing.py       pairs invocations with completions, event by event
    columns.py       the events as numpy columns, for checkers of millions
    observations.py  nodes' observations of themselves, as a history
    formats/         readers and writers of files, our own and those of other tools

Checkers see this room and `harness.verdict`, and nothing else of the harness.
"""

from harness.history.history import History
from harness.history.ops import (
    NO_COMPLETION,
    Bystander,
    HistoryError,
    Op,
    OpType,
    is_client,
    set_bystanders_aside,
)
from harness.history.pairing import Pairing, pair, pair_leniently

__all__ = [
    "NO_COMPLETION",
    "Bystander",
    "History",
    "HistoryError",
    "Op",
    "OpType",
    "Pairing",
    "is_client",
    "pair",
    "pair_leniently",
    "set_bystanders_aside",
]
