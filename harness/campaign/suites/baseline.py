"""Tonight beside another night: what is new, gone, more often, slower, less covered.

Failures are the same if their fingerprints are (`harness.campaign.outcome`). Of rows
that are to be valid, a fingerprint that the other night did not have is new. Rows that
are to be invalid end at the first anomaly, and which one that is, is chance.

More often is said if so many more failures would come by chance in one of a hundred
nights (Fisher's exact test). Slower is said if even the best run is slower than the
worst of the other night by `SLOWER`: machines are shared, and nights differ. Less
coverage is a kind of fault that bit in a row, and does not any more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.report.folder import mapping, number, sequence, string, strings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.campaign.suites.nights import Night

CHANCE_MAX = 0.01
SLOWER = 0.6
OPS_LEAST = 100
"""Runs of fewer operations say nothing about speed."""


@dataclass(frozen=True)
class Comparison:
    """What differs from another night, in sentences.

    Attributes:
        night: The other night.
        new: Failures that it did not have.
        more_often: Failures that come more often than chance explains.
        gone: Failures that it had, of rows that ran tonight.
        slower: Rows whose runs are slower.
        less_covered: Kinds of fault that don't bite any more.
        compared: How many rows both nights ran.
    """

    night: str
    new: list[str] = field(default_factory=list)
    more_often: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    slower: list[str] = field(default_factory=list)
    less_covered: list[str] = field(default_factory=list)
    compared: int = 0

    @property
    def worse(self) -> bool:
        """Whether there are failures that the other night did not have, or fewer of."""
        return bool(self.new or self.more_often)

    @property
    def doubtful(self) -> bool:
        """Whether something else is worse."""
        return bool(self.slower or self.less_covered)

    def lines(self) -> list[str]:
        """The comparison for people."""
        told = [
            f"{title}: {sentence}"
            for title, sentences in (
                ("new", self.new),
                ("more often", self.more_often),
                ("slower", self.slower),
                ("less coverage", self.less_covered),
                ("gone", self.gone),
            )
            for sentence in sentences
        ]
        beside = f"beside {self.night} ({self.compared} rows in common)"
        if not self.worse and not self.doubtful:
            return [f"nothing new {beside}", *told]
        return [f"{beside}:", *told]

    def as_json(self) -> dict[str, object]:
        """The comparison in suite.json."""
        return {
            "night": self.night,
            "compared": self.compared,
            "new": self.new,
            "more_often": self.more_often,
            "gone": self.gone,
            "slower": self.slower,
            "less_covered": self.less_covered,
        }


@dataclass(frozen=True)
class Showed:
    """What the runs of a row showed in one night.

    Attributes:
        runs: Runs with a verdict.
        failures: What tells failures apart, in words -> runs that had it.
        rates: Operations a second of each run that was not cut short.
        latencies_ms: The median latency of each of these.
        bit: Kinds of fault that bit in one of them at least.
    """

    runs: int
    failures: dict[str, int]
    rates: list[float]
    latencies_ms: list[float]
    bit: set[str]


def compare(tonight: Iterable[Mapping[str, object]], before: Night) -> Comparison:
    """Compare rows of suite.json with those of another night.

    Values may be of any type: the other night may come from anywhere.
    """
    found = Comparison(str(before.folder))
    compared = 0
    for row in tonight:
        name = string(row.get("name"))
        now = showed(row)
        if not now.runs:
            continue
        other = before.rows.get(name)
        then = showed(other) if other is not None else Showed(0, {}, [], [], set())
        is_to_be_valid = string(row.get("expected")) != "invalid"
        if is_to_be_valid:
            _compare_failures(name, now, then, found)
        if then.runs:
            compared += 1
            _compare_speed(name, now, then, found)
            found.less_covered.extend(
                f"{name}: {kind} bit in no run" for kind in sorted(then.bit - now.bit)
            )
    return Comparison(**{**vars(found), "compared": compared})


def showed(row: Mapping[str, object]) -> Showed:
    """What a row of suite.json shows; what is damaged in it is left out."""
    failures: dict[str, int] = {}
    rates, latencies, bit, runs = [], [], set(), 0
    for told in map(mapping, sequence(row.get("seeds"))):
        verdict = string(told.get("verdict"))
        if verdict not in {"valid", "invalid"}:
            continue
        runs += 1
        for mark in map(mapping, sequence(told.get("fingerprints"))):
            name = _in_words(mark)
            failures[name] = failures.get(name, 0) + 1
        bit.update(strings(sequence(told.get("bit"))))
        ok = number(mapping(told.get("ops")).get("ok"))
        seconds = number(told.get("seconds"))
        if verdict == "valid" and ok >= OPS_LEAST and seconds > 0:
            rates.append(ok / seconds)
            median_ms = number(mapping(told.get("latency_ms")).get("p50"))
            latencies += [median_ms] if median_ms > 0 else []
    return Showed(runs, failures, rates, latencies, bit)


def _in_words(mark: Mapping[str, object]) -> str:
    mutant = string(mark.get("mutant"))
    of = " ".join(filter(None, [string(mark.get("system")), mutant]))
    return (
        f"{string(mark.get('anomaly'))} ({string(mark.get('checker'))}, {of}, "
        f"{string(mark.get('workload'))})"
    )


def _compare_failures(name: str, now: Showed, then: Showed, found: Comparison) -> None:
    for failure, count in now.failures.items():
        before = then.failures.get(failure, 0)
        share = f"in {count} of {now.runs} runs"
        if not before:
            found.new.append(f"{name}: {failure} {share}")
        elif chance_of_more(count, now.runs, before, then.runs) < CHANCE_MAX:
            found.more_often.append(
                f"{name}: {failure} {share}, then in {before} of {then.runs}"
            )
    found.gone.extend(
        f"{name}: {failure}, then in {before} of {then.runs} runs"
        for failure, before in then.failures.items()
        if failure not in now.failures
    )


def _compare_speed(name: str, now: Showed, then: Showed, found: Comparison) -> None:
    if now.rates and then.rates and max(now.rates) < SLOWER * min(then.rates):
        found.slower.append(
            f"{name}: {max(now.rates):,.0f} operations a second at best, then "
            f"{min(then.rates):,.0f} at worst"
        )
    best = min(now.latencies_ms, default=0.0)
    worst = max(then.latencies_ms, default=0.0)
    if best and worst and best * SLOWER > worst:
        found.slower.append(
            f"{name}: median latency {best:.1f} ms at best, then {worst:.1f} at worst"
        )


def chance_of_more(hits: int, runs: int, hits_then: int, runs_then: int) -> float:
    """The chance of so many hits or more, if both nights have the same rate.

    Fisher's exact test, one-sided: all hits are dealt out to the runs of both nights.
    """
    total, every = runs + runs_then, hits + hits_then
    ways = math.comb(total, every)
    return (
        sum(
            math.comb(runs, k) * math.comb(runs_then, every - k)
            for k in range(hits, min(runs, every) + 1)
            if every - k <= runs_then
        )
        / ways
    )
