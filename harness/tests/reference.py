"""The pages of docs/reference, made from the command line, the registry and the types.

python -m harness.tests.reference
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import click

from harness.campaign.suites import schema
from harness.cli import catalogue, cli
from harness.faults.plan import EVENTS
from harness.history import Op
from harness.run import records
from harness.run.spec import TestSpec

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
MADE = "<!-- made by: python -m harness.tests.reference -->\n"
RENEW = "to renew it: .venv/bin/python -m harness.tests.reference"


def pages() -> dict[str, str]:
    """Name -> text of each page."""
    return {
        "options.md": options(),
        "plug-ins.md": plug_ins(),
        "files.md": files(),
    }


def cell(text: object) -> str:
    """A text that fits into a table's cell."""
    return " ".join(str(text).split()).replace("|", "\\|")


def options() -> str:
    """Every command with its arguments and options."""
    lines = [f"# Commands and options\n\n{MADE}"]
    context = click.Context(cli, info_name="splitbrain")
    for words, command in commands(cli, "splitbrain"):
        told = inspect.cleandoc(command.help or "").replace("\b\n", "")
        shown = " ".join(command.collect_usage_pieces(click.Context(command, context)))
        lines += [f"## {words}\n", f"`{words} {shown}`\n", f"{told}\n"]
        rows = [
            f"| `{', '.join(o.opts + o.secondary_opts)}` | {cell(o.help or '')} | "
            f"{cell(default(o))} |"
            for o in command.params
            if isinstance(o, click.Option)
        ]
        if rows:
            lines += ["| option | what it does | default |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def commands(group: click.Group, words: str) -> list[tuple[str, click.Command]]:
    """Each command below a group, with the words that call it."""
    found: list[tuple[str, click.Command]] = []
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += commands(command, f"{words} {name}")
        else:
            found.append((f"{words} {name}", command))
    return found


def default(option: click.Option) -> object:
    """The default of an option, if it is one to tell."""
    if option.is_flag or option.multiple or option.default is None:
        return ""
    return "" if "UNSET" in repr(option.default).upper() else option.default


def plug_ins() -> str:
    """Every plug-in with its options."""
    lines = [f"# Plug-ins and their options\n\n{MADE}"]
    lines.append("`splitbrain list NAME` tells the same of one of them.\n")
    for title, entries in catalogue.as_json().items():
        if title in {"mutants", "services", "profiles", "models"}:
            continue
        lines.append(f"## {title}\n")
        for entry in entries:
            lines.append(f"### {entry['name']}\n")
            lines.append(f"{cell(entry['summary'])}\n")
            lines += [
                f"It {verb}: {', '.join(entry[verb])}.\n"
                for verb in ("speaks", "needs")
                if entry.get(verb)
            ]
            if entry["options"]:
                lines += [
                    "| option | default | what it does | takes |",
                    "|---|---|---|---|",
                ]
                lines += [
                    f"| `{o['name']}` | {cell(o['default'])} | {cell(o['meaning'])} | "
                    f"{cell(o['takes'])} |"
                    for o in entry["options"]
                ]
                lines.append("")
    return "\n".join(lines)


def files() -> str:
    """The files that people write and read."""
    lines = [f"# Files\n\n{MADE}"]
    lines.append("[What is stable](../stability.md) has their versions.\n")
    lines += ["## A run folder\n", "```", folder_tree(), "```\n"]
    lines.append("## history.jsonl\n")
    lines.append("A line for each beginning and end of an operation, as it happened:\n")
    lines += table(meanings(Op))
    lines.append("## plan.yaml\n")
    lines.append(
        "A list of steps. `at` is a moment: `{time_s: 1.5}`, `{ops: 100}`, or one of "
        f"{', '.join(f'`{sort}`' for sort in EVENTS)}, with a `count`, and `time_s` "
        "and `within_s` for when it must come. `fault` has a `kind` and its parameters "
        "([plug-ins](plug-ins.md)); `heal` is `{after_s: 2}`.\n"
    )
    for name, kind in (
        ("test.yaml", records.TestRecord),
        ("test.yaml: spec", TestSpec),
        ("run.json", records.RunRecord),
        ("verdict.json", records.VerdictRecord),
        ("faults.jsonl", records.FaultLine),
    ):
        lines.append(f"## {name}\n")
        lines += table(meanings(kind))
    lines.append("## A suite's rows\n")
    lines.append("[Suites](../suites.md) tells how they are used.\n")
    told: Any = schema.schema()
    fields = told["$defs"]["Row"]["properties"]
    lines += table({name: field["description"] for name, field in fields.items()})
    return "\n".join(lines)


def folder_tree() -> str:
    """The files of a run folder, as `harness.run.store` tells of them."""
    from harness.run import store

    found = re.search(r"(    results/.*?)\n\n", store.__doc__ or "", re.DOTALL)
    assert found is not None
    return inspect.cleandoc(found[1])


def table(told: dict[str, str]) -> list[str]:
    """A table of fields."""
    rows = [f"| `{name}` | {cell(meaning)} |" for name, meaning in told.items()]
    return ["| field | what it is |", "|---|---|", *rows, ""]


def meanings(kind: type) -> dict[str, str]:
    """Field -> what the `Attributes` of a docstring say about it."""
    text = inspect.getdoc(kind) or ""
    told = text.partition("Attributes:\n")[2] or text.partition("Args:\n")[2]
    found = re.findall(r"^    ([\w, ]+): (.*(?:\n {8,}.*)*)", told, re.MULTILINE)
    return {name: " ".join(meaning.split()) for name, meaning in found}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for page, content in pages().items():
        (FOLDER / page).write_text(content, encoding="utf-8")
