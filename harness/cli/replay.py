"""`splitbrain replay`: a recorded run, again and again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.flags import AS_JSON, JOBS, RESULTS, number
from harness.cli.terminal import complain, interrupted, say
from harness.errors import EXIT_HARNESS
from harness.host import interrupts
from harness.options import Whole
from harness.visible import visible_line

if TYPE_CHECKING:
    from harness.campaign.replay import Recorded, Replay, Replays, Trigger

TIMES = Whole(1, 10_000)
TIMES_DEFAULT = {"os": 5, "sim": 1}


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@number("--times", TIMES, help="How often; default: 5, in the simulator 1.")
@number("--jobs", JOBS, default=1, show_default=True, help=(
    "Runs side by side, which disturb each other if they are real."
))  # fmt: skip
@click.option(
    "--triggers",
    type=click.Choice(["time", "event", "both"]),
    default="both",
    show_default=True,
    help="Strike at the plan's times, or at the events that came just before, in turn. "
    "Simulated runs repeat by time, unless these are asked for by --triggers event.",
)
@RESULTS
@AS_JSON
def replay(
    run: Path,
    *,
    times: int | None,
    jobs: int,
    triggers: str,
    results: Path,
    as_json: bool,
) -> int:
    """Run the experiment of a RUN folder again, and tell how often it fails again.

    In the simulator each replay is compared with the record, byte for byte. Real
    processes are run with the strikes of plan.yaml; the same failure is one of the same
    checker and anomaly. Run folders go to replays/ below --results.

    Exit status: that of the worst replay. 1 if any failed, in whatever way; 0 if all
    kept their promises, so that the failure didn't come back; 2 if any is unknown; 255
    if the harness failed, or if a simulated replay of the same code differs.
    """
    from harness.campaign import replay as campaign
    from harness.cli.progress import ProgressLine
    from harness.run.store import RunFolder

    tried: tuple[Trigger, ...] = ("time", "event")
    if triggers != "both":
        tried = ("time",) if triggers == "time" else ("event",)
    with interrupts.raised():
        try:
            recorded = campaign.load(RunFolder.open(run))
            if triggers == "event":
                recorded = campaign.with_events(recorded)
        except KeyboardInterrupt:
            return interrupted("interrupted before it began", as_json=as_json)
    times = times or TIMES_DEFAULT[recorded.test.spec.world]
    if not as_json:
        say(headline(recorded, times))
        for remark in recorded.remarks:
            say(f"  {remark}")
    progress = ProgressLine(enabled=not as_json)
    progress.tell(f"0 of {times} replays are made ...")
    done = 0

    def show(replay: Replay) -> None:
        nonlocal done
        done += 1
        progress.clear()
        if not as_json:
            say(f"  {done}: {line(replay, recorded)}")
        if done < times:
            progress.tell(f"{done} of {times} replays are made ...")

    with interrupts.noted():  # `replayed` hears them, and what it has is printed
        found = campaign.replayed(
            recorded, times, results, jobs=jobs, triggers=tried, show=show
        )
        progress.clear()
        say(json.dumps(found.as_json()) if as_json else f"\n{summary(found)}")
        if found.interrupted:
            complain(f"interrupted: {len(found.done)} of {times} replays were made")
        return status(found)


def status(found: Replays) -> int:
    """The exit status of all replays together."""
    from harness.judge import analysis

    verdict = found.verdict
    if verdict == "error":
        return EXIT_HARNESS
    return analysis.status_of(verdict, found.recorded.test.spec.expect)


def headline(recorded: Recorded, times: int) -> str:
    """What is replayed, in a line."""
    spec, outcome = recorded.test.spec, recorded.outcome
    why = ", ".join(outcome.anomalies) or outcome.reason
    what = f"{outcome.verdict}{f' ({why})' if why else ''} in the record"
    often = "once" if times == 1 else f"{times} times"
    return f"{spec.system} / {spec.workload}, seed {spec.seed}, {what}: again {often}"


def line(replay: Replay, recorded: Recorded) -> str:
    """One replay, in a line."""
    outcome = replay.outcome
    why = ", ".join(outcome.anomalies) or outcome.reason
    words = [f"{outcome.verdict}{f' ({why})' if why else ''}"]
    if len(recorded.variants) > 1:
        words.append(f"by {replay.trigger}")
    words.append(f"{outcome.seconds:.1f} s")
    if outcome.folder:
        words.append(outcome.folder)
    return ", ".join(words)


def summary(found: Replays) -> str:
    """What all replays together say."""
    recorded, rate = found.recorded, found.rate()
    lines = []
    if not rate.runs:
        lines.append("no replay was judged")
    elif not recorded.failed and not rate.hits:
        lines.append(
            f"{rate.runs} of {rate.runs} had no failure, as the record has none "
            f"(it is {recorded.outcome.verdict})"
        )
    elif not recorded.failed:
        lines.append(f"failed {rate}, though the record has no failure")
    elif not rate.hits:
        lines.append(f"{rate.hits} of {rate.runs}: not reproduced")
    else:
        lines.append(f"failed {rate}")
    if len(found.triggers) > 1:
        lines += [f"  by {each}: failed {found.rate(each)}" for each in found.triggers]
    lines += [
        f"  failed otherwise: {anomaly}, {count} of {rate.runs}"
        for anomaly, count in found.otherwise.items()
    ]
    simulated = [
        each
        for each in found.done
        if recorded.is_simulated and each.trigger == "time"
        if each.outcome.verdict != "error"
    ]
    differ = [each.difference for each in simulated if each.difference]
    if differ:
        lines.append(f"differs from the record, as other code may: {differ[0]}")
    elif simulated and recorded.run is not None and not recorded.whole:
        lines.append("not compared with the record, which was interrupted")
    elif simulated:
        lines.append("the same history and faults as in the record, to the byte")
    for verdict, what in (("unknown", "unknown"), ("error", "the harness failed")):
        reasons = [
            each.outcome.reason
            for each in found.done
            if each.outcome.verdict == verdict and not each.counts
        ]
        if reasons:
            often = "once" if len(reasons) == 1 else f"{len(reasons)} times"
            lines.append(f"{what} {often}: {visible_line(reasons[0])}")
    if recorded.failed and rate.runs and not rate.hits:
        lines += what_differed(found)
    return "\n".join(lines)


def what_differed(found: Replays) -> list[str]:
    """What may be why the failure never came back."""
    highest = found.rate().upper()
    rarer = f"if it comes at all, it comes in fewer than {highest:.0%} of runs"
    if not found.differed:
        return [f"no figure of the record lies outside those of replays; {rarer}"]
    return ["here is what differed:", *(f"  {each}" for each in found.differed), rarer]
