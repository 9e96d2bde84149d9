"""The run in a screenful of plain text, for the terminal.

All text is made visible first (`harness.visible`): a node's log line must not be able
to send escape sequences to the reader's terminal.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

from harness.report import figures, glossary, lastwords, sentences, sketch
from harness.report.folder import SHRUNK, load
from harness.report.story import Story, proof_of, struck_nodes, tell
from harness.report.witness import as_text
from harness.run.records import WHOLE
from harness.visible import visible, visible_line

if TYPE_CHECKING:
    from pathlib import Path

    from harness.report.sketch import Marks
    from harness.report.story import FaultKind
    from harness.report.witness import Witness

WIDTH = 88
ABOUT_WIDTH = 10
LOG_LINES_MAX = 8
FOUND_CHARS_MAX = 400
WARNINGS = ("kept-down", "uncaged")
"""Kinds of notes that are always shown, as a verdict might mislead without them."""

_STYLES = {
    "valid": "1;32",
    "invalid": "1;31",
    "unknown": "1;33",
    "unjudged": "1;33",
    "harness": "1;35",
    "bold": "1",
    "dim": "2",
    "warn": "33",
}
_RESET = "\x1b[0m"
_SEQUENCES = {_RESET, *(f"\x1b[{code}m" for code in _STYLES.values())}
_SPLIT = re.compile(f"({'|'.join(map(re.escape, sorted(_SEQUENCES)))})")
_MARKS = {"valid": "+", "invalid": "x", "unknown": "?", "unjudged": "?", "harness": "!"}


class _Paint:
    """Wraps text in ANSI styles, or leaves it alone."""

    def __init__(self, *, colour: bool) -> None:
        self.colour = colour

    def __call__(self, style: str, text: str) -> str:
        if not self.colour:
            return text
        return f"\x1b[{_STYLES[style]}m{visible(text)}{_RESET}"


def summary(run_dir: Path, *, colour: bool = False, boxes: bool = True) -> str:
    """The run folder `run_dir` in words; ends with a newline.

    Args:
        run_dir: The run folder.
        colour: Whether the reader's terminal shows colours.
        boxes: Whether it has characters to draw lines with.
    """
    story = tell(load(run_dir))
    paint = _Paint(colour=colour)
    marks = sketch.BOXES if boxes else sketch.ASCII
    parts = [
        _verdict(story, paint),
        _facts(story),
        _remarks(story, paint),
        _faults(story, paint),
        _anomaly(story, paint, marks),
        _last_words(story, paint),
        _problems(story, paint),
        _links(story, paint),
    ]
    text = "\n".join(part for part in parts if part)
    if colour:  # a second wall: parts have been made visible already
        parts = _SPLIT.split(text)
        text = "".join(p if p in _SEQUENCES else visible(p) for p in parts)
    return text if boxes else text.replace("\N{RIGHTWARDS ARROW}", "->")


def finding(run_dir: Path) -> str:
    """The first anomaly of the run folder `run_dir`, or why there is no verdict.

    The first line begins with the anomaly's name, or else with the verdict. A test that
    fails says no more than this of a run; ends with a newline.
    """
    story = tell(load(run_dir))
    name = story.anomalies[0].name if story.anomalies else story.state
    why = textwrap.fill(f"{name}: {story.why}", WIDTH)
    witness = ""
    if story.state == "invalid":
        witness = _anomaly(story, _Paint(colour=False), sketch.BOXES)
    return "\n".join(part for part in (f"{why}\n", witness) if part)


def _verdict(story: Story, paint: _Paint) -> str:
    mark = _MARKS[story.state]
    head = paint(story.state, f"[{mark}] {story.headline.upper()}")
    if story.as_expected is True:
        head += paint("dim", f"  (as expected: {story.expected})")
    elif story.as_expected is False:
        head += paint("invalid", f"  (expected: {story.expected})")
    lines = [_sentence(*sentence) for sentence in sentences.told(story)]
    return "\n".join([f"{head}  {paint('bold', story.title)}", *lines])


def _sentence(about: str, text: str) -> str:
    """A sentence beside the word that stands before it, or alone."""
    first = f"    {about:<{ABOUT_WIDTH}}"
    indent = " " * len(first)
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=indent)


def _facts(story: Story) -> str:
    outcomes = story.folder.outcomes
    ops = ", ".join(
        f"{figures.count(outcomes[kind])} {kind}" for kind in ("ok", "fail", "info")
    )
    total = figures.plural(sum(outcomes.values()), "operation")
    seed = f", seed {story.seed}" if story.seed else ""
    ended = story.folder.run.get("ended")
    how = f" ({figures.plain(ended, 40)})" if ended not in {*WHOLE, None} else ""
    early = f"    Convicted {figures.plain(story.convicted, 80)}\n" * bool(
        story.convicted
    )
    doubt = f"    In doubt: {figures.plain(story.in_doubt, 80)}\n" * bool(
        story.in_doubt
    )
    return f"    {total} in {story.seconds:.1f} s{how}: {ops}{seed}\n{early}{doubt}"


def _remarks(story: Story, paint: _Paint) -> str:
    """The remarks, and the troubles of clients, if the story has them."""
    lines = [paint("warn", _fill(f"! {one}", "  ")) for one in story.remarks]
    if story.troubles:
        lines += ["What clients met", *(_fill(one) for one in story.troubles)]
    return "\n".join(lines) + "\n" if lines else ""


def _faults(story: Story, paint: _Paint) -> str:
    lines = [_fault_line(kind, paint) for kind in story.fault_kinds]
    if story.not_reached:
        lines.append(_fill(f"not reached before the run ended: {story.not_reached}"))
    if not lines:
        return "Faults: none\n"
    return "Faults\n" + "\n".join(lines) + "\n"


def _fault_line(kind: FaultKind, paint: _Paint) -> str:
    total = figures.duration(kind.total_ns)
    head = f"    {kind.kind:<12}{len(kind.faults):>4} x  {total:>9} in all"
    proven = f"{kind.bit} bit"
    wrong = [
        f"{number} {what}"
        for number, what in (
            (kind.effects["no-effect"], "WITHOUT EFFECT"),
            (kind.effects["failed"], "FAILED"),
            (kind.effects["skipped"], "skipped"),
            (kind.effects["indeterminate"], "indeterminate"),
        )
        if number
    ]
    flags = "".join(", " + paint("warn", text) for text in wrong)
    line = f"{head}  {proven}{flags}"
    if not kind.proof:
        return line
    width = len(", ".join([f"{head}  {proven}", *wrong, kind.proof]))
    if width <= WIDTH:
        return f"{line}: {kind.proof}"
    return f"{line}:\n{_fill(kind.proof, ' ' * 8)}"


def _anomaly(story: Story, paint: _Paint, marks: Marks) -> str:
    if not story.anomalies:
        return ""
    first = story.anomalies[0]
    key = f" on key {first.key}" if first.key else ""
    whose = ", none against what was promised" if story.state == "valid" else ""
    found = figures.clip(str(story.found), FOUND_CHARS_MAX)
    lines = [f"Anomalies{whose}: {found}", paint("bold", f"  {first.name}{key}")]
    drawn = sketch.sketch(first, marks)
    lines += [f"    {line}" for line in drawn]
    lines += [
        _fill(line, "      ") if line[:1].isdigit() else f"    {line}"
        for line in as_text(first, sketch.letter if drawn else None)
    ]
    if not first.blamed and first.explanation and first.explanation not in story.why:
        lines.append(_fill(figures.clip(first.explanation, FOUND_CHARS_MAX), "    "))
    if meaning := glossary.told(first.name):
        lines.append(_fill(f"{first.name}: {meaning}", "    "))
    if first.also:
        lines.append(_fill(f"also {', '.join(name for name, _ in first.also)}"))
    lines += _around(first)
    return "\n".join(lines) + "\n"


def _around(witness: Witness) -> list[str]:
    """The faults in force while the anomaly's operations ran."""
    return [
        _fill(
            f"during {figures.clip(visible(fault.title), 120)} "
            f"({struck_nodes(fault)}, {fault.effect}, {proof_of([fault])})",
            "      ",
        )
        for fault in witness.faults[:4]
    ]


