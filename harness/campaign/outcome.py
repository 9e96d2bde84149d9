"""What came of an experiment, as a value that any executor can send anywhere.

An outcome is a digest: the whole is in the run folder, as far as that was kept. It says
what a client of many runs goes by: verdict, anomalies, figures, what faults there were,
what went wrong with the harness, what it cost, and how to run it again.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Literal

import msgspec

from harness.campaign.experiment import Experiment  # noqa: TC001  # for msgspec
from harness.errors import EXIT_HARNESS, EXIT_USAGE
from harness.judge import analysis
from harness.report import tally

if TYPE_CHECKING:
    from harness.run.records import VerdictRecord
    from harness.run.store import RunFolder

VERSION = 1
"""Of the JSON of an outcome; see `harness.run.records`."""

Verdict = Literal["valid", "unknown", "invalid", "error"]
"""A run's verdict; "error" where the harness failed, or the run is impossible."""


class Finding(msgspec.Struct, frozen=True, order=True):
    """An anomaly that a checker found, once or more; whether it breaks a promise."""

    checker: str
    anomaly: str
    promised: bool = True


class Coverage(msgspec.Struct, frozen=True):
    """Faults of one kind: how many were asked for, applied, and bit."""

    asked: int = 0
    applied: int = 0
    bit: int = 0


class Fingerprint(msgspec.Struct, frozen=True, order=True):
    """What makes two failures the same."""

    checker: str
    anomaly: str
    system: str
    workload: str
    mutant: str | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an experiment.

    Attributes:
        experiment: As it was run: words such as "all" replaced by what they meant.
        reason: Why it is unknown, or what failed; empty otherwise.
        interrupted: It was ended early.
        findings: What checkers found, each anomaly of each checker once.
        found: The same with how often, in a line.
        figures: The checkers' numbers.
        ops: Client operations by outcome.
        faults: By kind.
        errors: What went wrong with the harness.
        refused: The run is impossible, and `errors` says why; nothing was started.
        run_s: How long the run lasted, in the time of its world.
        seconds: How long it all took, judging included.
        cpu_s: Processor time of the process that carried it out.
        folder: Where the run is recorded; empty where it was not kept.
        repro: The command that runs it again; empty where it is refused.
        died: How the process that first tried died, where one did; the outcome is that
            of a second try.
    """

    version: int = VERSION
    experiment: Experiment
    verdict: Verdict
    reason: str = ""
    interrupted: bool = False
    findings: tuple[Finding, ...] = ()
    found: str = ""
    figures: dict[str, int | float] = {}
    ops: dict[str, int] = {}
    faults: dict[str, Coverage] = {}
    errors: tuple[str, ...] = ()
    refused: bool = False
    run_s: float = 0.0
    seconds: float = 0.0
    cpu_s: float = 0.0
    folder: str = ""
    repro: str = ""
    died: str = ""

    @classmethod
    def of(
        cls, experiment: Experiment, record: VerdictRecord, folder: RunFolder | None
    ) -> Outcome:
        """The outcome of a run that has been judged; `folder` where it was kept."""
        checkers = record.checkers.items()
        findings = {
            Finding(name, anomaly.name, check.promised)
            for name, check in checkers
            for anomaly in check.anomalies
        }
        tallies = [tally.of_record(check) for _, check in checkers]
        figures = {
            name: figure
            for _, check in checkers
            for name, figure in check.stats.items()
            if type(figure) in {int, float}
        }
        reasons = [record.reason, *record.harness.errors]
        if record.verdict == "unknown":
            reasons += [check.reason for _, check in checkers if check.promised]
        return cls(
            experiment=experiment,
            verdict=record.verdict if record.harness.ok else "error",
            reason=next(filter(None, reasons), ""),
            interrupted=record.interrupted,
            findings=tuple(sorted(findings)),
            found=str(tally.together(tallies)),
            figures=figures,
            ops=record.ops,
            faults={
                kind: Coverage(of.asked, of.count, of.bit)
                for kind, of in record.faults.items()
            },
            errors=tuple(record.harness.errors),
            run_s=record.seconds,
            folder="" if folder is None else str(folder.path),
            repro=record.repro,
        )

    @classmethod
    def failed(
        cls, experiment: Experiment, why: str, *, refused: bool = False
    ) -> Outcome:
        """The outcome where the harness failed, or refused the experiment."""
        return cls(
            experiment=experiment,
            verdict="error",
            reason=why,
            errors=(why,),
            refused=refused,
            repro="" if refused else shlex.join(experiment.command()),
        )

    @classmethod
    def decode(cls, data: bytes) -> Outcome:
        """The outcome that `encode` made JSON of."""
        return msgspec.json.decode(data, type=cls)

    def encode(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)

    @property
    def anomalies(self) -> list[str]:
        """Names of the anomalies found, each once."""
        return sorted({finding.anomaly for finding in self.findings})

    @property
    def fingerprints(self) -> frozenset[Fingerprint]:
        """Of its failures: the promises that were broken."""
        spec = self.experiment.spec
        return frozenset(
            Fingerprint(f.checker, f.anomaly, spec.system, spec.workload, spec.mutant)
            for f in self.findings
            if f.promised
        )

    @property
    def status(self) -> int:
        """The exit status of a command that runs this alone."""
        if self.refused:
            return EXIT_USAGE
        if self.verdict == "error":
            return EXIT_HARNESS
        return analysis.status_of(self.verdict, self.experiment.spec.expect)
