"""`splitbrain explain`: from which moment on a failure was likely."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.flags import AS_JSON, JOBS, number
from harness.cli.terminal import complain, interrupted, say
from harness.errors import EXIT_UNKNOWN, HarnessError
from harness.host import interrupts
from harness.options import Whole

if TYPE_CHECKING:
    from harness.campaign.why import Moment, Why

MOMENTS = Whole(2, 1000)
RUNS = Whole(1, 1000)
AROUND_SHOWN_MAX = 40
"""Lines about what happened around the jump."""
BAR = 40
"""Characters of a rate of 1."""


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@number("--moments", MOMENTS, default=20, show_default=True, help=(
    "Moments from which on chance takes another course."
))  # fmt: skip
@number("--runs", RUNS, default=10, show_default=True, help="Runs for each moment.")
@number("--jobs", JOBS, default=1, show_default=True, help="Runs side by side.")
@AS_JSON
def explain(run: Path, *, moments: int, runs: int, jobs: int, as_json: bool) -> int:
    """Find out from which moment on the failure of a simulated RUN was likely.

    The run is repeated up to a moment, and from there on chance takes another course:
    disks, links and timers are faster or slower. Where the share of runs that fail in
    the same way jumps, the moment that mattered has been. Moments close to the jump are
    chosen by bisection. The result is stored in RUN as why.json, and drawn in its
    report. The same run gives the same result. Exit status: 0, or 2 if it was
    interrupted; then what was measured is stored unless more is there already.
    """
    from harness import report
    from harness.campaign import why
    from harness.cli.progress import ProgressLine
    from harness.host.documents import writing
    from harness.run.store import RunFolder

    recorded = why.load(RunFolder.open(run))
    recorded.folder.need_room()
    for remark in recorded.remarks:
        complain(remark)
    line = ProgressLine(enabled=not as_json)
    done = 0

    def show(moment: Moment) -> None:
        nonlocal done
        done += 1
        line.tell(
            f"{done} of {moments} moments | {moment.at_ns / 1e9:.3f} s: {moment.rate}"
        )

    with interrupts.raised():
        try:
            found = why.explain(
                recorded, moments=moments, runs=runs, jobs=jobs, show=show
            )
        except KeyboardInterrupt:
            line.clear()
            return interrupted("interrupted before the end", as_json=as_json)
    with interrupts.noted():  # it is too late to end early: all is kept and printed
        line.clear()
        file = recorded.folder.path / why.FILE
        where = f"stored in {file}"
        try:
            if not why.is_worth_storing(found):
                where = f"not stored: {file} has more moments"
            else:
                recorded.folder.write_json(file.name, found.as_json())
                with writing(recorded.folder.path / "report.html"):
                    report.build(recorded.folder.path)
        except HarnessError:
            where = "not stored"
            raise
        finally:  # a full disk takes nothing that could not be told
            say(json.dumps(found.as_json()) if as_json else text(found, where))
        if found.interrupted:
            told = f"interrupted after {len(found.moments)} of {moments} moments"
            complain(f"{told}; the same command measures them all")
    return EXIT_UNKNOWN if found.interrupted else 0


def text(found: Why, where: str) -> str:
    """The answer for people; `where` says where it is stored."""
    from harness.campaign.why import nearest

    spec = found.recorded.experiment.spec
    names = ", ".join(sorted({each.anomaly for each in found.recorded.fingerprints}))
    lines = [
        f"{spec.system} / {spec.workload}, seed {spec.seed}: {names}",
        "",
        "     seconds  runs that fail so if chance changes then",
    ]
    jump = found.jump
    for moment in found.moments:
        if jump is not None and moment is jump[1]:
            lines.append(" " * 13 + "-- the jump --")
        rate = moment.rate
        bar = "#" * round(BAR * rate.observed)
        bounds = f"{rate.lower():.2f} to {rate.upper():.2f}"
        counts = f"{rate.hits:3} of {rate.runs:<3}"
        lines.append(f"{moment.at_ns / 1e9:12.6f}  {counts} {bounds}  {bar}")
    lines += ["", verdict(found)]
    if jump is not None:
        middle_ns = (jump[0].at_ns + jump[1].at_ns) // 2
        shown = nearest(found.around, middle_ns, AROUND_SHOWN_MAX)
        lines += [f"{each.at_ns / 1e9:12.6f}  {each.text}" for each in shown]
        if more := len(found.around) - len(shown):
            lines.append(f"{'':12}  ... and {more} more, farther away, in why.json")
    lines += ["", f"{found.runs} runs; {where}"]
    return "\n".join(lines)


def verdict(found: Why) -> str:
    """What the rates say, in a sentence."""
    jump = found.jump
    first, last = found.moments[0].rate, found.moments[-1].rate
    if jump is None and not first.hits:
        return (
            f"No moment makes the failure likelier ({first} at the start): chance "
            "alone brought it about, or something later than these moments."
        )
    if jump is None:
        return (
            f"The failure was as likely at the start ({first}) as at the end: the plan "
            "brings it about, whatever chance does."
        )
    before, after = jump
    where = f"{before.at_ns / 1e9:.6f} s and {after.at_ns / 1e9:.6f} s"
    rates = f"before, the failure came in {before.rate}; after, in {after.rate}"
    if found.is_clear:
        return f"Most was decided between {where}: {rates}. Around then:"
    return (
        f"No moment stands out beyond doubt: {first} at the start, {last} at the end. "
        f"The rate rises most between {where}: {rates}. More --runs may tell. Around "
        "then:"
    )
