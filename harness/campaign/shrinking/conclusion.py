"""What a search has come to: its result is run again, kept, and told."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING

import msgspec

from harness.campaign.experiment import steps_of
from harness.campaign.shrinking import shelf as shelves
from harness.campaign.shrinking.proving import prove
from harness.campaign.shrinking.size import UNBOUNDED, size
from harness.faults import plan as plans
from harness.host.scratch import scratch_folder
from harness.report.figures import plural
from harness.report.rates import Rate

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.campaign.experiment import Experiment
    from harness.campaign.outcome import Outcome
    from harness.campaign.shrinking.search import Shrunk
    from harness.campaign.shrinking.shelf import Shelf


class Extent(msgspec.Struct, frozen=True):
    """How large an experiment is, in the numbers that people ask for first.

    Attributes:
        operations: Those that its run made; their limit if there was no run.
    """

    steps: int
    nodes: int
    clients: int
    operations: int | None


class OtherFailure(msgspec.Struct, frozen=True):
    """Another failure met on the way, and the command that shows it."""

    anomaly: str
    checker: str
    command: str


class Proposal(msgspec.Struct, frozen=True):
    """What fails in the simulator and is smaller than what real processes confirmed."""

    extent: Extent
    command: str


class Conclusion(msgspec.Struct, kw_only=True):
    """The object of `shrink --json`.

    Attributes:
        ended: "complete", "budget", "interrupted" or "not reproduced".
        rate: How often the result failed when it was run again; if the failure did not
            come again, how often the original failed.
        before, after: The extent of the run and of the result; `after` is None if
            nothing smaller was found.
        world: Where the result fails.
        run_world: Where the run failed.
        anomaly, sentence: What goes wrong in the result.
        plan: The plan of the result, as YAML.
        command: The command that runs the result; empty if there is none.
        folder: The folder of the result.
        report, test: Files in it; empty if no run of the result failed yet.
        runs: How many runs the search has made.
        cpu_s: Their processor time.
        remarks: Sentences about the way to the result.
        others: Other failures met on the way.
        simulated: Something smaller that fails in the simulator alone, as far as is
            known.
    """

    ended: str
    rate: dict[str, int | float]
    before: Extent
    after: Extent | None = None
    world: str = ""
    run_world: str = ""
    anomaly: str = ""
    sentence: str = ""
    plan: str = ""
    command: str = ""
    folder: str = ""
    report: str = ""
    test: str = ""
    runs: int = 0
    cpu_s: float = 0.0
    remarks: list[str] = []
    others: list[OtherFailure] = []
    simulated: Proposal | None = None

    @property
    def was_seen(self) -> bool:
        """Whether the failure came again."""
        return bool(self.rate["hits"])

    @property
    def headline(self) -> str:
        """What became smaller, and how often it fails, in a line."""
        hits, runs = self.rate["hits"], self.rate["runs"]
        if self.ended == "not reproduced":
            return f"{hits} of {runs}: not reproduced"
        if self.after is None:
            in_time = " in time" if self.ended == "budget" else ""
            return f"nothing smaller was found{in_time}"
        told: list[str] = []
        for one, name in (
            ("step", "steps"),
            ("node", "nodes"),
            ("client", "clients"),
            ("operation", "operations"),
        ):
            before, after = getattr(self.before, name), getattr(self.after, name)
            if after is not None and before != after:
                is_first = not told or name == "steps"
                told.append(
                    f"{plural(before, one)} -> "
                    f"{plural(after, one) if is_first else f'{after:,}'}"
                )
        return (", ".join(told) or "no count became smaller") + self._often

    @property
    def _often(self) -> str:
        """How often the result fails, as a clause; empty if nobody knows."""
        rate = Rate(int(self.rate["hits"]), int(self.rate["runs"]))
        if not rate.runs:
            return ""
        if self.world != "sim":
            return f"; fails {rate}"
        often = "always" if rate.hits == rate.runs else str(rate)
        if self.run_world == "sim":
            return f"; fails {often}"
        return f"; fails {often} in the simulator, not confirmed with real processes"

    def as_json(self) -> dict[str, object]:
        """The conclusion as plain data."""
        data: dict[str, object] = msgspec.to_builtins(self)
        return data

    def text(self) -> str:
        """The conclusion for the terminal."""
        lines = [self.headline, *(f"  {remark}" for remark in self.remarks)]
        if self.plan and self.after is not None:
            lines += ["", self.plan.rstrip()]
        if self.sentence:
            lines += ["", f"{self.anomaly}: {self.sentence}"]
        lines.append("")
        if self.command and self.after is not None:
            lines.append(f"Run it   {self.command}")
        for name, value in (("Report", self.report), ("Test", self.test)):
            if value:
                lines.append(f"{name:<8} {value}")
        lines += [
            f"Another anomaly met on the way: {other.anomaly} ({other.checker}); "
            f"run it with {other.command}"
            for other in self.others
        ]
        if self.simulated is not None:
            small = self.simulated
            lines.append(
                f"The simulator fails with less ({words(small.extent)}), which real "
                f"processes did not confirm; run it with {small.command}"
            )
        lines.append(f"{self._how()} after {plural(self.runs, 'run')}")
        return "\n".join(lines)

    def _how(self) -> str:
        match self.ended:
            case "complete":
                return "complete: no single change makes it smaller,"
            case "budget":
                return "the budget was spent (the same command goes on from here)"
            case "interrupted":
                return "interrupted (the same command goes on from here)"
            case _:
                return "given up"


def conclude(
    shrunk: Shrunk, failed: Outcome, shelf: Shelf, tell: Callable[[str], None]
) -> Conclusion:
    """Run the result again, unless there is none or nobody waits; keep and tell it.

    Args:
        shrunk: What the search has come to.
        failed: The outcome of the original run.
        shelf: Where the result is kept.
        tell: Called with a clause now and then.

    Raises:
        HarnessError: The result can't be run or written, or a simulated one doesn't
            repeat.
    """
    out = Conclusion(
        ended=shrunk.ended,
        run_world=failed.experiment.spec.world,
        rate=shrunk.rate.as_json(),
        before=extent(shrunk.first, failed),
        runs=shrunk.runs,
        cpu_s=round(shrunk.cpu_s, 1),
        remarks=shrunk.remarks,
        folder=str(shelf.path),
    )
    if shrunk.false_accepts:
        found_out = plural(shrunk.false_accepts, "smaller experiment")
        out.remarks.append(f"{found_out} had failed by luck, and went again")
    for other in shelf.keep_others(shrunk.others):
        fingerprint = other.fingerprint
        out.others.append(
            OtherFailure(fingerprint.anomaly, fingerprint.checker, other.command)
        )
    if not shrunk.is_smaller or shrunk.ended == "not reproduced":
        return out
    best = shrunk.best
    shelf.adopted(best)
    out.world, out.plan = best.spec.world, plans.dump(steps_of(best))
    out.after = extent(best, None)
    out.command = shlex.join(shelf.command(best))
    small = shrunk.simulated
    if small is not None and best.spec.world == "os" and is_news(small, best):
        command = shlex.join(shelf.keep_simulated(small))
        out.simulated = Proposal(extent(small, None), command)
    if shrunk.ended == "interrupted" and best.spec.world == "os":
        out.remarks.append("interrupted before the result was run again")
        return out
    with scratch_folder("splitbrain-shrunk-") as scratch:
        rate, again = prove(shrunk, failed.fingerprints, scratch, tell)
        rate = Rate(rate.hits + shrunk.rate.hits, rate.runs + shrunk.rate.runs)
        out.rate = rate.as_json()
        if again is None:
            out.remarks.append(
                "the budget was spent before the result failed again"
                if time.monotonic() >= shrunk.until_s
                else "the result failed by luck, and not when run again"
            )
            return out
        shelf.keep_run(again)
        shelf.link()
    out.after = extent(best, again)
    out.anomaly, out.sentence = shelves.sentence_of(shelf.folder, failed.fingerprints)
    out.report = str(shelf.path / "report.html")
    out.test = str(shelf.keep_test(best, rate, out.sentence, out.anomaly))
    return out


def is_news(small: Experiment, best: Experiment) -> bool:
    """Whether an experiment is smaller in what people ask for first."""
    return size(small) < size(best) and extent(small, None) != extent(best, None)


def words(extent: Extent) -> str:
    """An extent, in a few words."""
    out = [
        plural(extent.steps, "step"),
        plural(extent.nodes, "node"),
        plural(extent.clients, "client"),
    ]
    if extent.operations is not None:
        out.append(plural(extent.operations, "operation"))
    return ", ".join(out)


def extent(experiment: Experiment, outcome: Outcome | None) -> Extent:
    """The extent of an experiment, and of its run if there is one."""
    measured = size(experiment)
    ops: int | None = None if measured.ops >= UNBOUNDED else measured.ops
    if outcome is not None:
        ops = sum(outcome.ops.values())
    return Extent(measured.steps, measured.nodes, measured.clients, ops)
