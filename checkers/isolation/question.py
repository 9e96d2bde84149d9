"""What a history is asked, and the options that ask it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from checkers.isolation import models
from harness.options import Checked, OneOf
from harness.registry import Option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


@dataclass(frozen=True)
class Question:
    """What a history is asked to be free of.

    Attributes:
        asked: Consistency models that it must satisfy.
        anomalies: Anomalies that it must not have, those that the models proscribe and
            all special cases included.
        level: Which orders matter: 0 none, 1 the sessions', 2 real time.
        is_of_models: Whether only models were asked for, no anomalies. A history that
            satisfies them need not be searched for more.
    """

    asked: tuple[str, ...]
    anomalies: frozenset[str]
    level: int
    is_of_models: bool = False

    @property
    def is_about_sessions(self) -> bool:
        """Whether a model asked for is defined with sessions, or no model was asked."""
        return not self.asked or bool(models.WITH_SESSIONS.intersection(self.asked))

    @property
    def strictest(self) -> str:
        """The model asked for that implies all others asked for; empty if none does."""
        for model in self.asked:
            if models.weaker_models(model).issuperset(self.asked):
                return model
        return ""

    @property
    def counts_sessions(self) -> bool:
        """Whether session order matters to a model asked for, or no model was asked."""
        return self.level > 0 or self.is_about_sessions

    def with_linearizable_keys(self) -> Question:
        """This question, with each key by itself required to be linearizable."""
        realtime = {
            name.removesuffix("-process") + "-realtime"
            for name in self.anomalies
            if name.removesuffix("-process") + "-realtime" in models.ANOMALIES
        }
        wanted = self.anomalies | models.anomalies_implying(realtime)
        return Question(self.asked, wanted, self.level)

    @staticmethod
    def parse(given: Mapping[str, Any]) -> Question:
        """From the values of the options `consistency` and `anomalies`."""
        asked: tuple[str, ...] = given["consistency"]
        anomalies = tuple(name for name in given["anomalies"] if name != ALL)
        if not asked and not anomalies:
            asked = (models.DEFAULT,)
        wanted = models.anomalies_implying(anomalies)
        by_definition = [
            a for model in asked for a in models.DEFINITIONS.get(model, ())
        ]
        wanted |= models.anomalies_implying(by_definition)
        wanted = wanted.union(*map(models.proscribed, asked))
        is_of_models = not given["anomalies"]
        return Question(asked, wanted, _level_of(wanted), is_of_models)

    def weakest_broken(self, found: Iterable[str]) -> tuple[str, ...]:
        """The weakest models that what was found breaks, by name."""
        names = frozenset(found)
        if not self.is_about_sessions:
            # The axioms were tried with sessions, though nobody asked for the models
            # that have them by definition. Cycles tell which level they need.
            others = names - {"fractured-read", "causal-violation"}
            if self.level:
                others -= {"non-monotonic-read"}
            names = others if others & self.anomalies else names
        broken = models.weakest_broken(names)
        by_definition = {
            model
            for model in self.asked
            if models.anomalies_implying(models.DEFINITIONS.get(model, ())) & names
            and not models.weaker_models(model) & set(broken)
        }
        return tuple(sorted({*broken, *by_definition}))


def _level_of(anomalies: Iterable[str]) -> int:
    """The highest level of the cycles among these."""
    names = [name for name in anomalies if name.startswith("G")]
    return max(
        (
            level
            for level, suffix in enumerate(models.LEVELS)
            if any(name.endswith(suffix) for name in names)
        ),
        default=0,
    )


ALL = "all"
"""A name for all anomalies: look for those too that the model allows."""


def anomaly_called(name: str) -> str:
    """The anomaly of that name, or ALL.

    Raises:
        UsageError: No anomaly has that name; the error names the nearest.
    """
    return ALL if name.strip().lower() == ALL else models.anomaly_called(name)


def names_from(known_as: Callable[[str], str], text: str) -> tuple[str, ...]:
    """The proper names of the models or anomalies in `text`, which has commas.

    Raises:
        UsageError: A name isn't known; the error names the nearest.
    """
    return tuple(map(known_as, text.split(","))) if text else ()


MODELS = Checked(
    f"consistency models with commas, or nothing; known: {', '.join(models.MODELS)}",
    partial(names_from, models.model_called),
)
"""Values of `consistency`: the models' proper names."""

OWN_WRITES = Option(
    "own-writes",
    "visible",
    "whether a transaction reads what it wrote, or only what was there when it began",
    OneOf("visible", "invisible"),
)

OPTIONS = (
    Option(
        "consistency",
        "",
        "the model that must hold; strict-serializable unless anomalies are given",
        MODELS,
    ),
    Option(
        "anomalies",
        "",
        "anomalies that must not occur, with commas, such as G1,lost-update; all: look "
        "for those too that the model allows",
        Checked(
            "names of anomalies with commas, all, or nothing",
            partial(names_from, anomaly_called),
        ),
    ),
)
