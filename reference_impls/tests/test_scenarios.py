"""Scenario files of all protocols unfold as written; `scenario` says how to read them.

In `test_*_scenarios` some of them convict mutants, and so prove useful.
"""

from __future__ import annotations

import os

import pytest

from reference_impls.tests.commit_words import THREE_PHASE, TWO_PHASE
from reference_impls.tests.paxos_words import MULTI_PAXOS, PAXOS
from reference_impls.tests.raft_words import RAFT
from reference_impls.tests.scenario import SCENARIOS, replay
from reference_impls.tests.zab_words import ZAB

WORDS = {
    "": RAFT,
    "multi_paxos": MULTI_PAXOS,
    "paxos": PAXOS,
    "three_phase_commit": THREE_PHASE,
    "two_phase_commit": TWO_PHASE,
    "zab": ZAB,
}
"""Folder -> the vocabulary of its files."""

FILES = sorted(
    f"{folder}/{path.stem}".lstrip("/")
    for folder in WORDS
    for path in (SCENARIOS / folder).glob("*.txt")
)


def test_every_file_belongs_to_a_protocol() -> None:
    assert len(FILES) == len([*SCENARIOS.rglob("*.txt")])


@pytest.mark.parametrize("name", FILES)
def test_the_scenario_unfolds_as_written(name: str) -> None:
    path = SCENARIOS / f"{name}.txt"
    happened = replay(name, WORDS[name.rpartition("/")[0]])
    if os.environ.get("SCENARIOS_REWRITE") == "1":
        path.write_text(happened)
    assert path.read_text() == happened
