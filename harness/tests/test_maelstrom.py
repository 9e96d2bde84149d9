"""Maelstrom nodes as they are: what they are told, and what becomes of bad ones."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import registry
from harness.errors import UsageError
from harness.run.completing import complete
from harness.run.spec import TestSpec
from harness.run.store import RunFolder
from harness.systems.maelstrom import CUSTOMS, Maelstrom
from harness.tests.test_run import run
from harness.worlds.places import Endpoint, make_place

EXAMPLES = Path(__file__).parents[2] / "examples" / "maelstrom"
BAD_NODE = Path(__file__).parent / "bad_maelstrom_node.py"

WORKLOADS = {
    "echo": "echo",
    "unique-ids": "unique_ids",
    "broadcast": "broadcast",
    "g-set": "g_set",
    "g-counter": "counter",
    "pn-counter": "counter",
    "lin-kv": "lin_kv",
    "txn-list-append": "txn",
    "txn-rw-register": "txn",
    "kafka": "kafka",
}
"""Maelstrom's name of a workload -> our example of a node for it."""


def system(program: Path, *arguments: str) -> str:
    return "maelstrom:" + shlex.join([sys.executable, str(program), *arguments])


def run_json(outcome: dict[str, Any]) -> dict[str, Any]:
    told = RunFolder.open(Path(outcome["run"])).read_as("run.json", dict[str, Any])
    assert told is not None
    return told


def completed(workload: str, **fields: Any) -> TestSpec:
    spec = TestSpec(system="maelstrom:true", workload=workload, **fields)
    complete(spec)
    return spec


# Names and defaults


def test_there_is_an_example_for_every_name_of_a_workload() -> None:
    assert set(WORKLOADS) | {"gossip"} == set(CUSTOMS)
    for custom in CUSTOMS.values():
        plugin = registry.find("workload", custom.workload)
        assert {option.name for option in plugin.options} >= set(custom.options)


def test_workloads_go_by_their_maelstrom_names_with_dashes_or_without() -> None:
    assert completed("lin-kv").workload == "register"
    assert completed("broadcast").workload == "gossip"
    for name in ("g-counter", "g_counter"):
        spec = completed(name, options={f"{name}.settle_s": "3"})
        assert spec.workload == "pn_counter"
        assert spec.options == {
            "pn_counter.decrements": "false",
            "pn_counter.settle_s": "3",
        }


