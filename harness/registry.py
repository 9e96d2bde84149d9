"""Finds plug-ins: systems, workloads, nemeses and checkers.

A plug-in is one module with one `PLUGIN`, in the package of its kind
(`harness.systems`, `workloads`, `nemesis`, `checkers`); an installed distribution adds
its own through the entry points `splitbrain.systems`, `.workloads`, `.nemeses`,
`.checkers`, each of which names a `Plugin`. The registry loads by module name, so the
kernel never imports the packages above it.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from harness.errors import UsageError
from harness.options import Kind, shown

F = TypeVar("F", bound=Callable[..., Any])

PACKAGES: Mapping[str, str] = {
    "system": "harness.systems",
    "workload": "workloads",
    "nemesis": "nemesis",
    "checker": "checkers",
}
"""Kind of plug-in -> the package whose modules are plug-ins of that kind."""

GROUPS: Mapping[str, str] = {
    "system": "splitbrain.systems",
    "workload": "splitbrain.workloads",
    "nemesis": "splitbrain.nemeses",
    "checker": "splitbrain.checkers",
}
"""Kind of plug-in -> the entry point group of outsiders."""


@dataclass(frozen=True)
class Option:
    """One option of a plug-in, as documented by `splitbrain list`.

    Attributes:
        name: Its name; `--set PLUGIN.NAME=VALUE`.
        default: The text that it stands at unless another is given.
        meaning: What it does, in a clause.
        kind: What its value may be, bounds included.
    """

    name: str
    default: str
    meaning: str
    kind: Kind


@dataclass(frozen=True)
class Plugin(Generic[F]):
    """A plug-in: its name, one line about it, its typed factory and its options.

    `adapter` systems take a text after a colon: `launch:COMMAND`.
    """

    name: str
    summary: str
    factory: F
    options: Sequence[Option] = ()
    aliases: Sequence[str] = ()
    adapter: bool = False


NEAREST_CHARS_MAX = 100
"""Longer names are nobody's slip of the finger, and comparing them takes long."""


def nearest(name: str, known: Iterable[str]) -> str:
    """For messages: "; did you mean a, b?" when something known is near `name`."""
    if len(name) > NEAREST_CHARS_MAX:
        return ""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def settings(
    owner: str, options: Sequence[Option], given: Mapping[str, str]
) -> dict[str, Any]:
    """The values of all options, by name: what was given, else the defaults.

    Types are those of each option's kind: an int of `Whole`, a bool of `Flag`, ...

    Raises:
        UsageError: An option `owner` does not have, or a value that is not allowed.
    """
    by_name = {option.name: option for option in options}
    for name in given:
        if name not in by_name:
            known = ", ".join(by_name) or "none"
            raise UsageError(
                f"{owner} has no option {name[:60]!r}{nearest(name, by_name)} "
                f"(its options: {known})"
            )
    return {
        name: value_of(option.kind, given.get(name, option.default), f"{owner}: {name}")
        for name, option in by_name.items()
    }


def value_of(kind: Kind, text: str, what: str) -> Any:
    """The value of that kind that `text` stands for.

    Raises:
        UsageError: It stands for none; names `what`, the text and what is allowed.
    """
    try:
        return kind.parse(text)
    except (ValueError, UsageError) as problem:
        reason = str(problem)
    hint = f": {reason}" if reason else nearest(text, getattr(kind, "choices", ()))
    raise UsageError(
        f"{what}={shown(text)} is not possible{hint} (it takes {kind.told})"
    )


def plugins(kind: str) -> dict[str, Plugin[Any]]:
    """All plug-ins of a kind by name, ours first.

    Cost: imports every module of the package, so commands that need one plug-in call
    `find` instead.
    """
    found: dict[str, Plugin[Any]] = {}
    package = importlib.import_module(PACKAGES[kind])
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        plugin = getattr(
            importlib.import_module(f"{package.__name__}.{module}"), "PLUGIN", None
        )
        if isinstance(plugin, Plugin):
            found[plugin.name] = plugin
    for entry in importlib.metadata.entry_points(group=GROUPS[kind]):
        found.setdefault(entry.name, entry.load())
    return found


def find(kind: str, name: str) -> Plugin[Any]:
    """The plug-in of that name or alias; `list_append` and `list-append` are alike.

    Raises:
        UsageError: Nothing is called that; names the nearest that are.
    """
    stem = name.replace("-", "_")
    module = f"{PACKAGES[kind]}.{stem}"
    if stem.isidentifier() and importlib.util.find_spec(module) is not None:
        plugin = getattr(importlib.import_module(module), "PLUGIN", None)
        if isinstance(plugin, Plugin) and plugin.name.replace("-", "_") == stem:
            return plugin
    known = plugins(kind)
    for plugin in known.values():
        if any(stem == n.replace("-", "_") for n in (plugin.name, *plugin.aliases)):
            return plugin
    names = sorted({*known, *(a for p in known.values() for a in p.aliases)})
    raise UsageError(
        f"there is no {kind} called {name!r}{nearest(name, names)} "
        f"(known: {', '.join(sorted(known))})"
    )
