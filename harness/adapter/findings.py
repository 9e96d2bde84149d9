"""What the check of a node has found, as data and in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from harness.adapter.rules import RULES
from harness.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.adapter.rules import Rule

DID_CHARS_MAX = 400
SEEN_CHARS_MAX = 1200
NOT_TRIED_SHOWN_MAX = 4


class Finding(msgspec.Struct, frozen=True):
    """A breach of a rule.

    Attributes:
        rule: The rule's name.
        kept: What a node does that keeps it.
        node: The node that broke it; empty if it was no single one.
        did: What the check did: "sent {...}", "killed it".
        seen: What came of that.
        advice: What to do about it.
        section: The section of WIRE.md, and
        says: its words.
        harmless: Runs don't mind it.
    """

    rule: str
    kept: str
    node: str
    did: str
    seen: str
    advice: str
    section: str
    says: str
    harmless: bool = False


class Report(msgspec.Struct, kw_only=True):
    """The result of a check.

    Attributes:
        command: The node's command.
        workload: The workload whose requests it was sent.
        nodes: How many nodes there were.
        passed: Rule -> what the nodes did right, with figures.
        failed: Breaches.
        notes: What is worth knowing, and harmless.
        not_tried: Rules that could not be looked at, as something else was in the way.
        seconds: How long it took.
        ended: "complete", or "interrupted".
    """

    command: str
    workload: str
    nodes: int
    passed: dict[str, str] = {}
    failed: list[Finding] = []
    notes: list[Finding] = []
    not_tried: list[str] = []
    seconds: float = 0.0
    ended: str = "complete"

    @property
    def fit(self) -> bool:
        """Whether the node is fit for runs."""
        return not self.failed and self.ended == "complete"


def read_report(path: Path) -> Report:
    """The report in a file that `Notebook.close` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=Report)


@dataclass
class Notebook:
    """Findings as they come: of each rule the first, as others tell no more.

    Attributes:
        report: The report that grows.
        path: The file that gets it in the end: nodes are examined by a process of its
            own.
        touched: Rules that something was done to look at.
        told: Rule -> a figure to tell with it.
    """

    report: Report
    path: Path
    touched: dict[str, Rule] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)

    def keeps(self, rule: Rule, told: str = "") -> None:
        """A node kept a rule, as far as this moment shows; `told` adds a figure."""
        self.touched[rule.name] = rule
        if told:
            self.told[rule.name] = told

    def breaks(
        self,
        rule: Rule,
        node: str,
        did: str,
        seen: str,
        *,
        advice: str = "",
        says: str = "",
        harmless: bool = False,
    ) -> None:
        """A node broke a rule."""
        self.touched[rule.name] = rule
        kept = self.report.notes if harmless else self.report.failed
        if any(finding.rule == rule.name for finding in kept):
            return
        kept.append(
            Finding(
                rule.name,
                rule.kept,
                node,
                visible(shortened(did, DID_CHARS_MAX)),
                visible(shortened(seen, SEEN_CHARS_MAX)),
                advice or rule.advice,
                rule.section,
                says or rule.says,
                harmless,
            )
        )

    def broken(self, *names: str) -> bool:
        """Whether one of these rules was broken so far."""
        return any(finding.rule in names for finding in self.report.failed)

    def close(self, expected: list[Rule]) -> None:
        """Write the report, as nothing more is looked at; `expected` are all rules."""
        report = self.report
        broken = {f.rule for f in report.failed}
        report.notes = [note for note in report.notes if note.rule not in broken]
        report.passed = {
            rule.name: rule.kept
            + (f" ({self.told[rule.name]})" if rule.name in self.told else "")
            for rule in expected
            if rule.name in self.touched and rule.name not in broken
        }
        report.not_tried = [r.kept for r in expected if r.name not in self.touched]
        order = list(RULES)
        report.failed.sort(
            key=lambda f: order.index(f.rule) if f.rule in order else len(order)
        )
        self.path.write_bytes(msgspec.json.encode(report))


def shortened(text: str, chars_max: int) -> str:
    """A text whose middle is left out if it is long."""
    if len(text) <= chars_max:
        return text
    half = chars_max // 2
    return f"{text[:half]} [...] {text[-half:]}"


def as_json(report: Report) -> dict[str, Any]:
    """The object of `adapter check --json`."""
    return {"fit": report.fit, **msgspec.to_builtins(report)}


def as_text(report: Report) -> str:
    """The report for a terminal: a line for what is right, all of what is wrong."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    for kept in report.passed.values():
        yield f"ok     {kept}"
    for finding in report.failed:
        yield ""
        yield from _finding_lines("WRONG", finding)
    for finding in report.notes:
        yield ""
        yield from _finding_lines("note ", finding)
    if report.not_tried:
        yield ""
        left = report.not_tried
        why = ", as what is wrong was in the way" * (report.ended == "complete")
        yield f"not looked at{why} ({len(left)} rule{'s' * (len(left) > 1)}):"
        for kept in left[:NOT_TRIED_SHOWN_MAX]:
            yield f"       {kept}"
        if len(left) > NOT_TRIED_SHOWN_MAX:
            yield "       ..."
    yield ""
    count = len(report.failed)
    if report.ended != "complete":
        yield "interrupted: the check is not complete"
    elif count:
        things = "1 thing is" if count == 1 else f"{count} things are"
        yield f"not fit for {report.workload}: {things} wrong"
    else:
        took = f"{len(report.passed)} rules kept, in {report.seconds:.1f} s"
        yield f"fit for {report.workload}: {took}"


def _finding_lines(label: str, finding: Finding) -> Iterator[str]:
    yield f"{label}  {finding.kept}"
    for title, text in (
        (f'WIRE.md, "{finding.section}"', finding.says),
        ("the check", finding.did),
        (finding.node or "seen", finding.seen),
        ("to do", finding.advice),
    ):
        first, *rest = text.splitlines() or [""]
        if text:
            yield f"       {title}: {first}"
        for line in rest:
            yield f"         {line}"
