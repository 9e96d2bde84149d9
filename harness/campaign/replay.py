"""Runs a recorded experiment again, and tells how often it fails again.

In the simulator the same seed and code give the same history and faults, to the byte.
If they don't, the harness has failed, unless the record is of other code. With strikes
at events in place of times it is another run, and only counts.

Real processes never repeat to the byte. So the experiment is run several times, and
what counts is how many runs fail in the same way, which is to share a fingerprint with
the record. The strikes are those of plan.yaml, once at the times that stand there, and
once at the events that these times meant (`harness.faults.retrigger`); the two take
turns, so that whatever else goes on meets both alike.

If the failure never comes back, figures of the record that no replay had may say why.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from harness import registry
from harness.campaign import moments, traffic
from harness.campaign.carrying import CHECK_LIMIT_S, keep
from harness.campaign.determinism import differing_line
from harness.campaign.experiment import Experiment
from harness.campaign.outcome import Outcome
from harness.campaign.processes import Processes
from harness.errors import HarnessError, UsageError
from harness.faults import plan as plans
from harness.faults.retrigger import retrigger
from harness.host import documents, interrupts, release
from harness.host.documents import making_room
from harness.host.scratch import scratch_folder
from harness.judge import analysis
from harness.report.rates import Rate
from harness.run import assembling, programs
from harness.run.lifecycle import lives
from harness.run.records import WHOLE
from harness.run.spec import PlanData
from harness.run.store import FILE_BYTES_MAX, MEND, RunFolder, decode_lines
from harness.verdict import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness.faults import Schedule
    from harness.faults.plan import Plan
    from harness.run.assembling import Parts
    from harness.run.records import RunRecord, TestRecord, VerdictRecord

Trigger = Literal["time", "event"]
"""What sets the strikes of a replay off: those of plan.yaml, or events in place of its
times."""

COMPARED = ("history.jsonl", "faults.jsonl")
"""The files that a simulated run repeats."""

DIFFERENCES_MAX = 12


@dataclass(frozen=True)
class Recorded:
    """A run to be replayed.

    Attributes:
        outcome: What it came to.
        variants: Trigger -> the experiment whose strikes are set off so.
        remarks: Sentences about what a user might not expect.
        same_code: Whether the code that it is of is the code that runs now, as far as
            can be known.
    """

    folder: RunFolder
    test: TestRecord
    run: RunRecord | None
    verdict: VerdictRecord
    outcome: Outcome
    variants: Mapping[Trigger, Experiment]
    remarks: Sequence[str]
    same_code: bool

    @property
    def is_simulated(self) -> bool:
        """Whether it was made in the simulator."""
        return self.test.spec.world == "sim"

    @property
    def whole(self) -> bool:
        """Whether the record goes up to the run's own end."""
        return self.run is not None and self.run.ended in WHOLE

    @property
    def failed(self) -> bool:
        """Whether there is a failure to be reproduced."""
        return bool(self.outcome.fingerprints)


@dataclass(frozen=True)
class Replay:
    """One replay.

    Attributes:
        trigger: What set its strikes off.
        outcome: What it came to.
        same: Whether it failed as the record did; if that didn't fail, whether it
            failed at all.
        difference: Where a simulated run differs from the record; empty if it is the
            same to the byte, or nobody compared.
    """

    trigger: Trigger
    outcome: Outcome
    same: bool
    difference: str = ""

    @property
    def counts(self) -> bool:
        """Whether it says something about the system.

        One that is unknown, as nodes never served, doesn't say that they do well.
        """
        outcome = self.outcome
        judged = outcome.verdict != "unknown" or bool(outcome.findings)
        return judged and outcome.verdict != "error"

    @property
    def failed_otherwise(self) -> bool:
        """Whether it is invalid, and not for the record's reason."""
        return self.outcome.verdict == "invalid" and not self.same

    def as_json(self) -> dict[str, object]:
        """The object of `replay --json` for one replay."""
        return {
            "trigger": self.trigger,
            "verdict": self.outcome.verdict,
            "same": self.same,
            "anomalies": self.outcome.anomalies,
            "reason": self.outcome.reason,
            "seconds": self.outcome.seconds,
            **({"difference": self.difference} if self.difference else {}),
            "run": self.outcome.folder,
        }


