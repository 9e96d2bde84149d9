"""Torture as a test suite asks for it: keywords in, a verdict and its sentences out.

Earlier failures of the same test are replayed first (`failures.py`); then come fresh
seeds, until one fails. Runs that pass leave nothing behind, the others their folder.

A fresh failure is made smaller before it is told and kept, within a budget.

Runs take place in workers (`processes.py`), never in the process of the test suite,
which may have threads, event loops and whatever else fixtures start.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Literal, TypedDict

import msgspec
import yaml

from harness import registry
from harness.campaign import carrying, seeds
from harness.campaign.experiment import Experiment
from harness.campaign.processes import Processes
from harness.campaign.shrinking import shelf as shelves
from harness.campaign.shrinking.conclusion import conclude
from harness.campaign.shrinking.recorded import shrink_recorded
from harness.errors import HarnessError, SplitbrainError, UsageError
from harness.host import documents, program
from harness.host.scratch import scratch_folder
from harness.report import text
from harness.run.assembling import assemble
from harness.run.completing import complete
from harness.run.spec import DEFAULTS, PlanData, TestSpec, usual_nodes
from harness.run.store import RunFolder
from harness.visible import visible, visible_line

if TYPE_CHECKING:
    from harness.campaign.failures import Database, Kept
    from harness.campaign.outcome import Outcome
    from harness.campaign.shrinking.conclusion import Conclusion

TIME_LIMIT_S = {"os": 10.0, "sim": DEFAULTS["sim"]["time_limit_s"]}
"""World -> how long a run lasts that names no limit; a test suite has less time than
the command line."""

SHRINK_S: Mapping[str, float] = {"os": 0.0, "sim": 30.0}
"""World -> how long each failure is made smaller unless the command line says so. With
real processes that takes minutes, for which nobody waits who did not ask."""

SEEDS = 10**6
"""Seeds that are drawn are smaller than this."""

STEPS_TOLD_MAX = 6

Setting = str | int | float | bool


class Ask(TypedDict, total=False):
    """What to run, beside the system. All of it may be left out.

    Attributes:
        workload: Default: the first that the system serves.
        nemesis: Kinds of fault and words for them, as for `--nemesis`: a list, or
            joined by commas. Default: no faults.
        nodes: Default: 5, for a system of one process 1.
        concurrency: Client threads; default 10.
        rate: Operations a second in all; default no limit, in the simulator 50.
        op_timeout_s: How long a client waits for an answer.
        time_limit_s: Default 10; in the simulator 20, of virtual time.
        ops: End after so many client operations.
        seed: Every choice of the run comes from it.
        options: What `--set` sets: {"reads": "local", "clock.drift": 0.1}.
        world: "os" for real processes, "sim" for the simulator; default "os".
        network: "auto", "switch" or "proxy".
        mutant: Run this broken variant of the protocol.
        also: Checkers beside the workload's, whose verdicts don't count.
        watchdog: Whether nodes that exit on their own are started again.
        plan: The faults: steps as in plan.yaml, or a file that holds them. Default:
            drawn from the seed.
    """

    workload: str
    nemesis: str | Sequence[str]
    nodes: int
    concurrency: int
    rate: float
    op_timeout_s: float
    time_limit_s: float
    ops: int
    seed: int
    options: Mapping[str, Setting]
    world: Literal["os", "sim"]
    network: Literal["auto", "switch", "proxy"]
    mutant: str
    also: Sequence[str]
    watchdog: bool
    plan: PlanData | str | os.PathLike[str]


@dataclass(frozen=True)
class Attempt:
    """What came of torture.

    Attributes:
        outcome: That of the last run, which is the first that was not valid.
        told: What went wrong, in words, if it was not valid; else empty.
        remarks: Sentences about earlier failures that were replayed or passed over.
    """

    outcome: Outcome
    told: str
    remarks: tuple[str, ...]


class Torturer:
    """Carries out what tests ask for, one run at a time.

    Args:
        results: Folders of runs that failed go here.
        database: Keeps failures.
        shrink_s: How long each failure is made smaller; None for `SHRINK_S`.
    """

    def __init__(
        self, results: Path, database: Database, shrink_s: float | None = None
    ) -> None:
        self._results = results
        self._shrink_s = shrink_s
        self._database = database
        self._executor: Processes | None = None
        self._held = contextlib.ExitStack()

    def torture(self, test: str, asked: Experiment, seed_count: int = 1) -> Attempt:
        """Replay the failures of `test`, then run `seed_count` seeds from its own on.

        Raises:
            UsageError: The run is impossible.
            NotInstalledError: It is possible, but this machine lacks a program.
            HarnessError: The harness failed, which says nothing about the system.
        """
        # In this process first, as an impossible run is refused before any starts.
        assemble(asked.spec)
        remarks: list[str] = []
        again, failed = self._replay(test, asked, remarks)
        if failed is not None:
            told = self._failed(test, asked, failed, again)
            return Attempt(failed, told, tuple(remarks))
        outcome = self.run(asked)
        for seed in range(asked.spec.seed + 1, asked.spec.seed + seed_count):
            if outcome.verdict != "valid":
                break
            self.forget(outcome)
            outcome = self.run(asked.with_seed(seed))
        told = ""
        if outcome.verdict == "invalid":
            told = self._failed(test, asked, outcome)
        elif outcome.verdict == "unknown":
            told = tell(outcome)
        return Attempt(outcome, told, tuple(remarks))

    def _failed(
        self,
        test: str,
        asked: Experiment,
        outcome: Outcome,
        again: Kept | None = None,
    ) -> str:
        """Keep a failure, and make it smaller; returns what to tell of it.

        `again` is the earlier failure that it replays, if it does.
        """
        world = outcome.experiment.spec.world
        budget_s = self._shrink_s
        if budget_s is None:
            budget_s = SHRINK_S[world] if again is None else 0.0
        # At once, as an interrupt may end the search.
        file, kept = self._keep(test, asked, outcome, again)
        small, why = None, ""
        try:
            if budget_s:
                why = f"nothing smaller was found in {budget_s:g} s"
                small = shrunk(outcome, budget_s)
            if small is not None and small[0].spec.world == world and file is not None:
                self._database.remove(file)
                file = self._database.keep(test, asked, small[0], outcome.anomalies)
                kept = f"{program.near(file)}, to be replayed first"
        except SplitbrainError as problem:  # it must hide no verdict
            why = f"the search for a smaller one failed: {problem}"
        if small is None:
            kept = "; ".join(filter(None, [kept, why]))
        return tell(outcome, again, kept=kept, small=small)

    def _keep(
        self, test: str, asked: Experiment, outcome: Outcome, again: Kept | None
    ) -> tuple[Path | None, str]:
        """(the file of a failure, a clause that says where it is kept)."""
        failed = outcome.experiment
        if failed.plan is None:
            plan = RunFolder(Path(outcome.folder)).read_as("plan.yaml", PlanData)
            failed = Experiment(failed.spec, plan or [])
        names = outcome.anomalies
        try:
            if again is None:
                file = self._database.keep(test, asked, failed, names)
            else:
                file = self._database.failed_again(test, asked, again, names)
                if again.is_ours:
                    return file, ""  # that it is replayed tells enough
        except HarnessError as problem:  # it must hide no verdict
            return None, f"not at all: {problem}"
        return file, f"{program.near(file)}, to be replayed first"

    def run(self, experiment: Experiment) -> Outcome:
        """The outcome of one run; its verdict is never "error".

        Raises:
            UsageError, HarnessError: As for `torture`.
        """
        try:
            outcome = self._carry_out(experiment)
        except BaseException:  # an interrupt, or a time limit of the test suite's own
            self.close()
            raise
        if outcome is None:
            raise HarnessError("somebody ended the worker of a run")
        if outcome.refused:
            raise UsageError(visible(outcome.reason))
        if outcome.verdict == "error":
            where = f" (see {outcome.folder})" if outcome.folder else ""
            told = visible(f"the harness failed: {outcome.reason}{where}")
            raise HarnessError(told)
        return outcome

    def forget(self, outcome: Outcome) -> None:
        """Remove the folder of a run that passed."""
        if not outcome.folder:
            return
        shutil.rmtree(outcome.folder, ignore_errors=True)
        latest = self._results / "latest"
        with contextlib.suppress(OSError):
            if latest.is_symlink() and not latest.exists():
                latest.unlink()

    def close(self) -> None:
        """End the workers, and with them whatever runs."""
        self._executor = None
        self._held.close()

    def _carry_out(self, experiment: Experiment) -> Outcome | None:
        if self._executor is None:
            scratch = self._held.enter_context(scratch_folder("splitbrain-torture-"))
            carry_out = functools.partial(keep_failing, self._results, scratch)
            self._executor = self._held.enter_context(Processes(carry_out, 1))
        self._executor.submit(experiment)
        (answer,) = self._executor.as_completed()
        return answer[1]

    def _replay(
        self, test: str, asked: Experiment, remarks: list[str]
    ) -> tuple[Kept | None, Outcome | None]:
        """Replay what is kept until it fails: (what failed, its outcome), or Nones."""
        kept, passed_over = self._database.load(test, asked)
        remarks += passed_over
        for again in kept:
            try:
                outcome = self.run(again.experiment)
            except UsageError as refusal:
                remarks.append(f"passed over {again.told}: {refusal}")
                continue
            if outcome.verdict == "invalid":
                remarks.append(f"replayed {again.told}: failed again")
                return again, outcome
            became = f"unknown, {visible_line(outcome.reason)}"
            if outcome.verdict == "valid":
                try:
                    became = self._database.passed(again)
                except HarnessError as problem:
                    became = f"passed; {problem}"
            remarks.append(f"replayed {again.told}: {became}")
            self.forget(outcome)
        return None, None


def keep_failing(results: Path, scratch: Path, experiment: Experiment) -> Outcome:
    """Carry out an experiment in a worker; its folder stays if it is real or failed.

    A simulated run is cheaper without a folder, and is run again if it failed.

    Raises:
        UsageError: The run is impossible.
        HarnessError: It could not be recorded, or a simulated one did not repeat.
    """
    with warnings.catch_warnings():
        # A forked worker has the test suite's filters, which are not about our runs.
        warnings.simplefilter("default")
        if experiment.spec.world != "sim":
            return carrying.keep(results, experiment)
        first = carrying.discard(scratch, experiment)
        if first.verdict in {"valid", "error"}:
            return first
        again = carrying.keep(results, experiment)
        if not seeds.agree(first, again) and not again.interrupted:
            raise HarnessError(
                f"a simulated run was {first.verdict} and became {again.verdict} when "
                f"it was run again: see {again.folder}"
            )
        return again


def shrunk(outcome: Outcome, budget_s: float) -> tuple[Experiment, Conclusion] | None:
    """(the smallest experiment that fails as a run did, what came of the search).

    What is found is kept in the run's folder. None if nothing smaller failed for sure.

    Raises:
        SplitbrainError: The search failed.
        KeyboardInterrupt: It was interrupted.
    """
    folder = RunFolder(Path(outcome.folder))
    recorded = shelves.failing(folder)
    shelf = shelves.Shelf(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as in `keep_failing`
        try:
            found = shrink_recorded(
                recorded, outcome.fingerprints, shelf, budget_s=budget_s
            )
            if found.ended == "interrupted":
                raise KeyboardInterrupt
            conclusion = conclude(found, outcome, shelf, lambda _: None)
        finally:
            shelf.close()
    return (found.best, conclusion) if conclusion.report else None


def experiment(
    system: str, ask: Ask, *, seed: int | None = None, time_limit_s: float | None = None
) -> Experiment:
    """The experiment that a test asks for, in keywords.

    Args:
        system: As on the command line: a name, or "launch:COMMAND".
        ask: Everything else.
        seed: The seed if the test names none; None to draw one.
        time_limit_s: A limit in place of the test's.

    Raises:
        UsageError: There is no such keyword, system, workload or fault, or a value is
            of the wrong type.
    """
    known = list(Ask.__annotations__)
    for name in ask:
        if name not in known:
            raise UsageError(
                f"torture takes no {name!r}{registry.nearest(name, known)} (it takes "
                f"system, {', '.join(known)})"
            )
    if not isinstance(system, str):
        raise UsageError(f"torture: system={system!r:.60} is no text")
    world = ask.get("world", "os")
    if world not in list(TIME_LIMIT_S):  # whatever it is, even what can't be hashed
        raise UsageError(f"torture: world={world!r:.60}: it takes os or sim")
    plan, plan_file = written(ask.get("plan"))
    fields: dict[str, object] = {"time_limit_s": TIME_LIMIT_S[world], "workload": ""}
    fields |= {name: value for name, value in ask.items() if name != "plan"}
    fields |= {
        "system": system,
        "nemesis": words(ask.get("nemesis", ()), "nemesis"),
        "also": words(ask.get("also", ()), "also"),
        "options": settings(ask.get("options", {})),
        "until_invalid": True,
    }
    if time_limit_s is not None:
        fields["time_limit_s"] = time_limit_s
    if "seed" not in ask:
        fields["seed"] = SystemRandom().randrange(SEEDS) if seed is None else seed
    if "nodes" not in ask:
        fields["nodes"] = usual_nodes(system)
    try:
        spec = msgspec.convert(fields, TestSpec)
    except msgspec.ValidationError as problem:
        raise UsageError(f"torture: {problem}") from None
    complete(spec, planned=plan is not None)
    return Experiment(spec, plan, plan_file)


def written(
    plan: PlanData | str | os.PathLike[str] | None,
) -> tuple[PlanData | None, str]:
    """(steps, file) of a plan that was given as steps or as a file; maybe neither.

    Raises:
        UsageError: The file can't be read, or is empty.
    """
    if not isinstance(plan, str | os.PathLike):
        return plan, ""
    path = Path(plan)
    data = documents.read_yaml(path)
    if data is None:
        raise UsageError(f"plan {path} is empty; a plan without faults is []")
    return data, str(path)  # Experiment refuses what is no plan


def words(given: str | Sequence[str], name: str) -> list[str]:
    """The words of a text with commas, or of several texts.

    Raises:
        UsageError: It is something else; `name` says what it was for.
    """
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list | tuple) or not {*map(type, texts)} <= {str}:
        raise UsageError(f"torture: {name}={given!r:.60}: it takes a list of names")
    return [word.strip() for one in texts for word in one.split(",") if word.strip()]


def settings(given: Mapping[str, Setting]) -> dict[str, str]:
    """The texts that `--set` would have for these values.

    Raises:
        UsageError: One of them is neither text, number nor bool.
    """
    if not isinstance(given, Mapping):
        raise UsageError(f"torture: options={given!r:.60}: it takes a dict")
    out = {}
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str | int | float):
            raise UsageError(
                f"torture: options: {name!r:.60}: {value!r:.60} is neither a text nor "
                "a number nor true or false"
            )
        out[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return out


def tell(
    outcome: Outcome,
    again: Kept | None = None,
    *,
    kept: str = "",
    small: tuple[Experiment, Conclusion] | None = None,
) -> str:
    """What a run that was not valid has to say, in words.

    Args:
        outcome: The run, whose folder is there.
        again: The earlier failure that it replayed, if it did.
        kept: Where it was kept to be replayed, if it was.
        small: What `shrunk` has found. If it has, this is what is told.
    """
    where, told, repro = outcome.folder, outcome.experiment, outcome.repro
    if small is not None:
        told, conclusion = small
        where, repro = conclusion.folder, conclusion.command
    folder = RunFolder(Path(where))
    rows = [("seed", str(told.spec.seed))]
    if small is not None:
        rows.append(("shrunk", conclusion.headline))
    if again is not None:
        rows.append(("replayed", again.told))
    if kept:
        rows.append(("kept", kept))
    rows += _plan_rows(folder)
    rows.append(("again", repro))
    if small is None and outcome.verdict == "invalid" and told.spec.world == "os":
        words = [*program.words(), "shrink", program.near(folder.path)]
        rows.append(("smaller", shlex.join(words)))
    if (report := folder.path / "report.html").exists():
        rows.append(("report", program.near(report)))
    table = "".join(f"{name:<9}{line}".rstrip() + "\n" for name, line in rows)
    # pytest prints it as it is, and values and names in it may be a node's.
    return visible(f"{text.finding(folder.path)}\n{table}".rstrip())


def _plan_rows(folder: RunFolder) -> list[tuple[str, str]]:
    """The steps of the plan as run, a row each; those that are too many are counted."""
    plan = folder.read_as("plan.yaml", PlanData) or []
    steps: list[str] = [
        yaml.safe_dump(step, sort_keys=False, default_flow_style=True, width=10**6)
        for step in plan[:STEPS_TOLD_MAX]
    ]
    if more := len(plan) - len(steps):
        steps.append(f"and {more} more")
    return [
        ("" if place else "plan", visible_line(step.strip()))
        for place, step in enumerate(steps or ["no faults"])
    ]
