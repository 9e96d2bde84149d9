"""From a run folder to its verdict: verdict.json and report.html.

Analysis reads only what the run left on disk. So it can be repeated at any time, even
after the controller was killed, and a new checker can judge an old run.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from harness import report, verdict
from harness.errors import (
    EXIT_HARNESS,
    EXIT_INVALID,
    EXIT_UNKNOWN,
    EXIT_VALID,
    UsageError,
)
from harness.history import History, HistoryError, formats, observations
from harness.host.documents import writing
from harness.judge import effects
from harness.judge.account import Account, account
from harness.run import judges
from harness.run.lifecycle import lives
from harness.run.records import (
    VERSION,
    WHOLE,
    WORDS,
    Activation,
    CheckRecord,
    FaultRecord,
    HarnessRecord,
    RunRecord,
    VerdictRecord,
)
from harness.verdict import Checker, CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.run.lifecycle import Life
    from harness.run.records import Conviction, FaultLine, TestRecord, Word
    from harness.run.spec import TestSpec
    from harness.run.store import RunFolder


def analyse(
    folder: RunFolder, limits: Limits | None = None, points: str | None = None
) -> VerdictRecord:
    """Judge the run in `folder`; writes and returns the content of verdict.json.

    Args:
        folder: The run.
        limits: The limits of each checker.
        points: As for `report.build`.

    Raises:
        UsageError: A file of the controller is damaged, or test.yaml names plug-ins
            that do not exist any more.
        HarnessError: The verdict or the report can't be written.
    """
    out = outcome(folder.test(), folder, limits or Limits())
    tell(folder, out, points)
    return out


def tell(folder: RunFolder, record: VerdictRecord, points: str | None = None) -> None:
    """Write verdict.json and the report of the run in `folder`.

    Raises:
        UsageError: The run has no such key as `points`.
        HarnessError: They can't be written.
    """
    folder.write_verdict(record)
    with writing(folder.path / "report.html"):
        report.build(folder.path, points)


def judged(folder: RunFolder) -> VerdictRecord:
    """Judge the run as `analyse` does; an interrupt leaves the verdict of `put_off`."""
    try:
        return analyse(folder)
    except KeyboardInterrupt:
        return put_off(folder)


def outcome(test: TestRecord, folder: RunFolder, limits: Limits) -> VerdictRecord:
    """The content of verdict.json for a run of `test`; writes nothing.

    Raises:
        UsageError: run.json or faults.jsonl is damaged, or `test` names plug-ins that
            do not exist any more.
    """
    run = folder.run()
    faults = folder.faults()
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
    convicted = None if run is None else run.convicted
    if convicted is not None and history is not None:
        results |= upheld(convicted, checkers, results, history, limits)
    if run is None or run.ended not in WHOLE:
        results = {
            name: verdict.of_prefix(checkers[name], result)
            for name, result in results.items()
        }
    for name, result in check_invariants(test, folder, limits).items():
        # One checker may judge both the clients' history and the nodes' observations.
        results[f"{name}_observed" if name in results else name] = result
    counters = run.counters if run is not None else {}
    told = account(history, counters, faults)
    out = summed_up(test, run, faults, results, told)
    out.strikes = effects.strikes(lives(faults)[0], history)
    return out


def put_off(folder: RunFolder) -> VerdictRecord:
    """The content of verdict.json for a run whose `analyse` was interrupted.

    If there is none yet, one is written: unknown, until the run is judged again.
    """
    out = folder.verdict()
    if out is None:
        run = folder.run()
        faults = folder.faults()
        out = summed_up(folder.test(), run, faults, {}, Account())
        out.verdict, out.interrupted = "unknown", True
        out.reason = (
            f"interrupted before it was judged; splitbrain report {folder.path}"
        )
        folder.write_verdict(out)
    return out


def summed_up(
    test: TestRecord,
    run: RunRecord | None,
    faults: Sequence[FaultLine],
    results: Mapping[str, CheckResult],
    told: Account,
) -> VerdictRecord:
    """The content of verdict.json.

    Args:
        test: What was asked for.
        run: How the run went; None if the controller wrote nothing.
        faults: The lines of faults.jsonl.
        results: Name of a checker -> its result.
        told: The account of the run.
    """
    spec = test.spec
    if run is None:
        run = RunRecord(
            errors=["the controller ended before the run did; history is a prefix"]
        )
    errors = list(run.errors)
    overall = verdict.combine(r.verdict for r in results.values() if r.promised)
    if run.convicted is not None and results and overall is not Verdict.INVALID:
        errors.append(contradiction(run.convicted, overall, results))
    why = run.never_up
    if not why and overall is not Verdict.INVALID:
        why = told.reason
    interrupted = run.ended == "interrupted"
    if interrupted and overall is not Verdict.INVALID:
        # The rest of the run might have broken a promise that the prefix keeps.
        why = f"interrupted after {run.seconds:.0f} s"
    if why:
        overall = Verdict.UNKNOWN
    return VerdictRecord(
        version=VERSION,
        verdict=WORDS[overall],
        expected=spec.expect,
        reason=why,
        interrupted=interrupted,
        checkers={name: CheckRecord.of(result) for name, result in results.items()},
        faults=fault_summary(test.asked, lives(faults)[0]),
        ops=run.ops,
        **told.as_json(),
        seconds=run.seconds,
        convicted=run.convicted,
        harness=HarnessRecord(ok=not errors, errors=errors),
        seed=spec.seed,
        repro=test.repro,
    )


def upheld(
    convicted: Conviction,
    checkers: Mapping[str, Checker],
    results: Mapping[str, CheckResult],
    history: History,
    limits: Limits,
) -> dict[str, CheckResult]:
    """The result of the checker that convicted a run early, of the prefix it saw then.

    That is for a history whose rest the checker can't judge, such as one in which a
    system that is broken goes on to give answers that make no sense: no rest acquits.

    Returns:
        Nothing if the checker judged the whole history.
    """
    name, events = convicted.checker, convicted.events
    result = results.get(name)
    if result is None or result.verdict is not Verdict.UNKNOWN or not result.promised:
        return {}
    prefix = History(history.ops[:events], source=history.source)
    earlier = verdict.judge(checkers[name], prefix, limits)
    if not any(verdict.convicting(checkers[name], earlier)):
        return {}
    remark = (
        f"the first {events:,} events were judged, by which the run was convicted, as "
        f"the whole history is unknown: {result.reason}"
    )
    return {name: replace(earlier, remarks=(*earlier.remarks, remark))}


def contradiction(
    convicted: Conviction, overall: Verdict, results: Mapping[str, CheckResult]
) -> str:
    """A sentence about a run that was convicted early, and in the end is not invalid.

    No history that begins as a convicted one can be valid, so we have erred.
    """
    why = next((r.reason for r in results.values() if r.promised and r.reason), "")
    return (
        f"the {convicted.checker} checker found {convicted.anomaly} in the first "
        f"{convicted.events:,} events and ended the run, but the whole history is "
        f"{overall}{': ' + why if why else ''}; one of the two is wrong"
    )


def judges_of(spec: TestSpec, folder: RunFolder) -> dict[str, Checker]:
    """The checkers of operations; an error in `spec` is told as one of test.yaml."""
    try:
        return judges.of_operations(spec)
    except UsageError as bad:
        raise UsageError(f"{folder.path / 'test.yaml'}: {bad}") from None


def check_invariants(
    test: TestRecord, folder: RunFolder, limits: Limits
) -> dict[str, CheckResult]:
    """The results of the system's invariant checkers on what its nodes observed."""
    names = test.invariants
    if not names:
        return {}
    try:
        observed = observations.load(folder.path, test.nodes)
    except HistoryError as bad:
        unreadable = CheckResult(
            Verdict.UNKNOWN, reason=str(bad), over=verdict.OBSERVATIONS
        )
        return dict.fromkeys(names, unreadable)
    return {
        name: replace(
            verdict.judge(checker, observed, limits), over=verdict.OBSERVATIONS
        )
        for name, checker in judges.of_observations(names).items()
    }


