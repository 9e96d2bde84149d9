"""The tables of our pages that the code itself tells: made here, held by a test.

    .venv/bin/python -m harness.tests.pages    # writes them again

A page marks the place of a table with comments, `<!-- table: modules -->` before it and
`<!-- end of table -->` after it.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import registry
from harness.cli import catalogue
from harness.systems import services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = Path(__file__).parents[2]

RENEW = "to renew it: .venv/bin/python -m harness.tests.pages"

ROOMS = (
    "harness",
    "harness/cli",
    "harness/run",
    "harness/systems",
    "harness/systems/programs",
    "harness/workload",
    "harness/workload/generator",
    "workloads",
    "harness/faults",
    "nemesis",
    "harness/worlds",
    "harness/worlds/os",
    "harness/worlds/os/disk",
    "harness/worlds/sim",
    "harness/worlds/ssh",
    "harness/history",
    "harness/history/formats",
    "harness/judge",
    "checkers",
    "checkers/linearizability",
    "checkers/isolation",
    "checkers/isolation/appends",
    "checkers/isolation/registers",
    "checkers/sequence",
    "checkers/logs",
    "checkers/raft",
    "checkers/broadcast",
    "checkers/commit",
    "checkers/paxos",
    "harness/report",
    "harness/report/assets",
    "harness/serve",
    "harness/serve/assets",
    "harness/campaign",
    "harness/campaign/shrinking",
    "harness/campaign/exhaustive",
    "harness/campaign/cluster",
    "harness/campaign/exploration",
    "harness/campaign/suites",
    "harness/bench",
    "harness/adapter",
    "harness/host",
    "reference_impls",
    "reference_impls/raft",
    "reference_impls/zab",
    "reference_impls/mutants",
)
"""Folders with modules, in the order of a run."""


def modules() -> list[tuple[str, str]]:
    """A row for each room and each of its modules: its path, its first sentence.

    A room's modules stand in the order in which its docstring names them (`name`,
    name.py or (name)); those that it doesn't name follow by the alphabet.
    """
    rows = [("module", "what it is")]
    for room in ROOMS:
        page = ROOT / room / "__init__.py"
        text = _docstring(page)
        rows.append((f"**{room}/**", sentence(text)))
        found = {path.stem: path for path in (ROOT / room).glob("*.py")}
        del found["__init__"]
        for name in sorted(found, key=lambda name: (_place(name, text), name)):
            path = found[name].relative_to(ROOT)
            rows.append((f"`{path}`", sentence(_docstring(found[name]))))
    return rows


def sentence(docstring: str) -> str:
    """The first sentence of a docstring, which is its first line or a part of that."""
    match = re.match(r".*?[.?!](?= [A-Z]|$)", docstring.partition("\n")[0])
    assert match, f"the first line is no sentence: {docstring[:100]!r}"
    return match[0]


def _docstring(path: Path) -> str:
    """The docstring of a module, which is neither imported nor parsed as a whole."""
    match = re.match(r"r?(\"{3}|'{3})(.*?)\1", path.read_text(), re.DOTALL)
    assert match, f"{path} does not begin with a docstring"
    return match[2]


def _place(name: str, text: str) -> int:
    """Where a room's docstring first names that module; behind its end if nowhere."""
    match = re.search(rf"`{name}`|\b{name}\.py|\({name}\)", text)
    return match.start() if match else len(text)


def public_names() -> list[tuple[str, str]]:
    """A row for each name of `harness.api`: where it is from, what it is."""
    page = ast.parse((ROOT / "harness/api.py").read_text())
    rows = [("name", "what it is")]
    for node in page.body:
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            rows += [
                (f"`{alias.asname or alias.name}`", _said_of(node.module, alias.name))
                for alias in node.names
            ]
    return [rows[0], *sorted(rows[1:], key=lambda row: row[0].lower())]


def _said_of(module: str, name: str) -> str:
    """The first sentence on a name that is imported, perhaps by way of a room's door.

    It is a class', a function's or a module's docstring, or the text behind a constant.
    """
    made = getattr(importlib.import_module(module), name)
    if inspect.isclass(made) or inspect.ismodule(made):
        return sentence(inspect.getdoc(made) or "")
    if inspect.isfunction(made) and made.__name__ == name:
        return sentence(inspect.getdoc(made) or "")
    door = ROOT / module.replace(".", "/")
    files = [*door.glob("*.py")] if door.is_dir() else [door.with_suffix(".py")]
    for path in files:
        text = path.read_text()
        if told := re.search(
            rf'^{name} = .*?^"""(.*?)"""', text, re.DOTALL | re.MULTILINE
        ):
            return sentence(told[1])
        if re.search(rf"^ +{name} = ", text, re.MULTILINE):
            return sentence(_docstring(path))
    raise AssertionError(f"nothing is said of {module}.{name}")


def systems() -> list[tuple[str, str]]:
    """A row for each system: its name, and what it is."""
    return _told("systems", "what it is")


def workloads() -> list[tuple[str, ...]]:
    """A row for each workload: its name, what it does, and which systems run it.

    Systems are columns, but for `launch:`, whose programs may be asked for anything.
    """
    found = registry.plugins("system")
    named = {name: plugin for name, plugin in found.items() if not plugin.adapter}
    served = [services.served(plugin.factory("", {})) for plugin in named.values()]
    rows = [
        (
            f"`{name}`",
            plugin.summary,
            *("yes" if name in known else "" for known in served),
        )
        for name, plugin in registry.plugins("workload").items()
    ]
    return [("workload", "what it does", *(f"`{name}`" for name in named)), *rows]


def checkers() -> list[tuple[str, str]]:
    """A row for each checker: its name, and what holds if it says valid."""
    return _told("checkers", "decides")


def models() -> list[tuple[str, str]]:
    """A row for each model of `linearizable`."""
    return _told("models", "what it is")


def _told(title: str, header: str) -> list[tuple[str, str]]:
    """Names and summaries as `splitbrain list` has them."""
    rows = [(f"`{entry['name']}`", entry["summary"]) for entry in _listed()[title]]
    return [(title.removesuffix("s"), header), *rows]


@functools.cache
def _listed() -> dict[str, Any]:
    """What `splitbrain list --json` tells."""
    return catalogue.as_json()


TABLES: dict[str, tuple[str, Callable[[], Iterable[tuple[str, ...]]]]] = {
    "modules": ("ARCHITECTURE.md", modules),
    "names": ("CONTRIBUTING.md", public_names),
    "systems": ("docs/systems.md", systems),
    "workloads": ("docs/systems.md", workloads),
    "checkers": ("docs/checking.md", checkers),
    "models": ("docs/checking.md", models),
}
"""Name of a table -> its page, and what makes its header and its rows."""


def made(table: str) -> str:
    """A table as its page should have it, in Markdown."""
    header, *rows = TABLES[table][1]()
    lines = [header, ["---"] * len(header), *rows]
    cells = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n".replace("  ", " ") for line in cells)


def standing(page: str) -> Iterator[tuple[str, re.Match[str]]]:
    """The tables that a text of a page marks: their names, and where they stand."""
    pattern = r"<!-- table: (\w+) -->\n(.*?)<!-- end of table -->"
    for match in re.finditer(pattern, page, re.DOTALL):
        yield match[1], match


def renew(page: Path) -> None:
    """Write each marked table of a page as it should be."""
    text = page.read_text()
    for name, match in reversed(list(standing(text))):
        text = text[: match.start(2)] + made(name) + text[match.end(2) :]
    page.write_text(text)


if __name__ == "__main__":
    for name in sorted({page for page, *_ in TABLES.values()}):
        renew(ROOT / name)
