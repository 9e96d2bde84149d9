"""Why then? From which moment on a failure of a simulated run was likely.

The run is repeated up to a moment, to the byte, and then chance takes another course
(`FreshDice`): disks, links and timers draw other times. Several such runs tell how
likely the failure was, given all that had happened by that moment; many moments tell
when it became so. Where the rate jumps, the moment that mattered has been.

The fault plan stays as it is, and so does what clients draw to ask for. So a rate that
is high from the start says that the plan brings the failure about, whatever chance
does.

Moments are chosen in turn: first a few that are spread evenly, then always the middle
of the two neighbours whose rates differ most. So half of the moments lie close to the
jump. All is determined by the run: the seeds of the fresh dice are 1, 2, ...
"""

from __future__ import annotations

import functools
import shlex
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from harness.campaign import replay, traffic
from harness.campaign.carrying import discard
from harness.campaign.exhaustive.telling import brief
from harness.campaign.experiment import Experiment
from harness.campaign.outcome import Outcome
from harness.campaign.processes import Processes
from harness.errors import HarnessError, UsageError
from harness.host import program
from harness.host.scratch import scratch_folder
from harness.report import figures
from harness.report import folder as recordings
from harness.report.chances import FILE as FILE
from harness.report.rates import Rate
from harness.run.records import WHOLE
from harness.verdict import OBSERVATIONS
from harness.worlds.world import FreshDice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.campaign.executor import Executor
    from harness.campaign.outcome import Fingerprint
    from harness.data import Json
    from harness.report.folder import Recording
    from harness.run.records import RunRecord, VerdictRecord
    from harness.run.store import RunFolder

VERSION = 1
"""The version of why.json; it changes as those of `harness.run.records`."""

SPREAD = 5
"""Moments that are spread evenly before others are chosen."""
CLOSEST_NS = 1_000_000
"""Moments closer than this are not told apart."""
AROUND_NS = 50_000_000
AROUND_MAX = 200
"""What happened around the jump: so long before and after it, and so many lines."""


OPERATION, MESSAGE = "operation", "message"
OBSERVATION, FAULT = "observation", "fault"


@dataclass(frozen=True)
class FailedRun:
    """A failed run in the simulator, to be explained.

    Attributes:
        fingerprints: Its failures; a run that shares one fails in the same way.
        start_ns: Where true monotonic time stood when the run's time began.
        end_ns: By then its first failure was complete, in the run's time.
        remarks: Sentences about what a user might not expect.
    """

    folder: RunFolder
    experiment: Experiment
    fingerprints: frozenset[Fingerprint]
    recording: Recording
    start_ns: int
    end_ns: int
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Moment:
    """How likely the failure was at some moment, in the run's time."""

    at_ns: int
    rate: Rate


@dataclass(frozen=True)
class Happening:
    """Something that happened around the jump.

    Attributes:
        kind: OPERATION, MESSAGE, OBSERVATION or FAULT.
    """

    at_ns: int
    kind: str
    text: str


@dataclass(frozen=True)
class Why:
    """The answer.

    Attributes:
        moments: In their order.
        runs: How many runs were made for it.
        around: What happened around the jump, in its order; without messages if it was
            interrupted.
        interrupted: Whether moments are missing.
    """

    recorded: FailedRun
    moments: tuple[Moment, ...]
    runs: int
    around: tuple[Happening, ...]
    interrupted: bool = False

    @property
    def jump(self) -> tuple[Moment, Moment] | None:
        """The moments between which most was decided; None if the rate never rises."""
        return jump_among(self.moments)

    @property
    def is_clear(self) -> bool:
        """Whether the rates before and after the jump differ beyond doubt (95 %)."""
        return self.jump is not None and differ(*self.jump)

    def as_json(self) -> dict[str, Json]:
        """The content of why.json."""
        jump = self.jump
        return {
            "version": VERSION,
            "failure": [
                {"checker": each.checker, "anomaly": each.anomaly}
                for each in sorted(self.recorded.fingerprints)
            ],
            "remarks": list(self.recorded.remarks),
            "interrupted": self.interrupted,
            "runs": self.runs,
            "moments": [told(each) for each in self.moments],
            "jump": None
            if jump is None
            else {
                "before": told(jump[0]),
                "after": told(jump[1]),
                "clear": self.is_clear,
            },
            "around": [
                {"at_s": each.at_ns / 1e9, "kind": each.kind, "text": each.text}
                for each in self.around
            ],
        }


