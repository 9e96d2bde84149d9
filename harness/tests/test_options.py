"""Every option of every plug-in, and every number of the command line, says what it
takes, and takes nothing else.

What a kind allows is stated here once more, in other words than harness/options.py, so
that neither can be wrong alone.
"""

from __future__ import annotations

import re
import sys
import time
import warnings
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import click
import pytest

from harness import registry
from harness.cli import cli
from harness.cli.flags import Bounded
from harness.errors import UsageError
from harness.options import SHARE
from harness.registry import Option, Plugin, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

WRONG = (
    *(
        "",
        " ",
        "   ",
        "\t",
        "\n",
        "\0",
        "a\0b",
        "5\n",
        " 5",
        "5 ",
        "\x1b[31m",
        "\udcff",
    ),
    *("nan", "NaN", "inf", "-inf", "Infinity", "1e999", "-1e999", "1e-999", "-0.5"),
    *("-1", "-0", "+1", "00", "1.5", "2.", ".5", "1,5", "1e", "e1", "1e2", "--1"),
    *("99999999999999999999", "9" * 300, "-" + "9" * 30, "9" * 10_000, "1" + "0" * 50),
    *("0x10", "0b1", "1_000", "1 000", "\uff11", "\u0663", "²", "½", "Ⅷ", "一"),
    *("yes", "no", "on", "true ", "True", "TRUE", "None", "null", "snapshot", "auto"),
    *("[]", "{}", "()", "'", '"', "(", "[", "*", ",", "+", "a,,b", ",a", "a+"),
    *("../x", "/etc/passwd", "a b", "‮txt", "\u200b", "x" * 2_000, "é" * 20_000),
    *("n1,n1", "n1;n2", "$(id)", "%s", "{}", "a=b", "[" * 500, "(?" * 30),
)
"""What nobody should be let get away with, but where it is truly allowed."""

EASY = {
    # Checker and option -> those of WRONG that its own language allows.
    ("linearizable", "model"): set(),
    ("list-append", "consistency"): {""},
    ("rw-register", "consistency"): {""},
    ("list_append", "consistency"): {""},
    ("list-append", "anomalies"): {""},
    ("rw-register", "anomalies"): {""},
}


def is_line(text: str, chars_max: int) -> bool:
    return len(text) <= chars_max and all(c.isprintable() for c in text)


def is_regular_expression(text: str) -> bool:
    with warnings.catch_warnings(action="ignore"):
        try:
            re.compile(text)
        except re.error:
            return False
    return True


def allows(plugin: str, option: Option, text: str) -> bool | None:
    """Whether the option's kind allows `text`; None where only its own code knows."""
    kind: Any = option.kind
    if type(kind).__name__ == "OrNone":
        if text == "":
            return True
        kind = kind.kind
    if type(kind).__name__ == "Availability":
        if text == "total":
            return True
        kind = SHARE
    match type(kind).__name__:
        case "Whole":
            # Servers read up to fifteen digits; theirs are never below zero.
            form = "[0-9]{1,15}" if is_theirs(kind) else "0|-?[1-9][0-9]{0,17}"
            is_plain = re.fullmatch(form, text) is not None
            return is_plain and kind.least <= int(text) <= kind.most
        case "Number":
            signs = "0123456789.e-" if is_theirs(kind) else "0123456789.eE-"
            if set(text) - set(signs) or not text[:1] or len(text) > 45:
                return False
            if is_theirs(kind) and not text[0].isdigit():
                return False
            try:
                return Decimal(kind.least) <= Decimal(text) <= Decimal(kind.most)
            except InvalidOperation:
                return False
        case "Duration":
            plain = text[:-1] if text[-1:] in {"s", "m", "h"} else text
            if set(plain) - set("0123456789.eE-") or not plain or len(plain) > 45:
                return False
            factor = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 1)
            try:
                seconds = Decimal(plain) * factor
            except InvalidOperation:
                return False
            return Decimal(kind.least_s) <= seconds <= Decimal(kind.most_s)
        case "OneOf" | "Flag":
            return text in kind.choices
        case "Words":
            return set(re.split("[+,]", text)) <= set(kind.known)
        case "Text":
            return is_line(text, kind.chars_max)
        case "Names":
            names = [name.strip(" ") for name in text.split(",")]
            return text == "" or (
                is_line(text, kind.chars_max)
                and all(re.fullmatch(kind.pattern, name) for name in names)
            )
        case "ServerNames":
            names = text.split(",")
            return text == "" or all(
                re.fullmatch("[A-Za-z0-9._-]{1,100}", name) for name in names
            )
        case _:
            pass
    if (plugin, option.name) in EASY:
        return text in EASY[plugin, option.name]
    if option.name == "pattern":
        return is_line(text, 1000) and is_regular_expression(text)
    if not is_line(text, 10_000):
        return False
    return None


