"""Consistency models and what breaks them, as data.

An anomaly implies others that are more general, a model implies weaker ones, and a
model proscribes anomalies. A history breaks a model when an anomaly was found that
implies one which the model, or a model that it implies, proscribes.

Sources: Adya, "Weak Consistency" (1999), for G0 to G2 and the levels from PL-1 to PL-3,
and Adya, Liskov and O'Neil (2000); Berenson et al. (1995) for write skew; Cerone,
Bernardi and Gotsman (2015) and Cerone and Gotsman (2016) for snapshot isolation,
parallel and prefix, as shapes of cycles; Kingsbury and Alvaro, "Elle" (2020), for
anomalies of values, and for their places in the order; Biswas and Enea (2019) for read
atomic and causal; Terry et al. (1994) for session guarantees.

Cycles have three variants each: `G1c` has dependencies only, `G1c-process` has an edge
of session order as well, `G1c-realtime` one of real time.

Choices:
- A garbage read, of a value that nobody wrote, breaks even read uncommitted: the
  definitions take for granted that a read has a writer.
- Micro-operations name their keys, there are no predicates. So what is found is called
  by the names that end in "-item"; G-single, G-nonadjacent and G2 are there to be
  asked for, and Adya's predicate forms of G1 and Elle's predicate-read-miss, which
  nothing here could show, have no names.
- G-SI and G-SIb are there to be asked for as well. They count edges from whoever had
  committed when somebody else started. A database chooses its starts, and where it
  starts everybody before all commits there are no such edges: a history has no G-SIb,
  and satisfies forward consistent view, just when it has no G-single, and satisfies
  consistent view. Where real time decides what had committed, it is G-SIb-realtime,
  which G-single-realtime implies.
- Session order counts in models with "session" or "strong" in the name, and in read
  atomic, causal, prefix and parallel snapshot isolation, which are defined with it.
- What prefix and parallel snapshot isolation forbid beyond that (Cerone and Gotsman
  2016) has session order in it, and is asked only by their own names: `DEFINITIONS`.
  Snapshot isolation implies them without it.
- Read committed is Adya's and Biswas and Enea's at once: the latter adds that the reads
  of a transaction don't go back. For lists it is Adya's alone, as in Elle.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.registry import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LEVELS = ("", "-process", "-realtime")
"""Suffixes of cycles: dependencies only, with session order, with real time."""

_GENERAL: Mapping[str, tuple[str, ...]] = {
    "G0": ("G1c",),
    "G1c": ("G1",),
    "G-single-item": ("G-single", "G-nonadjacent-item"),
    "G-single": ("G-nonadjacent", "G-SIb"),
    "G-SIb": ("G-SI",),
    "G-nonadjacent-item": ("G-nonadjacent", "G2-item"),
    "G-nonadjacent": ("G2",),
    "G2-item": ("G2",),
    "G1": (),
    "G-SI": (),
    "G2": (),
}
"""Cycle -> what it is a special case of; each has three variants (`LEVELS`)."""

_VALUES: Mapping[str, tuple[str, ...]] = {
    "G1a": ("G1",),
    "G1b": ("G1",),
    "incompatible-order": ("G1a",),
    "dirty-update": ("G1a",),
    "future-read": ("G1c",),
    "lost-update": ("G-cursor",),
    "lost-append": ("G-single-item-realtime",),
    "internal": (),
    "duplicate-elements": (),
    "cyclic-versions": (),
    "garbage-read": (),
    "G-prefix": (),
    "non-monotonic-read": (),
    "fractured-read": (),
    "causal-violation": (),
    "own-write-missed": (),
    "read-went-back": (),
    "writes-reordered": (),
    "write-before-read": (),
}
"""Anomalies that have no variants, and what each implies."""


_OF_DEPENDENCIES: Mapping[str, tuple[str, ...]] = {
    "G-cursor": ("G-single-item",),
    "G-monotonic": ("G-single-item", "G-MSR"),
    "G-MSR": ("G-nonadjacent-item",),
    "G-update": ("G2-item",),
    "write-skew": ("G-update",),
}
"""Cycles without variants, of dependencies alone; see `checkers.isolation.unfolded`."""


def _anomaly_graph() -> dict[str, tuple[str, ...]]:
    graph = dict(_VALUES)
    graph.update(_OF_DEPENDENCIES)
    for name, implied in _GENERAL.items():
        for level, suffix in enumerate(LEVELS):
            wider = [name + LEVELS[level + 1]] if level + 1 < len(LEVELS) else []
            graph[name + suffix] = (*(i + suffix for i in implied), *wider)
    # In a cycle with one rw edge, all but that edge's source have written something.
    graph["G-single-item"] += ("G-update",)
    return graph


ANOMALIES: Mapping[str, tuple[str, ...]] = _anomaly_graph()
"""Anomaly -> the more general anomalies that it is a case of."""

MODELS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "read-uncommitted": (
        (),
        ("G0", "duplicate-elements", "cyclic-versions", "garbage-read"),
    ),
    "read-committed": (("read-uncommitted",), ("G1", "non-monotonic-read")),
    "monotonic-atomic-view": (("read-committed",), ()),
    "monotonic-view": (("read-committed",), ("G-monotonic",)),
    "monotonic-snapshot-read": (("monotonic-view",), ("G-MSR",)),
    "cursor-stability": (("read-committed",), ("G-cursor", "lost-update")),
    "consistent-view": (("cursor-stability", "monotonic-view"), ("G-single",)),
    "forward-consistent-view": (("consistent-view",), ("G-SIb",)),
    "read-atomic": (
        ("monotonic-atomic-view",),
        ("internal", "G1a", "future-read", "fractured-read"),
    ),
    "update-atomic": (("read-atomic",), ("G-cursor", "lost-update")),
    "read-your-writes": ((), ("own-write-missed",)),
    "monotonic-reads": ((), ("read-went-back",)),
    "monotonic-writes": ((), ("writes-reordered",)),
    "writes-follow-reads": ((), ("write-before-read",)),
    "PRAM": (("read-your-writes", "monotonic-reads", "monotonic-writes"), ()),
    "causal": (
        ("read-atomic", "PRAM", "writes-follow-reads"),
        ("causal-violation",),
    ),
    "prefix": (("causal",), ("G-prefix",)),
    "parallel-snapshot-isolation": (("causal", "update-atomic"), ()),
    "repeatable-read": (
        ("cursor-stability", "monotonic-atomic-view"),
        ("G2-item", "lost-update"),
    ),
    "snapshot-isolation": (
        (
            "forward-consistent-view",
            "monotonic-atomic-view",
            "monotonic-snapshot-read",
            "parallel-snapshot-isolation",
            "prefix",
        ),
        ("internal", "G-SI", "G-nonadjacent"),
    ),
    "update-serializable": (("forward-consistent-view",), ("G-update",)),
    "serializable": (
        ("repeatable-read", "snapshot-isolation", "update-serializable"),
        ("G2",),
    ),
    "strong-session-read-uncommitted": (("read-uncommitted",), ("G0-process",)),
    "strong-session-read-committed": (
        ("read-committed", "strong-session-read-uncommitted"),
        ("G1-process",),
    ),
    "strong-session-snapshot-isolation": (
        ("snapshot-isolation", "strong-session-read-committed"),
        ("G-SI-process", "G-nonadjacent-process"),
    ),
    "strong-session-serializable": (
        ("serializable", "strong-session-snapshot-isolation"),
        ("G2-process",),
    ),
    "strong-read-uncommitted": (
        ("strong-session-read-uncommitted",),
        ("G0-realtime",),
    ),
    "strong-read-committed": (
        ("strong-session-read-committed", "strong-read-uncommitted"),
        ("G1-realtime",),
    ),
    "strong-snapshot-isolation": (
        ("strong-session-snapshot-isolation", "strong-read-committed"),
        ("G-SI-realtime", "G-nonadjacent-realtime"),
    ),
    "strict-serializable": (
        ("strong-session-serializable", "strong-snapshot-isolation"),
        ("G2-realtime",),
    ),
}
"""Model -> the weaker models that it implies, and the anomalies that it adds."""

ALIASES: Mapping[str, str] = {
    "PL-1": "read-uncommitted",
    "PL-2": "read-committed",
    "PL-CS": "cursor-stability",
    "PL-2L": "monotonic-view",
    "PL-MSR": "monotonic-snapshot-read",
    "PL-2+": "consistent-view",
    "PL-FCV": "forward-consistent-view",
    "PL-2.99": "repeatable-read",
    "PL-SI": "snapshot-isolation",
    "PL-3U": "update-serializable",
    "PL-3": "serializable",
    "PL-SS": "strict-serializable",
    "strong-serializable": "strict-serializable",
    "causal-cerone": "causal",
    "PSI": "parallel-snapshot-isolation",
    "session-causality": "writes-follow-reads",
    "strong-session-PL-1": "strong-session-read-uncommitted",
    "strong-session-PL-2": "strong-session-read-committed",
    "strong-session-PL-SI": "strong-session-snapshot-isolation",
    "strong-session-PL-3": "strong-session-serializable",
    "strong-PL-1": "strong-read-uncommitted",
    "strong-PL-2": "strong-read-committed",
    "strong-PL-SI": "strong-snapshot-isolation",
}

WITH_SESSIONS = frozenset(
    {
        "read-atomic",
        "update-atomic",
        "read-your-writes",
        "monotonic-reads",
        "monotonic-writes",
        "writes-follow-reads",
        "PRAM",
        "causal",
        "prefix",
        "parallel-snapshot-isolation",
    }
)
"""Models whose definitions include session order, though their names don't say so."""

