"""Finds plug-ins: systems, workloads, nemeses and checkers.

A plug-in is one module with one `PLUGIN`, in the package of its kind
(`harness.systems`, `workloads`, `nemesis`, `checkers`). An installed distribution adds
others through the entry points `splitbrain.systems`, `.workloads`, `.nemeses`,
`.checkers`, each of which names a `Plugin`. The registry loads modules by name, so the
kernel never imports the packages above it.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

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
"""Kind of plug-in -> the entry point group for plug-ins of other distributions."""


@dataclass(frozen=True)
class Option:
    """One option of a plug-in, as documented by `splitbrain list`.

    Attributes:
        name: Its name, as in `--set PLUGIN.NAME=VALUE`.
        default: The text of its default value.
        meaning: What it does, in a clause.
        kind: The kind of its value, with bounds.
        amount: Of a kind of fault: the usual bound of how bad faults are, if that is
            what the option sets. Swarms draw smaller ones (`harness.faults.profiles`).
    """

    name: str
    default: str
    meaning: str
    kind: Kind
    amount: float | None = None


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

    @property
    def title(self) -> str:
        """Its name for people; that of an adapter shows its text: `launch:...`."""
        return f"{self.name}:..." if self.adapter else self.name


NEAREST_CHARS_MAX = 100
"""Longer names are not compared: they are no typing errors, and it takes long."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Text for messages: "; did you mean a, b?" if known names are near `name`."""
    if len(name) > NEAREST_CHARS_MAX:
        return ""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def settings(
    owner: str, options: Sequence[Option], given: Mapping[str, str]
) -> dict[str, Any]:
    """Name -> value for all options: the given value, or else the default.

    The value's type is that of the option's kind: an int of `Whole`, a bool of `Flag`.

    Raises:
        UsageError: `owner` does not have such an option, or a value is not allowed.
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
        UsageError: The text is not allowed; names `what`, the text and what is allowed.
    """
    try:
        return kind.parse(text)
    except (ValueError, UsageError) as problem:
        reason = str(problem)
    hint = f": {reason}" if reason else nearest(text, getattr(kind, "choices", ()))
    raise UsageError(
        f"{what}={shown(text)} is not possible{hint} (it takes {kind.told})"
    )


class Broken(NamedTuple):
    """A plug-in of another distribution that can't be used, and why."""

    kind: str
    name: str
    why: str

    def __str__(self) -> str:
        return f"the {self.kind} {self.name!r} is passed over: {self.why}"


def survey(kind: str) -> tuple[dict[str, Plugin[Any]], list[Broken]]:
    """All plug-ins of a kind by name, ours first; and those that can't be used.

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
    broken = []
    for entry in importlib.metadata.entry_points(group=GROUPS[kind]):
        plugin, why = _load(entry)
        if plugin is None:
            broken.append(Broken(kind, entry.name, why))
            continue
        taken = {_stem(n) for p in found.values() for n in (p.name, *p.aliases)}
        if twice := [n for n in (plugin.name, *plugin.aliases) if _stem(n) in taken]:
            why = f"{entry.value}: there is another one called {twice[0]}"
            broken.append(Broken(kind, entry.name, why))
        else:
            found[plugin.name] = plugin
    return found, broken


def _load(entry: importlib.metadata.EntryPoint) -> tuple[Plugin[Any] | None, str]:
    """The plug-in that an entry point names; or None, and why it can't be used."""
    try:
        plugin = entry.load()
    except (Exception, SystemExit) as problem:  # others' code may raise anything
        said = " ".join(str(problem).split())
        return None, f"{entry.value}: {type(problem).__name__}: {said}"
    if not isinstance(plugin, Plugin):
        kind = type(plugin).__name__
        return None, f"{entry.value} is no harness.registry.Plugin but a {kind}"
    names = (plugin.name, plugin.summary, *plugin.aliases)
    if not all(isinstance(name, str) for name in names) or not callable(plugin.factory):
        return None, f"{entry.value}: its names should be texts, its factory a function"
    if not all(isinstance(option, Option) for option in plugin.options):
        return None, f"{entry.value}: its options should be harness.registry.Option"
    return plugin, ""


def _stem(name: str) -> str:
    """The form of a name in which names are compared."""
    return name.replace("-", "_")


def plugins(kind: str) -> dict[str, Plugin[Any]]:
    """All plug-ins of a kind that can be used, by name.

    Cost: imports every module of the package.
    """
    return survey(kind)[0]


def find(kind: str, name: str) -> Plugin[Any]:
    """The plug-in of that name or alias; `list_append` and `list-append` are alike.

    Raises:
        UsageError: There is no plug-in of that name (the nearest are told), or it can't
            be used (says why).
    """
    stem = _stem(name)
    module = f"{PACKAGES[kind]}.{stem}"
    if stem.isidentifier() and importlib.util.find_spec(module) is not None:
        plugin = getattr(importlib.import_module(module), "PLUGIN", None)
        if isinstance(plugin, Plugin) and _stem(plugin.name) == stem:
            return plugin
    known, broken = survey(kind)
    for plugin in known.values():
        if any(stem == _stem(n) for n in (plugin.name, *plugin.aliases)):
            return plugin
    for other in broken:
        if stem == _stem(other.name):
            raise UsageError(f"the {kind} {name!r} can't be used: {other.why}")
    names = sorted({*known, *(a for p in known.values() for a in p.aliases)})
    raise UsageError(
        f"there is no {kind} called {name!r}{_as_program(kind, name)}"
        f"{nearest(name, names)} (known: {', '.join(sorted(known))})"
    )


def by_default(plugin: Plugin[Any], *given: Any) -> Any:
    """What a plug-in makes without options; None if it needs some."""
    try:
        return plugin.factory(*given)
    except (Exception, SystemExit):
        # A plug-in that the user did not ask for may raise anything.
        return None


def _as_program(kind: str, name: str) -> str:
    """Text for messages: how to run a program, if `name` is one and no system."""
    words = name.split()
    if kind != "system" or not words:
        return ""
    program = words[0]
    if "/" not in program:
        if len(words) == 1 and os.path.isfile(program):
            name = f"./{program}"
        elif len(words) == 1 or shutil.which(program) is None:
            return ""
    return f"; to run a program as its nodes: {shlex.quote(f'launch:{name}')}"
