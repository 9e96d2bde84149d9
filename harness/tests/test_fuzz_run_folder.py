"""Whatever has happened to a run folder, it is judged, or refused in one line at once.

What the controller alone writes is damaged here; of nodes' own files see
`test_fuzz_nodefiles`. Run for longer with `--hypothesis-profile nightly`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.judge import analysis
from harness.report import text
from harness.run import execution
from harness.run.spec import TestSpec
from harness.run.store import RunFolder
from harness.tests.mutations import damaged, randoms, spoiled
from harness.tests.test_fuzz_documents import refusal_of

if TYPE_CHECKING:
    from random import Random

    from harness.run.records import VerdictRecord

FILES = (
    *("test.yaml", "run.json", "verdict.json", "history.jsonl", "faults.jsonl"),
    *("clocks.jsonl", "errors.jsonl", "messages.jsonl", "plan.yaml"),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run of the simulator, judged."""
    spec = TestSpec(
        system="raft",
        nemesis=["kill", "partition"],
        world="sim",
        rate=20.0,
        time_limit_s=3.0,
        seed=5,
        messages=True,
    )
    folder = execution.run(spec, tmp_path_factory.mktemp("whole"))
    assert analysis.analyse(folder).verdict == "valid"
    return folder.path


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def read(path: Path) -> Any:
    """A file as data; lines as a list of their values."""
    if path.suffix == ".yaml":
        return yaml.safe_load(path.read_text())
    if path.suffix == ".json":
        return json.loads(path.read_text())
    return [json.loads(line) for line in path.read_text().splitlines()]


def written(path: Path, data: Any) -> bytes:
    if path.suffix == ".yaml":
        return yaml.dump(data, Dumper=yaml.SafeDumper).encode()
    if path.suffix == ".json" or not isinstance(data, list):
        return json.dumps(data, default=str).encode()
    return b"".join(json.dumps(x, default=str).encode() + b"\n" for x in data)


def test_a_run_whose_reads_all_timed_out_is_unknown(copy: Path) -> None:
    path = copy / "history.jsonl"
    events = read(path)

    def judged(silent: set[str], until_ns: int) -> VerdictRecord:
        kept = [dict(event) for event in events if event["time"] < until_ns]
        for index, event in enumerate(kept):
            event["index"] = index
            if event["f"] in silent and event["type"] in {"ok", "fail"}:
                event |= {"type": "info", "value": None}
        path.write_bytes(written(path, kept))
        return analysis.analyse(RunFolder.open(copy))

    outcome = judged({"read"}, 10**10)
    assert outcome.verdict == "unknown"
    assert outcome.reason.startswith("No read ever succeeded")
    # Too short to call reads silent, and still no proof of anything.
    outcome = judged({"read", "cas"}, 10**9)
    assert outcome.verdict == "unknown"
    reason = outcome.checkers["linearizable"].reason
    assert outcome.reason.startswith("No read succeeded after the first fault")
    assert reason.startswith("nothing to judge: no read or other operation")


def judge(folder: Path) -> None:
    record = analysis.analyse(RunFolder.open(folder))
    assert not record.harness.errors or record.harness.ok is False
    text.summary(folder)
    for name, checker in record.checkers.items():
        assert "Traceback" not in checker.reason, (name, checker)


@settings(max_examples=max(30, settings().max_examples // 3))  # each makes a report
@given(random=randoms, changes=st.integers(0, 2), splices=st.integers(0, 2))
def test_a_damaged_run_is_judged_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory,
    whole: Path,
    random: Random,
    changes: int,
    splices: int,
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed-run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    path = folder / random.choice([name for name in FILES if (folder / name).exists()])
    if random.random() < 0.05:
        path.unlink()
    else:
        data = written(path, damaged(random, read(path), changes))
        path.write_bytes(spoiled(random, data, splices))
    said = refusal_of(lambda: judge(folder))
    assert not said or changes or splices or not path.exists()


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("run.json", b"[1]", "run.json is damaged: Expected `object`, got `array`"),
        ("run.json", b"null", "run.json is damaged: Expected `object`, got `null`"),
        ("run.json", b'{"errors": 5}', "Expected `array`, got `int`"),
        ("run.json", b'{\n"seconds": NaN}', "run.json: not JSON: NaN is no number"),
        ("run.json", b'{\n"ops": ', "run.json, line 2: not JSON"),
        ("run.json", b"[" * 100_000, "nested too deep"),
        ("test.yaml", b"name: \xff", "test.yaml, line 1: not UTF-8"),
        ("test.yaml", b"[1]", "test.yaml is damaged: Expected `object`"),
        ("test.yaml", b"", "test.yaml is damaged"),
        ("faults.jsonl", b"{}\n[1]\n", "faults.jsonl, line 2 is damaged: Expected"),
        ("faults.jsonl", b"null\n{}\n", "faults.jsonl, line 1 is damaged: Expected"),
        ("faults.jsonl", b"{}\n\xff\n", "faults.jsonl, line 2 is damaged: "),
        ("faults.jsonl", b'{"event":[]}\n', "line 1 is damaged: Expected `str`"),
        ("faults.jsonl", b'{"kind":{}}\n', "line 1 is damaged: Expected `str`"),
    ],
)
def test_a_damaged_file_of_a_run_is_named_with_its_place(
    copy: Path, name: str, data: bytes, why: str
) -> None:
    before = (copy / "verdict.json").read_bytes()
    (copy / name).write_bytes(data)
    with pytest.raises(UsageError) as refused:
        analysis.analyse(RunFolder.open(copy))
    assert why in str(refused.value)
    assert "restore it from a copy" in str(refused.value)
    assert (copy / "verdict.json").read_bytes() == before, "nothing is lost"


def test_what_was_cut_off_with_the_controller_is_left_out(copy: Path) -> None:
    faults = (copy / "faults.jsonl").read_bytes()
    (copy / "faults.jsonl").write_bytes(faults + b'{"time": 5')
    assert analysis.analyse(RunFolder.open(copy)).verdict == "valid"


def test_nodes_of_a_run_do_not_lead_out_of_its_folder(copy: Path) -> None:
    test = yaml.safe_load((copy / "test.yaml").read_text())
    test["nodes"][0] = "../../../etc"
    (copy / "test.yaml").write_text(yaml.safe_dump(test))
    with pytest.raises(UsageError, match="nodes"):
        analysis.analyse(RunFolder.open(copy))
