"""`splitbrain hosts`: the machines of a hosts file, examined and healed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.flags import AS_JSON
from harness.cli.terminal import say
from harness.errors import EXIT_HARNESS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.worlds.ssh.hosts import Host


@click.group()
def hosts() -> None:
    """Machines on which nodes run over SSH (docs/hosts.md)."""


@hosts.command()
@click.argument("file", type=click.Path(path_type=Path))
@AS_JSON
def check(file: Path, *, as_json: bool) -> int:
    """Log in to every host of FILE, and tell what can be done there."""
    from harness.worlds.ssh import offer

    survey = offer.survey(file)
    if as_json:
        told = zip(survey.hosts, survey.found, strict=True)
        say(json.dumps({host.name: found for host, found in told}))
        return 0
    for host, found in zip(survey.hosts, survey.found, strict=True):
        say("\n".join(_lines(host, found)))
    why = survey.why_not_nft(len(survey.hosts))
    network = "the proxy" if why else "nftables"
    say(f"\nWith a node on each, links are cut by {network}{why and f': {why}'}.")
    return 0


@hosts.command()
@click.argument("file", type=click.Path(path_type=Path))
@AS_JSON
def heal(file: Path, *, as_json: bool) -> int:
    """Undo what runs have left on the hosts of FILE.

    The next run on a host does so, too. Runs that are under way are left alone.
    """
    from harness.worlds.ssh import connecting
    from harness.worlds.ssh import hosts as reading

    connecting.check_installed()
    found = reading.read(file)
    answers = asyncio.run(connecting.ask_all(found, "heal"))
    healed = {host.name: told for host, told in zip(found, answers, strict=True)}
    if as_json:
        say(json.dumps(healed))
    else:
        for name, runs in healed.items():
            for line in map(_healed, runs) if runs else ["nothing was left"]:
                say(f"{name}  {line}")
    problems = [run["problems"] for runs in healed.values() for run in runs]
    return EXIT_HARNESS if any(problems) else 0


def _healed(run: Mapping[str, Any]) -> str:
    if run["problems"]:
        return f"run {run['run']} is NOT healed: {'; '.join(run['problems'])}"
    table = ", a table of nftables removed" * bool(run["table"])
    return f"run {run['run']} is healed: {run['killed']} processes killed{table}"


def _lines(host: Host, found: Mapping[str, Any]) -> list[str]:
    user = "root" if found["user"] == 0 else f"uid {found['user']}"
    left = found["left"]
    return [
        f"{host.name}  {host.node_address}  {found['machine']}, Python "
        f"{found['python']}, as {user}",
        f"    nftables  {found['why_no_nft'] or 'ok'}",
        f"    clocks    {found['why_no_clocks'] or 'ok'}",
        *([f"    left by   {', '.join(left)} (splitbrain hosts heal)"] if left else []),
    ]
