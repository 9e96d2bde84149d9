"""Documents: every command is run or at least parsed, every link leads somewhere.

A block marked ```console has commands after `$ ` and, below each, what it prints; `...`
stands for anything. The blocks of a page are run in order, in one empty folder. After
`console`: `norun` is only parsed, `exit=1` is the status. Pages outside of DAILY
are run by night.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from harness.tests import reference
from harness.tests.test_recipes import parsed

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if path.name not in {"CHANGELOG.md", "ARCHITECTURE.md"}
)
BLOCK = re.compile(r"^```console *([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DAILY = ("SKILL.md", "docs/howto/adapter.md", "docs/howto/reading-a-report.md")
"""Pages whose commands are run every day; those of others by night."""
LIMIT_S = 600


@dataclass(frozen=True)
class Command:
    """A command of a page.

    Attributes:
        line: The command.
        told: What the page says that it prints.
        flags: The words after ```console.
    """

    line: str
    told: str
    flags: tuple[str, ...]


def commands(page: Path) -> list[Command]:
    """The commands of a page, in their order."""
    found = []
    for flags, block in BLOCK.findall(page.read_text()):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, told = part.partition("\n")
            found.append(Command(line, told, tuple(flags.split())))
    return found


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_of_ours_is_one_that_there_is(page: Path) -> None:
    text = page.read_text()
    inline = re.findall(r"`(splitbrain [a-z][^`]*)`", text)
    lines = [command.line for command in commands(page)] + inline
    for line in lines:
        for part in re.split(r"\s(?:&&|\|\||\||>)\s|;", line):
            words = shlex.split(part.split(" # ")[0])
            if words[:1] != ["splitbrain"] or is_a_pattern(words[1:]):
                continue
            try:
                parsed(words[1:])
            except (click.exceptions.Exit, click.MissingParameter):
                pass  # it tells something and exits, or stands for many
            except click.ClickException as wrong:
                raise AssertionError(f"{line}: {wrong.format_message()}") from wrong


def is_a_pattern(words: list[str]) -> bool:
    """Whether it stands for many commands: `splitbrain replay RUN ...`."""
    return len(words) < 2 or any(
        word.isupper() or "..." in word or "[" in word for word in words
    )


def test_a_command_that_there_is_not_would_be_found() -> None:
    with pytest.raises(click.ClickException):
        parsed(shlex.split("run raft --nemesys kill"))


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page,
            marks=() if named(page) in DAILY else (pytest.mark.nightly,),
            id=named(page),
        )
        for page in PAGES
        if any("norun" not in command.flags for command in commands(page))
    ],
)
def test_the_commands_of_a_page_print_what_it_says(page: Path, tmp_path: Path) -> None:
    here = tmp_path
    for command in commands(page):
        words = shlex.split(command.line)
        if "norun" in command.flags or words[:2] == ["pip", "install"]:
            continue
        if words[0] == "cd":
            here /= words[1]
            continue
        done = subprocess.run(
            ["bash", "-c", command.line],
            cwd=here,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
        said = f"{command.line}\n{done.stdout}\n{done.stderr}"
        wanted = next((f[5:] for f in command.flags if f.startswith("exit=")), "")
        allowed = {int(wanted)} if wanted else {0, 1} if not command.told else {0}
        assert done.returncode in allowed, said
        assert fits(done.stdout, command.told), f"{said}\nis not\n{command.told}"


def environment(folder: Path) -> dict[str, str]:
    """Variables with which `splitbrain` is this one, wherever it is installed."""
    programs = folder / ".programs"
    programs.mkdir(exist_ok=True)
    program = programs / "splitbrain"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m harness "$@"\n')
    program.chmod(0o755)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}


def fits(printed: str, told: str) -> bool:
    """Whether lines are printed in the order that a page tells; ... is anything."""
    lines = [
        line.strip() for line in told.splitlines() if line.strip() not in {"", "..."}
    ]
    place = 0
    have = [line.strip() for line in printed.splitlines()]
    for line in lines:
        pattern = ".*".join(map(re.escape, line.split("...")))
        while place < len(have) and not re.fullmatch(pattern, have[place]):
            place += 1
        if place == len(have):
            return False
        place += 1
    return True


def test_what_is_not_printed_would_be_found() -> None:
    assert fits("a\nb 7 c\n", "...\nb ... c\n")
    assert not fits("a\nb 7 c\n", "b ... d\n")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{named(page)}: {target}"
        if anchor and there.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            anchors = {
                re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings
            }
            assert anchor in anchors, f"{named(page)}: {target}"


def test_the_readme_is_one_screen() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 70


@pytest.mark.parametrize("name", list(reference.pages()))
def test_the_reference_is_current(name: str) -> None:
    standing = (reference.FOLDER / name).read_text(encoding="utf-8")
    assert standing == reference.pages()[name], reference.RENEW


def test_messages_that_troubleshooting_quotes_are_ours() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    ours = "\n".join(
        path.read_text()
        for path in (ROOT / "harness").rglob("*.py")
        if "tests" not in path.parts
    )
    ours = re.sub(r'"\s*\n\s*f?"', "", ours)
    quoted = re.findall(r"^\| [^|]*?`([^`]+)`", page, re.MULTILINE)
    assert len(quoted) > 8
    for text in quoted:
        for part in re.split(r"\.\.\.|--nemesis \w+|\d+|etcd", text):
            if len(part.strip()) > 8:
                assert part.strip(" :") in ours, text


def test_a_skill_has_the_head_that_assistants_read() -> None:
    head = (ROOT / "SKILL.md").read_text().split("---")[1]
    assert re.search(r"^name: splitbrain$", head, re.MULTILINE)
    assert re.search(r"^description: .{40,}$", head, re.MULTILINE)


def test_pages_are_reached_from_the_readme() -> None:
    """By links, each page from another."""
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md" or not page.is_file():
            continue
        seen.add(page)
        waiting += [
            (page.parent / target.partition("#")[0]).resolve()
            for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
        ]
    lost = {named(page) for page in PAGES} - {
        named(page) for page in seen if page in PAGES
    }
    assert lost <= {"SKILL.md"}
