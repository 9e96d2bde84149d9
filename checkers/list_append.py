"""The list-append checker: transactions that append to lists and read them.

Operations are f "txn" with a value such as `[["append", k, v], ["r", k, [1, 2]]]`.
Elements must be unique in their list. The order of versions is read off the lists, so
nothing that committed reads show about isolation is missed. See `checkers.isolation`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkers.isolation.appends import Appends
from checkers.isolation.judge import IsolationChecker
from checkers.isolation.question import OPTIONS, Question
from harness.registry import Plugin, settings

if TYPE_CHECKING:
    from collections.abc import Mapping


def build(options: Mapping[str, str]) -> IsolationChecker:
    """The checker from its options.

    Raises:
        UsageError: An unknown option, model or anomaly.
    """
    given = settings("the list-append checker", OPTIONS, options)
    return IsolationChecker(Question.parse(given), Appends)


PLUGIN = Plugin(
    "list-append",
    "transactions that append to lists are isolated as a consistency model demands",
    build,
    OPTIONS,
)
