"""The part that all reference systems share: one runtime that runs their cores.

A node is `python -m reference_impls.runtime PROTOCOL --option KEY=VALUE ...`, in the
same interpreter as the harness. The core's module says which options there are, and has
their defaults. It is loaded by name, as plug-ins are, because the kernel knows
protocols by their actor vocabulary only.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.registry import Option, settings
from harness.systems import logs, mutants
from harness.systems.logs import UnusableLogError, read_log
from harness.systems.services import TRANSACTIONS
from harness.systems.wire_system import WireSystem, environment
from harness.worlds.places import Launch
from reference_impls.actor import Inspectable, Observe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.worlds.places import NodePlace
    from reference_impls.actor import Actor, Record
    from reference_impls.files import Files, Log

KEY_VALUE = TRANSACTIONS | {"register", "cas", "lock"}
"""The services of nodes that drive a replicated store (`reference_impls.kv`)."""

SHARDED = TRANSACTIONS | {"commit"}
"""The services of nodes that each own a part of the keys (`reference_impls.shards`)."""


def core_options(protocol: str) -> tuple[Option, ...]:
    """The options of a protocol's core, and those that the runtime adds."""
    core = importlib.import_module(f"reference_impls.{protocol}")
    runtime = importlib.import_module("reference_impls.runtime")
    return tuple(
        Option(option.name, option.default, option.meaning, option.kind)
        for option in (*core.OPTIONS, *runtime.RUNTIME_OPTIONS)
    )


class ReferenceSystem(WireSystem):
    """One of the shipped protocols; these systems run in both worlds.

    Args:
        protocol: The runtime's name for the protocol; also the system's name.
        options: The options that its core takes.
        given: The options that the user set.
        services: The services of its nodes.
        invariants: Checkers that judge what its nodes observed; all of these systems
            promise besides that no node exits on its own.

    Attributes:
        protocol: The module of `reference_impls` that holds its core.
        options: Every option of the core with its value.
        fsync: Whether nodes wait for their disks.
        moments: Events of the protocol at which a fault may hurt most.
        messages: Types of message between nodes, as they stand on the wire.
        interchangeable: Whether its nodes differ by name only.
        core: The core to build in place of the protocol's own; None for its own.
        log: The class of its log in place of the shipped one; None for that.
        read_log: Gives a node's records once it has ended; a simulation puts a function
            here that reads its own disks.

    Raises:
        UsageError: The protocol has no such option, or a value is impossible.
    """

    def __init__(
        self,
        protocol: str,
        options: Sequence[Option],
        given: Mapping[str, str],
        services: frozenset[str],
        invariants: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.name = protocol
        self.protocol = protocol
        # The runtime answers echo itself, for every protocol.
        self.services = services | {"echo"}
        self.invariants = (*invariants, "crashes")
        self.options: Mapping[str, Any] = settings(protocol, options, given)
        self.fsync: bool = self.options["fsync"]
        module = importlib.import_module(f"reference_impls.{protocol}")
        self.moments: tuple[str, ...] = module.MOMENTS
        self.messages: tuple[str, ...] = tuple(
            f'"type":"{kind}"' for kind in module.MESSAGES
        )
        self.interchangeable = False
        self.core: type[Any] | None = None
        self.log: type[Any] | None = None
        self.read_log: Callable[[NodePlace], Sequence[Record]] = read_log
        self._given = dict(given)
        self._mutant = ""

    def mutate(self, name: str) -> None:
        """Run the mutant of that name in place of the protocol.

        Raises:
            UsageError: The protocol has no such mutant.
        """
        mutant = mutants.find(self.protocol, name)
        self.core, self.log = mutant.core, mutant.log
        self._mutant = name

    @property
    def beyond_cores(self) -> str:
        """What promises or their breach rest on beside cores; empty for nothing."""
        return "the log on disk, whose rule it breaks" if self.log is not None else ""

    def check_nodes(self, nodes: Sequence[str]) -> None:
        """Refuse options that the nodes would refuse when they start.

        Raises:
            UsageError: The options make no sense together, or with these nodes.
        """
        try:
            self.build(nodes[0], nodes[1:])
        except (ValueError, AssertionError) as error:
            raise UsageError(f"{self.name}: impossible options: {error}") from error

    def build(self, node: str, peers: Sequence[str]) -> Actor:
        """A core for the server called `node`, not started yet."""
        return self.build_with(node, peers, {})

    def build_with(
        self, node: str, peers: Sequence[str], others: Mapping[str, Any]
    ) -> Actor:
        """A core with `others` in place of the options of these names."""
        module = importlib.import_module(f"reference_impls.{self.protocol}")
        options = {**self.options, **others}
        actor: Actor = (
            module.build(node, peers, options)
            if self.core is None
            else module.build(node, peers, options, core=self.core)
        )
        return actor

    def open_log(self, node: str, files: Files) -> Log:
        """The log of the server called `node`, on a simulated disk.

        Raises:
            UnusableLogError: It is corrupt.
            OSError: The disk failed.
        """
        module = importlib.import_module(f"reference_impls.{self.protocol}")
        return logs.open_log(
            self.protocol,
            module.FORMAT_VERSION,
            node,
            files,
            fsync=self.fsync,
            kind=self.log,
        )

    def on_disk(self, place: NodePlace) -> list[Observe]:
        """What a node that has ended left on its disk, as its core understands it.

        Returns:
            The core's observations; none if the core can't inspect a disk, or the node
            never had a log. If the log can't be read, one observation that says why.
        """
        core = self.build(place.name, tuple(place.peers))
        if not isinstance(core, Inspectable):
            return []
        try:
            core.start(self.read_log(place))
        except OSError:
            return []  # the node ended before it had a log
        except UnusableLogError as flaw:
            return [Observe("disk_unreadable", {"why": str(flaw)})]
        return core.on_disk()

    def launch(self, place: NodePlace) -> Launch:
        """The command that starts the runtime with this protocol's core.

        It has -P (safe path), so that a file in the user's directory that happens to be
        called random.py does not become part of the node.
        """
        argv = [sys.executable, "-P", "-m", "reference_impls.runtime", self.protocol]
        if self._mutant:
            argv += ["--mutant", self._mutant]
        for name, value in sorted(self._given.items()):
            argv += ["--option", f"{name}={value}"]
        observe = place.data_dir.parent / "observe.jsonl"
        return Launch(
            argv,
            {
                **environment(place),
                "SPLITBRAIN_OBSERVE": str(observe),
                "PYTHONUNBUFFERED": "1",
            },
            writable=[observe],
        )