@dataclass
class Replays:
    """All replays of a run.

    Attributes:
        differed: Sentences about figures of the record that no replay had, if the
            failure never came back.
    """

    recorded: Recorded
    done: list[Replay] = field(default_factory=list)
    interrupted: bool = False
    differed: list[str] = field(default_factory=list)

    def rate(self, trigger: Trigger | None = None) -> Rate:
        """How many failed as the record did, of those with that trigger, or of all."""
        of = [
            each
            for each in self.done
            if each.counts and trigger in {None, each.trigger}
        ]
        return Rate(sum(each.same for each in of), len(of))

    @property
    def triggers(self) -> list[Trigger]:
        """The triggers that were tried."""
        tried = {each.trigger for each in self.done}
        return [each for each in self.recorded.variants if each in tried]

    @property
    def otherwise(self) -> Counter[str]:
        """Anomalies that the record doesn't have -> how many replays had them."""
        return Counter(
            anomaly
            for each in self.done
            if each.failed_otherwise
            for anomaly in {f.anomaly for f in each.outcome.findings if f.promised}
        )

    @property
    def verdict(self) -> Literal["valid", "unknown", "invalid", "error"]:
        """The verdict of all replays: an error of the harness, or else the worst."""
        found = {each.outcome.verdict for each in self.done}
        if "error" in found:
            return "error"
        if "invalid" in found:
            return "invalid"
        return "unknown" if "unknown" in found or self.interrupted else "valid"

    def as_json(self) -> dict[str, object]:
        """The object of `replay --json`."""
        recorded = self.recorded
        return {
            "run": str(recorded.folder.path),
            "recorded": {
                "verdict": recorded.outcome.verdict,
                "anomalies": recorded.outcome.anomalies,
            },
            "verdict": self.verdict,
            "rate": self.rate().as_json(),
            "triggers": {each: self.rate(each).as_json() for each in self.triggers},
            "otherwise": dict(self.otherwise),
            "differed": self.differed,
            "remarks": list(recorded.remarks),
            "interrupted": self.interrupted,
            "replays": [each.as_json() for each in self.done],
        }


# Reading the record


def load(folder: RunFolder) -> Recorded:
    """The run in `folder`, ready to be replayed.

    Raises:
        UsageError: A file of the record is damaged, or a file without which the run
            can't be repeated is missing; or the run is impossible here and now.
    """
    test, run = folder.test(), folder.run()
    if test.spec.world == "sim" and run is not None:
        check_whole(folder, run)
    stored = stored_plan(folder, test)
    asked = Experiment.load(folder)
    with naming_the_plan(folder):
        asked, parts, schedule, remarks = prepared(asked, test)
    if stored is None:
        remarks.append("plan.yaml is missing: the plan is drawn anew from the seed")
    changed = stored is not None and stored != schedule.plan
    if changed:
        asked = as_written(asked, parts, stored or ())
        for kind in asked.spec.nemesis:
            try:
                registry.find("nemesis", kind)
            except UsageError as bad:
                raise UsageError(f"{folder.path / 'plan.yaml'}: {bad}") from None
        with naming_the_plan(folder):
            assembling.prepare(msgspec.structs.replace(asked.spec), asked.plan)
        remarks.append(
            "plan.yaml holds other steps than its seed draws now: those in plan.yaml "
            "are replayed"
        )
    verdict = folder.verdict() or analysis.outcome(
        test, folder, Limits(time_s=CHECK_LIMIT_S)
    )
    same_code, why = code_of(test, parts)
    remarks += why
    remarks += ends_of(run)
    remarks += programs.changes({} if run is None else run.programs)
    outcome = Outcome.of(asked, verdict, folder)
    variants = variants_of(asked, outcome, parts, schedule, folder, changed=changed)
    return Recorded(folder, test, run, verdict, outcome, variants, remarks, same_code)


