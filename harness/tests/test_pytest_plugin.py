"""The plug-in, as pytest itself runs it in a suite of a user's own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from harness.campaign import failures
from harness.tests.test_deaths import Started

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLE = Path(__file__).parents[2] / "examples" / "pytest"
LIMIT_S = 500.0

INI = """
[pytest]
addopts = --strict-markers --strict-config -W error -p no:cacheprovider
    --splitbrain-shrink=0
"""

SUITE = """
import unittest
import pytest
import splitbrain

RAFT = {"world": "sim", "nodes": 3, "concurrency": 5, "time_limit_s": 4, "seed": 1,
        "nemesis": "partition"}
STALE = {**RAFT, "options": {"reads": "local"}}
NEVER = {"election_timeout_ms_min": 50_000, "election_timeout_ms_max": 60_000}
NOTHING = {"world": "sim", "nodes": 3, "time_limit_s": 1, "options": NEVER}

@splitbrain.torture("raft", **RAFT)
def test_valid(outcome):
    assert outcome.ops["ok"] > 10 and outcome.verdict == "valid"

@splitbrain.torture("raft", **RAFT)
def test_valid_but_not_enough(outcome):
    assert outcome.ops["ok"] > 10**9

@splitbrain.torture("raft", **STALE)
def test_stale():
    raise RuntimeError("never reached")

@pytest.mark.xfail(raises=splitbrain.Violation, strict=True)
@splitbrain.torture("raft", **STALE)
def test_known_to_be_stale(): ...

@splitbrain.torture("raft", **NOTHING)
def test_unknown(): ...

@splitbrain.torture("raft", unknown="skip", **NOTHING)
def test_unknown_skipped(): ...

@splitbrain.torture("raft", unknown="allow", **NOTHING)
def test_unknown_allowed(outcome):
    assert outcome.verdict == "unknown"

