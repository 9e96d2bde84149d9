"""A row of a suite: what it asks for, as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from harness.campaign.experiment import Experiment
from harness.run.asking import NO_FAULTS
from harness.run.completing import complete
from harness.run.spec import PlanData, TestSpec, usual_nodes

if TYPE_CHECKING:
    from collections.abc import Mapping

Seeds = Literal["nightly", "fresh"]
"""How a row's first seed is chosen: after the last night's last one, or by chance."""

SEED_MAX = 10**9


class Row(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One row of a suite: the fields of a TestSpec, and the expected outcome.

    `expect` is None only in a row that stands for one seed of `run --seeds`.

    Unless `until_invalid` says otherwise, a row that expects invalid ends once it is
    known to be so, by its anomaly if it names one; figures are those of whole runs.

    Attributes:
        anomaly: One that must be among those found.
        seeds: Up to so many runs, until one decides the row.
        seed: The first seed, or how it is chosen.
        shows: Figure of a checker -> condition, such as ">= 3".
        source: Where a weakness was published.
        control: The row that is its mended or stricter version, to stay valid.
        retries: How often a run is tried again in which the harness failed.
        budget: Time after which none of its runs begins, or its search ends: "90",
            "10m".
        explore: Whether it searches for failures, in the time that is left.
        tags: Words by which `--only` chooses rows.
        hosts: A file of machines that its nodes run on (docs/hosts.md).
        uploads: Files that they need there.
    """

    name: str
    system: str
    expect: Literal["valid", "invalid"] | None = "valid"
    anomaly: str | None = None
    seeds: int = 1
    workload: str = "register"
    nemesis: list[str] = []
    nodes: int | None = None
    concurrency: int = 10
    rate: float | None = None
    op_timeout_s: float | None = None
    time_limit_s: float = 60.0
    ops: int | None = None
    seed: int | Seeds = "nightly"
    set: dict[str, str | int | float | bool] = {}
    plan: PlanData | None = None
    world: Literal["os", "sim"] = "os"
    mutant: str | None = None
    network: Literal["auto", "switch", "proxy"] = "auto"
    also: list[str] = []
    availability: float | None = None
    node_data_mb: int = 4000
    node_log_mb: int = 64
    watchdog: bool = False
    pcap: bool = False
    messages: bool = False
    until_invalid: bool | None = None
    until_anomaly: list[str] = []
    shows: dict[str, str] = {}
    source: str = ""
    control: str | None = None
    retries: int = 1
    budget: str | int | float | None = None
    explore: bool = False
    tags: list[str] = []
    hosts: str | None = None
    uploads: list[str] = []

    @property
    def kinds(self) -> list[str]:
        """The kinds of fault asked for, or else those of the written plan."""
        steps = [step.get("fault") for step in self.plan or ()]
        planned = [fault.get("kind") for fault in steps if isinstance(fault, dict)]
        return self.nemesis or sorted({str(kind) for kind in planned})

    @property
    def ends_early(self) -> bool:
        """Whether its runs end once they are known to be invalid."""
        if self.until_invalid is not None:
            return self.until_invalid
        by_expectation = self.expect == "invalid" and not self.shows
        return by_expectation or bool(self.until_anomaly)

    def experiment(self, seed: int) -> Experiment:
        """The run that this row asks for, with `seed`.

        A mutant's workload and options are taken from its declaration, but not its
        faults: a row that names none has none.

        Raises:
            UsageError: There is no such system or mutant, or `plan` is no fault plan.
        """
        fields: dict[str, object] = {
            name: getattr(self, name)
            for name in TestSpec.__struct_fields__
            if hasattr(self, name)
        }
        options = {name: option_text(value) for name, value in self.set.items()}
        nodes = usual_nodes(self.system) if self.nodes is None else self.nodes
        fields |= {"nodes": nodes, "seed": seed, "options": options}
        fields["until_invalid"] = self.ends_early
        if self.ends_early and self.anomaly and not self.until_anomaly:
            fields["until_anomaly"] = [self.anomaly]
        spec = msgspec.convert(fields, TestSpec)
        spec.nemesis = spec.nemesis or [NO_FAULTS]
        complete(spec, planned=self.plan is not None)
        return Experiment(spec, self.plan)

    def chosen_by(self, words: str) -> bool:
        """Whether `--only WORDS` means it: one of its tags, or a part of its name."""
        return words in self.tags or words in self.name


def option_text(value: str | float | bool) -> str:
    """A YAML value as the text that `--set` would have given."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def seed_row(experiment: Experiment, seed: int) -> Row:
    """A row that runs an experiment with another seed, once."""
    spec = experiment.spec
    fields: dict[str, object] = {
        name: getattr(spec, name)
        for name in Row.__struct_fields__
        if hasattr(spec, name)
    }
    fields |= {"name": f"seed {seed}", "seed": seed, "set": dict(spec.options)}
    fields |= {"plan": experiment.plan, "retries": 0}
    return msgspec.convert(fields, Row)


def as_data(row: Row) -> Mapping[str, object]:
    """What a row says beside the defaults."""
    data: dict[str, object] = msgspec.to_builtins(row)
    plain = msgspec.to_builtins(Row(name="", system=""))
    return {name: value for name, value in data.items() if value != plain[name]}