@contextlib.contextmanager
def naming_the_plan(folder: RunFolder) -> Iterator[None]:
    """Have refusals of a plan within the block name its file."""
    try:
        yield
    except UsageError as bad:
        before, colon, what = str(bad).partition(": ")
        if before != "plan" or not colon:
            raise
        raise UsageError(f"{folder.path / 'plan.yaml'}: {what}") from None


class _Line(msgspec.Struct):
    """A line of history.jsonl, as far as it is counted."""

    type: str
    process: object


def check_whole(folder: RunFolder, run: RunRecord) -> None:
    """Refuse a record that was damaged after its run: its difference says nothing.

    A controller that lived to write run.json had written each line of the files that
    are compared whole, and has counted the operations in them.

    Raises:
        UsageError: A file is missing, cut off, or lacks operations.
    """
    for name in COMPARED:
        path = folder.path / name
        try:
            data = documents.read_bytes(path, bytes_max=FILE_BYTES_MAX)
        except UsageError as bad:
            raise UsageError(f"{bad}; {MEND}") from None
        if data and not data.endswith(b"\n"):
            raise UsageError(f"{path} is cut off in its last line; {MEND}")
        if name != "history.jsonl" or run.ended not in WHOLE:
            continue
        lines = decode_lines(data, _Line)
        if lines.problem:
            raise UsageError(f"{path}: {lines.problem} {MEND.capitalize()}")
        ended = [
            line.type
            for line in lines.items
            if line.type != "invoke" and type(line.process) is int
        ]
        if len(ended) != (told := sum(run.ops.values())):
            raise UsageError(
                f"{path} holds the ends of {len(ended):,} operations, and run.json "
                f"tells of {told:,}: one of them was damaged; {MEND}"
            )
    verdict = folder.verdict()
    struck = sum(life.start is not None for life in lives(folder.faults())[0])
    if verdict is not None and struck < len(verdict.strikes):
        raise UsageError(
            f"{folder.path / 'faults.jsonl'} holds {struck} strikes, and verdict.json "
            f"tells of {len(verdict.strikes)}: one of them was damaged; {MEND}"
        )


def prepared(
    asked: Experiment, test: TestRecord
) -> tuple[Experiment, Parts, Schedule, list[str]]:
    """The experiment on the network that it had, prepared, and remarks.

    A run that leaves the choice to the machine gets what can be had at the moment,
    which may be another network on another day.

    Raises:
        UsageError: The run is impossible, on any network that it may have.
    """
    remarks = []
    spec = asked.spec
    if spec.network == "auto" and test.rung in {"switch", "proxy", "router"}:
        fixed = msgspec.structs.replace(spec, network=test.rung)
        try:
            parts, schedule, _ = assembling.prepare(
                msgspec.structs.replace(fixed), asked.plan
            )
        except UsageError as refusal:
            remarks.append(f"not on the network of the record ({test.rung}): {refusal}")
        else:
            return replace(asked, spec=fixed), parts, schedule, remarks
    parts, schedule, _ = assembling.prepare(msgspec.structs.replace(spec), asked.plan)
    return asked, parts, schedule, remarks


def stored_plan(folder: RunFolder, test: TestRecord) -> Plan | None:
    """The steps in plan.yaml; None if it is missing and can be drawn.

    Raises:
        UsageError: It is damaged, or it is missing and was written by a person.
    """
    data = folder.read_as("plan.yaml", PlanData)
    if data is not None:
        return plans.parse(data, str(folder.path / "plan.yaml"))
    if test.plan == "written":
        raise UsageError(
            f"{folder.path} has no plan.yaml, and its plan was written by hand, so "
            "nobody knows which faults to repeat; restore it from a copy"
        )
    return None


def ends_of(run: RunRecord | None) -> list[str]:
    """A sentence if the record ends before its run would have."""
    if run is None:
        return ["the record ends where its controller was killed: it has no run.json"]
    if run.ended == "interrupted":
        return [f"the recorded run was interrupted after {run.seconds:.0f} s"]
    return []


