"""The database of failures: what is kept comes back, whatever others put there."""

from __future__ import annotations

import datetime
import json
import os
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.campaign import failures
from harness.campaign.experiment import Experiment
from harness.campaign.failures import Database, Failure, replay_of
from harness.errors import HarnessError, UsageError
from harness.run.spec import TestSpec

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from harness.run.spec import PlanData

TEST = "tests/test_store.py::test_reads[a b]"


def a_plan(time_s: float = 1.0) -> PlanData:
    cut = [["n1", "n2"]]
    fault = {"kind": "partition", "shape": "link", "cut": cut}
    return [{"at": {"time_s": time_s}, "fault": fault, "heal": {"after_s": 0.5}}]


def asked(**fields: Any) -> Experiment:
    fields = {"system": "launch:mine", "nemesis": ["partition"], "nodes": 3, **fields}
    return Experiment(TestSpec(**fields))


def failed(time_s: float = 1.0, **fields: Any) -> Experiment:
    return Experiment(asked(**fields).spec, a_plan(time_s))


def test_a_failure_comes_back_with_its_seed_and_plan(tmp_path: Path) -> None:
    database = Database(tmp_path / "kept")
    assert database.load(TEST, asked()) == ([], [])
    file = database.keep(TEST, asked(seed=3), failed(seed=7), ["stale-read"])
    [kept], remarks = database.load(TEST, asked(seed=5))
    assert (kept.file, remarks) == (file, [])
    assert kept.experiment == failed(seed=7)
    assert "stale-read of 2" in kept.told
    assert (tmp_path / "kept" / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize(
    "other",
    [
        {"nodes": 5},
        {"workload": "set"},
        {"world": "sim"},
        {"mutant": "ack-before-fsync"},
        {"system": "raft"},
    ],
)
def test_a_test_that_asks_for_something_else_replays_nothing(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    database = Database(tmp_path)
    database.keep(TEST, asked(), failed(), [])
    assert database.load(TEST, asked(**other)) == ([], [])
    assert database.load(TEST + "2", asked()) == ([], [])


def test_what_is_replayed_is_the_tests_own_program_with_its_own_options(
    tmp_path: Path,
) -> None:
    """A failure from elsewhere names other paths, or those of somebody malicious."""
    database = Database(tmp_path)
    evil = failed(
        system="launch:rm -rf /",
        options={
            "pass_env": "SECRET",
            "trusted": "true",
            "register.keys": "1",
            "register.consistency": "session",
            "other.number": "1",
        },
        network="proxy",
        also=["crashes"],
        pcap=True,
        seed=9,
    )
    database.keep(TEST, asked(), evil, [])
    own = asked(options={"pass_env": "HOME", "writable": "/srv"})
    [kept], _ = database.load(TEST, own)
    fewer = {"pass_env": "HOME", "register.keys": "1"}
    assert kept.experiment == failed(options=fewer, seed=9)


def test_a_failure_that_no_longer_happens_is_forgotten(tmp_path: Path) -> None:
    database = Database(tmp_path)
    file = database.keep(TEST, asked(), failed(), [])
    for passes in range(1, failures.PASSES_ENOUGH["os"]):
        [kept], _ = database.load(TEST, asked())
        assert f"passed, {passes} of the 5 times" in database.passed(kept)
    [kept], _ = database.load(TEST, asked())
    assert database.passed(kept) == "passed 5 times in a row, and is forgotten"
    assert not file.exists()
    simulated = asked(world="sim")
    database.keep(TEST, simulated, failed(world="sim"), [])
    [kept], _ = database.load(TEST, simulated)
    assert database.passed(kept) == "passed, and is forgotten"
    assert database.load(TEST, simulated) == ([], [])


def test_a_failure_that_comes_back_counts_from_nothing_again(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.keep(TEST, asked(), failed(), ["stale-read"])
    [kept], _ = database.load(TEST, asked())
    database.passed(kept)
    [kept], _ = database.load(TEST, asked())
    assert kept.failure.passes == 1
    # Though the test's options have changed since, it is the same failure.
    database.failed_again(TEST, asked(options={"a": "b"}), kept, ["lost-write"])
    [kept], _ = database.load(TEST, asked())
    assert (kept.failure.passes, kept.failure.anomalies) == (0, ["lost-write"])


def test_folders_of_others_are_only_read(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    file = Database(theirs).keep(TEST, asked(), failed(), ["stale-read"])
    before = file.read_bytes()
    database = Database(ours, [theirs])
    [kept], _ = database.load(TEST, asked())
    assert not kept.is_ours
    assert "as long as its file is there" in database.passed(kept)
    database.failed_again(TEST, asked(), kept, ["stale-read"])
    [kept], _ = database.load(TEST, asked())
    assert kept.is_ours
    assert file.read_bytes() == before


def test_the_latest_few_are_kept_and_come_first(tmp_path: Path) -> None:
    database = Database(tmp_path)
    for number in range(failures.FAILURES_MAX + 2):
        database.keep(TEST, asked(), failed(float(number)), [])
    kept, _ = database.load(TEST, asked())
    times = [one.failure.found_utc for one in kept]
    assert len(kept) == failures.FAILURES_MAX
    assert times == sorted(times, reverse=True)
    assert kept[0].experiment == failed(failures.FAILURES_MAX + 1.0)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HarnessError, match="cannot write"):
        Database(tmp_path / "file").keep(TEST, asked(), failed(), [])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 2}, "no failure of version 1"),
        ({"more": 1}, "no failure of version 1.*more"),
        ({"passes": -1}, "no failure of version 1.*passes"),
        ({"found_utc": "2030-01-01T00:00:00"}, "no failure of version 1"),
        ({"experiment": {"spec": {"system": "raft"}}}, "it has no plan"),
        ({"experiment": {"spec": {"system": "raft", "nodes": "3"}}}, "nodes"),
        (
            {"experiment": {"spec": {"system": "raft", "nodes": 9}, "plan": []}},
            "it needs 9 for nodes",
        ),
        (
            {
                "experiment": {
                    "spec": {"system": "raft", "nodes": 3, "time_limit_s": 1e9},
                    "plan": [],
                }
            },
            "its time limit is 1e.09 s",
        ),
        (
            {"experiment": {"spec": {"system": "raft"}, "plan": [{"at": 1}]}},
            "step 1",
        ),
    ],
)
def test_what_is_no_failure_of_ours_is_passed_over_and_said(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    database = Database(tmp_path)
    file = database.keep(TEST, asked(), failed(), [])
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    kept, [remark] = database.load(TEST, asked())
    assert kept == []
    assert remark.startswith(f"passed over {file}: ")
    with pytest.raises(UsageError, match=why):
        replay_of(failures.read(file), asked())


def test_links_pipes_and_large_files_are_passed_over(tmp_path: Path) -> None:
    database = Database(tmp_path)
    file = database.keep(TEST, asked(), failed(), [])
    (file.parent / "a.json").symlink_to(file)
    os.mkfifo(file.parent / "b.json")
    (file.parent / "c.json").write_bytes(b" " * (failures.BYTES_MAX + 1))
    (file.parent / "d.json").mkdir()
    kept, remarks = database.load(TEST, asked())
    assert len(kept) == 1
    assert [remark[:11] for remark in remarks] == ["passed over"] * 4


@given(st.binary(max_size=200))
def test_no_bytes_break_a_reader(tmp_path_factory: Any, data: bytes) -> None:
    file = tmp_path_factory.mktemp("bytes") / "x.json"
    file.write_bytes(data)
    with pytest.raises(UsageError, match="no failure"):
        failures.read(file)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
SPOTS = ("test", "found_utc", "anomalies", "passes", "experiment")
FIELDS = tuple(TestSpec.__struct_fields__)


@given(spot=st.sampled_from(SPOTS), field=st.sampled_from(FIELDS), value=JSON)
def test_no_value_anywhere_breaks_a_reader(
    tmp_path_factory: Any, spot: str, field: str, value: object
) -> None:
    folder: Path = tmp_path_factory.mktemp("values")
    database = Database(folder)
    file = database.keep(TEST, asked(), failed(), [])
    whole = json.loads(file.read_text())
    for changed in (
        {**whole, spot: value},
        {
            **whole,
            "experiment": {
                "spec": {**whole["experiment"]["spec"], field: value},
                "plan": whole["experiment"]["plan"],
            },
        },
        {**whole, "experiment": {**whole["experiment"], "plan": value}},
    ):
        file.write_text(json.dumps(changed))
        kept, remarks = database.load(TEST, asked())
        assert len(kept) + len(remarks) == 1
        for one in kept:
            assert one.experiment.spec.system == asked().spec.system


def test_a_failures_file_is_what_the_docstring_says() -> None:
    now = datetime.datetime.now(datetime.UTC)
    failure = Failure(test=TEST, found_utc=now, anomalies=[], experiment=failed())
    again = msgspec.json.decode(msgspec.json.encode(failure), type=Failure)
    assert again == failure
    name = failures.key(TEST, asked())
    assert name.startswith("tests-test_store.py-test_reads-a-b-")
    assert len(failures.key("x" * 1000, asked())) < 120
