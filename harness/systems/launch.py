"""`launch:COMMAND`: any program, in any language, that speaks WIRE.md's protocol.

The harness starts the command once per node. The node learns its name, where to listen,
its peers and its directory from placeholders in the command, from the environment, or
from both; it is ready when it accepts connections.

Choices: the command is split into words first, as a shell would, and placeholders are
filled in afterwards, so no value is ever split or interpreted; there is no shell. The
node runs in the directory in which splitbrain was started, as the command may name
files relative to it. Its environment is clean, so that a run does not depend on the
variables of the user who starts it; `pass_env` names exceptions.

A node may write its data folder, and folders that are named in the command: a user who
writes `./my-node --backups /srv/backups` wants that folder written. That goes for
folders that exist, but not for those of the system, nor for one that holds the user's
home or the folder in which splitbrain was started, where nodes have no business.
`writable` names others; `trusted` takes a node out of its cage
(`harness.worlds.os.cage`).
"""

from __future__ import annotations

import os
import shlex
import shutil
import string
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.options import Checked, Flag, Names, Number
from harness.override import override
from harness.registry import Option, Plugin, nearest, settings
from harness.systems.services import EVERY
from harness.systems.wire_system import WireSystem, environment, peers_json
from harness.worlds.logs import compiled
from harness.worlds.places import Launch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.systems.system import SystemFactory
    from harness.worlds.places import NodePlace


def leader_pattern(text: str) -> str:
    """The pattern, if it is one; raises UsageError for a bad one."""
    if text:
        compiled(text)
    return text


OPTIONS = (
    Option(
        "ready_timeout_s",
        "10",
        "how long a node may take to accept connections",
        Number(0.1, 3600.0),
    ),
    Option(
        "pass_env",
        "",
        "variables to hand through to the nodes: NAME,NAME",
        Names("variables", r"[A-Za-z_][A-Za-z0-9_]*"),
    ),
    Option(
        "writable",
        "",
        "files and folders that nodes may write, beside their data and the folders "
        "that COMMAND names: PATH,PATH",
        Names("files and folders"),
    ),
    Option(
        "leader_pattern",
        "",
        "how logs show who leads: a regular expression for a line that a node logs "
        "when it becomes leader; a first group names the leader, by node or address",
        Checked("a regular expression, or nothing", leader_pattern),
    ),
    Option(
        "trusted",
        "false",
        "true for nodes that need the run's capabilities: they could harm the run",
        Flag(),
    ),
)

SYSTEM_FOLDERS = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/run"),
    *("/sbin", "/sys", "/usr"),
)
PRIVATE_FOLDERS = ("/tmp", "/var/tmp")  # noqa: S108 - their names
"""Folders of which each node has one of its own."""

PLACEHOLDERS = ("node", "host", "port", "peers", "data")


class LaunchSystem(WireSystem):
    """A command of the user's.

    Args:
        words: The command, in words, with placeholders.
        given: The options that the user set.

    Raises:
        UsageError: An option does not exist, or a value is impossible.
    """

    name = "launch"
    services = frozenset({EVERY})

    def __init__(self, words: Sequence[str], given: Mapping[str, str]) -> None:
        super().__init__()
        chosen = settings("launch", OPTIONS, given)
        self.ready_timeout_s: float = chosen["ready_timeout_s"]
        self._words = words
        self._passed = passed_environment(chosen["pass_env"])
        self._cwd = Path.cwd()
        self._writable = [*named_folders(words), *writable_paths(chosen["writable"])]
        self._trusted: bool = chosen["trusted"]
        self.leader_pattern: str = chosen["leader_pattern"]

    @override
    async def leader(self, places: Sequence[NodePlace]) -> str | None:
        """What nodes say; nobody is asked if their logs show it."""
        return None if self.leader_pattern else await super().leader(places)

    @override
    def launch(self, place: NodePlace) -> Launch:
        """The command with the node's values in place of the placeholders."""
        values = {
            "node": place.name,
            "host": place.listen.host,
            "port": str(place.listen.port),
            "peers": peers_json(place),
            "data": str(place.data_dir),
        }
        return Launch(
            [word.format_map(values) for word in self._words],
            {**self._passed, **environment(place)},
            self._cwd,
            self._writable,
            self._trusted,
        )


