"""The table of a suite: an HTML index, JUnit XML and Markdown, from one list of rows.

A row is a mapping with the keys

    name system workload nemesis seed     what was run
    expected verdict as_expected          verdict: a verdict, "error" or "skipped"
    anomalies found                       their names; how many there are, in a line
    why sentence                          what it lacks; why its anomaly is one
    error                                 how the harness failed
    skipped                               why the run has no outcome, if so
    ops seconds repro                     ops: a number, or a count per outcome
    convicted_s                           when it was known to be invalid, if early
    report or run                         the report, or the folder that holds it

of which all but `name` may be missing. Without `as_expected`, `verdict` is compared
with `expected`, which is "valid" by default. A relative `report` is relative to the
suite's folder, a relative `run` to the working directory. A `run` that is a URL is in a
store, in which the suite's folder has the same place as in a folder of results.

Beside the rows, there is the activation coverage of all runs: a mapping with `sentence`
and `faults`, a list of mappings with the keys

    kind knob                             knob: None for the whole kind
    asked applied bit                     how many faults
    runs bit_in_runs                      how many runs had the kind; in how many it bit
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from harness.report import figures
from harness.report.folder import mapping, number, sequence, string, strings, whole
from harness.visible import visible, visible_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

NO_COVERAGE: Mapping[str, Any] = {}

SUMMARY_BYTES_MAX = 900_000
"""GitHub drops a job's summary of more than a MiB as a whole."""
MESSAGE_CHARS_MAX = 600
_COVERAGE_LINES_MAX = 300
_TOLD_MAX = 100

_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>|#&~]")
"""Characters with a meaning in GitHub's Markdown, within a line."""
_NOT_XML = re.compile("[\ufffe\uffff]")


@dataclass(frozen=True)
class Row:
    """One run of a suite, to be shown; every text is visible and in one line."""

    name: str
    system: str
    workload: str
    nemesis: str
    seed: str
    expected: str
    verdict: str
    anomalies: str
    as_expected: bool
    ops: str
    seconds: float
    convicted: str
    why: str
    error: str
    skipped: str
    repro: str
    report: str
    unknown_is: str = "failure"

    @property
    def absent(self) -> bool:
        """Whether it was never run, as this machine lacks a program for it."""
        return self.verdict == "skipped"

    @property
    def is_off(self) -> bool:
        """Whether it had an outcome, and another one than expected."""
        return not self.as_expected and not self.skipped

    @property
    def state(self) -> str:
        """The verdict as one of the states of the style sheet."""
        known = {"valid", "invalid", "unknown", "harness"}
        return self.verdict if self.verdict in known else "unknown"


@dataclass(frozen=True)
class Covered:
    """How often one kind of fault, or a knob of it, bit; to be shown."""

    kind: str
    knob: str
    asked: int
    applied: int
    bit: int
    runs: int
    bit_in_runs: int

    @property
    def name(self) -> str:
        """Kind and knob."""
        return f"{self.kind} {self.knob}".rstrip()

    @property
    def share(self) -> str:
        """In how many runs it bit: "8 of 11, 73 %"."""
        part = self.bit_in_runs / max(1, self.runs)
        return f"{self.bit_in_runs} of {self.runs}, {part:.0%}"


def build_index(
    suite_dir: Path,
    rows: Sequence[Mapping[str, Any]],
    coverage: Mapping[str, Any] = NO_COVERAGE,
    remarks: Sequence[str] = (),
) -> Path:
    """Write `suite_dir`/index.html, a line for each row; returns its path.

    `remarks` are sentences that stand above the rows.
    """
    from harness.report.page import render, write_page

    told = [read_row(row, suite_dir) for row in rows]
    page = render(
        "index.html",
        rows=told,
        good=sum(row.as_expected for row in told),
        off=sum(row.is_off for row in told),
        cut_off=sum(bool(row.skipped) and not row.absent for row in told),
        absent=sum(row.absent for row in told),
        state=_suite_state(told),
        seconds=sum(row.seconds for row in told),
        covered=read_coverage(coverage),
        covered_told=string(coverage.get("sentence")),
        remarks=[visible_line(remark) for remark in remarks],
    )
    suite_dir.mkdir(parents=True, exist_ok=True)
    return write_page(suite_dir / "index.html", page)


def read_row(row: Mapping[str, Any], suite_dir: Path) -> Row:
    """The row of a mapping, whose values may be of any type."""
    error = figures.plain(row.get("error") or "", 8000)
    skipped = string(row.get("skipped"))
    verdict = string(row.get("verdict"), "error" if error else "unknown")
    if verdict == "error":
        verdict = "harness"
    expected = string(row.get("expected")) or "valid"
    said = row.get("as_expected")
    return Row(
        name=string(row.get("name"), "unnamed"),
        system=string(row.get("system")),
        workload=string(row.get("workload")),
        nemesis=_listed(row.get("nemesis")),
        seed=string(row.get("seed")),
        expected=expected,
        verdict=verdict,
        anomalies=string(row.get("found")) or _listed(row.get("anomalies")),
        as_expected=said if isinstance(said, bool) else verdict == expected,
        ops=_operations(row.get("ops")),
        seconds=number(row.get("seconds")),
        convicted=_convicted(row.get("convicted_s")),
        why=string(row.get("why"))
        or skipped
        or (string(row.get("sentence")) if said is False else "")
        or (error.strip().splitlines() or [""])[-1],
        error=error,
        skipped=skipped,
        repro=string(row.get("repro")),
        report=_report(row, suite_dir),
    )