class Stored(msgspec.Struct):
    """What tells how much an earlier why.json is worth."""

    moments: list[object]


def is_worth_storing(found: Why) -> bool:
    """Whether an answer is whole, or has no fewer moments than the one stored."""
    if not found.interrupted:
        return True
    try:
        before = found.recorded.folder.read_as(FILE, Stored)
    except UsageError:  # a damaged one is worth nothing
        return True
    return before is None or len(before.moments) <= len(found.moments)


def told(moment: Moment) -> dict[str, Json]:
    """A moment as why.json holds it."""
    return {"at_s": moment.at_ns / 1e9, **moment.rate.as_json()}


def load(folder: RunFolder) -> FailedRun:
    """A run that can be explained.

    Raises:
        UsageError: It can't; says why, and what to do.
    """
    experiment = Experiment.load(folder)
    if experiment.spec.world != "sim":
        raise UsageError(
            f"{folder.path} is a run of real processes, which nobody can take back to "
            "a moment: find the failure with --world sim first"
        )
    run, verdict = folder.run(), folder.verdict()
    if run is None or run.ended not in WHOLE:
        ended = "has no run.json" if run is None else f"ended {run.ended}"
        raise UsageError(
            f"{folder.path} {ended}, so it can't be repeated up to a moment; run it "
            f"again first: {folder.test().repro}"
        )
    if verdict is None:
        raise UsageError(
            f"{folder.path} has not been judged: {program.called()} report "
            f"{shlex.quote(program.near(folder.path))}"
        )
    fingerprints = Outcome.of(experiment, verdict, folder).fingerprints
    if not fingerprints:
        raise UsageError(
            f"{folder.path} is {verdict.verdict}: it has no failure to explain"
        )
    if run.start_mono_ns is None:
        raise UsageError(f"{folder.path}/run.json doesn't tell when the run began")
    recording = recordings.load(folder.path)
    # The strikes of plan.yaml may be others than the seed draws now.
    again = replay.load(folder)
    return FailedRun(
        folder,
        again.variants["time"],
        fingerprints,
        recording,
        run.start_mono_ns,
        end_of_failure_ns(recording, run, verdict),
        again.remarks,
    )


def end_of_failure_ns(
    recording: Recording, run: RunRecord, verdict: VerdictRecord
) -> int:
    """When the first anomaly was complete; the end of the run if nobody can tell."""
    ends = []
    for check in verdict.checkers.values():
        for anomaly in check.anomalies if check.promised else ():
            observed = check.over == OBSERVATIONS
            ops = recording.observed if observed else recording.ops
            known = [ops[i] for i in anomaly.ops if 0 <= i < len(ops)]
            times = [
                recording.event(o).invoke.time if observed else o.time for o in known
            ]
            if times and min(times) >= 0:
                ends.append(max(times))
    return min(ends, default=int(run.seconds * 1e9)) + 1


