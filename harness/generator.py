"""Generators: what clients and the nemesis do next, composable and seeded."""

from __future__ import annotations

from typing import Protocol


class Generator(Protocol):
    """Placeholder of the contract until generators land."""