def test_not_installed(torture, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("SPLITBRAIN_SYSTEMS", "/nowhere")
    torture("etcd")

@splitbrain.torture("raftt")
def test_impossible(): ...

def test_fixture(torture):
    assert torture("raft", **RAFT).verdict == "valid"
    with pytest.raises(splitbrain.Violation, match="stale-read") as caught:
        torture("raft", **STALE)
    assert isinstance(caught.value.outcome, splitbrain.Outcome)
    torture("raft", nemesiss="kill")

def test_run():
    splitbrain.run("raft", **STALE)

@pytest.mark.splitbrain("raft", **RAFT)
def test_bare_marker(): ...

@splitbrain.torture("raft", **STALE)
class TestOld(unittest.TestCase):
    def test_case(self): ...
"""

OUTCOMES = {
    "test_valid": "PASSED",
    "test_valid_but_not_enough": "FAILED",
    "test_stale": "FAILED",
    "test_known_to_be_stale": "XFAIL",
    "test_unknown": "FAILED",
    "test_unknown_skipped": "SKIPPED",
    "test_unknown_allowed": "PASSED",
    "test_not_installed": "SKIPPED",
    "test_impossible": "ERROR",
    "test_fixture": "ERROR",
    "test_run": "FAILED",
    "test_bare_marker": "FAILED",
    "TestOld::test_case": "FAILED",
}


def run_pytest(folder: Path, *options: str) -> tuple[int, str]:
    """(status, output) of pytest in a folder of tests."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def suite(folder: Path, text: str) -> Path:
    """A folder with a suite of one module."""
    (folder / "pytest.ini").write_text(INI)
    (folder / "test_it.py").write_text(text)
    return folder


def section(output: str, test: str) -> str:
    """What pytest says of a test that failed."""
    head = rf"^_+ (?:ERROR at \w+ of )?{re.escape(test)} _+$"
    found = re.search(rf"(?ms){head}\n(.*?)(?=^_+ \S|^=+ )", output)
    assert found, output
    return found[1]


def test_each_ending_of_a_run_is_an_ending_of_a_test(tmp_path: Path) -> None:
    suite(tmp_path, SUITE)
    status, output = run_pytest(tmp_path, "-v", "--tb=short")
    found = dict(re.findall(r"^test_it.py::(\S+) ([A-Z]+)", output, re.MULTILINE))
    assert (found, status) == (OUTCOMES, 1), output

    stale = section(output, "test_stale")
    assert stale.startswith("stale-read: ")
    assert "\nseed     1\n" in stale
    assert "test_it.py" not in stale.partition("kept")[0], "no traceback"
    report = re.search(r"^report +(\S+)$", stale, re.MULTILINE)
    assert report
    assert (tmp_path / report[1]).is_file()
    line = "FAILED test_it.py::test_stale - splitbrain.Violation: stale-read: "
    assert f"\n{line}" in output
    assert section(output, "test_unknown").startswith("unknown: ")
    assert section(output, "test_impossible").startswith("there is no system called")
    assert section(output, "test_fixture").startswith("torture takes no 'nemesiss'")
    assert "stale-read" in section(output, "TestOld.test_case")
    assert "use @splitbrain.torture" in section(output, "test_bare_marker")
    assert "etcd" in output


@pytest.mark.nightly
def test_workers_of_xdist_replay_too_and_a_copy_from_elsewhere_is_read(
    tmp_path: Path,
) -> None:
    suite(tmp_path, SUITE)
    status, _ = run_pytest(tmp_path, "-k", "test_stale")
    assert status == 1
    chosen = ("-k", "test_stale or test_valid", "-n", "2", "-m", "splitbrain")
    status, output = run_pytest(tmp_path, *chosen)
    assert status == 1
    assert "2 failed, 1 passed" in output
    assert "replayed stale-read" in section(output, "test_stale")
    assert re.search(r"\ntest_it.py::test_stale: replayed .*: failed again\n", output)

    # Without its bug, the failure passes; CI's copy is replayed as long as it is there.
    shutil.move(tmp_path / ".splitbrain", tmp_path / "artefact")
    suite(tmp_path, SUITE.replace('"local"', '"log"'))
    read_only = ("--splitbrain-database-readonly", "artefact")
    status, output = run_pytest(tmp_path, "-k", "test_stale", *read_only)
    assert "passed; it is replayed as long as its file is there" in output
    assert "RuntimeError: never reached" in output
    assert not (tmp_path / ".splitbrain").exists()


def test_options_are_told_and_checked(tmp_path: Path) -> None:
    suite(tmp_path, "def test_nothing(): ...")
    _, output = run_pytest(tmp_path, "--help", "--markers")
    for name in ("seed", "time-limit", "shrink", "results", "database"):
        assert f"--splitbrain-{name}" in output
    assert "splitbrain_readonly_databases (paths)" in output
    _, output = run_pytest(tmp_path, "--markers")
    assert "@pytest.mark.splitbrain(system, **ask)" in output
    status, output = run_pytest(tmp_path, "--splitbrain-time-limit=-1")
    assert status == 4
    assert "'-1' is no number of seconds" in output


def test_whoever_does_not_use_it_pays_nothing(tmp_path: Path) -> None:
    heavy = ("harness", "numpy", "msgspec", "hypothesis", "yaml", "workloads")
    text = f"""
    import sys
    def test_nothing_heavy_is_there():
        assert "splitbrain" in sys.modules
        assert [name for name in {heavy} if name in sys.modules] == []
    """
    suite(tmp_path, text.replace("\n    ", "\n"))
    status, output = run_pytest(tmp_path)
    assert status == 0, output


@pytest.mark.nightly
def test_a_property_leaves_its_smallest_failure_alone(tmp_path: Path) -> None:
    suite(
        tmp_path,
        """
import splitbrain
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

@given(seed=st.integers(1, 3))
@settings(deadline=None, database=None, phases=[Phase.generate, Phase.shrink])
def test_property(seed):
    splitbrain.run("raft", world="sim", nodes=3, concurrency=5, time_limit_s=4,
                   nemesis="partition", options={"reads": "local"}, seed=seed)
""",
    )
    status, output = run_pytest(tmp_path)
    assert status == 1
    told = section(output, "test_property")
    assert told.startswith("stale-read: ")
    assert "test_property(\n    seed=1,\n)" in told
    left = list((tmp_path / "results" / "raft-register").iterdir())
    assert [folder.name[-2:] for folder in left] == ["-1"]
    assert not (tmp_path / ".splitbrain").exists()


@pytest.mark.nightly
def test_the_example_does_what_its_page_says(tmp_path: Path) -> None:
    folder = tmp_path / "example"
    ignored = shutil.ignore_patterns("results", ".*", "__pycache__")
    shutil.copytree(EXAMPLE, folder, ignore=ignored)
    status, output = run_pytest(folder)
    assert status == 1
    assert "= 1 failed, 3 passed in" in output, output
    told = section(output, "test_cached_reads_are_linearizable")
    assert re.match(r"(stale-read|lost-write): Process \d", told)
    again = re.search(r"^again +(.*)$", told, re.MULTILINE)
    assert again
    words = shlex.split(again[1])
    done = subprocess.run(
        words, cwd=folder, capture_output=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 1, done.stdout
    [kept] = folder.glob(".splitbrain/*/*.json")
    assert failures.read(kept).test.endswith("test_cached_reads_are_linearizable")
    status, output = run_pytest(folder, "-k", "cached")
    told = section(output, "test_cached_reads_are_linearizable")
    assert "\nreplayed " in told
    assert status == 1


@pytest.mark.nightly
@pytest.mark.parametrize("options", [(), ("-n", "1")])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_end_amid_a_run_leaves_nothing(
    tmp_path: Path, options: Sequence[str], number: signal.Signals
) -> None:
    text = """
import splitbrain
@splitbrain.torture("raft", nodes=3, nemesis="kill", time_limit_s=300)
def test_long(): ...
"""
    mark = f"mark-{uuid4()}"
    folder = tmp_path / mark
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    suite(folder, text)
    process = subprocess.Popen(
        # Folders for tests are pytest's own, and stay.
        [sys.executable, "-m", "pytest", f"--basetemp={folder}/base", *options],
        cwd=folder,
        env={
            **os.environ,
            "PYTEST_ADDOPTS": "",
            "TMPDIR": str(scratch),
            "SPLITBRAIN_TEST_MARK": mark,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    started = Started(process, mark, folder / "results", scratch)
    try:
        deadline_s = time.monotonic() + LIMIT_S
        while not started.recorded_bytes():
            assert process.poll() is None, started.end(signal.SIGINT)
            assert time.monotonic() < deadline_s, "nothing is recorded"
            time.sleep(0.05)
        status, output, _ = started.end(number)
        # pytest itself takes an interrupt alone for a request to end.
        assert status == (2 if number == signal.SIGINT else -number), output
        started.nothing_is_left()
    finally:
        started.clear()
