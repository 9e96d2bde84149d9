"""The outcome of an experiment, as a value that any executor can send anywhere.

An outcome is a digest; the whole record is in the run folder, if that was kept. It has
the facts that a client of many runs needs: verdict, anomalies, figures, faults,
failures of the harness, cost, and the command to run it again.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from harness.campaign.experiment import Experiment  # noqa: TC001  # for msgspec
from harness.errors import EXIT_HARNESS, EXIT_USAGE
from harness.judge import analysis
from harness.report import tally
from harness.run.records import FaultRecord  # noqa: TC001  # for msgspec

if TYPE_CHECKING:
    from harness.run.records import VerdictRecord
    from harness.run.store import RunFolder

VERSION = 1
"""The version of an outcome's JSON; it changes as those of `harness.run.records`."""

SENTENCE_CHARS_MAX = 1000

Verdict = Literal["valid", "unknown", "invalid", "error"]
"""A run's verdict; "error" if the harness failed, or the run is impossible."""


class Finding(msgspec.Struct, frozen=True, order=True):
    """An anomaly that a checker found, and whether it breaks a promise."""

    checker: str
    anomaly: str
    promised: bool = True


class Fingerprint(msgspec.Struct, frozen=True, order=True):
    """The fields that two failures share if they count as the same."""

    checker: str
    anomaly: str
    system: str
    workload: str
    mutant: str | None = None


class Seen(NamedTuple):
    """What an exploration sees in a run; the fields of `Outcome` by these names."""

    features: tuple[int, ...]
    upheavals: int | None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one experiment.

    Attributes:
        experiment: The experiment as run: words such as "all" are replaced by what they
            meant.
        reason: Why it is unknown, or what failed; empty otherwise.
        interrupted: Whether it was ended early.
        findings: The anomalies found, each once for each checker.
        found: The anomalies with their numbers, in a line.
        sentence: Why the first anomaly that breaks a promise is one; empty without.
        figures: The checkers' numbers.
        ops: Client operations by outcome.
        latency_ms: Quantiles of operations that succeeded: p50, p95, p99.
        faults: Kind of fault -> what came of its faults.
        errors: The failures of the harness.
        refused: Whether the run is impossible; `errors` says why. Nothing was started.
        run_s: How long the run lasted, in the time of its world.
        convicted_s: When it was known to be invalid, in the same time; None if that was
            found after its end only.
        seconds: How long run and judging took.
        cpu_s: Processor time of the process that carried it out.
        folder: The run folder; empty if it was not kept.
        repro: The command that runs it again; empty if it was refused.
        died: How the process of the first try died, if this is the outcome of a second;
            else empty.
        features: What an exploration tells runs apart by, if one asked for it
            (`harness.campaign.exploration.signatures`).
        upheavals: How often a node's term grew while operations were under way, if an
            exploration asked for it; None if nodes observe no terms.
    """

    version: int = VERSION
    experiment: Experiment
    verdict: Verdict
    reason: str = ""
    interrupted: bool = False
    findings: tuple[Finding, ...] = ()
    found: str = ""
    sentence: str = ""
    figures: dict[str, int | float] = {}
    ops: dict[str, int] = {}
    latency_ms: dict[str, float] = {}
    faults: dict[str, FaultRecord] = {}
    errors: tuple[str, ...] = ()
    refused: bool = False
    run_s: float = 0.0
    convicted_s: float | None = None
    seconds: float = 0.0
    cpu_s: float = 0.0
    folder: str = ""
    repro: str = ""
    died: str = ""
    features: tuple[int, ...] = ()
    upheavals: int | None = None

    @classmethod
    def of(
        cls, experiment: Experiment, record: VerdictRecord, folder: RunFolder | None
    ) -> Outcome:
        """The outcome of a run that has been judged; `folder` is None if not kept."""
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
            sentence=_sentence(record),
            figures=figures,
            ops=record.ops,
            latency_ms=record.latency_ms,
            faults=record.faults,
            errors=tuple(record.harness.errors),
            run_s=record.seconds,
            convicted_s=None if record.convicted is None else record.convicted.after_s,
            folder="" if folder is None else str(folder.path),
            repro=record.repro,
        )

    @classmethod
    def failed(
        cls, experiment: Experiment, why: str, *, refused: bool = False
    ) -> Outcome:
        """The outcome if the harness failed, or refused the experiment."""
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
        """The outcome as JSON."""
        return msgspec.json.encode(self)

    @property
    def anomalies(self) -> list[str]:
        """Names of the anomalies found, each once."""
        return sorted({finding.anomaly for finding in self.findings})

    @property
    def fingerprints(self) -> frozenset[Fingerprint]:
        """The fingerprints of its failures, one for each broken promise."""
        spec = self.experiment.spec
        return frozenset(
            Fingerprint(f.checker, f.anomaly, spec.system, spec.workload, spec.mutant)
            for f in self.findings
            if f.promised
        )

    @property
    def status(self) -> int:
        """The exit status of a command that runs this experiment alone."""
        if self.refused:
            return EXIT_USAGE
        if self.verdict == "error":
            return EXIT_HARNESS
        return analysis.status_of(self.verdict, self.experiment.spec.expect)


def _sentence(record: VerdictRecord) -> str:
    for check in record.checkers.values():
        if check.promised and check.anomalies:
            return check.anomalies[0].explanation[:SENTENCE_CHARS_MAX]
    return ""