def fault_summary(
    planned: Mapping[str, int], found: Iterable[Life]
) -> dict[str, FaultRecord]:
    """Kind of fault -> what came of its faults.

    Args:
        planned: Kind of fault -> how many the plan has.
        found: The lives of those that were asked for.
    """
    summary = {kind: FaultRecord(asked=number) for kind, number in planned.items()}
    reached: Counter[str] = Counter()
    for life in found:
        of = summary.setdefault(life.kind, FaultRecord())
        reached[life.kind] += 1
        applied = life.start is not None
        of.applied += applied
        of.healed += life.healed
        match life.effect:
            case "bit":
                of.bit += 1
            case "no-effect":
                of.no_effect += 1
            case "indeterminate":
                of.indeterminate += 1
            case "skipped":
                of.skipped += 1
            case "failed":
                of.failed += 1
        for name, bit in life.knobs.items():
            knob = of.knobs.setdefault(name, Activation())
            knob.asked += 1
            knob.applied += applied
            knob.bit += bit is True and life.effect != "failed"
    for kind, of in summary.items():
        of.asked = max(of.asked, reached[kind])
        of.count = of.applied
        of.not_reached = of.asked - reached[kind]
    return summary


def exit_status(outcome: VerdictRecord) -> int:
    """The exit status of a run; 255 for a harness fault, whatever the checkers say."""
    if not outcome.harness.ok:
        return EXIT_HARNESS
    return status_of(outcome.verdict, outcome.expected)


def status_of(verdict: Word, expected: Word | None) -> int:
    """The exit status of a verdict; with an expectation, 0 if it was met."""
    if verdict == expected:
        return EXIT_VALID
    if verdict == "unknown":
        return EXIT_UNKNOWN
    return EXIT_INVALID if expected or verdict == "invalid" else EXIT_VALID
