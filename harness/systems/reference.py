"""What all reference systems have in common: one runtime that runs their cores.

A node is `python -m reference_impls.runtime PROTOCOL --option KEY=VALUE ...`, in the
same interpreter as the harness. Which options there are, the core says; its module is
loaded by name, as plug-ins are, because the kernel knows protocols by their actor
vocabulary only. Those that were not given are left to it.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.registry import Option, settings
from harness.system import Launch
from harness.systems.wire_system import WireSystem, environment, number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.system import NodePlace


def core_options(protocol: str) -> tuple[Option, ...]:
    """The options of a protocol's core, and those that the runtime adds."""
    core = importlib.import_module(f"reference_impls.{protocol}")
    runtime = importlib.import_module("reference_impls.runtime")
    return tuple(
        Option(option.name, option.default, option.meaning, option.choices)
        for option in (*core.OPTIONS, *runtime.RUNTIME_OPTIONS)
    )


class ReferenceSystem(WireSystem):
    """One of the shipped protocols.

    Args:
        protocol: What the runtime calls it; also the system's name.
        options: The options that its core takes.
        given: The options that the user set.
        workloads: The workloads that its service can serve.

    Raises:
        UsageError: An option that the protocol does not have, or an impossible value.
    """

    def __init__(
        self,
        protocol: str,
        options: Sequence[Option],
        given: Mapping[str, str],
        workloads: frozenset[str],
    ) -> None:
        super().__init__()
        self.name = protocol
        self.workloads = workloads
        check(protocol, options, given)
        self._given = dict(given)

    def launch(self, place: NodePlace) -> Launch:
        """The runtime with this protocol's core.

        Safe path (-P): a file in the user's directory that happens to be called
        random.py must not become part of the node.
        """
        argv = [sys.executable, "-P", "-m", "reference_impls.runtime", self.name]
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
        )


def check(protocol: str, options: Sequence[Option], given: Mapping[str, str]) -> None:
    """Refuse now what the nodes would refuse one by one when they start.

    Raises:
        UsageError: See `ReferenceSystem`.
    """
    complete = settings(protocol, options, given)
    for option in options:
        if option.name in given and option.default[:1].isdigit():
            number(protocol, option.name, given[option.name])
    core = importlib.import_module(f"reference_impls.{protocol}")
    try:
        core.build("n1", ["n2", "n3"], complete)
    except (ValueError, AssertionError) as error:
        raise UsageError(f"{protocol}: impossible options: {error}") from error
