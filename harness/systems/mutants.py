"""The mutants of the reference protocols, found by name.

A mutant is a protocol's core with one rule broken (`reference_impls.mutants`). The
kernel loads the module that holds them as it loads plug-ins, by the protocol's name.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.registry import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

PROTOCOLS = "reference_impls"
PACKAGE = f"{PROTOCOLS}.mutants"
"""Its modules are called as protocols are, or hold what several of them share."""


def of_protocol(protocol: str) -> Mapping[str, Any]:
    """The protocol's mutants (`reference_impls.mutants.Mutant`) by name."""
    module = f"{PACKAGE}.{protocol}"
    if importlib.util.find_spec(module) is None:
        return {}
    mutants: Mapping[str, Any] = importlib.import_module(module).MUTANTS
    return mutants


def every() -> dict[str, Mapping[str, Any]]:
    """Protocol -> name -> mutant, for all mutants."""
    package = importlib.import_module(PACKAGE)
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    protocols = (x for x in names if importlib.util.find_spec(f"{PROTOCOLS}.{x}"))
    return {name: of_protocol(name) for name in protocols if name != "tests"}


def find(protocol: str, name: str) -> Any:
    """The protocol's mutant of that name.

    Raises:
        UsageError: The protocol has no such mutant; names the nearest that it has.
    """
    known = of_protocol(protocol)
    if name in known:
        return known[name]
    if not known:
        raise UsageError(f"{protocol} has no mutants: only the reference protocols do")
    whose = [other for other, mutants in every().items() if name in mutants]
    hint = f": that is one of {whose[0]}'s" if whose else nearest(name, known)
    raise UsageError(
        f"{protocol} has no mutant {name!r}{hint} "
        f"(its mutants: {', '.join(sorted(known))})"
    )
