"""What runs on what: services that systems speak and workloads need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness import registry
from harness.cli import catalogue
from harness.history.formats import load
from harness.run import execution
from harness.run.spec import DEFAULTS, TestSpec
from harness.systems import services

if TYPE_CHECKING:
    from pathlib import Path

    from harness.history import Op

TRANSACTIONS = "bank counter list_append long_fork queue rw_register set"

MATRIX = {
    "etcd": f"{TRANSACTIONS} kafka kv lock register",
    "hashicorp_raft": "kv register",
    "galera": f"{TRANSACTIONS} kv lock register",
    "kafka": "kafka",
    "lmdb": f"{TRANSACTIONS} kv lock register",
    "maelstrom": "echo g_set gossip kafka kv list_append long_fork pn_counter register "
    "rw_register unique_ids",
    "mariadb": f"{TRANSACTIONS} kv lock register",
    "multi_paxos": f"{TRANSACTIONS} echo kv leader lock register",
    "nats": "kafka kv register set",
    "patroni": f"{TRANSACTIONS} kv lock register",
    "paxos": "consensus echo",
    "postgresql": f"{TRANSACTIONS} kv lock register",
    "postgresql_shards": "commit",
    "pysyncobj": f"{TRANSACTIONS} kv lock register",
    "rabbitmq": "queue",
    "raft": f"{TRANSACTIONS} echo kv leader lock register",
    "ratis": "kv register",
    "raft_rs": f"{TRANSACTIONS} kv leader register",
    "redis": f"{TRANSACTIONS} kv lock register",
    "redis_cluster": "counter kv lock queue register set",
    "sqlite": f"{TRANSACTIONS} kv lock register",
    "three_phase_commit": f"{TRANSACTIONS} commit echo",
    "two_phase_commit": f"{TRANSACTIONS} commit echo",
    "zab": f"{TRANSACTIONS} broadcast echo kv leader lock register",
    "zookeeper": "kv lock register set",
}
"""System -> the workloads that it serves."""

REFUSALS = (" (10)", " (12)")
"""How the texts of errors end that say that a node doesn't know a request, or that one
of another service lacks what this one needs: `read` of a set has no key."""

EMBEDDED = {"lmdb", "sqlite"}
DATABASES = {"mariadb", "patroni", "postgresql", "postgresql_shards"}
REFERENCE = [
    *("multi_paxos", "paxos", "raft", "zab"),
    *("three_phase_commit", "two_phase_commit"),
]


TEXTS = {"attach": "127.0.0.1:7000"}
"""What stands behind an adapter's name, if any program will not do."""


def made(name: str) -> Any:
    plugin = registry.find("system", name)
    return plugin.factory(TEXTS.get(name, "true" if plugin.adapter else ""), {})


def test_each_system_serves_what_it_speaks_and_no_more() -> None:
    everything = set(registry.plugins("workload"))
    # What has no key can't be told from what was there before.
    keyed = " ".join(everything - {"broadcast", "g_set", "pn_counter"})
    matrix = {**MATRIX, "launch": " ".join(everything), "attach": keyed}
    served = {name: services.served(made(name)) for name in registry.plugins("system")}
    assert served == {name: sorted(text.split()) for name, text in matrix.items()}


def test_every_service_has_a_meaning_and_a_workload_that_needs_it() -> None:
    needed = [services.needed_by(w) for w in registry.plugins("workload").values()]
    assert None not in needed
    nemeses = [made.factory({}) for made in registry.plugins("nemesis").values()]
    needed += [n.requires for n in nemeses if isinstance(n, services.Asking)]
    needed.append(registry.find("workload", "kafka").factory({"txn": "true"}).requires)
    assert {name for names in needed for name in names or ()} == set(services.SERVICES)
    for plugin in registry.plugins("system").values():
        spoken = services.spoken_by(plugin)
        assert spoken is not None
        assert spoken <= {*services.SERVICES, services.EVERY}


def test_three_systems_change_members_and_all_bear_the_other_faults() -> None:
    nemeses = {n: made.factory({}) for n, made in registry.plugins("nemesis").items()}
    spared = [
        (system, kind, why)
        for system in (*MATRIX.keys() - EMBEDDED - DATABASES, "launch")
        for kind, nemesis in nemeses.items()
        if (why := services.why_spared(made(system), nemesis))
    ]
    assert {kind for _, kind, _ in spared} == {"membership"}
    assert {why for *_, why in spared} == {"its nodes don't serve membership"}
    changing = {"raft", "raft_rs", "etcd", "launch"}
    spare = MATRIX.keys() - {*changing, *EMBEDDED, *DATABASES}
    assert {system for system, *_ in spared} == spare
    unsure = {
        (system, kind)
        for system in changing
        for kind, nemesis in nemeses.items()
        if not services.is_sure(made(system), nemesis)
    }
    assert unsure == {("launch", "membership")}, "its nodes may serve it or not"
    for system in EMBEDDED:
        borne = {
            k for k, n in nemeses.items() if not services.why_spared(made(system), n)
        }
        assert borne == {"clock", "disk", "kill", "pause", "power"}
    postgresql = made("postgresql")
    spared_it = {k for k, n in nemeses.items() if services.why_spared(postgresql, n)}
    assert spared_it == {"membership", "rot"}


def test_a_system_may_name_the_faults_that_it_bears() -> None:
    system = made("etcd")
    system.faults = frozenset({"kill", "pause"})
    kill, clock = (registry.find("nemesis", n).factory({}) for n in ("kill", "clock"))
    assert not services.why_spared(system, kill)
    assert services.why_spared(system, clock) == "it can to: kill, pause"


def test_options_may_take_a_need_away() -> None:
    factory = registry.find("workload", "register").factory
    assert factory({}).requires == {"register", "cas"}
    assert factory({"cas": "false"}).requires == {"register"}


def test_the_list_tells_what_is_spoken_and_what_is_needed() -> None:
    listed = catalogue.as_json()
    spoken = {entry["name"]: entry["speaks"] for entry in listed["systems"]}
    needed = {entry["name"]: entry["needs"] for entry in listed["workloads"]}
    assert spoken["paxos"] == ["echo", "propose"]
    assert spoken["launch:..."] == [services.EVERY]
    assert needed["kv"] == ["cas", "register"]
    assert {entry["name"] for entry in listed["services"]} == set(services.SERVICES)
    assert "speaks whatever its nodes serve" in catalogue.as_text(listed)


# Whether nodes answer what their systems claim: every pair, in the simulator


@pytest.mark.nightly
@pytest.mark.parametrize("name", REFERENCE)
def test_nodes_answer_what_their_system_speaks_and_refuse_the_rest(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = services.served(made(name))
    monkeypatch.setattr(services, "check", lambda *_: None)
    for workload in registry.plugins("workload"):
        refused = [
            op
            for op in completions(name, workload, tmp_path)
            if op.type == "fail" and str(op.error).endswith(REFUSALS)
        ]
        if workload in served:
            assert not refused, (workload, refused[0])
        elif workload != "leader":  # All tell their status, also where nobody leads.
            assert refused, workload


def completions(system: str, workload: str, results: Path) -> list[Op]:
    """What came of a few operations of a short simulated run."""
    fields = {**DEFAULTS["sim"], "world": "sim", "ops": 40, "time_limit_s": 2.0}
    spec = TestSpec(system=system, workload=workload, nodes=3, **fields)
    folder = execution.run(spec, results)
    return [op for op in load(folder.path / "history.jsonl") if op.type != "invoke"]
