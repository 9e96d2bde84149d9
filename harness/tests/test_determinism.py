"""`--determinism`: a seed whose two simulations differ by a byte is found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.campaign.determinism import (
    Difference,
    check,
    differing_line,
    first_difference,
)
from harness.campaign.experiment import Experiment
from harness.cli import run_command
from harness.errors import UsageError
from harness.registry import by_default, plugins
from harness.run.completing import complete
from harness.run.spec import DEFAULTS, TestSpec
from harness.systems.abilities import Simulated
from harness.tests.osworld_nodes import eventually
from harness.tests.test_deaths import command

if TYPE_CHECKING:
    from pathlib import Path

SIMULATED = [
    name
    for name, plugin in sorted(plugins("system").items())
    if isinstance(by_default(plugin, "", {}), Simulated)
]

HASHING = """
from harness.api import Plugin, gen
from workloads.echo import Echo

class Hashing(Echo):
    name = "hashing"

    def generator(self, concurrency):
        return gen.from_function(lambda random: gen.Invocation("echo", hash("say")))

PLUGIN = Plugin("hashing", "says what differs from process to process", Hashing)
"""


def splitbrain(results: Path, *arguments: str, path: str = "") -> tuple[int, str, str]:
    """Exit status, output and complaints of a simulated run."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "harness", "run", *arguments),
            *("--seed", "3", "--results", str(results)),
        ],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_seeds_that_repeat_are_said_to_and_judged_as_ever(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run_command(
        [
            *("run", "raft", "--world", "sim", "--nemesis", "kill,clock"),
            *("--nodes", "3", "--time-limit", "2", "--seed", "3", "--seeds", "2"),
            *("--determinism", "--results", str(tmp_path)),
        ]
    )
    out = capsys.readouterr().out
    assert status == 0, out
    assert "the same in two processes, to the byte: all that seeds 3 to 4" in out
    assert "all valid: 2 of 2 seeds" in out


def test_a_seed_that_does_not_repeat_fails_the_harness_and_says_where(
    tmp_path: Path,
) -> None:
    (tmp_path / "hashing.py").write_text(HASHING)
    info = tmp_path / "hashing-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hashing\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[splitbrain.workloads]\nhashing = hashing:PLUGIN\n"
    )
    status, out, err = splitbrain(
        tmp_path / "results",
        *("raft", "--workload", "hashing", "--world", "sim", "--nemesis", "none"),
        *("--ops", "5", "--determinism"),
        path=str(tmp_path),
    )
    assert status == 255, (out, err)
    assert "seed 3 does not repeat" in err
    assert "history.jsonl, line 1: `" in err
    kept = tmp_path / "results" / "raft-hashing" / "differs-3"
    assert str(kept) in err
    history, another = (kept / n / "history.jsonl" for n in ("1", "2"))
    assert history.read_text() != another.read_text()


def test_real_processes_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["run", "raft", "--determinism"]) == 254
    assert capsys.readouterr().err == (
        "splitbrain: --determinism is for --world sim: real processes never repeat to "
        "the byte\n"
    )


def test_an_impossible_run_is_refused_as_ever(tmp_path: Path) -> None:
    spec = TestSpec(system="sqlite", workload="register", nemesis=[], world="sim")
    with pytest.raises(UsageError, match="can't run in the simulator"):
        next(check(Experiment(spec), [1], tmp_path))


CONTENTS = st.lists(st.sampled_from([b"", b"a", b"b", b"\xff", b"a" * 200])).map(
    b"\n".join
)


@given(one=CONTENTS, other=CONTENTS)
def test_the_line_that_is_named_is_the_first_that_differs(
    one: bytes, other: bytes
) -> None:
    if one == other:
        return
    found = differing_line("history.jsonl", one, other)
    lines, others = one.split(b"\n"), other.split(b"\n")
    assert lines[: found.line - 1] == others[: found.line - 1]
    assert lines[: found.line] != others[: found.line]
    assert found.texts[0] != found.texts[1]


def test_a_file_that_only_one_folder_has_is_a_difference(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / name / "nodes" / "n1").mkdir(parents=True)
        (tmp_path / name / "run.json").write_text("{}")
    one, other = tmp_path / "1", tmp_path / "2"
    assert first_difference(one, other) is None
    (other / "nodes" / "n1" / "log").touch()
    found = first_difference(one, other)
    assert found == Difference("nodes/n1/log", 0, ("missing", "there"))
    assert str(found) == "nodes/n1/log is missing in one, there in the other"


@pytest.mark.nightly
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_a_comparison_that_is_ended(
    number: signal.Signals, tmp_path: Path
) -> None:
    started = command(
        tmp_path,
        *("run", "raft", "--world", "sim", "--seed", "1", "--time-limit", "3000"),
        *("--determinism", "--json"),
    )
    try:
        eventually(lambda: len(started.processes()) >= 4, "two simulate, one tidies up")
        status, out, err = started.end(number)
        assert status == (-number if number == signal.SIGKILL else 2), (out, err)
        started.nothing_is_left()
    finally:
        started.clear()


@pytest.mark.nightly
@pytest.mark.parametrize("system", SIMULATED)
def test_every_protocol_repeats_under_all_faults(system: str, tmp_path: Path) -> None:
    spec = TestSpec(
        system=system,
        **{**DEFAULTS["sim"], "world": "sim", "workload": "", "nemesis": ["all"]},
    )
    complete(spec)
    seeds = range(1, 11)
    assert list(check(Experiment(spec), seeds, tmp_path)) == list(seeds)
