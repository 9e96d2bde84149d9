"""Whatever is in a suite or in `--set`, it is refused in one line, at once, or is fine.

Run for longer with `--hypothesis-profile nightly`.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness import registry
from harness.campaign.suites import reading
from harness.errors import UsageError
from harness.faults import schedule
from harness.host import documents
from harness.run.assembling import assemble
from harness.run.completing import complete
from harness.run.spec import TestSpec
from harness.tests.mutations import damaged, randoms, spoiled

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

SUITES = [documents.read_yaml(path) for path in sorted(reading.BUNDLED.glob("*.yaml"))]
PLAN = [
    {
        "at": {"time_s": 1.5},
        "fault": {"kind": "kill", "target": ["n1", "n2"]},
        "heal": {"after_s": 1},
    },
    {
        "at": {"time_s": 2, "observe": "became_leader", "count": 2, "within_s": 1},
        "fault": {"kind": "partition", "shape": "one", "cut": [["n1", "n2"]]},
        "heal": {"after_s": 0.5},
    },
    {
        "at": {"ops": 100},
        "fault": {"kind": "clock", "mode": "strobe", "clock": "wall",
                  "target": "leader", "offset_ms": 50, "period_ms": 10},
        "heal": {"after_s": 3},
    },
    {
        "at": {"observe": "voted", "node": "n3"},
        "fault": {"kind": "membership", "changes": [["add", "n1"]],
                  "patience_ms": 50},
        "heal": {"after_s": 3},
    },
    {
        "at": {"time_s": 9},
        "fault": {"kind": "delay", "target": "leader", "delay_ms": 20},
        "heal": {"after_s": 3},
    },
]  # fmt: skip
NODES = [f"n{i}" for i in range(1, 6)]


def refusal_of(act: Callable[[], object], lines: int = 1) -> str:
    """Why `act` was refused, by a UsageError in a line; empty where it was not.

    It may have more `lines` where several problems are told at once.
    """
    begun_s = time.process_time()
    said = ""
    try:
        act()
    except UsageError as refusal:
        said = str(refusal) or "nothing"
    assert len(said) < 20_000 * lines  # it may quote a name of some length
    assert said.count("\n") < lines
    assert time.process_time() - begun_s < 1
    return said


def as_yaml(data: Any) -> bytes:
    return yaml.dump(data, Dumper=yaml.SafeDumper, allow_unicode=True).encode()


@given(random=randoms, changes=st.integers(0, 3), splices=st.integers(0, 2))
def test_a_damaged_suite_is_refused_in_a_line_a_problem_or_runs(
    tmp_path_factory: pytest.TempPathFactory,
    random: Random,
    changes: int,
    splices: int,
) -> None:
    whole = random.choice(SUITES)
    rows = random.sample(whole["rows"], k=2)
    data = damaged(random, {**whole, "rows": rows}, changes)
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    path.write_bytes(spoiled(random, as_yaml(data), splices))

    def read() -> None:
        loaded = reading.load(path)
        reading.check(loaded, loaded.rows)

    said = refusal_of(read, reading.PROBLEMS_MAX + 1)
    assert all(str(path) in line for line in said.splitlines()[: reading.PROBLEMS_MAX])


@given(random=randoms, changes=st.integers(0, 3), splices=st.integers(0, 2))
def test_a_damaged_plan_is_refused_in_one_line_or_can_be_carried_out(
    random: Random, changes: int, splices: int
) -> None:
    kinds = registry.plugins("nemesis")
    plan = random.sample(PLAN, k=random.randint(1, len(PLAN)))
    text = spoiled(random, as_yaml(damaged(random, plan, changes)), splices)

    def read() -> None:
        try:
            written = documents.parse_yaml(text.decode(), "plan.yaml")
        except UnicodeDecodeError:
            return
        schedule.kinds(written)
        nemeses = {kind: plugin.factory({}) for kind, plugin in kinds.items()}
        made = schedule.build(nemeses, NODES, seed=1, time_limit_s=20, written=written)
        json.dumps([step.as_data() for step in made.plan], allow_nan=False)

    assert not refusal_of(read) or changes or splices


def all_options() -> list[tuple[str, str, str, str]]:
    """(kind, plug-in, option, default) of everything."""
    return [
        (kind, plugin.name, option.name, option.default)
        for kind in registry.PACKAGES
        for plugin in registry.plugins(kind).values()
        for option in plugin.options
    ]


OPTIONS = all_options()


@given(random=randoms, changes=st.integers(0, 2), number=st.floats() | st.integers())
def test_whatever_is_set_is_refused_in_one_line_or_assembles(
    random: Random, changes: int, number: float
) -> None:
    kind, name, option, text = random.choice(OPTIONS)
    if random.random() < 0.5:
        text = spoiled(random, text.encode(), changes).decode(errors="surrogateescape")
    else:
        text = str(number)
    spec = TestSpec(system="raft", workload="register", world="sim")
    match kind:
        case "system":
            system = "launch:true" if name == "launch" else name
            spec = TestSpec(system=system, workload="")
            spec.options = {option: text}
        case "workload":
            spec.workload = name
        case "nemesis":
            spec.nemesis = [name]
        case _:
            spec.also = [name]
    if kind != "system":
        spec.options = {f"{name}.{option}": text}

    def make() -> None:
        complete(spec)
        parts = assemble(spec)
        parts.workload.checkers()
        parts.workload.generator(5)

    refusal_of(make)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"name: s\nrows: [{name: r, system: raft, seed: 2001-02-03}]", "is a date"),
        (b"5: x\n", "a key must be a word"),
        (b"rows: " + b"[" * 100_000, "nested deeper"),
        (b"a: &a [x,x]\n" + b"".join(
            f"{c}: &{c} [*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p}]\n".encode()
            for p, c in zip("abcdefgh", "bcdefghi", strict=True)
        ), "unfolds to more than"),
        (b"name: \xff", "line 1: not UTF-8"),
        (b"#" * (5 << 20), "larger than 4 MiB"),
        (b"name: s\nrows: []\nname: t", "comes twice"),
        (b"name: s\nrows: [{name: r, system: raft, rate: .nan}]", "no number"),
        (b"name: s\n--- {}", "a second document"),
    ],
)  # fmt: skip
def test_what_no_suite_holds_is_refused_with_its_line(
    tmp_path: Path, text: bytes, why: str
) -> None:
    path = tmp_path / "suite.yaml"
    path.write_bytes(text)
    with pytest.raises(UsageError, match=why) as refused:
        reading.load(path)
    assert str(path) in str(refused.value)


def test_a_pipe_a_device_and_a_folder_are_no_documents(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    endless = tmp_path / "endless.yaml"
    endless.symlink_to("/dev/zero")
    for path in (pipe, endless, tmp_path, Path("no\0name")):
        with pytest.raises(UsageError, match=r"plain file|directory|null"):
            reading.load(path)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False, width=32).filter(
        lambda x: abs(x) < 1e17
    )
    | st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=8),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(data=plain)
def test_plain_data_comes_back_from_yaml_as_pyyaml_reads_it(data: Any) -> None:
    text = as_yaml([data, data]).decode()
    assert documents.parse_yaml(text, "it") == yaml.safe_load(text) == [data, data]
