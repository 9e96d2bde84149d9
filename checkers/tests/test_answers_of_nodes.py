"""Impossible sums and wrong totals say which node told them, and who else agrees."""

from __future__ import annotations

import pytest

from checkers.bank import BankChecker
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


def totals(*reads: tuple[int, int]) -> list[str]:
    """The sentences on reads (process, total) of a bank that should hold 100."""
    lines = []
    for process, total in reads:
        lines += [f"{process} invoke read", f"{process} ok read [60, {total - 60}]"]
    result = BankChecker({}).check(history("\n".join(lines)), Limits())
    return [anomaly.explanation for anomaly in result.anomalies]


def test_a_wrong_total_names_its_node_and_what_the_others_told() -> None:
    assert totals((0, 100), (1, 90), (2, 100), (1, 100)) == [
        "Process 1 read all accounts from n2, and found 90 in all where 100 must be; "
        "the nodes disagree: n1 100, n2 90 and 100, n3 100."
    ]
    assert totals((0, 90), (1, 90))[1] == (
        "Process 1 read all accounts from n2, and found 90 in all where 100 must be; "
        "all 2 nodes that were read agree on it."
    )
    assert totals((0, 90)) == [
        "Process 0 read all accounts from n1, and found 90 in all where 100 must be."
    ]


def test_a_node_that_never_says_the_same_twice_is_told_shortly() -> None:
    told = totals((0, 100), *((1, total) for total in range(80, 90)))
    assert "n1 100, n2 80 and 81 and 82 and 83 and 6 more." in told[0]
