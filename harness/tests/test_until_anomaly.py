"""Anomalies that a run is to wait for: a name that is mistyped is refused."""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING, get_args

import pytest

from checkers.linearizability import evidence, telling
from checkers.linearizability.lost import LOST_WRITE
from harness import cli
from harness.campaign.suites import reading
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["raft", "--until-anomaly", "stale-reed"], "did you mean stale-read"),
        (["raft", "--until-anomaly", "log-mismatches"], "did you mean log-mismatch"),
        (["raft", "--until-anomaly", "stale-read,G0"], "they find cas-cycle, "),
    ],
)
def test_a_mistyped_anomaly_is_refused_with_the_nearest(
    words: list[str],
    nearest: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = ("--world", "sim", "--results", str(tmp_path / "results"))
    assert cli.run_command(["run", *words, *place]) == 254
    said = capsys.readouterr().err
    assert f"--until-anomaly {words[-1].split(',')[-1]}: " in said
    assert nearest in said
    assert said.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_so_it_is_in_a_suite(tmp_path: Path) -> None:
    file = tmp_path / "suite.yaml"
    row = "{name: a, system: raft, expect: invalid, until_anomaly: [stale-reed]}"
    file.write_text(f"name: s\nrows:\n- {row}\n")
    loaded = reading.load(file)
    with pytest.raises(UsageError, match="row 'a': --until-anomaly stale-reed"):
        reading.check(loaded, loaded.rows)


def names_of(node: ast.expr) -> Iterator[str]:
    """The names that an expression of `telling` may come to."""
    match node:
        case ast.Constant(str(name)):
            yield name
        case ast.IfExp():
            yield from names_of(node.body)
            yield from names_of(node.orelse)
        case ast.JoinedStr():
            parts = [
                part.value if isinstance(part, ast.Constant) else None
                for part in node.values
            ]
            for thing in ("element", "value"):
                yield "".join(str(thing if part is None else part) for part in parts)
        case ast.Name("LOST_WRITE"):
            yield LOST_WRITE
        case ast.Call(args=[_, other]):  # names.get(f, other)
            yield from names_of(other)
        case ast.Attribute(attr="surprise"):
            pass  # of a type of its own, which is taken whole
        case _:
            raise AssertionError(ast.unparse(node))


def test_the_names_of_linearizable_are_those_that_it_gives() -> None:
    given = {
        name
        for node in ast.walk(ast.parse(inspect.getsource(telling)))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Told"
        for name in names_of(node.args[0])
    }
    assert len(given) > 15
    assert given <= telling.ANOMALIES
    given |= set(get_args(evidence.Surprise))
    assert sorted(given) == sorted(telling.ANOMALIES)
