"""Types of the files of a run folder: test.yaml, run.json, verdict.json.

Each has a `version`, which changes when a reader of the former one would go wrong.
Files from before there were versions have none, and are read as version 0; a version
newer than this program is refused (`store`). Unknown keys are passed over, and missing
ones take their defaults, so that fields can be added without a new version. Lines of
faults.jsonl have none either: an event that a reader doesn't know is a note to it.

What checkers and nodes say in their own words (keys, details, figures) is free-form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from harness.run.spec import (  # noqa: TC001  # msgspec reads the annotations
    TestSpec,
)
from harness.verdict import Verdict
from harness.worlds.world import Written  # noqa: TC001  # for msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.verdict import CheckResult

VERSION = 1
"""The version of all three files, as this program writes them."""

Word = Literal["valid", "unknown", "invalid"]

WORDS: Mapping[Verdict, Word] = {
    Verdict.VALID: "valid",
    Verdict.UNKNOWN: "unknown",
    Verdict.INVALID: "invalid",
}

NodeName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
"""A node's name, which names its folder too: it must not lead out of `nodes/`."""


class TestRecord(msgspec.Struct, kw_only=True):
    """The part of test.yaml that programs read.

    Attributes:
        spec: What was asked for, words such as "all" replaced by what they meant.
        plan: Whether plan.yaml was "drawn" from the seed or "written" by a person.
        nodes: The nodes' names.
        invariants: Checkers of what nodes observed of themselves.
        asked: How many faults of each kind the plan has.
        repro: The command that repeats the run.
        versions: The harness, its commit, Python and the kernel.
        rung: The network that the run had (`harness.run.doctor.Rung`).
    """

    __test__ = False  # not a test class, whatever pytest makes of its name

    version: int = 0
    spec: TestSpec
    plan: Literal["drawn", "written"] = "drawn"
    nodes: list[NodeName]
    invariants: list[str] = []
    asked: dict[str, int] = {}
    repro: str = ""
    versions: dict[str, str] = {}
    rung: str = ""


WHOLE = frozenset({"complete", "convicted"})
"""How runs end that have read at last what is left (`RunRecord.ended`)."""


class Conviction(msgspec.Struct, kw_only=True, frozen=True):
    """The moment at which a run was known to be invalid, while it went on.

    Attributes:
        after_s: Seconds since the start of the run.
        ops: Client operations completed by then.
        checker: The checker that convicted it.
        anomaly: The anomaly that it found in the history so far.
        events: How many events of the history it had read; the rest came later.
    """

    after_s: float
    ops: int
    checker: str
    anomaly: str
    events: int

    def __str__(self) -> str:
        return f"convicted after {self.after_s:.1f} s, {self.ops:,} operations"


class RunRecord(msgspec.Struct, kw_only=True):
    """run.json: how a run went, written by its controller at the end.

    Attributes:
        ended: "complete", "convicted" (which is complete but for the time that it was
            to last), "cut" (at its conviction), "interrupted" or "failed".
        seconds: How long it lasted.
        start_mono_ns: Where the nodes' own clocks stood when the run's time began.
        never_up: A sentence about the node that never served; empty if all did.
        ops: Client operations by outcome.
        counters: Other counts, by name; `harness.judge.account` says what they mean.
        network: Link "n1->n2" -> counts of its frames by their fate.
        kept_down: node -> why it was killed for good.
        roles: node -> its role, for systems whose nodes have several roles.
        written_at_start: node -> how far its files had been written when the run's time
            began.
        programs: File that the nodes' commands name -> its digest
            (`harness.run.programs`).
        errors: The failures of the harness.
        convicted: When the history was known to be invalid, if that was before the end.
    """

    version: int = 0
    ended: str = ""
    seconds: float = 0.0
    start_mono_ns: int | None = None
    never_up: str = ""
    ops: dict[str, int] = {}
    counters: dict[str, int] = {}
    network: dict[str, dict[str, int]] = {}
    kept_down: dict[str, str] = {}
    roles: dict[str, str] = {}
    written_at_start: dict[str, Written] = {}
    programs: dict[str, str] = {}
    errors: list[str] = []
    convicted: Conviction | None = None


class FaultLine(msgspec.Struct, kw_only=True):
    """A line of faults.jsonl: a fault or a node changed its state.

    Attributes:
        time: Nanoseconds since the start of the run.
        id: The number of the plan's step; None for what no step has done.
        event: One of `harness.faults.states.Event`, or what a later version knows.
        kind: The kind of fault or of note.
        title: The event in words.
        nodes: The nodes concerned; empty means all of them.
        evidence: Proof, by name; of a fault that is asked for, its parameters.
        bit: Whether the fault had an effect; None if that is not known.
        knobs: Knob of the fault (`Fault.knobs`) -> whether it bit, as `bit`.
        in_flight: As a fault started or ended: function -> how many of its operations
            were under way.
        leader: The node that said it leads; None if none did.
        at: When the leader was asked for: at a fault's "start" or "end".
        written: As a fault was asked for or ended: node -> how far its files had been
            written, by which `harness.campaign.moments` knows what came before.
    """

    time: float = 0.0
    id: Any = None
    event: str = "note"
    kind: str = "fault"
    title: str | None = None
    nodes: list[Any] = []
    evidence: Any = None
    bit: bool | None = None
    knobs: dict[str, bool | None] = {}
    in_flight: dict[str, int] | None = None
    leader: str | None = None
    at: str | None = None
    written: dict[str, Written] | None = None


class AnomalyRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One anomaly as verdict.json holds it; made from `harness.verdict.Anomaly`."""

    name: str
    ops: list[int]
    explanation: str
    key: Any = None
    details: dict[str, Any] = {}
    witness: dict[str, Any] | None = None


class CheckRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What one checker found; made from `harness.verdict.CheckResult`."""

    verdict: Word
    anomalies: list[AnomalyRecord]
    not_models: list[str] = msgspec.field(name="not")
    stats: dict[str, Any]
    reason: str = ""
    remarks: list[str] = []
    over: str = "operations"
    promised: bool = True

    @staticmethod
    def of(result: CheckResult) -> CheckRecord:
        """The record of a result, without a check of its types: plug-ins may err."""
        told = result.as_json()
        found = [AnomalyRecord(**anomaly) for anomaly in told.pop("anomalies")]
        return CheckRecord(anomalies=found, not_models=told.pop("not"), **told)


class Activation(msgspec.Struct, kw_only=True):
    """How often a kind of fault, or a knob of it, did its work.

    Attributes:
        asked: How many faults the plan has; of a knob, how many of these were reached.
        applied: How many were in force.
        bit: How many of these had an effect, by their own evidence.
    """

    asked: int = 0
    applied: int = 0
    bit: int = 0


class FaultRecord(Activation, kw_only=True):
    """The outcomes of the faults of one kind.

    Each fault asked for counts as one of `bit`, `no_effect`, `indeterminate`, `failed`,
    `skipped` and `not_reached`.

    Attributes:
        count: The same as `applied`, under its first name.
        healed: How many were undone, or released after a failure.
        no_effect: How many of those applied had no effect.
        indeterminate: Of how many nobody can tell whether they had one.
        failed: How many could not be carried out, or healed as their kind does it.
        skipped: For how many there was nothing to strike.
        not_reached: How many the run ended before.
        knobs: Knob -> how often it did its work.
    """

    count: int = 0
    healed: int = 0
    no_effect: int = 0
    indeterminate: int = 0
    failed: int = 0
    skipped: int = 0
    not_reached: int = 0
    knobs: dict[str, Activation] = {}


class StrikeRecord(msgspec.Struct, kw_only=True):
    """What happened to clients and leader while a fault was in force.

    Attributes:
        id: The number of the plan's step.
        kind: The kind of fault.
        effect: One of `harness.faults.states.Effect`.
        start_s, end_s: When it was in force, in seconds since the start of the run; up
            to the last operation if it never ended.
        in_flight: Function -> operations under way as it began; None if not recorded.
        ops: Client operations that began while it was in force.
        ok: How many of these succeeded.
        longest_gap_s: The longest time of it in which no operation succeeded.
        leader_before, leader_after: Who said that it leads as it began, and before it
            was healed; None if no node said so, or none was asked.
    """

    id: Any
    kind: str
    effect: str
    start_s: float
    end_s: float
    in_flight: dict[str, int] | None = None
    ops: int = 0
    ok: int = 0
    longest_gap_s: float = 0.0
    leader_before: str | None = None
    leader_after: str | None = None


class HarnessRecord(msgspec.Struct, kw_only=True):
    """Whether the harness did its part, and what went wrong with it."""

    ok: bool = True
    errors: list[str] = []


class VerdictRecord(msgspec.Struct, kw_only=True):
    """verdict.json: the findings of checkers, and the account of the run.

    Attributes:
        verdict: The combined verdict of all checkers whose promises count.
        expected: What the caller expected, if anything.
        reason: Why the verdict is unknown, where no checker gives the reason.
        interrupted: Whether the run was ended early.
        checkers: Name of a checker -> what it found.
        faults: Kind of fault -> the outcomes of the faults of that kind.
        strikes: What happened during each fault that was applied, in their order.
        ops: Client operations by outcome.
        functions: Function -> its operations by outcome.
        latency_ms: Quantiles of operations that succeeded, by name: p50, p95, p99.
        errors: Errors that clients met, most frequent first (`harness.judge.account`).
        remarks, troubles: The sentences of `harness.judge.account.Account`.
        seconds: How long the run lasted.
        convicted: When the run was known to be invalid, if that was before its end.
        repro: The command that repeats the run.
    """

    version: int = 0
    verdict: Word
    expected: Literal["valid", "invalid"] | None = None
    reason: str = ""
    interrupted: bool = False
    checkers: dict[str, CheckRecord] = {}
    faults: dict[str, FaultRecord] = {}
    strikes: list[StrikeRecord] = []
    ops: dict[str, int] = {}
    functions: dict[str, dict[str, int]] = {}
    latency_ms: dict[str, float] = {}
    errors: list[dict[str, Any]] = []
    remarks: list[str] = []
    troubles: list[str] = []
    seconds: float = 0.0
    convicted: Conviction | None = None
    harness: HarnessRecord = msgspec.field(default_factory=HarnessRecord)
    seed: int = 0
    repro: str = ""