def read_coverage(coverage: Mapping[str, Any]) -> list[Covered]:
    """The lines of a mapping of coverage, whose values may be of any type."""
    return [
        Covered(
            string(line.get("kind")),
            string(line.get("knob")),
            *(whole(line.get(name)) for name in ("asked", "applied", "bit")),
            *(whole(line.get(name)) for name in ("runs", "bit_in_runs")),
        )
        for line in map(mapping, sequence(coverage.get("faults")))
    ]


def _listed(words: Any) -> str:
    if isinstance(words, list | tuple):
        return ", ".join(strings(list(words)))
    return string(words).replace(",", ", ").replace(",  ", ", ")


def _operations(ops: Any) -> str:
    """How many operations there were; counts per outcome are added up."""
    if isinstance(ops, dict):
        ops = sum(number(amount) for amount in ops.values())
    return figures.count(number(ops)) if number(ops) else ""


def _convicted(after_s: Any) -> str:
    """When a run was known to be invalid; "" if it was not before its end."""
    is_known = isinstance(after_s, int | float)
    return f"after {number(after_s):.1f} s" if is_known else ""


def _suite_state(rows: Sequence[Row]) -> str:
    rows = [row for row in rows if not row.absent]
    if any(row.verdict == "harness" for row in rows):
        return "harness"
    if any(row.is_off for row in rows):
        return "invalid"
    return "unknown" if not rows or any(row.skipped for row in rows) else "valid"


def _report(row: Mapping[str, Any], suite_dir: Path) -> str:
    """The path from the suite to a report, with forward slashes; "" for none."""
    if row.get("report"):
        path = suite_dir / string(row["report"])
    elif "://" in string(row.get("run")):  # in a store, where the index goes, too
        return "/".join(["../..", *string(row["run"]).split("/")[-2:], "report.html"])
    elif row.get("run"):
        path = Path(string(row["run"])) / "report.html"
    else:
        return ""
    return Path(os.path.relpath(path, suite_dir)).as_posix()


# JUnit


def write_junit(
    rows: Sequence[Mapping[str, Any]],
    path: Path,
    coverage: Mapping[str, Any] = NO_COVERAGE,
    *,
    unknown: str = "skipped",
) -> None:
    """Write `rows` as JUnit XML to `path`, and the coverage as the suite's properties.

    Each seed of a row is a case. One with the expected verdict passes; one that was
    interrupted or not run is `skipped`, as is one that did not decide its row; a
    failure of the harness is an `error`; what `unknown` says an unknown verdict is; any
    other run is a `failure`.
    """
    told = [
        replace(row, unknown_is=unknown)
        for each in rows
        for row in _cases(each, path.parent)
    ]
    counts = Counter(_junit_outcome(row) for row in told)
    suite = ElementTree.Element(
        "testsuite",
        name="splitbrain",
        tests=str(len(told)),
        failures=str(counts["failure"]),
        errors=str(counts["error"]),
        skipped=str(counts["skipped"]),
        time=f"{sum(row.seconds for row in told):.3f}",
    )
    if covered := read_coverage(coverage):
        properties = ElementTree.SubElement(suite, "properties")
        facts = [(f"bit in runs: {line.name}", line.share) for line in covered]
        for name, text in [("faults", string(coverage.get("sentence"))), *facts]:
            fact = {"name": _xml(name), "value": _xml(text)}
            ElementTree.SubElement(properties, "property", fact)
    for row in told:
        suite.append(_test_case(row))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _junit_outcome(row: Row) -> str:
    """The element that tells JUnit how a row came out; "" for a pass."""
    if row.verdict == "harness":
        return "error"
    if row.skipped:
        return "skipped"
    if row.verdict == "unknown" and row.is_off:
        return row.unknown_is
    return "failure" if row.is_off else ""


def _cases(row: Mapping[str, Any], folder: Path) -> list[Row]:
    """The runs of a row, a seed each; the row itself if it had none."""
    whole = read_row(row, folder)
    seeds = [mapping(each) for each in sequence(row.get("seeds"))]
    cases = []
    for told in seeds:
        name = f"{whole.name} [seed {string(told.get('seed'))}]"
        one = read_row({**row, "why": "", **told, "name": name}, folder)
        if told.get("decides") is not True and one.is_off and one.verdict != "harness":
            # Another seed did what was asked for, or this one would have decided.
            skipped = f"{one.verdict}: another seed decided the row"
            one = replace(one, skipped=skipped)
        cases.append(replace(one, why=one.why or string(told.get("reason"))))
    if cases and whole.skipped:
        cases[-1] = replace(cases[-1], skipped=whole.skipped, why=whole.skipped)
    return cases or [whole]


