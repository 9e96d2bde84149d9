"""The list-append checker: transactions that append to lists and read them.

Operations are f "txn" with a value such as `[["append", k, v], ["r", k, [1, 2]]]`.
Keys and elements are any values. The order of versions is read off the lists, so
nothing that committed reads show about isolation is missed. If an element was appended
more than once, the appends that may have been read are tried. See
`checkers.isolation.appends`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkers.isolation.appends.inference import Appends
from checkers.isolation.judge import IsolationChecker
from checkers.isolation.question import OPTIONS, OWN_WRITES, Question
from harness.options import Flag
from harness.registry import Option, Plugin, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from checkers.isolation.transactions import Transactions


def build(options: Mapping[str, str]) -> IsolationChecker:
    """The checker from its options.

    Raises:
        UsageError: An unknown option, model or anomaly.
    """
    given = settings("the list-append checker", _OPTIONS, options)
    question = Question.parse(given)
    # Strict models count real time on all keys anyway.
    linearizable_keys = given["linearizable-keys"] and question.level < 2
    if linearizable_keys:
        question = question.with_linearizable_keys()

    def infer(transactions: Transactions, pause: Callable[[], None]) -> Appends:
        return Appends(
            transactions,
            pause,
            own_writes_show=given["own-writes"] == "visible",
            linearizable_keys=linearizable_keys,
            failed_may_show="G1a" not in question.anomalies,
        )

    return IsolationChecker(question, infer)


_OPTIONS = (
    *OPTIONS,
    Option(
        "linearizable-keys",
        "false",
        "each key by itself is linearizable, beside what is asked of transactions",
        Flag(),
    ),
    OWN_WRITES,
)


PLUGIN = Plugin(
    "list-append",
    "transactions that append to lists are isolated as a consistency model demands",
    build,
    _OPTIONS,
)
