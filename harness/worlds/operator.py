"""What the operator of running nodes tells a run: their addresses, and commands.

A command is a line of words with placeholders; it says how to do one thing to one node.
What there is no command for can't be done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from harness.worlds.capabilities import ACTS, LINK_FIELDS, Capabilities, Offer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.worlds.places import Endpoint

Task: TypeAlias = Literal["kill", "start", "pause", "resume", "partition", "heal"]
TASKS: tuple[Task, ...] = get_args(Task)
PAIRS: Mapping[str, tuple[Task, Task]] = {
    "kill": ("kill", "start"),
    "pause": ("pause", "resume"),
    "cut": ("partition", "heal"),
}
"""Capability -> the commands that it takes: one to do it, one to undo it."""
LAUNCH_THEM = "for such faults, let launch: start the nodes"


def option_of(task: Task) -> str:
    """The name of the option that gives a command."""
    return f"{task}_command"


@dataclass(frozen=True)
class Operator:
    """Running nodes, and what can be done to them.

    Attributes:
        addresses: Node -> where it listens.
        commands: What an operator does -> the words of the command, with placeholders.
    """

    addresses: Mapping[str, Endpoint]
    commands: Mapping[Task, Sequence[str]]

    def offer(self) -> Offer:
        """The faults that the commands allow, and which command the others lack."""
        why_not: dict[str, str] = {
            thing: f"attach can't touch the nodes' {thing}: {LAUNCH_THEM}"
            for thing in ("clocks", "disks")
        }
        for act in (*ACTS, *LINK_FIELDS):
            missing = [task for task in PAIRS.get(act, ()) if task not in self.commands]
            if act not in PAIRS:
                why_not[act] = f"no command does that; {LAUNCH_THEM}"
            elif missing:
                given = (f"--set {option_of(task)}=COMMAND" for task in missing)
                why_not[act] = f"it needs {' and '.join(given)}"
        able = Capabilities(
            network=frozenset(field for field in LINK_FIELDS if field not in why_not),
            processes=frozenset(act for act in ACTS if act not in why_not),
        )
        return Offer("attach", able, why_not)
