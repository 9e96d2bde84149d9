"""Zab in a hostile simulated world; and the same world convicting broken Zabs.

The seeds of a sweep can be moved: `SWEEP_SEEDS=1000:2000 pytest ...`. A failure names
its seed; `SWEEP_SEEDS=1234:1235` runs that one alone.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from reference_impls.mutants.zab import MUTANTS
from reference_impls.tests.seeds import seeds
from reference_impls.tests.simulation import exposed_elsewhere, sweep
from reference_impls.tests.zab_world import ZabPlan, ZabWorld


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(ZabPlan(nodes=5), id="five-nodes"),
        pytest.param(ZabPlan(nodes=3, clients=6), id="three-nodes"),
        pytest.param(ZabPlan(nodes=4, loss=0.15, duplicate=0.15), id="bad-links"),
        pytest.param(
            ZabPlan(crashes=14, fsync_ms_max=25.0), id="many-crashes-slow-disks"
        ),
        pytest.param(ZabPlan(slow=0.2, slow_ms_max=900.0), id="reordered"),
        pytest.param(
            ZabPlan(crashes=10, options={"snapshot_txns": "5"}), id="snapshots"
        ),
        pytest.param(
            ZabPlan(options={"txns_per_message_max": "1", "snapshot_txns": "0"}),
            id="one-transaction-a-message",
        ),
        pytest.param(
            ZabPlan(clock_rates=(0.8, 1.25), clock_jumps=3), id="clocks-apart"
        ),
        pytest.param(ZabPlan(nodes=1, partitions=0, crashes=8), id="one-node"),
        pytest.param(ZabPlan(nodes=2), id="two-nodes"),
    ],
)
def test_zab_keeps_its_promises_whatever_the_world_does(plan: ZabPlan) -> None:
    broken = sweep(ZabWorld, plan, seeds(3))
    assert broken is None, f"seed {broken[0]}: {broken[1]}"


def test_local_reads_are_stale_sooner_or_later() -> None:
    broken = sweep(ZabWorld, ZabPlan(options={"reads": "local"}), range(20))
    assert broken is not None
    assert "linearizability" in str(broken[1])


MANY_CRASHES = ZabPlan(nodes=3, crashes=14, fsync_ms_max=10.0, slow=0.1, settles=False)
FAILED_STARTS = ZabPlan(
    nodes=3,
    crashes=40,
    restart_ms_max=100,
    partitions=10,
    fsync_ms_max=40.0,
    settles=False,
)
SPLITS = ZabPlan(partitions=10, crashes=2, settles=False)

PLANS = {
    "commit-without-quorum": SPLITS,
    "epoch-not-durable": MANY_CRASHES,
    "election-ignores-zxid": SPLITS,
    "serves-before-sync": FAILED_STARTS,
    "keeps-uncommitted-suffix": SPLITS,
    "zab-ack-before-fsync": MANY_CRASHES,
    "out-of-order-commit": SPLITS,
}


def test_every_mutant_is_put_to_the_test() -> None:
    assert set(PLANS) | exposed_elsewhere(MUTANTS) == set(MUTANTS)


FIRST = {"serves-before-sync": 51, "zab-ack-before-fsync": 34}
"""A seed known to convict, of mutants that many seeds acquit: tried before the rest."""


@pytest.mark.parametrize("name", PLANS)
def test_a_broken_zab_is_convicted(name: str) -> None:
    plan = replace(PLANS[name], core=MUTANTS[name].core)
    tried = [FIRST.get(name, 0), *range(200)]
    assert sweep(ZabWorld, plan, tried) is not None, f"{name} escaped"


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = (ZabWorld(7, ZabPlan()).run() for _ in range(2))
    assert first.deliveries.order == second.deliveries.order
    assert list(map(str, first.calls)) == list(map(str, second.calls))