def explain(
    recorded: FailedRun,
    *,
    moments: int,
    runs: int,
    jobs: int = 1,
    show: Callable[[Moment], None] = lambda _: None,
) -> Why:
    """Measure how likely the failure was at many moments.

    A stop signal that raises KeyboardInterrupt ends it, with the moments that were
    measured by then.

    Args:
        recorded: The run.
        moments: How many.
        runs: How many runs for each; the record's own is made once besides.
        jobs: Runs side by side.
        show: Told each moment when it is measured.

    Raises:
        UsageError: The run can't be made any more, or no longer fails in this way.
        HarnessError: A run could not be made.
        KeyboardInterrupt: It was interrupted before any moment was measured.
    """
    with (
        scratch_folder("splitbrain-why-") as scratch,
        Processes(functools.partial(discard, scratch), jobs) as executor,
    ):
        [again] = carried_out(executor, [recorded.experiment])
        if again.refused:
            raise UsageError(f"{recorded.folder.path}: {again.reason}")
        if not again.fingerprints & recorded.fingerprints:
            raise UsageError(
                f"{recorded.folder.path}: the run was repeated, and does not fail in "
                "the same way any more: it was made by other code "
                f"(again it is {again.verdict})"
            )
        known: dict[int, Moment] = {}
        try:
            while (at_ns := next_moment(known, recorded.end_ns, moments)) is not None:
                rate = measured(executor, recorded, at_ns, runs)
                known[at_ns] = Moment(at_ns, rate)
                show(known[at_ns])
        except KeyboardInterrupt:
            if not known:
                raise
            return answer(recorded, known, runs, interrupted=True)
    return answer(recorded, known, runs)


def answer(
    recorded: FailedRun,
    known: Mapping[int, Moment],
    runs: int,
    *,
    interrupted: bool = False,
) -> Why:
    """What the moments say that were measured, with `runs` runs each.

    Messages are looked for by one more run, unless it was interrupted; another stop
    signal leaves that out, too.
    """
    found = tuple(known[at_ns] for at_ns in sorted(known))
    jump = jump_among(found)
    around: tuple[Happening, ...] = ()
    if jump is not None:
        try:
            around = what_happened(recorded, *jump, with_messages=not interrupted)
        except KeyboardInterrupt:
            interrupted = True
            around = what_happened(recorded, *jump, with_messages=False)
    return Why(recorded, found, 1 + runs * len(found), around, interrupted)


def next_moment(known: dict[int, Moment], end_ns: int, wanted: int) -> int | None:
    """The moment to measure next; None if there are enough, or none is worth it."""
    first = min(SPREAD, wanted)
    for number in range(first):
        at_ns = end_ns * number // max(1, first - 1)
        if at_ns not in known:
            return at_ns
    if len(known) >= wanted:
        return None
    gaps = [
        (abs(b.rate.observed - a.rate.observed), b.at_ns - a.at_ns, a.at_ns)
        for a, b in pairwise(known[at_ns] for at_ns in sorted(known))
        if b.at_ns - a.at_ns > CLOSEST_NS
    ]
    if not gaps:
        return None
    _, length_ns, from_ns = max(gaps)
    return from_ns + length_ns // 2


def differ(before: Moment, after: Moment) -> bool:
    """Whether the rate is higher later, beyond doubt: the intervals lie apart."""
    return before.rate.upper() < after.rate.lower()


def jump_among(moments: Sequence[Moment]) -> tuple[Moment, Moment] | None:
    """The closest two moments that differ beyond doubt, else the steepest neighbours.

    Of equally close ones, the two whose rates differ most. Cost: quadratic.
    """
    apart = [
        (b.at_ns - a.at_ns, a.rate.observed - b.rate.observed, i, j)
        for i, a in enumerate(moments)
        for j, b in enumerate(moments[i + 1 :], i + 1)
        if differ(a, b)
    ]
    if apart:
        *_, i, j = min(apart)
        return moments[i], moments[j]
    return steepest(moments)


def steepest(moments: Sequence[Moment]) -> tuple[Moment, Moment] | None:
    """The neighbours between which the rate rises most, the closest of those.

    None if it rises between none.
    """
    rises = [
        (b.rate.observed - a.rate.observed, a.at_ns - b.at_ns, place)
        for place, (a, b) in enumerate(pairwise(moments))
    ]
    rise, _, place = max(rises, default=(0.0, 0, 0))
    return (moments[place], moments[place + 1]) if rise > 0 else None


