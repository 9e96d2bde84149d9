"""The folder `shrunk` of a run: the smallest experiment that fails as the run did.

    RUN/shrunk/
        test.yaml, history.jsonl, report.html, ...   a run of it that failed
        plan.yaml      its plan
        command.txt    the command that runs it
        test_*.py      a test for a suite of one's own
        tried.jsonl    what was tried: changes, sizes, hits and runs, a line each
        best.yaml      the experiment, from which a later search goes on
        others.yaml    experiments that showed another failure, with plan files beside
        simulated.yaml the plan of something smaller that fails in the simulator alone

best.yaml, plan.yaml and command.txt are written whenever something smaller is found,
each in one step, so they are there however the search ends. The rest of a run folder
comes at the end.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness import report
from harness.campaign import replay
from harness.campaign.experiment import Experiment, steps_of  # for msgspec
from harness.campaign.outcome import Fingerprint  # noqa: TC001  # for msgspec
from harness.campaign.shrinking import regression
from harness.campaign.shrinking.lab import Tried
from harness.campaign.shrinking.search import Start
from harness.errors import HarnessError, UsageError
from harness.faults import plan as plans
from harness.host import nodefiles
from harness.host.documents import writing
from harness.judge import analysis
from harness.report.rates import Rate
from harness.run.store import MEND, RunFolder, decode_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.campaign.outcome import Outcome
    from harness.campaign.replay import Recorded
    from harness.run.records import AnomalyRecord
    from harness.run.store import JsonLines

VERSION = 1
LINES_BYTES_MAX = 64 << 20
SIMULATED = "simulated.yaml"
OWN = {
    "best.yaml",
    "tried.jsonl",
    "others.yaml",
    "command.txt",
    "plan.yaml",
    SIMULATED,
}
"""Files of ours that a run folder does not bring."""
OTHER = "other-*.yaml"
"""More of these: the plans of other failures."""


class Best(msgspec.Struct, kw_only=True):
    """The content of best.yaml."""

    version: int
    experiment: Experiment


class Other(msgspec.Struct, kw_only=True):
    """An entry of others.yaml: another failure, and how to have it."""

    fingerprint: Fingerprint
    experiment: Experiment
    command: str


class Shelf:
    """The folder in which a search keeps what it finds.

    Args:
        run: The run whose failure is shrunk.

    Attributes:
        path: The folder; it is made when there is something to keep.
        folder: The same, as that of a run.
    """

    def __init__(self, run: RunFolder) -> None:
        self.path = run.path / "shrunk"
        self.folder = RunFolder(self.path)
        self._tried: JsonLines | None = None

    def start(self) -> Start | None:
        """Where an earlier search stopped; None if there was none.

        Lines of tried.jsonl that are damaged are passed over: what they tell is tried
        again.

        Raises:
            UsageError: best.yaml is damaged, or of a later version; or the place is
                taken by something that is no folder of ours, or can't be written.
        """
        # Old files of the folder are removed. Run folders come from anywhere, and a
        # link in one could name any folder of the user's.
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_dir()):
            raise UsageError(
                f"{self.path} is no folder, and the result is to go there: remove it"
            )
        (self.folder if self.path.exists() else RunFolder(self.path.parent)).need_room()
        for name in sorted(OWN):
            file = self.path / name
            if os.path.lexists(file) and not stat.S_ISREG(os.lstat(file).st_mode):
                raise UsageError(
                    f"{file} is not a plain file, and one is to go there: remove it"
                )
        try:
            best = self.folder.read_as("best.yaml", Best)
        except UsageError as bad:
            told = str(bad).partition(f"; {MEND}")[0]
            raise UsageError(f"{told}; remove {self.path} to begin anew") from None
        if best is None:
            return None
        if best.version > VERSION:
            raise UsageError(
                f"{self.path / 'best.yaml'} is of version {best.version}, and this "
                f"program reads up to {VERSION}: use the one that wrote it, or remove "
                f"{self.path} to begin anew"
            )
        seen: dict[str, Rate] = {}
        for line in self._lines():
            before = seen.get(line.id, Rate(0, 0))
            hits = min(line.hits, line.runs)
            seen[line.id] = Rate(before.hits + hits, before.runs + line.runs)
        return Start(best.experiment, seen)

    def _lines(self) -> list[Tried]:
        path = self.path / "tried.jsonl"
        try:
            with nodefiles.open_plain(path) as file:
                data = file.read(LINES_BYTES_MAX)
        except OSError:
            return []
        return [line for line in decode_lines(data, Tried).items if line.runs >= 0]

    def tried(self, tried: Tried) -> None:
        """Note a candidate."""
        if self._tried is None:
            self._make()
            self._tried = self.folder.lines("tried.jsonl")
        self._tried.append(msgspec.to_builtins(tried))

    def adopted(self, best: Experiment) -> None:
        """Keep the smallest experiment so far."""
        self._make()
        content = Best(version=VERSION, experiment=best)
        self.folder.write_text("plan.yaml", plans.dump(steps_of(best)))
        self.folder.write_text("command.txt", f"{shlex.join(self.command(best))}\n")
        self.folder.write_yaml("best.yaml", msgspec.to_builtins(content))

    def command(self, best: Experiment) -> list[str]:
        """The command that runs the experiment kept here."""
        file = str(self.path / "plan.yaml") if best.plan else ""
        return replace(best, plan_file=file).command()

    def keep_run(self, outcome: Outcome) -> None:
        """Move a run of the experiment here, and judge it in its new place.

        Raises:
            HarnessError: It can't be moved.
        """
        source = Path(outcome.folder)
        with writing(self.path):
            for old in self.path.iterdir():
                if not _is_own(old):
                    _remove(old)
            for entry in sorted(source.iterdir()):
                if not _is_own(entry):
                    shutil.move(entry, self.path / entry.name)
            shutil.rmtree(source, ignore_errors=True)
        analysis.analyse(self.folder)

    def link(self) -> None:
        """Draw the run's own report anew, as there is a result to link to.

        Raises:
            HarnessError: It can't be written.
        """
        place = self.path.parent / "report.html"
        with writing(place):
            report.build(place.parent)

    def keep_test(self, best: Experiment, rate: Rate, sentence: str, name: str) -> Path:
        """Write a test of the experiment for a suite of one's own; returns its file."""
        path = self.path / f"{regression.function_name(best, name)}.py"
        text = regression.source(best, rate, sentence, name)
        self.folder.write_text(path.name, text)
        return path

    def keep_simulated(self, small: Experiment) -> list[str]:
        """Write down what fails in the simulator alone; returns its command."""
        self._make()
        self.folder.write_text(SIMULATED, plans.dump(steps_of(small)))
        return replace(small, plan_file=str(self.path / SIMULATED)).command()

    def keep_others(self, others: Mapping[Fingerprint, Experiment]) -> list[Other]:
        """Write down experiments that showed another failure."""
        kept = []
        for number, fingerprint in enumerate(sorted(others), start=1):
            experiment = others[fingerprint]
            file = self.path / OTHER.replace("*", str(number))
            self._make()
            self.folder.write_text(file.name, plans.dump(steps_of(experiment)))
            asked = replace(experiment, plan_file=str(file))
            command = shlex.join(asked.command())
            kept.append(
                Other(fingerprint=fingerprint, experiment=experiment, command=command)
            )
        if kept:
            self.folder.write_yaml("others.yaml", msgspec.to_builtins(kept))
        return kept

    def close(self) -> None:
        """Close the files."""
        if self._tried is not None:
            self._tried.close()
            self._tried = None

    def _make(self) -> None:
        with writing(self.path):
            self.path.mkdir(exist_ok=True)