def code_of(test: TestRecord, parts: Parts) -> tuple[bool, list[str]]:
    """Whether the record is of the code that runs now, and what to say about that."""
    now, then = release.versions(), test.versions
    if not then:
        return False, ["the record doesn't say which version made it"]
    names = ("splitbrain", "commit", "python")
    other = [name for name in names if then.get(name, "") != now[name]]
    if other:
        what = "; ".join(
            f"recorded with {name} {then.get(name) or '(none)'}, this is {now[name]}"
            for name in other
        )
        return False, [what]
    if test.spec.world == "sim" and now["commit"].endswith("-dirty"):
        # Two checkouts of one commit may have different changes.
        return False, [f"commit {now['commit']} has changes that no version tells"]
    own = type(parts.system).__module__.partition(".")[0] == "harness"
    if test.spec.world == "sim" and not own:
        return False, [f"nobody knows the version of {test.spec.system}'s plug-in"]
    return True, []


def as_written(asked: Experiment, parts: Parts, plan: Plan) -> Experiment:
    """The experiment with that plan in place of a drawn one.

    What the words for faults meant for their options is said, as words mean nothing in
    a run whose plan is written.
    """
    spec = asked.spec
    drawn = {} if parts.regime is None else parts.regime.options
    options = {
        f"{kind}.{name}": text
        for kind, own in drawn.items()
        for name, text in own.items()
    } | spec.options
    # Kinds that a swarm left out took no part, and no more did their options.
    left_out = set(spec.nemesis) - set(parts.nemeses)
    # Who edits a plan may want more of a run than its seed did.
    kinds = [kind for kind in spec.nemesis if kind not in left_out]
    kinds += [step.fault.kind for step in plan]
    spec = msgspec.structs.replace(
        spec,
        nemesis=list(dict.fromkeys(kinds)),
        profile=[],
        options={
            name: text
            for name, text in options.items()
            if name.partition(".")[0] not in left_out
        },
    )
    return Experiment(spec, [step.as_data() for step in plan], asked.plan_file)


def variants_of(
    asked: Experiment,
    outcome: Outcome,
    parts: Parts,
    schedule: Schedule,
    folder: RunFolder,
    *,
    changed: bool,
) -> dict[Trigger, Experiment]:
    """The experiments to replay: by time, and by event if that is another one."""
    if asked.spec.world == "sim":
        return {"time": asked}
    if outcome.fingerprints:
        # Whether it fails is all that is asked.
        spec = msgspec.structs.replace(asked.spec, until_invalid=True)
        asked = replace(asked, spec=spec)
    variants: dict[Trigger, Experiment] = {"time": asked}
    plan = plans.parse(asked.plan, "plan") if changed else schedule.plan
    by_event = retrigger(plan, moments.before_strikes(folder))
    if by_event != plan:
        variants["event"] = replace(as_written(asked, parts, by_event), plan_file="")
    return variants


def with_events(recorded: Recorded) -> Recorded:
    """A simulated record with the variant whose strikes are set off by events, too.

    These are observations, and messages, of which the run has to be made once more. The
    record is the same if there is no such variant, or it is of real processes.

    Raises:
        UsageError: The run is impossible here and now.
        KeyboardInterrupt: It was interrupted.
    """
    run = recorded.run
    if not recorded.is_simulated or run is None or run.start_mono_ns is None:
        return recorded
    by_time = recorded.variants["time"]
    asked, parts, schedule, _ = prepared(by_time, recorded.test)
    sent = traffic.messages(by_time, run.start_mono_ns)
    before = moments.before_strikes(recorded.folder, sent)
    by_event = retrigger(schedule.plan, before)
    if by_event == schedule.plan:
        return recorded
    other = replace(as_written(asked, parts, by_event), plan_file="")
    return replace(recorded, variants={**recorded.variants, "event": other})


# Running it again