def is_theirs(kind: Any) -> bool:
    return type(kind).__module__.startswith("reference_impls")


def plug_ins() -> Iterator[tuple[str, Plugin[Any]]]:
    for kind in registry.PACKAGES:
        for plugin in registry.plugins(kind).values():
            yield kind, plugin


PLUGINS = [pytest.param(*p, id=f"{p[0]}-{p[1].name}") for p in plug_ins()]


def configure(kind: str, plugin: Plugin[Any], given: dict[str, str]) -> Any:
    """The plug-in itself, with all that a run would make of it before it starts."""
    if kind == "system":
        texts = {"attach": "127.0.0.1:7000"}
        usual = sys.executable if plugin.adapter else ""
        return plugin.factory(texts.get(plugin.name, usual), given)
    made = plugin.factory(given)
    if kind == "workload":
        made.checkers()
        made.generator(5)
        made.final_generator(5)
    return made


def refuse_to_miss(told: list[str], line: str, case: str) -> None:
    """A refusal is one line, and says this much."""
    assert line.isprintable(), case
    assert len(line) < 2_000, case
    for part in told:
        assert part in line, f"{case}: {line}"


@pytest.mark.parametrize(("kind", "plugin"), PLUGINS)
def test_every_option_takes_its_default_and_its_choices(
    kind: str, plugin: Plugin[Any]
) -> None:
    settings(plugin.name, plugin.options, {})
    for option in plugin.options:
        assert option.kind.told
        for text in getattr(option.kind, "choices", ()):
            settings(plugin.name, plugin.options, {option.name: text})


@pytest.mark.parametrize(("kind", "plugin"), PLUGINS)
def test_an_option_takes_what_its_kind_allows_and_refuses_the_rest_in_one_line(
    kind: str, plugin: Plugin[Any]
) -> None:
    assert len(WRONG) >= 20
    for option in plugin.options:
        for text in WRONG:
            begun_s = time.process_time()
            allowed = allows(plugin.name, option, text)
            case = f"{plugin.name}: {option.name}={text[:60]!r}"
            try:
                settings(plugin.name, plugin.options, {option.name: text})
                taken = True
            except UsageError:
                taken = False
            assert allowed in {taken, None}, f"{case}: taken {taken}"
            try:
                configure(kind, plugin, {option.name: text})
            except UsageError as refusal:
                told = [] if taken else [plugin.name, option.name, option.kind.told]
                if not taken and 1 < len(text) < 60 and text.isprintable():
                    told.append(text.strip())
                refuse_to_miss(told, str(refusal), case)
            else:
                assert taken, case
            assert time.process_time() - begun_s < 1, case


def test_options_that_make_no_sense_together_are_refused() -> None:
    for kind, name, given in (
        ("workload", "bank", {"transfer_max": "101"}),
        ("workload", "commit", {"keys": "2"}),
        ("nemesis", "clock", {"modes": "strobe", "clocks": "mono"}),
        ("checker", "linearizable", {"model": "mutex", "initial": "7"}),
        ("checker", "linearizable", {"model": "counter", "initial": "1.5"}),
    ):
        with pytest.raises(UsageError) as refused:
            registry.find(kind, name).factory(given)
        assert "\n" not in str(refused.value)
        for option in given:
            assert option in str(refused.value)


@pytest.mark.parametrize("text", ["strict-serializable", "Snapshot-Isolation,PL-1"])
def test_a_workload_takes_the_models_that_its_checker_takes(text: str) -> None:
    registry.find("workload", "list_append").factory({"consistency": text}).checkers()


def flags() -> Iterator[tuple[str, click.Option]]:
    for name, command in cli.commands.items():
        for param in command.params:
            if isinstance(param, click.Option):
                yield name, param


def test_every_number_of_the_command_line_has_bounds() -> None:
    unbounded = (click.types.IntParamType, click.types.FloatParamType)
    for name, flag in flags():
        assert not isinstance(flag.type, unbounded), f"{name} {flag.opts}"


def test_a_number_of_the_command_line_is_refused_with_what_it_takes() -> None:
    bounded = [(n, f) for n, f in flags() if isinstance(f.type, Bounded)]
    assert len(bounded) >= 10
    for name, flag in bounded:
        assert isinstance(flag.type, Bounded)
        option = Option(flag.opts[0], "", "", flag.type.kind)
        for text in WRONG:
            case = f"{name} {flag.opts} {text[:60]!r}"
            try:
                flag.type.convert(text, flag, None)
                taken = True
            except click.BadParameter as refusal:
                taken = False
                told = [*flag.opts, flag.type.kind.told]
                refuse_to_miss(told, refusal.format_message(), case)
            assert taken == allows(name, option, text), case