def _test_case(row: Row) -> ElementTree.Element:
    classname = ".".join(filter(None, ("splitbrain", row.system, row.workload)))
    case = ElementTree.Element(
        "testcase",
        name=_xml(row.name),
        classname=_xml(classname),
        time=f"{row.seconds:.3f}",
    )
    message = {
        "skipped": row.skipped or f"{row.verdict}: {row.why}",
        "error": f"the harness failed: {row.why}",
        "failure": _failure_in_words(row),
    }
    if outcome := _junit_outcome(row):
        told = ElementTree.SubElement(case, outcome, message=_xml(message[outcome]))
        lines = [row.error or row.why, row.repro and f"repeat: {row.repro}"]
        told.text = _xml("\n".join(filter(None, lines)))
    lines = [
        f"{name}: {text}"
        for name, text in (
            ("faults", row.nemesis),
            ("verdict", row.verdict),
            ("anomalies", row.anomalies),
            ("operations", row.ops),
            ("convicted", row.convicted),
            ("why", row.why),
            ("report", row.report),
            ("repeat", row.repro),
        )
        if text
    ]
    out = ElementTree.SubElement(case, "system-out")
    out.text = _xml("\n".join(lines))
    return case


def _failure_in_words(row: Row) -> str:
    """Verdict, anomaly, sentence and command, as lists of failures show no more."""
    parts = [f"{row.verdict}, expected {row.expected}", row.anomalies]
    told = ": ".join(filter(None, [*parts, figures.clip(row.why, MESSAGE_CHARS_MAX)]))
    return f"{told} (repeat: {row.repro})" if row.repro else told


def _xml(text: str) -> str:
    """Visible `text`, also without the two other characters that XML 1.0 can't hold."""
    return _NOT_XML.sub("\ufffd", visible(text))


# Markdown


def write_summary(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    coverage: Mapping[str, Any],
    path: Path,
    remarks: Sequence[str] = (),
) -> None:
    """Write the suite's rows and its coverage as Markdown, for a job summary of CI.

    First come the rows that are not as expected, each with its sentence and command,
    then the table of all rows, as far as SUMMARY_BYTES_MAX allows; the rest is counted.
    """
    told = [read_row(row, path.parent) for row in rows]
    good = sum(row.as_expected for row in told)
    told.sort(key=lambda row: row.as_expected)
    end = _coverage_lines(coverage)
    left = SUMMARY_BYTES_MAX - sum(len(line.encode()) + 1 for line in end)
    lines = [f"## {_markdown(name)}: {good} of {len(told)} as expected", ""]
    lines += [f"- {_markdown(one, MESSAGE_CHARS_MAX)}" for one in remarks[:_TOLD_MAX]]
    lines += [""] * bool(remarks)
    off = [row for row in told if row.is_off]
    for row in off[:_TOLD_MAX]:
        lines += _failure_lines(row)
    if len(off) > _TOLD_MAX:
        lines += [f"And {len(off) - _TOLD_MAX} more, in the table.", ""]
    left -= sum(len(line.encode()) + 1 for line in lines)
    shown = 0
    for line in _table(
        ("run", "verdict", "expected", "found", "convicted", "faults", "operations"),
        (
            (
                *(r.name, r.verdict, r.expected, r.anomalies or r.why),
                *(r.convicted, r.nemesis, r.ops),
            )
            for r in told
        ),
    ):
        left -= len(line.encode()) + 1
        if left < 100:  # room for how many more there are
            break
        lines.append(line)
        shown += 1
    if (missing := len(told) - max(0, shown - 2)) > 0:
        lines += ["", f"And {missing} more."]
    path.write_text("\n".join([*lines, *end]) + "\n", encoding="utf-8")


def _failure_lines(row: Row) -> list[str]:
    """A paragraph of a row that is not as expected."""
    found = f": {row.anomalies}" if row.anomalies else ""
    lines = [
        f"**{_markdown(row.name)}** is {row.verdict}, expected {row.expected}"
        f"{_markdown(found)}  ",
        _markdown(row.why, MESSAGE_CHARS_MAX),
    ]
    if row.repro:
        fence = "`" * (max(map(len, re.findall("`+", row.repro)), default=2) + 1)
        command = visible_line(figures.clip(row.repro, 1000))
        lines += ["", f"{fence}sh", command, fence]
    return [*lines, ""]


def _coverage_lines(coverage: Mapping[str, Any]) -> list[str]:
    covered = read_coverage(coverage)
    if not covered:
        return []
    table = _table(
        ("what was broken", "asked", "applied", "bit", "bit in runs"),
        (
            (c.name, str(c.asked), str(c.applied), str(c.bit), c.share)
            for c in covered[:_COVERAGE_LINES_MAX]
        ),
    )
    return ["", *table, "", _markdown(string(coverage.get("sentence")))]


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|{' --- |' * len(headings)}"
    for row in rows:
        yield f"| {' | '.join(map(_markdown, row))} |"


def _markdown(text: str, chars_max: int = 200) -> str:
    """One line of `text`, cut to so many characters, without Markdown or HTML in it."""
    return _MARKDOWN.sub(r"\\\g<0>", visible_line(figures.clip(text, chars_max)))
