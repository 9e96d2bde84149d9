"""The glossary explains every name that a checker can give to an anomaly."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import checkers
from checkers import kafka
from checkers.isolation import models
from harness import registry
from harness.cli import group
from harness.errors import UsageError
from harness.report import glossary
from harness.systems import mutants
from harness.verdict import EVERY_ANOMALY, final_on_prefix, presumed

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(checkers.__file__).parent
MAKERS = {"Anomaly", "anomaly"}
"""Functions whose first argument is an anomaly's name."""
EVIDENCE = "evidence.py"
"""Files whose classes have names of anomalies."""


def named_in(file: Path) -> Iterator[str]:
    """The names that a module of checkers gives, as far as they are literal."""
    tree = ast.parse(file.read_text("utf-8"))
    constants = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    for part in ast.walk(tree):
        match part:
            case ast.Call(func=ast.Name(id=maker), args=[first, *_]):
                if isinstance(first, ast.Name):
                    first = constants.get(first.id, first)
                if maker in MAKERS:
                    yield from literals(first)
            case ast.AnnAssign(target=ast.Name(id="name"), value=ast.expr() as value):
                if file.name == EVIDENCE:
                    yield from literals(value)
            case ast.FunctionDef(name="name") if file.name == EVIDENCE:
                for each in ast.walk(part):
                    if isinstance(each, ast.Return) and each.value is not None:
                        yield from literals(each.value)
            case _:
                pass


def literals(value: ast.expr) -> Iterator[str]:
    """The texts of an expression such as `"a" if b else "c"`."""
    match value:
        case ast.Constant(value=str(text)) if text:
            yield text
        case ast.IfExp(body=body, orelse=other):
            yield from literals(body)
            yield from literals(other)
        case _:
            pass


def literal_names() -> dict[str, str]:
    """Name -> the file that gives it."""
    return {
        name: str(file.relative_to(SOURCES))
        for file in SOURCES.rglob("*.py")
        if "tests" not in file.parts
        for name in named_in(file)
    }


def declared_names() -> dict[str, str]:
    """Name -> the checker, model or mutant that says it may be found."""
    found = dict.fromkeys(models.ANOMALIES, "models of isolation")
    found |= dict.fromkeys(kafka.ALWAYS_ALLOWED | kafka.ALLOWED_WITH_SUBSCRIBE, "kafka")
    for name, plugin in registry.plugins("checker").items():
        checker = registry.by_default(plugin, {})
        for told in (final_on_prefix(checker), presumed(checker)):
            if told is not EVERY_ANOMALY:
                found |= dict.fromkeys(told, name)
    for protocol, known in mutants.every().items():
        for mutant in known.values():
            found |= dict.fromkeys(mutant.anomalies, f"{protocol}/{mutant.name}")
    return found


def test_every_name_that_a_checker_can_give_is_explained() -> None:
    names = literal_names() | declared_names()
    assert len(names) > 120
    assert {n: by for n, by in names.items() if glossary.entry(n) is None} == {}


def test_every_entry_is_of_a_name_that_a_checker_can_give() -> None:
    known = literal_names() | declared_names()
    assert set(glossary.ENTRIES) - set(known) == set()


def test_every_checker_has_a_promise_in_words() -> None:
    assert set(registry.plugins("checker")) == set(glossary.PROMISES)


def test_an_entry_is_a_sentence_or_two_with_its_source() -> None:
    for name in glossary.names():
        told = glossary.entry(name)
        assert told is not None, name
        assert told.source, name
        assert told.meaning[0].isupper(), name
        assert told.meaning.endswith("."), name
        assert told.meaning.count(". ") < 3, name
        assert len(told.meaning) < 320, name


def test_a_variant_of_a_cycle_says_what_it_adds() -> None:
    assert "real time is a part" in glossary.told("G-single-item-realtime")
    assert "one client's transactions" in glossary.told("G0-process")
    assert glossary.entry("stale-read-realtime") is None
    assert glossary.told("what a user's own checker finds") == ""


def test_plainer_names_come_first() -> None:
    names = ["mine", "G2-item", "G1c-realtime", "G-single-item", "write-skew", "G1c"]
    assert sorted(names, key=glossary.rank) == [
        *("write-skew", "G1c", "G1c-realtime", "G-single-item", "G2-item", "mine")
    ]


def test_list_tells_what_a_name_means_and_refuses_one_that_nothing_has(
    capsys: pytest.CaptureFixture[str],
) -> None:
    group.cli.main(["list", "G-single-item-process"], standalone_mode=False)
    told = capsys.readouterr().out
    assert "Read skew" in told
    assert "Source: Adya 1999" in told
    group.cli.main(["list", "raft"], standalone_mode=False)
    assert "speaks " in capsys.readouterr().out
    with pytest.raises(UsageError, match="did you mean stale-read"):
        group.cli.main(["list", "stale-reed"], standalone_mode=False)