def _is_own(path: Path) -> bool:
    return path.name in OWN or path.match(OTHER)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def failing(run: RunFolder) -> Recorded:
    """The record of a run that failed; its plan is the one that was carried out.

    Raises:
        UsageError: The run has not failed, its folder is damaged or cut short, or it
            can't be run here and now.
    """
    recorded = replay.load(run)
    verdict = recorded.outcome.verdict
    if verdict == "error":
        raise UsageError(
            f"{run.path}: the harness failed in this run, so there is no failure of "
            "the system to shrink"
        )
    if verdict != "invalid" or not recorded.failed:
        raise UsageError(f"{run.path} is {verdict}: there is no failure to shrink")
    return recorded


def sentence_of(run: RunFolder, wanted: frozenset[Fingerprint]) -> tuple[str, str]:
    """(name, sentence) of the first anomaly of a run that has a fingerprint wanted.

    Raises:
        HarnessError: There is none.
    """
    found = anomaly_of(run, wanted)
    if found is None:
        raise HarnessError(f"{run.path} shows another failure than it did before")
    return found.name, found.explanation


def anomaly_of(run: RunFolder, wanted: frozenset[Fingerprint]) -> AnomalyRecord | None:
    """The first anomaly of a run that has a fingerprint wanted; None if none has."""
    record = run.verdict()
    names = {(one.checker, one.anomaly) for one in wanted}
    for checker, found in {} if record is None else record.checkers.items():
        for anomaly in found.anomalies:
            if (checker, anomaly.name) in names:
                return anomaly
    return None