def measured(executor: Executor, recorded: FailedRun, at_ns: int, runs: int) -> Rate:
    """How many of so many runs fail in the same way, if chance changes at `at_ns`."""
    mono_ns = recorded.start_ns + at_ns
    asked = [
        replace(recorded.experiment, fresh_dice=FreshDice(mono_ns, seed))
        for seed in range(1, runs + 1)
    ]
    rate = Rate(0, 0)
    for outcome in carried_out(executor, asked):
        if outcome.verdict != "unknown" or outcome.findings:
            same = bool(outcome.fingerprints & recorded.fingerprints)
            rate = rate.with_run(hit=same)
    return rate


def carried_out(executor: Executor, asked: Sequence[Experiment]) -> list[Outcome]:
    """The outcomes of experiments, in any order.

    Raises:
        HarnessError: One could not be carried out.
        KeyboardInterrupt: One was interrupted.
    """
    for experiment in asked:
        executor.submit(experiment)
    done = []
    for _, outcome in executor.as_completed():
        if outcome is None:
            raise KeyboardInterrupt
        if outcome.verdict == "error" and not outcome.refused:
            raise HarnessError(f"a run could not be made: {outcome.reason}")
        done.append(outcome)
    return done


def what_happened(
    recorded: FailedRun, before: Moment, after: Moment, *, with_messages: bool
) -> tuple[Happening, ...]:
    """Operations, messages, observations and faults between two moments and around.

    If there are too many, those that are farthest from the middle are left out.

    Raises:
        KeyboardInterrupt: The run for the messages was interrupted.
    """
    low_ns, high_ns = before.at_ns, after.at_ns
    every = [
        each
        for each in happenings(recorded.recording)
        if low_ns - AROUND_NS <= each.at_ns <= high_ns + AROUND_NS
    ]
    if with_messages:
        every += messages(recorded, low_ns - AROUND_NS, high_ns + AROUND_NS)
    return nearest(every, (low_ns + high_ns) // 2, AROUND_MAX)


def nearest(
    every: Sequence[Happening], at_ns: int, count: int
) -> tuple[Happening, ...]:
    """The happenings that are closest to a moment, in their order."""
    kept = sorted(every, key=lambda each: abs(each.at_ns - at_ns))[:count]
    # Nodes observe what a message makes them do at the moment at which it arrives.
    in_order = sorted(kept, key=lambda each: (each.at_ns, each.kind == OBSERVATION))
    return tuple(in_order)


def messages(recorded: FailedRun, low_ns: int, high_ns: int) -> list[Happening]:
    """The messages that arrived between two moments, by one more run.

    Raises:
        KeyboardInterrupt: The run was interrupted.
    """
    out: list[Happening] = []

    def note(mono_ns: int, sender: str, receiver: str, body: dict[str, object]) -> None:
        at_ns = mono_ns - recorded.start_ns
        if low_ns <= at_ns <= high_ns:
            told = brief(str(body.pop("type", "a message")), body)
            text = f"{sender} -> {receiver}: {told}"
            out.append(Happening(at_ns, MESSAGE, text[:200]))

    traffic.listen(recorded.experiment, note)
    return out


def happenings(recording: Recording) -> list[Happening]:
    """All that the record tells, in the run's time."""
    out = []
    for op in recording.ops:
        if op.is_client:
            key = "" if op.key is None else f" of key {op.key}"
            value = "" if op.value is None else f" {figures.value(op.value)}"
            error = f" ({op.error})" if op.error else ""
            text = (
                f"client {op.process}, {op.node}: {op.type} {op.f}{value}{key}{error}"
            )
            out.append(Happening(op.time, OPERATION, text[:200]))
    for op in recording.observed:
        seen = recording.event(op).invoke
        text = f"{seen.node} observes {brief(seen.f, seen.value or {})}"
        out.append(Happening(seen.time, OBSERVATION, text[:200]))
    for fault in recording.faults:
        for word, time_ns in fault.states:
            text = f"{fault.title}: {word}"
            out.append(Happening(int(time_ns), FAULT, text[:200]))
    return out
