"""Tallies: how much a checker found wrong, and how much of that it explained.

A history may break thousands of keys in one way, and a checker explains the first few.
If it counted the others by name, its figure `anomalies` has their numbers. A checker
that judges key by key, and can't name anomalies that it did not explain, has the
figures `keys_broken` and `keys_explained`. All of this holds for results and for their
records in verdict.json.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.report import figures
from harness.report.folder import mapping, sequence, string, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.run.records import CheckRecord
    from harness.verdict import CheckResult


@dataclass(frozen=True)
class Tally:
    """How much one checker found wrong, or several together.

    Attributes:
        explained: Name -> number of anomalies explained, in the order found.
        names: Name -> number of anomalies, for those that have a name.
        keys_broken: How many keys are broken; 0 if the checker doesn't count keys.
        keys_explained: How many of them are explained.
    """

    explained: Mapping[str, int]
    names: Mapping[str, int]
    keys_broken: int = 0
    keys_explained: int = 0

    @property
    def total(self) -> int:
        """How many anomalies there are; a broken key without a named anomaly is one."""
        return sum(self.names.values()) + self.unnamed

    @property
    def unnamed(self) -> int:
        """How many broken keys are not explained: their anomalies have no name."""
        return max(0, self.keys_broken - self.keys_explained)

    @property
    def keys(self) -> str:
        """As in "322 keys broken, 20 explained"; empty if all are explained."""
        if not self.unnamed:
            return ""
        broken = figures.plural(self.keys_broken, "key")
        return f"{broken} broken, {figures.count(self.keys_explained)} explained"

    def each(self) -> list[str]:
        """The names, each with its number: "3,000 x G1c (20 explained)"."""
        out = []
        for name, number in self.names.items():
            some = self.explained.get(name, 0)
            rest = f" ({figures.count(some)} explained)" if some < number else ""
            out.append(f"{figures.count(number)} x {name}{rest}")
        return out

    def __str__(self) -> str:
        """The tally on one line; empty if nothing is wrong."""
        return ": ".join(filter(None, [self.keys, ", ".join(self.each())]))


def together(tallies: Iterable[Tally]) -> Tally:
    """The sum of several tallies; an anomaly that two checkers found counts twice."""
    explained: Counter[str] = Counter()
    names: Counter[str] = Counter()
    broken = keys_explained = 0
    for each in tallies:
        explained.update(each.explained)
        names.update(each.names)
        broken += each.keys_broken
        keys_explained += each.keys_explained
    return Tally(dict(explained), dict(names.most_common()), broken, keys_explained)


def of_result(result: CheckResult) -> Tally:
    """The tally of a checker's result."""
    return _tally([anomaly.name for anomaly in result.anomalies], result.stats)


def of_record(check: CheckRecord) -> Tally:
    """The tally of a checker's result as it was read from verdict.json."""
    return _tally([anomaly.name for anomaly in check.anomalies], check.stats)


def of_json(result: Mapping[str, Any]) -> Tally:
    """The tally of a checker's result as it stands in verdict.json."""
    names = [
        string(mapping(anomaly).get("name"), "anomaly")
        for anomaly in sequence(result.get("anomalies"))
    ]
    return _tally(names, mapping(result.get("stats")))


def _tally(names: list[str], stats: Mapping[str, Any]) -> Tally:
    explained = Counter(names)
    counted = mapping(stats.get("anomalies"))
    return Tally(
        dict(explained),
        {name: max(n, whole(counted.get(name))) for name, n in explained.items()},
        whole(stats.get("keys_broken")),
        whole(stats.get("keys_explained", stats.get("keys_broken"))),
    )