def split_command(command: str) -> list[str]:
    """The command in words, its placeholders checked, its program found on PATH.

    Raises:
        UsageError: The command is empty or badly quoted, has an unknown placeholder, or
            names a program that does not exist.
    """
    words = split_words(command, "launch", "node examples/nodes/javascript/register.js")
    for word in words:
        check_placeholders(word)
    return [words[0] if "{" in words[0] else find_program(words[0]), *words[1:]]


def split_words(command: str, adapter: str, example: str) -> list[str]:
    """The command in words; at least one.

    Raises:
        UsageError: The command is empty or badly quoted.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(
            f"{adapter}: can't split {command!r} into words: {error}"
        ) from error
    if not words:
        raise UsageError(
            f"{adapter}: there is no command; write {adapter}:COMMAND, "
            f"for example {adapter}:{example!r}"
        )
    return words


def check_placeholders(word: str) -> None:
    """Raises UsageError unless every `{...}` in the word is a placeholder."""
    known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    try:
        parts = list(string.Formatter().parse(word))
    except ValueError as error:
        raise UsageError(
            f"launch: {word!r}: {error}; placeholders are {known}, "
            "and a brace of the command's own is written twice"
        ) from error
    for _, name, spec, conversion in parts:
        if name is not None and (name not in PLACEHOLDERS or spec or conversion):
            raise UsageError(
                f"launch: {word!r} has an unknown placeholder {{{name}}}"
                f"{nearest(name, PLACEHOLDERS)} (known: {known}; a brace of the "
                "command's own is written twice)"
            )


def find_program(word: str, adapter: str = "launch") -> str:
    """The program's path.

    It is looked up before anything starts, as nodes run under another PATH, and a
    mistyped name should be refused at once.
    """
    path = shutil.which(word)
    if path is None:
        raise UsageError(
            f"{adapter}: there is no program {word!r} on PATH or at that path"
        )
    return os.path.abspath(path)


def passed_environment(names: Sequence[str]) -> dict[str, str]:
    """The variables of these names with their present values.

    Raises:
        UsageError: A variable is not set.
    """
    for name in names:
        if name not in os.environ:
            raise UsageError(f"pass_env names {name}, which is not set")
    return {name: os.environ[name] for name in names}


def named_folders(words: Sequence[str]) -> list[Path]:
    """The folders that the arguments of a command name, alone or as `--option=FOLDER`.

    Folders of the system, and those that hold the user's home or the working directory,
    are left out: nodes have no business there.
    """
    homes = [Path.cwd(), Path(os.path.expanduser("~")).resolve()]
    named = [text for word in words[1:] for text in (word, word.partition("=")[2])]
    folders = {Path(text).resolve() for text in named if text and os.path.isdir(text)}
    return sorted(
        folder
        for folder in folders
        if str(folder) not in PRIVATE_FOLDERS
        and not any(home.is_relative_to(folder) for home in homes)
        and not any(folder.is_relative_to(system) for system in SYSTEM_FOLDERS)
    )


def writable_paths(names: Sequence[str]) -> list[Path]:
    """The files and folders of these names.

    Raises:
        UsageError: A file or folder does not exist.
    """
    for name in names:
        if not os.path.exists(name):
            raise UsageError(
                f"writable names {name}, which does not exist; make it first"
            )
    return [Path(name).resolve() for name in names]


def launch(command: str, given: Mapping[str, str]) -> LaunchSystem:
    """The system with these options; raises UsageError if one is wrong."""
    return LaunchSystem(split_command(command), given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "launch",
    "launch:COMMAND starts your own implementation, in any language (WIRE.md)",
    launch,
    OPTIONS,
    adapter=True,
)
