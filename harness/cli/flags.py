"""Flags that several commands have, and the parsing of their texts.

Numbers have a kind with bounds (`harness.options`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.errors import UsageError
from harness.options import RUN_NUMBERS, Duration, Kind, Number, Whole, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COUNT = Whole(1, 1_000_000)
SECONDS = Number(0.001, 1e9)
BUDGET = Duration(0.001, 604_800.0)
MEGABYTES = Whole(1, 1 << 30)
JOBS = Whole(1, 1000)


class Bounded(click.ParamType):  # type: ignore[type-arg]  # generic in new releases only
    """The click type of a flag whose value has a kind of `harness.options`."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.name = "integer" if isinstance(kind, Whole) else "float"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """The value of a text; a default is a value already."""
        if not isinstance(value, str):
            return value
        try:
            return self.kind.parse(value)
        except ValueError:
            self.fail(f"{shown(value)}: it takes {self.kind.told}", param, ctx)


def number(
    flag: str, kind: Kind | None = None, **how: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A click option for a number; `kind` may be left out for numbers of a run."""
    return click.option(flag, type=Bounded(kind or RUN_NUMBERS[flag][1]), **how)


@dataclass(frozen=True)
class Place:
    """Where results go.

    Attributes:
        path: A folder of this machine, which is shared with others if `store` says so.
        store: Where workers of a cluster write run folders, as a URL: that folder
            (file:), or a store that fsspec knows; empty if they send them.
    """

    path: Path
    store: str = ""


class PlaceType(click.Path):
    """The click type of a folder, or the URL of one or of a store."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """The place that a text names; a default is a place already."""
        if not isinstance(value, str):
            return value
        scheme, colon, path = value.partition("://")
        if not colon:
            return Place(Path(value))
        if scheme == "file":
            if not path.startswith("/"):
                self.fail(f"{value!r}: write file:// and an absolute path", param, ctx)
            return Place(Path(path), value)
        return Place(Path("results"), value)


PLACE = click.option("--results", type=PlaceType(), default="results", help=(
    "Where run folders go; with --executor dask://... also a URL: file:///DIR is a "
    "folder that all machines share, and others are of fsspec.  [default: results]"
))  # fmt: skip
RESULTS = click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Where run folders go.",
)
EXECUTOR = click.option("--executor", default="local", metavar="WHERE", help=(
    "Where runs are carried out: local, or dask://HOST:PORT, a cluster's scheduler."
))  # fmt: skip
AS_JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, no progress."
)


def key_values(flag: str, texts: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE` texts as a mapping.

    Raises:
        UsageError: A text is not of that form, or a key comes twice with different
            values.
    """
    out: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{flag} {text!r}: write it as KEY=VALUE")
        if out.get(key, value) != value:
            raise UsageError(f"{flag} gives {key} twice: {out[key]} and {value}")
        out[key] = value
    return out


def comma_list(texts: Sequence[str]) -> list[str]:
    """The words of a flag that was given as `a,b`, or several times."""
    return [word for text in texts for word in text.split(",") if word]


def fault_words(texts: Sequence[str]) -> list[str]:
    """The words of `--nemesis`. Raises UsageError if it is given and names nothing."""
    words = comma_list(texts)
    if texts and not words:
        raise UsageError("--nemesis names no fault; for a run without any: none")
    return words
