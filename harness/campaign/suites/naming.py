"""Anomalies and figures that rows ask for: whether any checker has them at all.

Every anomaly of the checkers that come with splitbrain has an entry in the glossary.

Checkers do not declare their figures. But a figure has its name from the code of a
checker, so a name that stands nowhere in the code of checkers is a mistake. What stands
there may be none all the same: then the row ends with "NAME is not told".

Of the checkers of others nothing is certain, and nothing is refused.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from harness.errors import UsageError
from harness.registry import nearest
from harness.report import glossary
from harness.run import judges

if TYPE_CHECKING:
    from harness.run.assembling import Parts
    from harness.run.spec import TestSpec
    from harness.verdict import Checker

_OURS = "checkers"


@runtime_checkable
class _Wrapping(Protocol):
    """A checker that has another one judge, and tells more or less of it."""

    checker: Checker


def refuse_unknown_anomaly(spec: TestSpec, parts: Parts, name: str) -> None:
    """Refuse an anomaly that no checker of a run can find, if that is certain.

    Raises:
        UsageError: There is such a name; tells the nearest.
    """
    if _all_ours(spec, parts) and glossary.entry(name) is None:
        raise UsageError(
            f"no checker finds {name!r}{nearest(name, glossary.names())}; splitbrain "
            "list NAME tells what the name of an anomaly means"
        )


def refuse_unknown_figure(spec: TestSpec, parts: Parts, name: str) -> None:
    """Refuse a figure that no checker of a run can tell, if that is certain.

    Raises:
        UsageError: There is such a name; tells the nearest.
    """
    words = _words() if _all_ours(spec, parts) else frozenset()
    if words and name not in words:
        likely = {word for word in words if "_" in word}
        raise UsageError(f"no checker tells a figure {name!r}{nearest(name, likely)}")


def _all_ours(spec: TestSpec, parts: Parts) -> bool:
    """Whether all checkers of a run come with splitbrain."""
    made = [
        *judges.of_operations(spec).values(),
        *judges.of_observations(parts.system.invariants).values(),
    ]
    return all(type(_inner(one)).__module__.split(".")[0] == _OURS for one in made)


def _inner(checker: Checker) -> Checker:
    """The checker that judges, within those that tell of it in another way."""
    while isinstance(checker, _Wrapping):
        checker = checker.checker
    return checker


@functools.cache
def _words() -> frozenset[str]:
    """The names and texts in the code of our checkers; none where there is no source.

    Cost: about half a second.
    """
    found = importlib.util.find_spec(_OURS)
    folders = (found.submodule_search_locations if found else None) or []
    words: set[str] = set()
    for folder in folders:
        for file in Path(folder).rglob("*.py"):
            if "tests" not in file.parts:
                words.update(_words_of(file))
    return frozenset(word for word in words if word.isidentifier())


def _words_of(file: Path) -> set[str]:
    words = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Constant(value=str(text)):
                words.add(text)
            case ast.keyword(arg=str(name)) | ast.Name(id=name):
                words.add(name)
            case ast.Attribute(attr=name):
                words.add(name)
            case _:
                pass
    return words
