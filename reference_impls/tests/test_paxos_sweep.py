"""Paxos and Multi-Paxos in a hostile simulated world; the same world and their mutants.

The seeds of a sweep can be moved: `SWEEP_SEEDS=1000:2000 pytest ...`. A failure names
its seed; `SWEEP_SEEDS=1234:1235` runs that one alone.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from reference_impls.mutants import Mutant, multi_paxos, paxos
from reference_impls.tests.paxos_worlds import ConsensusWorld, LogWorld, PaxosPlan
from reference_impls.tests.seeds import seeds
from reference_impls.tests.simulation import exposed_elsewhere, sweep

WORLDS = (ConsensusWorld, LogWorld)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(PaxosPlan(), id="five-nodes"),
        pytest.param(PaxosPlan(nodes=4, clients=6), id="four-nodes"),
        pytest.param(
            PaxosPlan(nodes=3, loss=0.15, duplicate=0.15, duration_ms=6000),
            id="bad-links",
        ),
        pytest.param(
            PaxosPlan(crashes=14, fsync_ms_max=25.0), id="many-crashes-slow-disks"
        ),
        pytest.param(
            PaxosPlan(slow=0.2, slow_ms_max=900.0, finishes=False), id="reordered"
        ),
        pytest.param(PaxosPlan(nodes=1, partitions=0, crashes=8), id="one-node"),
        pytest.param(PaxosPlan(nodes=2), id="two-nodes"),
        pytest.param(PaxosPlan(nodes=7), id="seven-nodes"),
    ],
)
def test_promises_are_kept_whatever_the_world_does(
    world: type[ConsensusWorld | LogWorld], plan: PaxosPlan
) -> None:
    broken = sweep(world, plan, seeds(2))
    assert broken is None, f"seed {broken[0]}: {broken[1]}"


def test_a_log_keeps_its_promises_with_hardly_any_room() -> None:
    options = {"window": "3", "entries_per_message_max": "2"}
    # With two slots a message, and a tenth of messages lost, catching up takes long.
    plan = PaxosPlan(clients=12, loss=0.1, settling_ms=1000, options=options)
    broken = sweep(LogWorld, plan, seeds(4))
    assert broken is None, f"seed {broken[0]}: {broken[1]}"


def test_ballots_by_good_clocks_are_as_good_as_any() -> None:
    plan = PaxosPlan(options={"ballots": "timestamp"})
    broken = sweep(ConsensusWorld, plan, seeds(2))
    assert broken is None, f"seed {broken[0]}: {broken[1]}"


def test_ballots_by_bad_clocks_never_disagree() -> None:
    """Bad clocks hinder only progress, which the scenario `timestamps` shows."""
    plan = PaxosPlan(
        options={"ballots": "timestamp"}, clock_rates=(0.2, 3.0), finishes=False
    )
    broken = sweep(ConsensusWorld, plan, seeds(2))
    assert broken is None, f"seed {broken[0]}: {broken[1]}"


CRASHES = PaxosPlan(
    nodes=3, crashes=150, restart_ms_max=3, fsync_ms_max=1.0, slow=0.2, finishes=False
)
SPLITS = PaxosPlan(nodes=3, crashes=10, partitions=8, slow=0.1, finishes=False)
MUTANTS = [
    (world, plan, mutant)
    for world, plan, mutants in (
        (ConsensusWorld, CRASHES, paxos.MUTANTS),
        (LogWorld, SPLITS, multi_paxos.MUTANTS),
    )
    for name, mutant in mutants.items()
    if name not in exposed_elsewhere(mutants)
]


@pytest.mark.parametrize(
    ("world", "plan", "mutant"),
    MUTANTS,
    ids=lambda value: value.name if isinstance(value, Mutant) else "",
)
def test_a_broken_core_is_convicted(
    world: type[ConsensusWorld | LogWorld], plan: PaxosPlan, mutant: Mutant
) -> None:
    plan = replace(plan, core=mutant.core, options=dict(mutant.options))
    broken = sweep(world, plan, range(200))
    assert broken is not None, f"{mutant.name} escaped"


def test_every_mutant_says_which_rule_it_breaks() -> None:
    for mutants in (paxos.MUTANTS, multi_paxos.MUTANTS):
        for name, mutant in mutants.items():
            assert mutant.name == name
            assert mutant.core.__doc__
            assert "Lamport 2001" in mutant.source or "van Renesse" in mutant.source
