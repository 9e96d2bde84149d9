"""What our pages say of the code is what the code is."""

from __future__ import annotations

import re
import subprocess
from pathlib import PurePath

import pytest

from harness import registry
from harness.tests import pages

PAGES = ("ARCHITECTURE.md", "README.md", "CONTRIBUTING.md")


def tracked() -> set[str]:
    """All files that the repository has, as paths from its root."""
    listed = subprocess.check_output(["git", "ls-files"], cwd=pages.ROOT, text=True)
    return set(listed.splitlines())


@pytest.mark.parametrize("table", pages.TABLES)
def test_a_table_says_what_the_code_says(table: str) -> None:
    page = pages.TABLES[table][0]
    standing = dict(pages.standing((pages.ROOT / page).read_text()))
    assert table in standing, f"{page} has no table {table}"
    assert standing[table][2] == pages.made(table), f"{table}, {page}; {pages.RENEW}"


def test_no_module_is_without_a_room() -> None:
    folders = {"harness", "workloads", "checkers", "nemesis", "reference_impls"}
    rooms = {
        str(path.parent)
        for path in map(PurePath, tracked())
        if path.suffix == ".py"
        and path.parts[0] in folders
        and "tests" not in path.parts
    }
    assert rooms == set(pages.ROOMS)


def test_the_table_of_faults_names_all_of_them() -> None:
    text = (pages.ROOT / "docs" / "faults.md").read_text()
    section = text.partition("## What is broken, and how")[2].partition("\n## ")[0]
    first = [line.split("|")[1] for line in section.splitlines() if "| `" in line]
    named = re.findall(r"`([\w-]+)`", " ".join(first))
    assert sorted(named) == sorted(registry.plugins("nemesis"))


@pytest.mark.parametrize("page", PAGES)
def test_the_modules_that_a_page_names_exist(page: str) -> None:
    files = tracked()
    known = files | {path.partition("/")[2] for path in files}
    known |= {"/".join(PurePath(path).parts[-2:]) for path in files}
    known |= {PurePath(path).name for path in files}
    text = (pages.ROOT / page).read_text()
    named = set(re.findall(r"`([\w/]+\.(?:py|yaml|c))`", text))
    assert named - known - {"plan.yaml", "test.yaml"} == set()


def test_prose_of_the_architecture_keeps_within_100_characters() -> None:
    text = (pages.ROOT / "ARCHITECTURE.md").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("|")]
    assert [line for line in lines if len(line) > 100] == []
