"""How many seeds a sweep runs: a few every day, four hundred times as many at night.

Both are in proportion to Hypothesis's examples (`conftest.py`).
"""

from __future__ import annotations

import os

from hypothesis import settings

EVERYDAY = 50
"""Examples of a property in the everyday profile."""


def seeds(everyday: int) -> range:
    """The seeds to run: those of SWEEP_SEEDS, else as many as the profile asks for."""
    count = everyday * settings().max_examples // EVERYDAY
    first, _, last = os.environ.get("SWEEP_SEEDS", f"0:{count}").partition(":")
    return range(int(first), int(last))
