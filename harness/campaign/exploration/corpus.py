"""The corpus: experiments that came to something, from which others are made.

Each has an energy, which is what it was worth by the second, and less each time it is
chosen (`TIRING`). Chances are in proportion to energies. There is room for the most
energetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from harness.campaign.experiment import Experiment

ENTRIES_MAX = 200
TIRING = 0.8
"""What is left of an energy when its entry was chosen."""


@dataclass
class Entry:
    """An experiment, what it was worth, and how much it is hoped to lead to."""

    experiment: Experiment
    worth: float
    energy: float


class Corpus:
    """Experiments to choose from."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(self, experiment: Experiment, worth: float) -> None:
        """Take in an experiment; if there is no room, the weakest goes."""
        assert worth > 0
        self.entries.append(Entry(experiment, worth, worth))
        if len(self.entries) > ENTRIES_MAX:
            self.entries.remove(min(self.entries, key=lambda entry: entry.energy))

    def choose(self, random: Random) -> Experiment:
        """One of them, which becomes less likely. The corpus must not be empty."""
        weights = [entry.energy for entry in self.entries]
        [entry] = random.choices(self.entries, weights)
        entry.energy *= TIRING
        return entry.experiment
