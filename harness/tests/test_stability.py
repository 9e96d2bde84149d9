"""Files that others read carry their version, as docs/stability.md promises."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from harness.campaign import failures
from harness.campaign.shrinking import shelf
from harness.cli import cli

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "stability.md"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A night with a failure and a search, the failure explained."""
    folder = tmp_path_factory.mktemp("results")
    suite = folder / "s.yaml"
    stale = "{name: r, system: raft, set: {reads: local}, nemesis: [partition], "
    suite.write_text(
        f"- {stale}world: sim, ops: 800, time_limit_s: 20, seeds: 20, seed: 1}}\n"
        "- {name: e, system: raft, world: sim, explore: true, budget: 5s}\n"
    )
    told = run("suite", suite, "--results", folder, "--json")
    failed = json.loads(told)["rows"][0]["run"]
    run("explain", failed, "--moments", 2, "--runs", 1)
    run("runs", folder)
    return folder


def run(*words: object) -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)
    assert done.exception is None, done.exception
    return done.output


def only(results: Path, pattern: str) -> Path:
    found = sorted(results.glob(pattern))
    assert found, pattern
    return found[-1]


RUN = "raft-register/*/"


@pytest.mark.parametrize(
    "pattern",
    [
        RUN + "test.yaml",
        RUN + "run.json",
        RUN + "verdict.json",
        RUN + "why.json",
        "explore/*/*/explore.json",
        "suites/*Z-s/suite.json",
        "suites/*Z-s/journal.jsonl",
    ],
)
def test_a_file_that_others_read_carries_its_version(
    results: Path, pattern: str
) -> None:
    path = only(results, pattern)
    text = path.read_text()
    told: Any
    if path.suffix == ".yaml":
        told = yaml.safe_load(text)
    else:
        told = json.loads(text.splitlines()[0] if path.suffix == ".jsonl" else text)
    assert isinstance(told["version"], int)
    assert f"`{path.name}`" in PAGE.read_text()


def test_so_do_the_best_of_a_search_and_a_failure_that_is_kept() -> None:
    for kind in (shelf.Best, failures.Failure):
        assert "version" in kind.__struct_fields__


def test_the_index_has_a_version_too(results: Path) -> None:
    with sqlite3.connect(only(results, "index.sqlite")) as base:
        ((version,),) = base.execute("pragma user_version").fetchall()
    base.close()
    assert version > 0


def test_every_file_of_a_run_is_told_of(results: Path) -> None:
    """Whoever adds one has to say whether it is stable."""
    told = PAGE.read_text()
    names = {path.name for path in only(results, RUN).iterdir() if path.is_file()}
    unsaid = {name for name in names if name not in told} - {"plan.yaml", "report.html"}
    assert unsaid == set()


def test_the_modules_that_the_page_names_are_there() -> None:
    for name in re.findall(r"`(harness/[\w/]+\.py)`", PAGE.read_text()):
        assert (ROOT / name).is_file(), name
