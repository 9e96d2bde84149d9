"""Which row comes first, with which seed, and whether there is time for it.

The order of a night. First come rows about which the last night said something new: one
that was not as expected, or that changed. Then rows that were never run, or were left
out the last time, those that wait longest first. Then the others, as they stand in the
file. So a night that is too short for all rows reaches each of them in the end.

Seeds go on where the last night ended, unless a row fixes its own. A night of fixed
seeds finds in a year what it found in the first night.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.campaign.suites.rows import SEED_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness.campaign.suites.nights import Night
    from harness.campaign.suites.rows import Row

AROUND_S = 4.0
"""What starting, healing, final reads and judging take beside a run's time limit."""
SIM_S_PER_VIRTUAL_S = 0.2
NEVER = 1_000_000


def in_order(rows: Sequence[Row], nights: Sequence[Night]) -> list[Row]:
    """The rows in the order in which they are begun; `nights` the newest first."""

    def urgency(row: Row) -> tuple[int, int]:
        if not nights:
            return (0, 0)
        if told_something_new(row.name, nights):
            return (0, 0)
        since = nights_since(row.name, nights)
        return (1, -since) if since > 0 else (2, 0)

    return sorted(rows, key=urgency)  # stable: equals stay in the file's order


def told_something_new(row: str, nights: Sequence[Night]) -> bool:
    """Whether the last night with a row was off, or other than the one before."""
    ran = [night for night in nights if night.ran(row)][:2]
    if not ran:
        return False
    if ran[0].off(row):
        return True
    return len(ran) == 2 and ran[1].off(row)


def nights_since(row: str, nights: Iterable[Night]) -> int:
    """How many nights ago a row was run: 0 for the last one, NEVER for never."""
    for ago, night in enumerate(nights):
        if night.ran(row):
            return ago
    return NEVER


def first_seed(row: Row, nights: Iterable[Night], fresh: Callable[[], int]) -> int:
    """The seed of a row's first run tonight."""
    if isinstance(row.seed, int):
        return row.seed
    if row.seed == "fresh":
        return fresh()
    for night in nights:
        if (last := night.last_seed(row.name)) is not None:
            return (last + 1) % SEED_MAX
    return 0


def need_s(row: Row, nights: Iterable[Night]) -> float:
    """How long one run of a row will take: as long as the last time, or its limit."""
    for night in nights:
        if (took_s := night.run_s(row.name)) is not None:
            return took_s
    if row.world == "sim":
        return row.time_limit_s * SIM_S_PER_VIRTUAL_S
    return row.time_limit_s + AROUND_S