DEFINITIONS: Mapping[str, tuple[str, ...]] = {
    "prefix": ("G1-process", "G-prefix"),
    "parallel-snapshot-isolation": ("G1-process", "G-single-process"),
}
"""Model -> what breaks it, session order included, beside what it implies."""

DECIDED = frozenset(
    {
        "read-uncommitted",
        "read-committed",
        "monotonic-atomic-view",
        "cursor-stability",
        "read-atomic",
        "update-atomic",
        "read-your-writes",
        "monotonic-reads",
        "monotonic-writes",
        "writes-follow-reads",
        "PRAM",
        "causal",
    }
)
"""Models that registers are judged by even without an order of their versions."""

DEFAULT = "strict-serializable"


def model_called(name: str) -> str:
    """The model of that name or alias, in whatever case.

    Raises:
        UsageError: There is no such model; the error names the nearest.
    """
    names = {known.lower(): known for known in MODELS}
    names |= {alias.lower(): model for alias, model in ALIASES.items()}
    wanted = name.strip().lower()
    if wanted not in names:
        near = nearest(name.strip(), [*MODELS, *ALIASES])
        raise UsageError(f"there is no consistency model {name!r}{near}")
    return names[wanted]


def anomaly_called(name: str) -> str:
    """The anomaly of that name, in whatever case.

    Raises:
        UsageError: There is no such anomaly; the error names the nearest.
    """
    names = {known.lower(): known for known in ANOMALIES}
    wanted = name.strip().lower().lstrip(":")
    if wanted not in names:
        raise UsageError(
            f"there is no anomaly {name!r}{nearest(name.strip(), ANOMALIES)}"
        )
    return names[wanted]


@cache
def generalizations(anomaly: str) -> frozenset[str]:
    """`anomaly` and all that it implies."""
    return frozenset({anomaly}).union(*map(generalizations, ANOMALIES[anomaly]))


@cache
def weaker_models(model: str) -> frozenset[str]:
    """`model` and all models that it implies."""
    return frozenset({model}).union(*map(weaker_models, MODELS[model][0]))


@cache
def proscribed(model: str) -> frozenset[str]:
    """Every anomaly that must not happen under `model`."""
    return anomalies_implying(
        anomaly for weaker in weaker_models(model) for anomaly in MODELS[weaker][1]
    )


def anomalies_implying(anomalies: Iterable[str]) -> frozenset[str]:
    """`anomalies` and all special cases of them."""
    wanted = frozenset(anomalies)
    return frozenset(name for name in ANOMALIES if generalizations(name) & wanted)


def weakest_broken(anomalies: Iterable[str]) -> tuple[str, ...]:
    """The weakest models that do not allow all of `anomalies`, by name."""
    found = frozenset(anomalies)
    broken = {model for model in MODELS if proscribed(model) & found}
    return tuple(
        sorted(
            model for model in broken if not (weaker_models(model) - {model}) & broken
        )
    )
