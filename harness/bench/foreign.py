"""Foreign systems with planted bugs: those of examples/foreign, as others write them.

They are written in several languages and share nothing with our protocols. They observe
nothing of themselves, and no checker knows them: all that can be learned of them is
what clients and logs tell. Each folder has a `foreign.yaml`, which says how the system
is built and started, what it promises, and which bugs it can be given.

A bug is on trial as a mutant is (`harness.bench.mutants`): run after run, each from the
next seed, under the faults that it declares, until a checker convicts it or the budget
is gone. The correct system is run under all faults that it bears, for each workload
that it serves; a run of it that is invalid is a false alarm. Seconds are real time.

Compiled systems are built once, into a folder of the user's cache that is named by
their sources. A system whose compiler or interpreter is not there is skipped.
"""

from __future__ import annotations

import functools
import hashlib
import os
import secrets
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import msgspec

from harness.bench.mutants import LIMIT_S, OS_PROFILE, OS_RUN_S
from harness.bench.trials import (
    SEEDS_APART,
    Turn,
    hold,
    make_place,
    now,
    one,
    outcome_of,
    store,
    table,
)
from harness.campaign.carrying import discard
from harness.errors import HarnessError, UsageError
from harness.faults.profiles import PROFILES
from harness.host.documents import making_room, read_yaml
from harness.registry import nearest
from harness.run.completing import complete
from harness.run.spec import TestSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.campaign.executor import Pursuit

FOREIGN = "foreign"
"""What stands in the place of a protocol's name."""
FOLDER = Path(__file__).resolve().parents[2] / "examples" / "foreign"
CONTROL_RUNS = 5
"""Runs of a correct system for each of its workloads."""
CONVICTED_SHARE = 0.9
"""The share of bugs that must be convicted."""
BUILD_LIMIT_S = 300.0


