"""Impossible sums say which node told them, and whether the others agree."""

from __future__ import annotations

import pytest

from checkers.pn_counter import PNCounterChecker
from checkers.tests.histories import history
from harness.verdict import Limits


def told(*reads: tuple[int, int]) -> list[str]:
    """The sentences on final reads (process, sum) after 5 and 2 were added.

    Process p talks to node p + 1.
    """
    lines = ["0 invoke add 5", "0 ok add 5", "1 invoke add 2", "1 ok add 2"]
    for process, total in reads:
        lines += [
            f"{process} invoke final-read",
            f"{process} ok final-read {total}",
        ]
    result = PNCounterChecker({}).check(history("\n".join(lines)), Limits())
    return [anomaly.explanation for anomaly in result.anomalies]


def test_nodes_that_disagree_are_named_with_what_they_told() -> None:
    assert told((0, 7), (1, 5), (2, 7)) == [
        "In the end process 1 read 5 from n2, but the acknowledged additions make 7; "
        "the nodes disagree: n1 7, n2 5, n3 7."
    ]


def test_nodes_that_agree_on_what_cannot_be_are_said_to() -> None:
    both = told((0, 5), (1, 5))
    assert len(both) == 2
    assert all(
        text.endswith("; all 2 nodes that were read agree on it.") for text in both
    )


@pytest.mark.parametrize("process", [0, 3])
def test_a_single_node_has_nobody_to_disagree_with(process: int) -> None:
    assert told((process, 6)) == [
        f"In the end process {process} read 6 from n{process + 1}, but the "
        "acknowledged additions make 7."
    ]
