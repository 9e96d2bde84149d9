"""From a run folder to its verdict: verdict.json and report.html.

Analysis reads only what the run left on disk, so it can be repeated at any time, also
after a controller that was killed, and a new checker can judge an old run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from harness import formats, observations, registry, report, verdict
from harness.errors import (
    EXIT_HARNESS,
    EXIT_INVALID,
    EXIT_UNKNOWN,
    EXIT_VALID,
    UsageError,
)
from harness.history import HistoryError
from harness.spec import TestSpec, options_for
from harness.verdict import Checker, CheckResult, Limits, Unpromised, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import History
    from harness.store import RunFolder


INTERRUPTED = "the run was interrupted; history is a prefix"


def analyse(folder: RunFolder, limits: Limits | None = None) -> dict[str, Any]:
    """Judge the run in `folder`; writes and returns what stands in verdict.json.

    Raises:
        UsageError: test.yaml is damaged, or names plug-ins that are not here any more.
    """
    spec, test = read_test(folder)
    out = outcome(spec, test, folder, limits or Limits())
    folder.write_json("verdict.json", out)
    report.build(folder.path)
    return out


def outcome(
    spec: TestSpec, test: Mapping[str, Any], folder: RunFolder, limits: Limits
) -> dict[str, Any]:
    """What stands in verdict.json of a run of `spec`; writes nothing.

    `test` is what test.yaml says, of which `nodes`, `invariants` and `repro` are used.
    """
    run = folder.read_json("run.json") or {}
    results = check(spec, folder, limits)
    for name, result in check_invariants(test, folder, limits).items():
        # One checker may judge both what clients saw and what nodes observed.
        results[f"{name}_observed" if name in results else name] = result
    errors = list(run.get("errors", ()))
    if not run:
        errors.append("the controller ended before the run did; history is a prefix")
    elif run.get("ended") == "interrupted":
        errors.append(INTERRUPTED)
    overall = verdict.combine(r.verdict for r in results.values() if r.promised)
    why = run.get("never_up")
    if why:
        overall = Verdict.UNKNOWN
    return {
        "verdict": str(overall),
        "expected": spec.expect,
        "reason": why or "",
        "checkers": {name: result.as_json() for name, result in results.items()},
        "faults": fault_summary(folder),
        "ops": run.get("ops", {}),
        "seconds": run.get("seconds", 0.0),
        "harness": {"ok": not errors, "errors": errors},
        "seed": spec.seed,
        "repro": test.get("repro", ""),
    }


def read_test(folder: RunFolder) -> tuple[TestSpec, Mapping[str, Any]]:
    """The spec in test.yaml, and the whole of test.yaml.

    Raises:
        UsageError: It can't be read as one.
    """
    path = folder.path / "test.yaml"
    try:
        test = yaml.safe_load(path.read_text(encoding="utf-8"))
        return msgspec.convert(test["spec"], TestSpec), test
    except (OSError, yaml.YAMLError, KeyError, TypeError, msgspec.DecodeError) as bad:
        raise UsageError(f"{path} is damaged: {bad}") from None


def check(spec: TestSpec, folder: RunFolder, limits: Limits) -> dict[str, CheckResult]:
    """The results of the workload's checkers on the recorded history."""
    _, others = options_for(spec)
    workload = registry.find("workload", spec.workload).factory(others[spec.workload])
    checkers = dict(workload.checkers())
    for name in spec.also:
        more = registry.find("checker", name).factory(others[name])
        checkers[f"{name}_also" if name in checkers else name] = Unpromised(more)
    try:
        history: History = formats.load(
            folder.path / "history.jsonl", tolerate_torn_tail=True
        )
    except HistoryError as bad:
        unreadable = CheckResult(Verdict.UNKNOWN, reason=str(bad))
        return dict.fromkeys(checkers, unreadable)
    return {name: judge(checker, history, limits) for name, checker in checkers.items()}


def judge(checker: Checker, history: History, limits: Limits) -> CheckResult:
    """What `checker` says; UNKNOWN where it can't judge what clients recorded."""
    try:
        return verdict.check_safe(checker, history, limits)
    except UsageError as bad:
        return CheckResult(Verdict.UNKNOWN, reason=str(bad))


def check_invariants(
    test: Mapping[str, Any], folder: RunFolder, limits: Limits
) -> dict[str, CheckResult]:
    """The results of the system's invariant checkers on what its nodes observed."""
    names = test.get("invariants", ())
    if not names:
        return {}
    try:
        observed = observations.load(folder, test["nodes"])
    except HistoryError as bad:
        unreadable = CheckResult(
            Verdict.UNKNOWN, reason=str(bad), over=verdict.OBSERVATIONS
        )
        return dict.fromkeys(names, unreadable)
    checkers = {name: registry.find("checker", name).factory({}) for name in names}
    return {
        name: replace(judge(checker, observed, limits), over=verdict.OBSERVATIONS)
        for name, checker in checkers.items()
    }


def fault_summary(folder: RunFolder) -> dict[str, dict[str, int]]:
    """Per kind of fault: how many struck, bit, and had no effect."""
    summary: dict[str, dict[str, int]] = {}
    for line in folder.read_lines("faults.jsonl"):
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