def replayed(
    recorded: Recorded,
    times: int,
    results: Path,
    *,
    jobs: int = 1,
    triggers: Sequence[Trigger] = ("time", "event"),
    show: Callable[[Replay], None] = lambda _: None,
) -> Replays:
    """Replay a run so many times; in the simulator, compare each with the record.

    Run folders of real runs go below `results`/replays.

    Raises:
        UsageError: There are no such triggers in the record, or no folder can be made
            in `results`.
        HarnessError: A simulated replay of the same code differs; says where.
    """
    tried = [each for each in recorded.variants if each in triggers]
    if not tried:
        raise UsageError(
            "--triggers event: no step of this run has a telling event shortly before "
            "it in the record, or each has one in its plan already; use --triggers time"
        )
    out = Replays(recorded)
    if recorded.is_simulated:
        try_place(results)
    else:
        make_place(results)
    with scratch_folder("splitbrain-replay-") as scratch, interrupts.noted() as stop:
        place = scratch if recorded.is_simulated else results.absolute() / "replays"
        with Processes(functools.partial(keep, place), jobs) as executor:

            def interrupt() -> None:
                out.interrupted = True
                executor.cancel()

            stop.listen(interrupt, executor.kill)
            order = [tried[number % len(tried)] for number in range(times)]
            for trigger in order:
                executor.submit(recorded.variants[trigger])
            for number, outcome in executor.as_completed():
                if outcome is None or outcome.interrupted:
                    continue
                replay = Replay(order[number], outcome, is_same(recorded, outcome))
                if recorded.is_simulated and replay.trigger == "time":
                    replay = compared(recorded, replay, results)
                elif recorded.is_simulated:
                    replay = kept(replay, results)
                out.done.append(replay)
                show(replay)
    if recorded.failed and out.done and not out.rate().hits:
        out.differed = differences(recorded, [each.outcome for each in out.done])
    return out


def make_place(results: Path) -> None:
    """Make the folder for run folders of replays.

    Raises:
        UsageError: It can't be made.
    """
    with making_room(f"results to {results}"):
        (results / "replays").mkdir(parents=True, exist_ok=True)


def try_place(results: Path) -> None:
    """See whether `make_place` can, and leave nothing.

    A simulated replay has a folder only if it differs. Whoever named a place that can't
    be had wants to know before the runs, not after.

    Raises:
        UsageError: It can't be made.
    """
    place = results.absolute() / "replays"
    missing = [each for each in (place, *place.parents) if not each.exists()]
    make_place(results)
    for each in missing:  # the deepest first
        with contextlib.suppress(OSError):  # somebody else has put something there
            each.rmdir()


def is_same(recorded: Recorded, outcome: Outcome) -> bool:
    """Whether a replay failed as the record did, or at all if that didn't."""
    if not recorded.failed:
        return bool(outcome.fingerprints)
    return bool(recorded.outcome.fingerprints & outcome.fingerprints)


def compared(recorded: Recorded, replay: Replay, results: Path) -> Replay:
    """A simulated replay, compared with the record; its folder stays if it differs.

    Raises:
        HarnessError: It differs, and nothing explains that.
    """
    if not replay.outcome.folder:
        return replay
    again = Path(replay.outcome.folder)
    difference = difference_of(recorded, again)
    folder = "" if difference is None else str(keep_folder(again, results))
    shutil.rmtree(again, ignore_errors=True)
    if difference is not None and recorded.same_code:
        raise HarnessError(
            f"the replay of {recorded.folder.path} differs from the record, so the "
            f"simulation depends on something beside its seed: {difference}; "
            f"see {folder}"
        )
    outcome = msgspec.structs.replace(replay.outcome, folder=folder)
    return replace(replay, outcome=outcome, difference=difference or "")


def kept(replay: Replay, results: Path) -> Replay:
    """A simulated replay, its folder kept.

    Raises:
        HarnessError: The folder can't be written.
    """
    if not replay.outcome.folder:
        return replay
    folder = str(keep_folder(Path(replay.outcome.folder), results))
    outcome = msgspec.structs.replace(replay.outcome, folder=folder)
    return replace(replay, outcome=outcome)


