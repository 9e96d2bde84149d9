"""From a run folder to its verdict: verdict.json and report.html.

Analysis reads only what the run left on disk, so it can be repeated at any time, also
after a controller that was killed, and a new checker can judge an old run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from harness import formats, observations, registry, report, verdict
from harness.account import Account, account
from harness.errors import (
    EXIT_HARNESS,
    EXIT_INVALID,
    EXIT_UNKNOWN,
    EXIT_VALID,
    UsageError,
)
from harness.history import HistoryError
from harness.spec import TestSpec, check_numbers, options_for
from harness.store import writing
from harness.verdict import Checker, CheckResult, Limits, Unpromised, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.history import History
    from harness.store import RunFolder


NodeName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
"""Of a folder; what stands in a file must not lead out of `nodes/`."""


class RunRecord(msgspec.Struct, kw_only=True):
    """What the controller writes into run.json, as far as it is judged.

    Attributes:
        ended: "complete", "interrupted" or "failed".
        seconds: How long it lasted.
        never_up: Which nodes never served, in a sentence; empty: all did.
        ops: Client operations by outcome.
        counters: What else was counted, by name; see `account`.
        errors: What went wrong with the harness.
    """

    ended: str = ""
    seconds: float = 0.0
    never_up: str = ""
    ops: dict[str, int] = {}
    counters: dict[str, int] = {}
    errors: list[str] = []


class TestRecord(msgspec.Struct, kw_only=True):
    """What stands in test.yaml, as far as it is judged.

    Attributes:
        spec: What was asked for.
        nodes: The nodes' names.
        invariants: Checkers of what nodes observed of themselves.
        repro: The command that repeats the run.
    """

    __test__ = False  # not a test class, whatever pytest makes of its name

    spec: TestSpec
    nodes: list[NodeName]
    invariants: list[str] = []
    repro: str = ""


def analyse(folder: RunFolder, limits: Limits | None = None) -> dict[str, Any]:
    """Judge the run in `folder`; writes and returns what stands in verdict.json.

    Raises:
        UsageError: A file of the controller's is damaged, or test.yaml names plug-ins
            that are not here any more.
        HarnessError: The verdict or the report can't be written.
    """
    out = outcome(read_test(folder), folder, limits or Limits())
    folder.write_json("verdict.json", out)
    with writing(folder.path / "report.html"):
        report.build(folder.path)
    return out


def outcome(test: TestRecord, folder: RunFolder, limits: Limits) -> dict[str, Any]:
    """What stands in verdict.json of a run of `test`; writes nothing.

    Raises:
        UsageError: run.json or faults.jsonl is damaged, or `test` names plug-ins that
            are not here any more.
    """
    run = folder.read_as("run.json", RunRecord)
    faults = folder.read_records("faults.jsonl")
    checkers = judges_of(test.spec, folder)
    history: History | None = None
    try:
        history = formats.load(folder.path / "history.jsonl", tolerate_torn_tail=True)
    except HistoryError as bad:
        unreadable = CheckResult(Verdict.UNKNOWN, reason=str(bad))
        results = dict.fromkeys(checkers, unreadable)
    else:
        results = {
            name: verdict.of_run(verdict.judge(checker, history, limits))
            for name, checker in checkers.items()
        }
    if run is None or run.ended != "complete":
        results = {
            name: verdict.of_prefix(checkers[name], result)
            for name, result in results.items()
        }
    for name, result in check_invariants(test, folder, limits).items():
        # One checker may judge both what clients saw and what nodes observed.
        results[f"{name}_observed" if name in results else name] = result
    counters = run.counters if run is not None else {}
    told = account(history, counters, faults)
    return summed_up(test, run, faults, results, told)


def put_off(folder: RunFolder) -> dict[str, Any]:
    """What stands in verdict.json of a run whose `analyse` was interrupted.

    Writes it where there is nothing yet: unknown, until somebody judges the run again.
    """
    out = folder.read_as("verdict.json", dict[str, Any])
    if out is None:
        run = folder.read_as("run.json", RunRecord)
        faults = folder.read_records("faults.jsonl")
        out = summed_up(read_test(folder), run, faults, {}, Account())
        reason = f"interrupted before it was judged; splitbrain report {folder.path}"
        out |= {"verdict": str(Verdict.UNKNOWN), "reason": reason, "interrupted": True}
        folder.write_json("verdict.json", out)
    return out


def summed_up(
    test: TestRecord,
    run: RunRecord | None,
    faults: Sequence[Mapping[str, Any]],
    results: Mapping[str, CheckResult],
    told: Account,
) -> dict[str, Any]:
    """What stands in verdict.json.

    Args:
        test: What was asked for.
        run: None where the controller wrote nothing.
        faults: The lines of faults.jsonl.
        results: What each checker found, by its name.
        told: What the run did.
    """
    spec = test.spec
    if run is None:
        run = RunRecord(
            errors=["the controller ended before the run did; history is a prefix"]
        )
    errors = list(run.errors)
    overall = verdict.combine(r.verdict for r in results.values() if r.promised)
    why = run.never_up
    if not why and overall is not Verdict.INVALID:
        why = told.reason
    interrupted = run.ended == "interrupted"
    if interrupted and overall is not Verdict.INVALID:
        # What is left of the run might have broken a promise that the prefix keeps.
        why = f"interrupted after {run.seconds:.0f} s"
    if why:
        overall = Verdict.UNKNOWN
    return {
        "verdict": str(overall),
        "expected": spec.expect,
        "reason": why,
        "interrupted": interrupted,
        "checkers": {name: result.as_json() for name, result in results.items()},
        "faults": fault_summary(faults),
        "ops": run.ops,
        **told.as_json(),
        "seconds": run.seconds,
        "harness": {"ok": not errors, "errors": errors},
        "seed": spec.seed,
        "repro": test.repro,
    }


def read_test(folder: RunFolder) -> TestRecord:
    """What test.yaml says.

    Raises:
        UsageError: It is damaged, or asks for a run that can't be.
    """
    test = folder.read_as("test.yaml", TestRecord)
    if test is None:
        raise UsageError(f"{folder.path} is no run folder: it has no test.yaml")
    try:
        check_numbers(test.spec)
    except UsageError as bad:
        raise UsageError(f"{folder.path / 'test.yaml'}: {bad}") from None
    return test


def judges_of(spec: TestSpec, folder: RunFolder) -> dict[str, Checker]:
    """See `judges`; what is wrong with `spec` is told as the fault of its file."""
    try:
        return judges(spec)
    except UsageError as bad:
        raise UsageError(f"{folder.path / 'test.yaml'}: {bad}") from None


def judges(spec: TestSpec) -> dict[str, Checker]:
    """The checkers of the workload, and those that are asked besides.

    Raises:
        UsageError: There are none of that name, or not with these options.
    """
    _, others = options_for(spec)
    workload = registry.find("workload", spec.workload).factory(others[spec.workload])
    checkers = dict(workload.checkers())
    for name in spec.also:
        more = registry.find("checker", name).factory(others[name])
        checkers[f"{name}_also" if name in checkers else name] = Unpromised(more)
    return checkers


def check_invariants(
    test: TestRecord, folder: RunFolder, limits: Limits
) -> dict[str, CheckResult]:
    """The results of the system's invariant checkers on what its nodes observed."""
    names = test.invariants
    if not names:
        return {}
    try:
        observed = observations.load(folder, test.nodes)
    except HistoryError as bad:
        unreadable = CheckResult(
            Verdict.UNKNOWN, reason=str(bad), over=verdict.OBSERVATIONS
        )
        return dict.fromkeys(names, unreadable)
    checkers = {name: registry.find("checker", name).factory({}) for name in names}
    return {
        name: replace(
            verdict.judge(checker, observed, limits), over=verdict.OBSERVATIONS
        )
        for name, checker in checkers.items()
    }


def fault_summary(faults: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Per kind of fault: how many struck, bit, and had no effect."""
    summary: dict[str, dict[str, int]] = {}
    for line in faults:
        if line.get("event") not in {"start", "end"}:
            continue
        of = summary.setdefault(
            str(line.get("kind")), {"count": 0, "bit": 0, "no_effect": 0}
        )
        if line["event"] == "start":
            of["count"] += 1
        elif line.get("bit"):
            of["bit"] += 1
        else:
            of["no_effect"] += 1
    return summary


def exit_status(outcome: Mapping[str, Any]) -> int:
    """The exit status that a verdict means.

    A harness fault is 255, whatever the checkers made of the rest; with an expectation
    0 says that it was met.
    """
    if not outcome["harness"]["ok"]:
        return EXIT_HARNESS
    found = Verdict.parse(outcome["verdict"])
    if outcome.get("expected"):
        if str(found) == outcome["expected"]:
            return EXIT_VALID
        return EXIT_UNKNOWN if found is Verdict.UNKNOWN else EXIT_INVALID
    return {
        Verdict.VALID: EXIT_VALID,
        Verdict.UNKNOWN: EXIT_UNKNOWN,
        Verdict.INVALID: EXIT_INVALID,
    }[found]