def test_runs_have_the_rate_that_such_nodes_are_written_for() -> None:
    assert completed("echo").rate == 100.0
    assert completed("echo", rate=7.0).rate == 7.0
    assert completed("echo", also=["stats"]).also[0] == "stats"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("", "there is no command; write maelstrom:COMMAND"),
        ("'python3", "can't split"),
        ("no-such-program x", "there is no program 'no-such-program'"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(command: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"^maelstrom: {reason}"):
        registry.find("system", "maelstrom").factory(command, {})


def test_braces_of_a_command_mean_nothing(tmp_path: Path) -> None:
    made = registry.find("system", "maelstrom").factory("true '{\"a\": {node}}'", {})
    assert isinstance(made, Maelstrom)
    listen = Endpoint("127.0.0.1", 1)
    place = make_place("n1", {"n1": listen}, {}, tmp_path)
    assert made.launch(place).argv[-1] == '{"a": {node}}'


def test_nodes_are_told_of_a_topology_where_the_workload_has_one(
    tmp_path: Path,
) -> None:
    made = registry.find("system", "maelstrom").factory("true", {})
    listens = {f"n{i}": Endpoint("127.0.0.1", i) for i in range(1, 6)}
    place = make_place("n2", listens, {}, tmp_path)
    made.attune(registry.find("workload", "gossip").factory({"topology": "tree"}))
    argv = list(made.launch(place).argv)
    assert json.loads(argv[argv.index("--opening") + 1]) == {
        "type": "topology",
        "topology": {
            "n1": ["n2", "n3"],
            "n2": ["n1", "n4", "n5"],
            "n3": ["n1"],
            "n4": ["n2"],
            "n5": ["n2"],
        },
    }
    made.attune(registry.find("workload", "echo").factory({}))
    argv = list(made.launch(place).argv)
    assert argv[argv.index("--opening") + 1] == ""


# Real nodes


def test_a_store_on_lin_kv_stays_linearizable_under_partitions_and_kills(
    tmp_path: Path,
) -> None:
    status, outcome, err = run(
        tmp_path,
        *(system(EXAMPLES / "lin_kv.py"), "--workload", "lin-kv", "--seed", "2"),
        *("--nemesis", "partition,kill", "--time-limit", "3", "--nodes", "3"),
    )
    assert status == 0, (outcome, err)
    assert outcome["ops"]["ok"] > 50
    messages = outcome["checkers"]["messages"]["stats"]
    assert messages["with_services"] > 100
    assert messages["between_nodes"] == 0


def test_broadcasts_reach_every_node_though_single_messages_get_lost(
    tmp_path: Path,
) -> None:
    status, outcome, err = run(
        tmp_path,
        *(system(EXAMPLES / "broadcast.py"), "--workload", "broadcast"),
        *("--nemesis", "loss,partition", "--time-limit", "3", "--nodes", "3"),
        *("--seed", "3", "--set", "broadcast.settle_s=3"),
        *("--set", "broadcast.topology=line"),
    )
    assert status == 0, (outcome, err)
    told = run_json(outcome)
    assert told["network"]["n1->n3"]["forwarded"] == 0  # no neighbours, in a line
    assert outcome["checkers"]["messages"]["stats"]["between_nodes"] > 50
    assert "stable_latencies_ms" in outcome["checkers"]["set-full"]["stats"]


@pytest.mark.nightly
@pytest.mark.parametrize(("workload", "example"), WORKLOADS.items())
def test_each_example_keeps_its_promise_under_partitions_and_kills(
    tmp_path: Path, workload: str, example: str
) -> None:
    status, outcome, err = run(
        tmp_path,
        *(system(EXAMPLES / f"{example}.py"), "--workload", workload),
        *("--nemesis", "partition,kill,pause,loss", "--time-limit", "8"),
        *("--seed", "5"),
    )
    assert status == 0, (outcome, err)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("dies", "n1 exited with status 1 before it served; its log ends: cannot find"),
        (
            "silent",
            "n1 exited with status 1 before it served; its log ends: [splitbrain] n1 "
            "did not answer init with init_ok within 1 s; it printed what is no "
            "message: 'Hello, world!'",
        ),
        pytest.param(
            "refuses",
            "n1 exited with status 1 before it served; its log ends: [splitbrain] n1 "
            "answered init with 'I am tired'",
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_a_node_that_never_serves_leaves_the_verdict_unknown_and_says_why(
    tmp_path: Path, mode: str, reason: str
) -> None:
    status, outcome, _ = run(
        tmp_path,
        *(system(BAD_NODE, mode), "--workload", "echo", "--nodes", "1"),
        *("--time-limit", "1", "--set", "ready_timeout_s=1"),
    )
    assert status == 2
    assert outcome["reason"].startswith(reason)
    assert outcome["harness"]["ok"]


@pytest.mark.parametrize(
    ("mode", "counter", "status_expected"),
    [
        ("prints", "printed", 0),
        ("strangers", "unknown", 0),
        pytest.param("long", "oversize", 0, marks=pytest.mark.nightly),
        pytest.param("floods", "printed", 2, marks=pytest.mark.nightly),
    ],
)
def test_what_a_node_prints_that_is_no_message_is_counted_and_passed_over(
    tmp_path: Path, mode: str, counter: str, status_expected: int
) -> None:
    status, outcome, err = run(
        tmp_path,
        *(system(BAD_NODE, mode), "--workload", "echo", "--nodes", "1"),
        *("--time-limit", "2", "--rate", "20", "--seed", "1"),
    )
    assert status == status_expected, (outcome, err)
    assert run_json(outcome)["counters"][counter] > 0
    assert outcome["harness"]["ok"]


def test_a_nodes_log_has_its_messages_if_that_is_asked_for(tmp_path: Path) -> None:
    """Those of init, of clients and of peers, as the node sees them."""
    status, outcome, err = run(
        tmp_path,
        *(system(EXAMPLES / "broadcast.py"), "--workload", "broadcast", "--nodes", "2"),
        *("--time-limit", "1", "--set", "gossip.settle_s=0", "--seed", "1"),
        *("--set", "log_net_send=true", "--set", "log_net_recv=true"),
    )
    assert status == 0, (outcome, err)
    log = (Path(outcome["run"]) / "nodes" / "n1" / "log").read_text()
    seen = [
        (how, told["src"], told["dest"], told["body"]["type"])
        for line in log.splitlines()
        if line.startswith("[splitbrain] ")
        for _, how, message in [line.split(" ", 2)]
        for told in [json.loads(message)]
    ]
    assert seen[0] == ("recv", "c0", "n1", "init")
    assert seen[1] == ("send", "n1", "c0", "init_ok")
    for how, src, dest in (("recv", "n2", "n1"), ("send", "n1", "n2")):
        assert any(each[:3] == (how, src, dest) for each in seen), seen[:20]
    assert any(each[3] == "broadcast_ok" and each[2][0] == "c" for each in seen)
