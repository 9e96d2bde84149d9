"""A run is killed amid a fault, of whatever kind: nothing of it is left.

The kinds are those that are registered, and each word of an option that names variants
(`modes`, `shapes`, `kinds`, `clocks`, `ways`) is a variant of its own, so a new kind
or mode is tried without a line here. Two are tried every day, all of them at night.
"""

from __future__ import annotations

import json
import os
import signal
import time
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from harness.options import Words
from harness.registry import plugins
from harness.run.assembling import why_impossible
from harness.tests.test_deaths import Started, command
from harness.worlds.os.switch import why_no_switch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NODES = ("n1", "n2", "n3")
STRIKES_WITHIN_S = 90.0
"""Nodes start, Raft elects, and an operator waits for it; the machine may be busy."""
SAME = {"targets", "directions"}
"""Options that say where a fault strikes, and not how."""
NEEDED = {"message": {"patterns": "append"}}
"""Options without which a kind has nothing to draw from."""
EVERY_DAY = {"clock modes=wander", "disk modes=slow"}


def variants() -> Iterator[tuple[str, str, dict[str, str]]]:
    """Name, kind and options of each way to break something."""
    for kind, plugin in plugins("nemesis").items():
        named = [
            (option.name, word)
            for option in plugin.options
            if isinstance(option.kind, Words) and option.name not in SAME
            for word in option.kind.known
        ]
        for name, word in named:
            yield f"{kind} {name}={word}", kind, {name: word}
        if not named:
            yield kind, kind, {}


CASES = [
    pytest.param(
        kind,
        options,
        id=name,
        marks=[] if name in EVERY_DAY else [pytest.mark.nightly],
    )
    for name, kind, options in variants()
]


def in_force(kind: str, options: dict[str, str], place: Path) -> Started:
    """A run of raft in which a fault of this kind is in force for minutes."""
    options = NEEDED.get(kind, {}) | options
    nemesis = plugins("nemesis")[kind].factory(options)
    if why := why_no_switch() or why_impossible(nemesis.needs, "switch", nodes=3):
        pytest.skip(why)
    fault = nemesis.draw(Random(f"killed {kind} {options}"), NODES)
    plan = place / "plan.yaml"
    step: dict[str, Any] = {
        "at": {"time_s": 0.2},
        "fault": fault.as_data(),
        "heal": {"after_s": 250},
    }
    plan.write_text(yaml.safe_dump([step]))
    sets = [f"--set={kind}.{name}={word}" for name, word in options.items()]
    started = command(
        place,
        *("run", "raft", "--nodes", "3", "--seed", "1", "--time-limit", "300"),
        *("--nemesis", kind, "--plan", str(plan), *sets),
    )
    try:
        deadline_s = time.monotonic() + STRIKES_WITHIN_S
        while not has_struck(started, kind):
            assert time.monotonic() < deadline_s, f"{fault.as_data()} never struck"
            time.sleep(0.05)
        assert len(started.processes()) > len(NODES), "what may be left is seen"
    except BaseException:
        started.clear()
        raise
    return started


def has_struck(started: Started, kind: str) -> bool:
    assert started.process.poll() is None, started.process.communicate()
    for file in started.results.glob("*/*/faults.jsonl"):
        for line in file.read_text().splitlines(keepends=True):
            if line.endswith("\n") and json.loads(line)["kind"] == kind:
                return True
    return False


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_nothing_outlives_a_run_that_is_killed_amid_a_fault(
    kind: str, options: dict[str, str], tmp_path: Path
) -> None:
    started = in_force(kind, options, tmp_path)
    try:
        assert started.end(signal.SIGKILL)[0] == -signal.SIGKILL
        started.nothing_is_left()
        all_can_be_read(started.results)
    finally:
        started.clear()


@pytest.mark.nightly
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_nothing_outlives_a_controller_that_is_killed_amid_a_fault(
    kind: str, options: dict[str, str], tmp_path: Path
) -> None:
    started = in_force(kind, options, tmp_path)
    try:
        started.part("controller").kill()
        out, err = started.process.communicate(timeout=60)
        assert started.process.returncode == 255, (out, err)
        assert "THE HARNESS FAILED" in out
        assert "Traceback" not in err
        started.nothing_is_left()
        all_can_be_read(started.results)
    finally:
        started.clear()


def all_can_be_read(results: Path) -> None:
    """No file system of ours is mounted there any more, dead or alive."""
    with open("/proc/self/mountinfo") as mounts:
        assert str(results) not in mounts.read()
    device = results.stat().st_dev
    for folder, _, files in os.walk(results, onerror=fail):
        assert os.stat(folder).st_dev == device
        for name in files:
            assert os.lstat(os.path.join(folder, name)).st_dev == device


def fail(problem: OSError) -> None:
    raise problem


def test_the_variants_cover_every_kind() -> None:
    assert {kind for _, kind, _ in variants()} == set(plugins("nemesis"))
    assert EVERY_DAY.issubset(name for name, _, _ in variants())
