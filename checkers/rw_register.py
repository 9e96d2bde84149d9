"""The rw-register checker: transactions that write registers and read them.

Operations are f "txn" with a value such as `[["w", k, v], ["r", k, 1]]`. The order of
versions has to be inferred, and options say which assumptions may be used for that.
Orders that nothing tells are settled by a search for an execution; if that gives up,
the verdict is unknown and names an order that is missing. Values should be unique for
each key; if they are not, the possible writers of each read are tried. See
`checkers.isolation.registers`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from checkers.isolation.assignments import settle
from checkers.isolation.columns import accesses_of
from checkers.isolation.judge import IsolationChecker
from checkers.isolation.question import OPTIONS, OWN_WRITES, Question
from checkers.isolation.registers.inference import Registers
from checkers.isolation.registers.scan import Sources
from checkers.isolation.transactions import is_plain
from harness.options import Checked, Flag, OneOf
from harness.registry import Option, Plugin, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from checkers.isolation.transactions import Transactions


def build(options: Mapping[str, str]) -> IsolationChecker:
    """The checker from its options.

    Raises:
        UsageError: An unknown option, model or anomaly.
    """
    given = settings("the rw-register checker", _OPTIONS, options)
    sources = Sources(
        wfr_keys=given["wfr-keys"],
        sequential_keys=given["sequential-keys"],
        linearizable_keys=given["linearizable-keys"],
        is_search_exhaustive=given["search"] == "exhaustive",
        initial=given["initial"],
        own_writes_show=given["own-writes"] == "visible",
    )

    question = Question.parse(given)

    def infer(transactions: Transactions, pause: Callable[[], None]) -> Registers:
        return Registers(transactions, sources, question.anomalies, settle, pause)

    assumes_nothing = sources == replace(
        Sources(), is_search_exhaustive=sources.is_search_exhaustive
    )
    return IsolationChecker(question, infer, accesses_of if assumes_nothing else None)


def initial_value(text: str) -> Any:
    """The value of a JSON text, or the text itself if it is no JSON; nil if empty.

    Raises:
        ValueError: The value can't be that of a register.
    """
    if not text:
        return None
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return text
    if not is_plain(value):
        raise ValueError("a register begins with a plain value")
    return value


def _switch(name: str, meaning: str) -> Option:
    return Option(name, "false", meaning, Flag())


INITIAL = Option(
    "initial",
    "",
    "the value that keys begin with, as JSON, beside nil",
    Checked("a plain value, as JSON or as it is", initial_value),
)

_OPTIONS = (
    *OPTIONS,
    _switch("wfr-keys", "a write in a transaction follows its read of the same key"),
    _switch("sequential-keys", "each key by itself is sequentially consistent"),
    _switch("linearizable-keys", "each key by itself is linearizable"),
    INITIAL,
    OWN_WRITES,
    Option(
        "search",
        "limited",
        "how long to try orders of writes that nothing tells; to the end, if need be",
        OneOf("limited", "exhaustive"),
    ),
)

PLUGIN = Plugin(
    "rw-register",
    "transactions on registers are isolated as a consistency model demands",
    build,
    _OPTIONS,
)
