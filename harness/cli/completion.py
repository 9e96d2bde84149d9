"""`splitbrain completion SHELL`: the names that a shell completes, and how it asks.

The shell runs the program with `VARIABLE` set, and it prints what could stand there.
Names come from the registry, so plug-ins of other distributions are completed, too.
Where that can't be had, nothing is completed and nothing is printed: whoever presses
Tab has a half-written line on the screen.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem, get_completion_class, shell_complete

from harness.cli.terminal import say

PROGRAM: Final = "splitbrain"
VARIABLE: Final = "_SPLITBRAIN_COMPLETE"

Named = Callable[[click.Context], Iterable[tuple[str, str]]]
"""Gives names and, for shells that show it, a line about each."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print what makes SHELL complete commands, options and names of plug-ins.

    \b
    bash:  splitbrain completion bash > ~/.local/share/bash-completion/completions/splitbrain
    zsh:   splitbrain completion zsh > a folder of $fpath, as _splitbrain
    fish:  splitbrain completion fish > ~/.config/fish/completions/splitbrain.fish
    """  # noqa: D301, E501  # click wants the character \b itself, and lines whole
    kind = get_completion_class(shell)
    assert kind is not None
    root = click.get_current_context().find_root().command
    say(kind(root, {}, PROGRAM, VARIABLE).source().rstrip())
    return 0


def answer(root: click.Command) -> int | None:
    """Tell the shell what could stand in its line, if it asks; then the exit status."""
    instruction = os.environ.get(VARIABLE)
    if not instruction:
        return None
    return shell_complete(root, {}, PROGRAM, VARIABLE, instruction)


class Names(click.types.StringParamType):
    """Text of which the shell completes names.

    Attributes:
        named: The names.
        several: Whether commas part them; then the last one is completed.
    """

    def __init__(self, named: Named, *, several: bool = False) -> None:
        self.named = named
        self.several = several

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin as the text does; those before a comma once only."""
        before, comma, typed = "", "", incomplete
        if self.several:
            before, comma, typed = incomplete.rpartition(",")
        return [
            CompletionItem(f"{before}{comma}{name}", help=told)
            for name, told in _named(self.named, ctx)
            if name.startswith(typed) and name not in before.split(",")
        ]


class NamesOrFiles(click.Path):
    """A file, of which the shell completes names, too, where one begins so."""

    def __init__(self, named: Named) -> None:
        super().__init__(path_type=Path)
        self.named = named

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin as the text does; without any, files."""
        return [
            CompletionItem(name, help=told)
            for name, told in _named(self.named, ctx)
            if name.startswith(incomplete)
        ] or super().shell_complete(ctx, param, incomplete)


def _named(named: Named, context: click.Context) -> list[tuple[str, str]]:
    """The names, or none where they can't be had: a plug-in is broken, say."""
    with contextlib.suppress(Exception):
        return list(named(context))
    return []


def attach(group: click.Group, path: str = "") -> None:
    """Have the names of every parameter in `COMPLETED` completed."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            attach(command, f"{path}{name} ")
            continue
        for parameter in command.params:
            for key in (f"{path}{name} {parameter.name}", str(parameter.name)):
                if key in COMPLETED:
                    parameter.type = COMPLETED[key]
                    break


def plugins(kind: str) -> Named:
    """The plug-ins of a kind; an adapter ends with its colon."""

    def named(_: click.Context) -> Iterable[tuple[str, str]]:
        from harness import registry

        return [
            (f"{plugin.name}:" if plugin.adapter else plugin.name, plugin.summary)
            for plugin in registry.plugins(kind).values()
        ]

    return named


def faults(context: click.Context) -> Iterable[tuple[str, str]]:
    """Kinds of fault, and the words about them."""
    from harness.run import asking

    return [*plugins("nemesis")(context), *asking.WORDS.items()]


def mutants(context: click.Context) -> Iterable[tuple[str, str]]:
    """The mutants of the system on the line."""
    from harness.systems import mutants as declared

    of_system = declared.of_protocol(_system(context))
    return [(name, mutant.rule) for name, mutant in of_system.items()]


def _system(context: click.Context) -> str:
    """The system on the line; click leaves arguments alone before an option's value."""
    return str(context.params.get("system") or next(iter(context.args), ""))


def models(_: click.Context) -> Iterable[tuple[str, str]]:
    """The models that histories are checked against."""
    import importlib

    known = importlib.import_module("checkers.linearizability.models").MODELS
    return [(name, model.summary) for name, model in known.items()]


def settings(context: click.Context) -> Iterable[tuple[str, str]]:
    """Options of the plug-ins on the line, each value apart if there are few."""
    from harness import registry

    system = _system(context).partition(":")[0]
    chosen = [("", registry.find("system", system))]
    if workload := context.params.get("workload"):
        chosen.append((f"{workload}.", registry.find("workload", str(workload))))
    kinds = registry.plugins("nemesis")
    words = ",".join(context.params.get("nemesis") or ()).split(",")
    chosen += [(f"{word}.", kinds[word]) for word in words if word in kinds]
    return [
        (f"{prefix}{option.name}={value}", option.meaning)
        for prefix, plugin in chosen
        for option in plugin.options
        for value in (getattr(option.kind, "choices", ()) or ("",))
    ]


def suites(_: click.Context) -> Iterable[tuple[str, str]]:
    """The suites that come with splitbrain."""
    from harness.campaign.suites import reading

    return [(file.stem, "") for file in sorted(reading.BUNDLED.glob("*.yaml"))]


def anything(context: click.Context) -> Iterable[tuple[str, str]]:
    """Whatever `splitbrain list NAME` tells about."""
    for kind in ("system", "workload", "nemesis", "checker"):
        yield from plugins(kind)(context)
    yield from models(context)
    from harness.report import glossary

    yield from ((name, "") for name in glossary.names())


def installable(_: click.Context) -> Iterable[tuple[str, str]]:
    """The systems that can be installed."""
    from harness.systems import abilities

    return [(found.name, told) for found, told in abilities.installable()]


COMPLETED: Final[dict[str, click.ParamType[Any]]] = {
    "system": Names(plugins("system")),
    "workload": Names(plugins("workload")),
    "nemesis": Names(faults, several=True),
    "mutant": Names(mutants),
    "sets": Names(settings),
    "checker": Names(plugins("checker")),
    "also": Names(plugins("checker"), several=True),
    "model": Names(models),
    "list name": Names(anything),
    "suite file": NamesOrFiles(suites),
    "systems install names": Names(installable),
}
"""Parameter, or command and parameter -> what is completed."""
