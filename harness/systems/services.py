"""Services: what clients can ask of a system, and what workloads need to ask.

Faults that nodes have to help with, such as changes of members, ask for services too.

A system says which services its clients speak, a workload says which it needs, and
nothing else decides which workloads run on which systems. So a new workload runs at
once on every system that speaks what it needs, and a new system takes every test that
it can.

Services have the grain at which real systems differ: a service is a group of requests
that come together, under one meaning (WIRE.md has the requests). The names below are
those that plug-ins of this project use; others may add names of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from harness import registry
from harness.errors import UsageError
from harness.systems import abilities
from harness.systems.system import System
from harness.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from harness.registry import Plugin


class Nemesis(Protocol):
    """The part of a nemesis that decides whether a system can bear it."""

    kind: str


EVERY: Final = "*"
"""Stands for all services, even those that others add. Only the author of an adapter's
nodes knows what they serve, and a node refuses requests that it doesn't serve."""

SERVICES: Final[Mapping[str, str]] = {
    "register": "a value under a key is read and written",
    "cas": "a key's value is compared and set in one step",
    "txn-register": "transactions read and write several keys",
    "txn-append": "transactions append to lists and read them, several keys at once",
    "set": "elements are appended to the list under a key, and the list is read",
    "counter": "a number under a key is added to, and read",
    "queue": "elements are appended to the list under a key, and taken off its front",
    "bank": "transactions write, add to and read numbers, none of which falls below 0",
    "lock": "locks are acquired, used and released, with fencing tokens",
    "leader": "nodes say who leads, and in which term",
    "membership": "an operator adds and removes servers, and hands leadership on",
    "commit": "transactions have names, and nodes tell their votes and decisions",
    "propose": "values are proposed to instances, and chosen ones are learned",
    "broadcast": "messages go to all nodes, which tell what they delivered, in order",
    "log": "messages are sent to logs and polled by offset; offsets are committed",
    "log-txn": "transactions send to logs and poll them, and take effect as a whole",
    "grow-set": "elements are added to one set on all nodes, and the set is read",
    "pn-counter": "one counter on all nodes goes up and down, and is read",
    "gossip": "messages go to all nodes, in any order, and nodes tell what they have",
    "ids": "nodes give out ids",
    "echo": "nodes say what they are told",
}
"""Service -> its requests, in words."""

TRANSACTIONS: Final = frozenset(
    {"bank", "counter", "queue", "set", "txn-append", "txn-register"}
)
"""The services of a system with any one-shot transactions (`txn`, WIRE.md)."""


@runtime_checkable
class Asking(Protocol):
    """A nemesis whose faults are requests to nodes.

    Attributes:
        requires: Services that it asks for.
    """

    requires: frozenset[str]


def unspoken(spoken: AbstractSet[str], needed: AbstractSet[str]) -> list[str]:
    """The services that are needed and not spoken."""
    return [] if EVERY in spoken else sorted(needed - spoken)


def check(system: System, workload: Workload) -> None:
    """Refuse a workload that needs what the system's clients don't speak.

    Raises:
        UsageError: A service is missing. Says which, and names workloads and systems
            that fit.
    """
    missing = unspoken(system.services, workload.requires)
    if not missing:
        return
    others = [
        plugin.title
        for _, plugin in sorted(registry.plugins("system").items())
        if (spoken := spoken_by(plugin)) is not None
        and not unspoken(spoken, workload.requires)
    ]
    instead = ", ".join(served(system)) or "none"
    raise UsageError(
        f"{system.name} can't serve workload {workload.name!r}: its clients don't "
        f"speak {', '.join(missing)} (it serves: {instead}; "
        f"{workload.name} is served by: {', '.join(others) or 'none'})"
    )


def why_spared(system: System, nemesis: Nemesis) -> str:
    """Why a system can't be subjected to a kind of fault; empty if it can."""
    if not {EVERY, nemesis.kind} & system.faults:
        return f"it can to: {', '.join(sorted(system.faults)) or 'nothing'}"
    asked = nemesis.requires if isinstance(nemesis, Asking) else frozenset()
    if missing := unspoken(system.services, asked):
        return f"its nodes don't serve {', '.join(missing)}"
    return ""


def is_sure(system: System, nemesis: Nemesis) -> bool:
    """Whether a system speaks by name whatever the fault asks of its nodes.

    Where only `EVERY` is spoken, its nodes may serve that or not: such a fault is for
    whoever asks for it by name.
    """
    return not isinstance(nemesis, Asking) or nemesis.requires <= system.services


def served(system: System) -> list[str]:
    """The workloads, with default options, that the system serves; sorted by name."""
    known = sorted(registry.plugins("workload").items())
    return [name for name, plugin in known if serves(system, plugin)]


def serves(system: System, workload: Plugin[Any]) -> bool:
    """Whether the system serves a workload, with its default options."""
    needed = needed_by(workload)
    return needed is not None and not unspoken(system.services, needed)


def spoken_by(plugin: Plugin[Any]) -> frozenset[str] | None:
    """The services that the clients of a system speak under its default options.

    Returns:
        The services; None if the system can't be made without options, or lacks a
        member.
    """
    # Any program will do for the command of an adapter, as it isn't started.
    system: System | None = registry.by_default(
        plugin, "true" if plugin.adapter else "", {}
    )
    if system is None and plugin.adapter:
        return frozenset({EVERY})
    if system is None or abilities.lacks(system, System):
        return None
    return system.services


def needed_by(plugin: Plugin[Any]) -> frozenset[str] | None:
    """The services that a workload needs under its default options.

    Returns:
        The services; None if the workload can't be made without options, or lacks a
        member.
    """
    workload: Workload | None = registry.by_default(plugin, {})
    if workload is None or abilities.lacks(workload, Workload):
        return None
    return workload.requires
