"""Flags of the command line whose values are of a kind (harness/options.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from harness.options import RUN_NUMBERS, Kind, Number, Whole, shown

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = Whole(1, 1_000_000)
SECONDS = Number(0.001, 1e9)
MEGABYTES = Whole(1, 1 << 30)
JOBS = Whole(1, 1000)


class Bounded(click.ParamType):  # type: ignore[type-arg]  # generic in new releases only
    """What a flag takes where that is a value of some kind."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.name = "integer" if isinstance(kind, Whole) else "float"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """The value of a text; a default is one already."""
        if not isinstance(value, str):
            return value
        try:
            return self.kind.parse(value)
        except ValueError:
            self.fail(f"{shown(value)}: it takes {self.kind.told}", param, ctx)


def number(
    flag: str, kind: Kind | None = None, **how: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A click option for a number; what kind, those of runs know themselves."""
    return click.option(flag, type=Bounded(kind or RUN_NUMBERS[flag][1]), **how)
