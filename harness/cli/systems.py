"""`splitbrain systems`: the real systems, and how to get those that aren't here."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from harness.cli.flags import AS_JSON
from harness.cli.terminal import say, say_error
from harness.errors import NotInstalledError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.systems.software import Install, Software


@click.group()
def systems() -> None:
    """Real systems: which are here, and how to install the others.

    Installs go to $SPLITBRAIN_SYSTEMS, else to ~/.cache/splitbrain/systems. None needs
    root, and runs never reach for the network.
    """


@systems.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME[@VERSION]...")
@click.option("--again", is_flag=True, help="Fetch and unpack what is there already.")
def install(names: Sequence[str], *, again: bool) -> int:
    """Fetch a system from its registry and unpack or build it for runs."""
    from harness.systems import installing

    wanted = [(_software(name), version) for name, version in map(_split, names)]
    for software, version in wanted:
        software.recipe(version)  # all are known, before the first takes minutes
    for software, version in wanted:
        found = installing.install(software, version, _tell, again=again)
        say(f"{software.name} {found.version} is installed: {found.program}")
    return 0


@systems.command(name="list")
@AS_JSON
def list_(*, as_json: bool) -> int:
    """Real systems: what is here, where it is, and what can be installed."""
    from harness.systems.abilities import installable

    told = [_as_json(one, summary) for one, summary in installable()]
    say(json.dumps(told) if as_json else "\n".join(map(_as_text, told)))
    return 0


def _tell(line: str) -> None:
    if sys.stderr.isatty():
        say_error(f"  {line}")


def _split(name: str) -> tuple[str, str]:
    """The system and the version in NAME[@VERSION].

    Raises:
        UsageError: It can be no version.
    """
    from harness.systems.software import version_text

    system, at, version = name.partition("@")
    try:
        if at and not version:
            raise ValueError("nothing follows the @")  # noqa: TRY301
        return system, version_text(version)
    except ValueError as problem:
        raise UsageError(f"{name[:100]!r} names no version: {problem}") from None


def _software(name: str) -> Software:
    """What the system of that name runs.

    Raises:
        UsageError: There is no such system, or nothing to install for it.
    """
    from harness import registry
    from harness.systems.abilities import installable

    title = registry.find("system", name).name
    known = {software.name: software for software, _ in installable()}
    if title not in known:
        raise UsageError(
            f"there is nothing to install for {title} "
            f"(what can be installed: {', '.join(sorted(known))})"
        )
    return known[title]


def _as_json(software: Software, summary: str) -> dict[str, Any]:
    outside = software.outside()
    try:
        usual: Install | None = software.find()
    except NotInstalledError:
        usual = None
    return {
        "name": software.name,
        "summary": summary,
        "runs": None if usual is None else str(usual.program),
        "installed": [
            {"version": one.version, "source": one.told, "folder": str(one.folder)}
            for one in software.installs()
        ],
        "elsewhere": None if outside is None else str(outside.program),
        "lacks": software.driver if software.lacks_driver else None,
        "recipes": [
            {"version": recipe.version, "source": recipe.source.told}
            for recipe in software.recipes
        ],
    }


def _as_text(told: Mapping[str, Any]) -> str:
    lines = [f"{told['name']}: {told['summary']}"]
    if told["runs"] is None:
        lines.append("  not installed")
    lines += [
        f"  installed {one['version']}, from {one['source']}"
        for one in told["installed"]
    ]
    if told["elsewhere"] is not None:
        lines.append(f"  on this machine: {told['elsewhere']}")
    if told["lacks"] is not None:
        lines.append(f"  to run it, besides: pip install {told['lacks']}")
    there = {one["version"] for one in told["installed"]}
    for recipe in told["recipes"]:
        version = recipe["version"]
        if version not in there:
            shown = version.replace("*", "VERSION")
            source = recipe["source"].replace("{version}", "VERSION")
            command = f"splitbrain systems install {told['name']}@{shown}"
            lines.append(f"  to get {shown}: {command}  ({source})")
    return "\n".join(lines)
