"""What all reference systems have in common: one runtime that runs their cores.

A node is `python -m reference_impls.runtime PROTOCOL --option KEY=VALUE ...`, in the
same interpreter as the harness. Options go to the core as they were given; those that
were not given are left to it, so that a default is written down in one place.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from harness.registry import settings
from harness.system import Launch
from harness.systems.wire_system import WireSystem, environment, number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.registry import Option
    from harness.system import NodePlace


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
        settings(protocol, options, given)
        for option in options:
            if option.name in given and option.default[:1].isdigit():
                number(protocol, option.name, given[option.name])
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
