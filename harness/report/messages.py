"""The messages between nodes, where a run has recorded them (`run --messages`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from harness.report.figures import clip
from harness.report.thinning import around, chosen
from harness.run.store import Salvage
from harness.visible import visible
from harness.worlds.messages import MESSAGES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.report.folder import Recording
    from harness.report.witness import Witness

SHOWN_MAX = 50_000
"""Messages in the page; if there are more, those around anomalies, then lost ones,
then others, evenly."""

_NUMBER_MAX = 2**52


class MessageLine(msgspec.Struct, rename={"sender": "from", "receiver": "to"}):
    """One line of messages.jsonl: what became of a message.

    The last line of a record that grew too long is `full`, and tells of no message.
    """

    mono_ns: int
    sender: str = ""
    receiver: str = ""
    type: str = ""
    took_ns: int = 0
    lost: str = ""
    full: bool = False


def columns(folder: Recording, anomalies: Iterable[Witness]) -> dict[str, Any]:
    """`messages` and the `ends` of their arrows, or nothing if none were recorded.

    Of each message, in the order in which they were sent: `t`, when that was, in us;
    `d`, how long until it arrived, or -1; `s` and `r`, its sender and receiver as
    positions in `ends`; `k`, its type; `why`, what it was lost by.
    """
    left = Salvage(folder.path)
    lines = left.lines(MESSAGES, MessageLine, optional=True)
    folder.problems += left.problems
    start_ns = folder.run.get("start_mono_ns")
    if not isinstance(start_ns, int):
        return {}
    full = [line for line in lines if line.full]
    if full:
        after_s = max(0.0, (full[0].mono_ns - start_ns) / 1e9)
        folder.problems.append(
            f"{MESSAGES} is full: it has no messages after {after_s:.3f} s."
        )
    lines = sorted(
        (line for line in lines if not line.full and line.mono_ns >= start_ns),
        key=lambda line: line.mono_ns,
    )
    if not lines:
        return {}
    if len(lines) > SHOWN_MAX:
        times = np.array([line.mono_ns - start_ns for line in lines], np.float64)
        lost = np.array([bool(line.lost) for line in lines])
        ranks = (around(times, anomalies), lost, ~lost)
        lines = [lines[i] for i in np.flatnonzero(chosen(ranks, SHOWN_MAX))]
    ends = list(folder.nodes)
    place = {node: position for position, node in enumerate(ends)}
    for line in lines:
        for end in (line.sender, line.receiver):
            if end not in place:
                place[end] = len(ends)
                ends.append(clip(visible(end)))
    return {
        "ends": ends,
        "messages": {
            "t": [_us(line.mono_ns - start_ns) for line in lines],
            "d": [-1 if line.lost else _us(line.took_ns) for line in lines],
            "s": [place[line.sender] for line in lines],
            "r": [place[line.receiver] for line in lines],
            "k": [clip(visible(line.type), 64) for line in lines],
            "why": [clip(visible(line.lost), 64) for line in lines],
        },
    }


def _us(ns: int) -> int:
    return min(max(ns // 1000, 0), _NUMBER_MAX)