def _last_words(story: Story, paint: _Paint) -> str:
    """The last lines of a node's log, if no operation succeeded."""
    lines: list[str] = []
    for log, said in lastwords.last_words(story.folder)[:1]:
        lines.append(paint("bold", f"The end of the log of {visible(log.node)}"))
        last = lastwords.last_lines(said, LOG_LINES_MAX).splitlines()
        lines += [f"    {figures.clip(visible_line(line), WIDTH)}" for line in last]
    return "\n".join(lines) + "\n" if lines else ""


def _problems(story: Story, paint: _Paint) -> str:
    crashed = len(story.folder.errors)
    said = list(story.folder.problems)
    said += [f"{n.title}." for n in story.folder.notes if n.kind in WARNINGS]
    if crashed:
        said.append(f"{figures.plural(crashed, 'traceback')} in errors.jsonl.")
    if not said:
        return ""
    return "\n".join(paint("warn", f"  ! {line}") for line in said) + "\n"


def _links(story: Story, paint: _Paint) -> str:
    lines = []
    report = story.folder.path / "report.html"
    if report.exists():
        lines.append(f"Report   {report}")
    if (story.folder.path / SHRUNK).is_file():
        lines.append(f"Smaller  {story.folder.path / SHRUNK}")
    if story.repro:
        lines.append(f"Repeat   {paint('bold', story.repro)}")
    return "".join(line + "\n" for line in lines)


def _fill(text: str, indent: str = "    ") -> str:
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
