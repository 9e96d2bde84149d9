"""Recipes for CI: files that parse, and commands that our command line takes."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
import yaml

from harness.cli import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path for path in (ROOT / "docs" / "ci").iterdir() if path.is_file())
WORKFLOWS = [ROOT / "action.yml", *(ROOT / ".github" / "workflows").glob("*.yml")]

VARIABLE = re.compile(r"\$\{\{.*?\}\}|\$\{?\w+\}?")


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of ours in a text, up to where a shell goes on."""
    for line in text.splitlines():
        found = re.search(r"(?:^|[\s\"'/])splitbrain\"? +([a-z]+ .*|doctor)", line)
        if found is None or "docker build" in line or "ame:" in line:
            continue
        words = re.split(r"\s(?:>|\|\||&&|;|\|)|`|>>", found[1])[0]
        words = VARIABLE.sub("90", words).strip("'").replace('"${more[@]}"', "")
        yield [word for word in shlex.split(words) if word != "90[@]}"]


def parsed(words: list[str]) -> click.Context:
    """The context of a command line; raises what click would tell."""
    command: click.Command = cli
    context = cli.make_context("splitbrain", ["--", *words], resilient_parsing=True)
    while isinstance(command, click.Group):
        _, inner, words = command.resolve_command(context, words)
        assert inner is not None
        command = inner
    return command.make_context(command.name, list(words), parent=context)


@pytest.mark.parametrize("path", [*RECIPES, *WORKFLOWS], ids=lambda path: path.name)
def test_every_command_is_one_that_there_is(path: Path) -> None:
    found = list(commands(path.read_text()))
    for words in found:
        parsed(words)
    if path.suffix not in {".timer", ".md"} and path.name != "nightly.yml":
        assert found, "it runs nothing of ours"


def test_a_command_that_there_is_not_would_be_found() -> None:
    (words,) = commands("  run: .venv/bin/splitbrain suite quick --budgt 3h || true")
    with pytest.raises(click.NoSuchOption):
        parsed(words)


@pytest.mark.parametrize(
    "path",
    [path for path in [*RECIPES, *WORKFLOWS] if path.suffix == ".yml"],
    ids=lambda path: path.name,
)
def test_yaml_is_yaml(path: Path) -> None:
    told: Any = yaml.safe_load(path.read_text())
    assert isinstance(told, dict)


def test_the_action_uses_every_input_that_it_takes() -> None:
    text = (ROOT / "action.yml").read_text()
    for name in yaml.safe_load(text)["inputs"]:
        assert f"inputs.{name}" in text


def test_defaults_of_inputs_need_nothing_that_only_steps_know() -> None:
    told = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    for name, field in told.items():
        assert "${{" not in str(field.get("default", "")), name


def test_gitlab_caches_under_a_key_without_a_slash_whatever_the_suite() -> None:
    told = yaml.safe_load((ROOT / "docs" / "ci" / "gitlab-ci.yml").read_text())
    key = told["torture"]["cache"]["key"]
    assert "/" not in key
    assert "$" not in key


def test_workflows_give_actions_inputs_that_they_take() -> None:
    takes = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    told = yaml.safe_load((ROOT / ".github/workflows/nightly.yml").read_text())
    for step in told["jobs"]["torture"]["steps"]:
        if step.get("uses") == "./":
            assert set(step["with"]) <= set(takes)


def test_what_the_page_names_is_there() -> None:
    page = ROOT / "docs" / "ci" / "README.md"
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here to read units")
    for path in RECIPES:
        if path.suffix in {".service", ".timer"}:
            text = path.read_text().replace(
                "%h/torture/.venv/bin/splitbrain", "/bin/true"
            )
            (tmp_path / path.name).write_text(text)
    units = sorted(str(path) for path in tmp_path.iterdir())
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in told.stderr.splitlines() if "splitbrain-nightly" in line]
    assert ours == []