def difference_of(recorded: Recorded, again: Path) -> str | None:
    """Where a simulated replay differs first from the record; None if nowhere.

    A record that was cut short is the beginning of its replay, up to a last line that
    may be torn. One that was interrupted has an end of its own, and says nothing.
    """
    if recorded.run is not None and not recorded.whole:
        return None
    for name in COMPARED:
        try:
            one = (recorded.folder.path / name).read_bytes()
            other = (again / name).read_bytes()
        except OSError as problem:
            return f"{name} can't be compared: {problem.strerror}"
        if recorded.run is None:
            one = one[: one.rfind(b"\n") + 1]
            other = other[: len(one)]
        if one != other:
            found = differing_line(name, one, other)
            was, is_now = found.texts
            return f"{name}, line {found.line}: it was {was}, and is {is_now} now"
    return None


def keep_folder(folder: Path, results: Path) -> Path:
    """Copy the folder of a replay below `results`/replays.

    Raises:
        HarnessError: It can't be written there.
    """
    place = results.absolute() / "replays" / folder.parent.name / folder.name
    try:
        shutil.copytree(folder, place, symlinks=True)
    except (OSError, shutil.Error) as problem:
        raise HarnessError(f"cannot write to {place}: {problem}") from problem
    return place


# What differed


def differences(recorded: Recorded, outcomes: Sequence[Outcome]) -> list[str]:
    """Sentences about figures of the record that lie outside those of all replays."""
    then = figures(recorded.outcome)
    now = [figures(outcome) for outcome in outcomes]
    told = [
        f"{name}: {_number(value)} in the record, {_range(others)} in replays"
        for name, value in then.items()
        if (others := [each[name] for each in now if name in each])
        and not min(others) <= value <= max(others)
    ]
    told += strike_differences(outcomes, recorded.verdict)
    rungs = {record.rung for record in records_of(outcomes)} - {recorded.test.rung}
    if recorded.test.rung and rungs:
        told.append(f"network: {recorded.test.rung} in the record, {rungs.pop()} here")
    kernel = recorded.test.versions.get("kernel", "")
    if kernel and kernel != (here := release.versions()["kernel"]):
        told.append(f"kernel: {kernel} in the record, {here} here")
    return told[:DIFFERENCES_MAX]


def figures(outcome: Outcome) -> dict[str, float]:
    """Figures of a run that tell what it was like, however long it was."""
    found: dict[str, float] = {
        f"operations a second that ended {end}": round(count / outcome.run_s, 1)
        for end, count in outcome.ops.items()
        if outcome.run_s > 0
    }
    if outcome.folder:
        found |= strike_times(RunFolder(Path(outcome.folder)))
    return found


def strike_times(folder: RunFolder) -> dict[str, float]:
    """When each step of a run's plan struck, in seconds; by a name for it."""
    found = {}
    for life in lives(folder.faults())[0]:
        if life.start is not None and type(life.first.id) is int:
            number = life.first.id + 1
            struck_s = round(life.start.time / 1e9, 2)
            found[f"second at which step {number} ({life.kind}) struck"] = struck_s
    return found


def strike_differences(
    outcomes: Sequence[Outcome], recorded: VerdictRecord
) -> list[str]:
    """Sentences about strikes that met, or had, what they never did in a replay."""
    told = []
    verdicts = [
        RunFolder(Path(each.folder)).verdict() for each in outcomes if each.folder
    ]
    of_replays = [
        strike for each in verdicts if each is not None for strike in each.strikes
    ]
    for strike in recorded.strikes:
        again = [each for each in of_replays if each.id == strike.id]
        if type(strike.id) is not int or not again:
            continue
        step = f"step {strike.id + 1} ({strike.kind})"
        for what, then, now in (
            (
                f"leader as {step} struck",
                strike.leader_before or "nobody",
                {each.leader_before or "nobody" for each in again},
            ),
            (f"effect of {step}", strike.effect, {each.effect for each in again}),
        ):
            if then not in now:
                others = " or ".join(sorted(now))
                told.append(f"{what}: {then} in the record, {others} in replays")
    return told


def records_of(outcomes: Sequence[Outcome]) -> Iterator[TestRecord]:
    """The records of the runs whose folders were kept."""
    for outcome in outcomes:
        if outcome.folder:
            yield RunFolder(Path(outcome.folder)).test()


def _number(value: float) -> str:
    return f"{value:,g}"


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return _number(low) if low == high else f"{_number(low)} to {_number(high)}"