class Bug(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bug that a foreign system can be given.

    Attributes:
        faults: Kinds of fault that expose it, with a profile where `OS_PROFILE` is too
            hasty; none if it shows without any.
        finds: Anomalies, any of which shows it; those of the system if there are none.
        workload: The workload that exposes it; "" for the system's first one.
    """

    faults: list[str]
    finds: list[str] = []
    workload: str = ""


class System(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A foreign system, as its `foreign.yaml` describes it.

    Attributes:
        needs: Programs that must be on PATH to build and run it.
        build: A command that is run once, in the folder of the sources. In this and in
            `command`, {build} is the folder of what was built, {folder} that of the
            sources, {workload} the workload, and {python} our interpreter.
        command: The command of a node; a bug adds `--bug NAME` to it.
        workloads: Those that it serves, each with its `--set` options.
        faults: Kinds of fault that it bears without breaking a promise.
        finds: Anomalies that show its bugs.
        run_s: Length of a run: several must fit into the budget.
        bugs: Name -> bug.
    """

    about: str
    language: str
    needs: list[str]
    command: str
    workloads: dict[str, dict[str, str]]
    faults: list[str]
    finds: list[str]
    bugs: dict[str, Bug]
    build: str = ""
    nodes: int = 3
    run_s: float = OS_RUN_S

    def workload_of(self, bug: str | None) -> str:
        """The workload that exposes a bug; the first one for the correct system."""
        named = self.bugs[bug].workload if bug else ""
        return named or next(iter(self.workloads))

    def expected(self, bug: str) -> set[str]:
        """The anomalies that show a bug."""
        return set(self.bugs[bug].finds or self.finds)

    @property
    def missing(self) -> list[str]:
        """The programs that it needs and that are not on PATH."""
        return [name for name in self.needs if shutil.which(name) is None]


@functools.cache
def systems() -> Mapping[str, System]:
    """Name -> foreign system.

    Raises:
        UsageError: A `foreign.yaml` is not as it should be; or there are none, as with
            an installation without its sources.
    """
    files = sorted(FOLDER.glob("*/foreign.yaml"))
    if not files:
        raise UsageError(
            f"there are no foreign systems in {FOLDER}: they come with the sources of "
            f"splitbrain; run it from a clone"
        )
    return {file.parent.name: described(file) for file in files}


def described(file: Path) -> System:
    """The system that a `foreign.yaml` describes.

    Raises:
        UsageError: It is not as it should be; says where.
    """
    try:
        system = msgspec.convert(read_yaml(file), System)
    except msgspec.ValidationError as wrong:
        raise UsageError(f"{file}: {wrong}") from None
    if not system.workloads:
        raise UsageError(f"{file}: it names no workload")
    for name, bug in system.bugs.items():
        if bug.workload and bug.workload not in system.workloads:
            raise UsageError(
                f"{file}: bug {name} is for a workload {bug.workload!r} that is not "
                f"among those of the system: {', '.join(system.workloads)}"
            )
    return system


def bugs() -> list[tuple[str, str]]:
    """(system, bug) of all bugs that can be tried on this machine."""
    return [
        (name, bug)
        for name, system in systems().items()
        if not system.missing
        for bug in system.bugs
    ]


def set_up(name: str, bug: str | None, workload: str | None = None) -> TestSpec:
    """A run of a foreign system, which is built if need be.

    Args:
        name: The system.
        bug: The bug that it is given, exposed by what that declares; None for the
            correct system and all faults that it bears.
        workload: The workload, if it is not the bug's, or the system's first one.

    Raises:
        HarnessError: It can't be built.
    """
    system = systems()[name]
    workload = workload or system.workload_of(bug)
    faults = system.bugs[bug].faults if bug else system.faults
    is_paced = not faults or any(word in PROFILES for word in faults)
    asked = list(faults) if is_paced else [OS_PROFILE, *faults]
    words = filled(system.command, name, workload)
    if bug:
        words += ["--bug", bug]
    spec = TestSpec(
        # Placeholders of ours are filled in; the paths may hold braces.
        system="launch:"
        + shlex.join(word.replace("{", "{{").replace("}", "}}") for word in words),
        workload=workload,
        nemesis=asked,
        nodes=system.nodes,
        options=dict(system.workloads[workload]),
        time_limit_s=system.run_s,
        until_invalid=True,
    )
    complete(spec)
    return spec


def filled(command: str, name: str, workload: str) -> list[str]:
    """A node's command in words, with values for our placeholders.

    Raises:
        HarnessError: The system can't be built.
    """
    values = {
        "build": str(built(name)),
        "folder": str(FOLDER / name),
        "workload": workload,
        "python": sys.executable,
    }
    return [word.format_map(values) for word in shlex.split(command)]


# --- building --------------------------------------------------------------------


def cache() -> Path:
    """The folder below which systems are built."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "splitbrain" / "foreign"


@functools.cache
def built(name: str) -> Path:
    """The folder of what was built of a system; its sources if nothing has to be.

    Raises:
        HarnessError: The folder can't be made, or the build fails; says how.
    """
    system = systems()[name]
    if not system.build:
        return FOLDER / name
    folder = cache() / f"{name}-{digest(name)}"
    if folder.exists():
        return folder
    # Built beside its place, so that a build that is cut off leaves nothing half done.
    fresh = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}")
    try:
        fresh.mkdir(parents=True)
        build(name, system.build, fresh)
        fresh.rename(folder)
    except OSError as problem:
        if not folder.exists():  # somebody else may have built it meanwhile
            raise HarnessError(f"can't build {name} in {folder}: {problem}") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def build(name: str, command: str, folder: Path) -> None:
    """Run a system's build command.

    Raises:
        HarnessError: It fails, or takes too long.
        OSError: Its program can't be started.
    """
    words = [word.format_map({"build": str(folder)}) for word in shlex.split(command)]
    try:
        ended = subprocess.run(
            words,
            cwd=FOLDER / name,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=BUILD_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise HarnessError(f"building {name} took over {BUILD_LIMIT_S:g} s") from None
    if ended.returncode:
        lines = ended.stdout.strip().splitlines() or ["it says nothing"]
        raise HarnessError(f"can't build {name}: {lines[0]}")


def digest(name: str) -> str:
    """A name for the sources of a system, and for how they are built."""
    out = hashlib.sha256()
    for file in sorted((FOLDER / name).iterdir()):
        if file.is_file():
            out.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return out.hexdigest()[:16]


# --- trials ----------------------------------------------------------------------


class Trial(msgspec.Struct, kw_only=True):
    """The outcome of a trial of a bug, or of the runs of a correct system.

    Attributes:
        verdicts: The runs' verdicts.
        seconds: What the runs took together.
        anomalies, repro: Those of the last run that was invalid, and its command.
    """

    verdicts: list[str] = []
    seconds: float = 0.0
    anomalies: list[str] = []
    repro: str = ""

    @property
    def convicts(self) -> bool:
        """Whether a run was invalid."""
        return "invalid" in self.verdicts


@dataclass
class Row:
    """A bug of a system, or a correct system under one workload; and its trials."""

    system: str
    bug: str | None
    workload: str
    skipped: str = ""
    error: str = ""
    trials: list[Trial] = field(default_factory=list)

    @property
    def convictions(self) -> list[Trial]:
        """The trials with a run that was invalid."""
        return [trial for trial in self.trials if trial.convicts]

    @property
    def outcome(self) -> str:
        """The outcome in a word or two."""
        if self.skipped or self.error:
            return "skipped" if self.skipped else "ERROR"
        if self.bug is None:
            runs = {verdict for trial in self.trials for verdict in trial.verdicts}
            told = "clean" if "valid" in runs else "UNDECIDED"
            return "FALSE ALARM" if self.convictions else told
        if len(self.convictions) * 2 <= len(self.trials):
            return "ESCAPED"
        expected = systems()[self.system].expected(self.bug)
        as_expected = all(expected & set(trial.anomalies) for trial in self.convictions)
        return "convicted" if as_expected else "UNEXPECTED"

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        language = systems()[self.system].language
        names = (self.system, language, self.bug or f"(correct: {self.workload})")
        if self.skipped or self.error:
            return (*names, self.outcome, self.skipped or self.error, "", "")
        told = self.convictions or self.trials
        found = sorted({name for trial in told for name in trial.anomalies})
        runs = [len(trial.verdicts) for trial in told]
        return (
            *names,
            self.outcome,
            ", ".join(found),
            f"{sum(runs) if self.bug is None else median(runs):g}",
            f"{median(trial.seconds for trial in told):.1f}",
        )


HEADINGS = ("system", "language", "bug", "", "found", "runs", "s")


def rows(name: str | None) -> list[Row]:
    """The rows of all foreign systems, or of one.

    Raises:
        UsageError: There is no such system.
    """
    every = systems()
    if name is not None and name not in every:
        raise UsageError(
            f"no foreign system is called {name!r}{nearest(name, every)} "
            f"(there are: {', '.join(every)})"
        )
    out = []
    for known, system in every.items():
        if name in {None, known}:
            needs = ", ".join(system.missing)
            skipped = f"needs {needs} on PATH" if needs else ""
            out += [
                Row(known, bug, system.workload_of(bug), skipped) for bug in system.bugs
            ]
            out += [Row(known, None, each, skipped) for each in system.workloads]
    return out


def trial(row: Row, seed: int, budget_s: float) -> Pursuit[Trial]:
    """Try a row: a bug until it is convicted, a correct system `CONTROL_RUNS` times.

    Raises:
        HarnessError: It can't be built; a run failed, or was ended from outside.
    """
    spec = set_up(row.system, row.bug, row.workload)
    out = Trial()

    def goes_on() -> bool:
        if row.bug is None:
            return len(out.verdicts) < CONTROL_RUNS
        # A run that can't end within the budget would convict too late.
        in_time = not out.verdicts or out.seconds + spec.time_limit_s <= budget_s
        return not out.convicts and in_time

    while goes_on():
        outcome = yield from one(spec, seed + len(out.verdicts))
        out.verdicts.append(outcome.verdict)
        out.seconds = round(out.seconds + outcome.seconds, 2)
        if outcome.verdict == "invalid":
            out.anomalies, out.repro = outcome.anomalies, outcome.repro
    return out


@dataclass
class Tried:
    """The outcome of the benchmark."""

    rows: list[Row]
    budget_s: float
    record: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None
    interrupted: str = ""
    """How far it was when a stop signal ended it; empty if none did."""

    @property
    def tried(self) -> list[Row]:
        """The rows that were tried."""
        return [row for row in self.rows if row.trials or row.error]

    @property
    def meets_target(self) -> bool:
        """Whether enough bugs were convicted, and every correct system was clean."""
        tried = self.tried
        bugs = [row for row in tried if row.bug is not None]
        convicted = sum(row.outcome == "convicted" for row in bugs)
        controls = [row for row in tried if row.bug is None]
        return (
            bool(bugs)
            and convicted >= CONVICTED_SHARE * len(bugs)
            and all(row.outcome == "clean" for row in controls)
            and not self.interrupted
        )

    def text(self) -> str:
        """The table, and lines that sum it up."""
        told = [row for row in self.rows if row.trials or row.error or row.skipped]
        bugs = [row for row in self.tried if row.bug is not None]
        convicted = sum(row.outcome == "convicted" for row in bugs)
        correct = [t for row in self.tried if row.bug is None for t in row.trials]
        alarms = [trial for trial in correct if trial.convicts]
        runs = [verdict for trial in correct for verdict in trial.verdicts]
        skipped = {row.system: row.skipped for row in self.rows if row.skipped}
        return "\n".join(
            [
                *table(HEADINGS, [row.cells() for row in told]),
                "",
                f"{convicted} of {len(bugs)} bugs convicted within {self.budget_s:g} s "
                f"each; {runs.count('invalid')} false alarms in {len(runs)} runs of "
                f"the correct systems ({runs.count('unknown')} undecided); the target "
                f"is {outcome_of(self)}",
                *(f"false alarm: {trial.repro}" for trial in alarms),
                *(f"skipped: {name} {why}" for name, why in skipped.items()),
                f"raw figures: {self.path}",
            ]
        )


def measure(
    name: str | None,
    *,
    budget_s: float,
    repeat: int,
    jobs: int,
    results: Path,
    show: Callable[[str], None],
    tell: Callable[[str], None],
) -> Tried:
    """Try the foreign systems, `jobs` at a time, and store the record.

    A stop signal ends it early; what was measured until then is kept. `show` is called
    with a line for each trial, `tell` after each run with a clause.

    Raises:
        UsageError: There is no such system, or `results` can't be written.
    """
    tried = Tried(rows(name), budget_s)
    begun, place = now(), make_place(results)
    with making_room(f"what is built to {cache()}"):
        cache().mkdir(parents=True, exist_ok=True)
    turns = [
        Turn(
            row,
            functools.partial(trial, row, 1 + turn * SEEDS_APART, budget_s),
            row.trials.append,
        )
        for turn in range(repeat)
        for row in tried.rows
        if not row.skipped
    ]
    tried.interrupted = hold(turns, discard, jobs, LIMIT_S["os"], show=show, tell=tell)
    tried.record, tried.path = store(
        place,
        "mutants-foreign",
        begun,
        {
            "budget_s": budget_s,
            "repeat": repeat,
            "jobs": jobs,
            "rows": [
                {**msgspec.to_builtins(row), "outcome": row.outcome}
                for row in tried.rows
            ],
            "meets_target": tried.meets_target,
            "interrupted": bool(tried.interrupted),
        },
    )
    return tried
