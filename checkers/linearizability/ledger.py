"""What has come of the keys: the verdict, the figures, the reasons, the anomalies.

One anomaly is made for each broken key, and only for those that broke first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from checkers.findings import Earliest, enumerated
from checkers.linearizability.handover import is_installed
from checkers.linearizability.specification import show
from harness.verdict import Anomaly, Verdict

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from checkers.linearizability.budget import Budget
    from checkers.linearizability.deciders import Choice
    from checkers.linearizability.explain import Explainer
    from checkers.linearizability.judge import Judged
    from harness.verdict import Limits

LISTED_MAX: Final = 10
"""Keys named in a sentence; of more, it says how many there are."""


@dataclass
class Ledger:
    """What a check has found so far.

    Attributes:
        explainer: Explains this history.
        planning: Whether somebody wants to know the plan.
        explained: Anomalies of the keys that broke first. Their rank is the position of
            the return that ends the key's shortest impossible prefix.
        valid, broken: Keys that are decided.
        undecided: Key -> how far it was shown linearizable, as a clause.
        proved: What was shown of some of these; JSON-able.
        limit: Which limit ended the check, as a clause.
        algorithms: How many keys each algorithm decided.
        configurations: How many the search explored.
        calls: How many client operations there are, failed ones included.
        plan: (algorithm, why) -> the keys that it is for.
    """

    explainer: Explainer
    planning: bool = False
    explained: Earliest[Anomaly] = field(default_factory=Earliest)
    valid: list[Hashable] = field(default_factory=list)
    broken: list[Hashable] = field(default_factory=list)
    undecided: dict[Hashable, str] = field(default_factory=dict)
    proved: list[dict[str, Any]] = field(default_factory=list)
    limit: str = ""
    algorithms: Counter[str] = field(default_factory=Counter)
    configurations: int = 0
    calls: int = 0
    plan: dict[tuple[str, str], list[Hashable]] = field(default_factory=dict)

    def empty(self) -> Ledger:
        """A ledger for other keys of the same history; see `add`."""
        return Ledger(self.explainer, self.planning)

    def take(self, judged: Iterable[Judged], budget: Budget) -> None:
        """Take note of what came of keys, and explain those that broke first."""
        broken = []
        for one in judged:
            self.note(one)
            if one.broken is not None:
                broken.append(one.broken)
        for each in sorted(broken, key=lambda each: each.broke):
            if self.explained.wants(each.broke):
                anomaly = self.explainer.explain(each, budget)
                self.explained.keep((each.broke, anomaly))

    def take_settled(self, choice: Choice, keys: Sequence[Hashable]) -> None:
        """Take note of keys that are linearizable, all for the same reason."""
        if self.planning and keys:
            self.plan.setdefault((choice.algorithm, choice.why), []).extend(keys)
        self.algorithms[choice.algorithm] += len(keys)
        self.valid += keys

    def note(self, judged: Judged) -> None:
        """Take note of what came of a key."""
        key, choice = judged.key, judged.choice
        if self.planning and choice is not None:
            self.plan.setdefault((choice.algorithm, choice.why), []).append(key)
        self.configurations += judged.configurations
        self.limit = judged.limit or self.limit
        if judged.linearizable is None:
            self.undecided[key] = judged.undecided
            if judged.proved is not None:
                self.proved.append(judged.proved.as_json(key))
            return
        assert choice is not None
        self.algorithms[choice.algorithm] += 1
        (self.valid if judged.linearizable else self.broken).append(key)

    def add(self, part: Ledger) -> None:
        """Take over what was found about other keys."""
        self.explained.keep(*part.explained.ranked)
        self.valid += part.valid
        self.broken += part.broken
        self.undecided |= part.undecided
        self.proved += part.proved
        self.limit = self.limit or part.limit
        self.algorithms += part.algorithms
        self.configurations += part.configurations
        for how, keys in part.plan.items():
            self.plan.setdefault(how, []).extend(keys)

    def __getstate__(self) -> dict[str, Any]:
        """All but the explainer, which holds the history, for another process."""
        return self.__dict__ | {"explainer": None}

    def plan_lines(self) -> list[dict[str, Any]]:
        """Which algorithm for which keys, and why; JSON-able."""
        return [
            {
                "algorithm": algorithm,
                "keys": len(keys),
                "which": name_keys(keys),
                "why": why,
            }
            for (algorithm, why), keys in self.plan.items()
        ]

    def verdict(self) -> Verdict:
        """INVALID as soon as one key is broken; a key left open is UNKNOWN."""
        if self.broken:
            return Verdict.INVALID
        return Verdict.UNKNOWN if self.undecided or self.limit else Verdict.VALID

    def stats(self) -> dict[str, Any]:
        """Figures for the report."""
        return {
            "calls": self.calls,
            "keys": len(self.valid) + len(self.broken) + len(self.undecided),
            "keys_broken": len(self.broken),
            **({"keys_explained": len(self.explained.examples)} if self.broken else {}),
            "algorithms": dict(+self.algorithms),
            "configurations": self.configurations,
            **({"proved": self.proved} if self.proved else {}),
        }

    def reason(self, limits: Limits) -> str:
        """Why keys are undecided, what was proved all the same, and what to try."""
        if not self.undecided and not self.limit:
            return ""
        parts = [self.limit or "not all keys could be decided"]
        if self.valid:
            parts.append(f"linearizable: {name_keys(self.valid)}")
        parts += [
            f"{name_keys([key])}: {clause}"
            for key, clause in list(self.undecided.items())[:LISTED_MAX]
        ]
        if len(self.undecided) > LISTED_MAX:
            parts.append(f"{len(self.undecided) - LISTED_MAX} more keys are undecided")
        if self.limit:
            parts.append(f"to decide it, try {what_to_try(limits)}")
        return "; ".join(parts)


def what_to_try(limits: Limits) -> str:
    """What may help where a search met its limits, as a choice."""
    words = []
    if limits.time_s is not None:
        words.append("a longer --time-limit")
    if limits.memory_mb is not None:
        words.append("a larger --memory-limit")
    if not is_installed():
        words.append("pip install 'splitbrain[fast]'")
    words.append("a test with fewer clients at once on a key, or no value twice")
    return enumerated(words, "or")


def name_keys(keys: list[Hashable]) -> str:
    """Keys for a sentence: "key 1", "keys 1, 2", "12 keys"."""
    if keys == [None]:
        return "the only object"
    if len(keys) > LISTED_MAX:
        return f"{len(keys)} keys"
    return f"key{'s' * (len(keys) > 1)} {', '.join(map(show, keys))}"
