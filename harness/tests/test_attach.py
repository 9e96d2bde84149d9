"""Nodes that somebody else runs, and that their operator's commands harm."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import UsageError
from harness.history import Op
from harness.judge import analysis
from harness.registry import find
from harness.run import assembling, execution
from harness.run.spec import TestSpec, usual_nodes
from harness.systems.attach import AttachSystem, OwnKeys, addresses, words_for
from harness.tests import operate
from harness.tests.loopback import loopback_places
from harness.worlds.network import LinkRule
from harness.worlds.operator import TASKS, Operator
from harness.worlds.os.attached import (
    Commands,
    OperatedNetwork,
    OperatedProcesses,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.worlds.operator import Task
    from harness.worlds.places import NodePlace

EXAMPLE = (
    Path(__file__).resolve().parents[2]
    / "examples"
    / "nodes"
    / "python"
    / "register.py"
)


class Operated:
    """A cluster of the Python example, run by `operate.py`."""

    def __init__(self, folder: Path, places: Mapping[str, NodePlace]) -> None:
        self.folder = folder
        self.places = places
        self.text = ",".join(str(place.listen) for place in places.values())

    def options(self, *tasks: str) -> dict[str, str]:
        words = [sys.executable, operate.__file__, str(self.folder)]
        return {
            f"{task}_command": f"{shlex.join(words)} {task} {{node}}"
            + " {peers}" * (task == "partition")
            for task in tasks
        }

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def spec(self, *tasks: str, **fields: Any) -> TestSpec:
        return TestSpec(
            system=f"attach:{self.text}",
            nodes=len(self.places),
            options=self.options(*tasks),
            **fields,
        )

    def end(self) -> None:
        for file in self.folder.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(file.read_text()), signal.SIGKILL)


@pytest.fixture
def operated(tmp_path: Path) -> Iterator[Operated]:
    places = loopback_places(3, tmp_path)
    launch = find("system", "launch").factory(
        shlex.join([sys.executable, str(EXAMPLE)]), {}
    )
    for name, place in places.items():
        how = launch.launch(place)
        told = {"argv": list(how.argv), "env": {"PATH": os.defpath, **how.env}}
        (tmp_path / f"{name}.json").write_text(json.dumps(told))
    cluster = Operated(tmp_path, places)
    try:
        for name in places:
            script = [sys.executable, operate.__file__, str(tmp_path), "start", name]
            subprocess.run(script, check=True)
        for place in places.values():
            wait_until_accepts(place)
        yield cluster
    finally:
        cluster.end()


def wait_until_accepts(place: NodePlace) -> None:
    end_s = time.monotonic() + 30
    while time.monotonic() < end_s:
        with contextlib.suppress(OSError):
            socket.create_connection((place.listen.host, place.listen.port), 1).close()
            return
        time.sleep(0.02)
    raise AssertionError(f"{place.name} never accepted connections")


def fault_lines(path: Path) -> list[dict[str, Any]]:
    text = (path / "faults.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_attached_nodes_are_killed_paused_and_cut_off_by_their_operator(
    operated: Operated, tmp_path: Path
) -> None:
    plan: Any = [
        {"at": {"time_s": at_s}, "fault": fault, "heal": {"after_s": 0.7}}
        for at_s, fault in (
            (0.3, {"kind": "kill", "target": ["n2"]}),
            (1.6, {"kind": "pause", "target": ["n3"]}),
            (2.8, {"kind": "partition", "shape": "one", "target": ["n1"]}),
        )
    ]
    spec = operated.spec(*TASKS, time_limit_s=4.0, rate=100.0, seed=5)
    folder = execution.run(spec, tmp_path / "results", plan=plan)
    record = analysis.judged(folder)
    lines = fault_lines(folder.path)
    assert record.verdict == "valid", (record, lines)
    ends = {line["kind"]: line for line in lines if line["event"] == "end"}
    assert {kind: line["bit"] for kind, line in ends.items()} == dict.fromkeys(
        ("kill", "pause", "partition"), True
    ), lines
    told = [line for line in lines if line["kind"] == "operator"]
    (killed,) = (line for line in told if line["title"].startswith("kill_command"))
    assert killed["evidence"]["status"] == 0
    assert killed["evidence"]["output"] == "kill of n2 is done"
    assert killed["evidence"]["accepted_before"] is True
    assert killed["evidence"]["accepts_now"] is False
    (started,) = (line for line in told if line["title"].startswith("start_command"))
    assert started["evidence"]["accepts_now"] is True
    peers = ",".join(str(operated.places[n].listen) for n in ("n2", "n3"))
    assert f"partition n1 {peers}" in operated.calls()
    heals = [call for call in operated.calls() if call.startswith("heal")]
    assert sorted(heals) == [
        "heal n1",
        "heal n2",
        "heal n3",
    ]


def test_a_kill_command_that_kills_nothing_is_no_fault_of_the_nodes(
    operated: Operated, tmp_path: Path
) -> None:
    spec = operated.spec("start", time_limit_s=1.5, rate=100.0)
    spec.options["kill_command"] = "false"
    step = {"fault": {"kind": "kill", "target": ["n2"]}, "heal": {"after_s": 0.3}}
    plan: Any = [{"at": {"time_s": 0.2}, **step}]
    began_s = time.monotonic()
    folder = execution.run(spec, tmp_path / "results", plan=plan)
    assert analysis.judged(folder).verdict == "valid"
    lines = fault_lines(folder.path)
    (told,) = (line for line in lines if line["kind"] == "operator")
    assert told["title"] == "kill_command for n2 exited with status 1"
    assert told["evidence"]["accepts_now"] is True
    (end,) = (line for line in lines if line["event"] == "end")
    assert end["bit"] is False, (end, time.monotonic() - began_s)


def test_links_that_can_t_be_healed_fail_the_run_and_say_so(
    operated: Operated, tmp_path: Path
) -> None:
    spec = operated.spec("partition", time_limit_s=1.5, rate=100.0)
    spec.options["heal_command"] = "false"
    fault = {"kind": "partition", "shape": "one", "target": ["n1"]}
    plan: Any = [{"at": {"time_s": 0.2}, "fault": fault, "heal": {"after_s": 0.3}}]
    folder = execution.run(spec, tmp_path / "results", plan=plan)
    errors = (folder.run() or pytest.fail("no run.json")).errors
    assert any("heal_command for n" in error for error in errors), errors
    assert analysis.exit_status(analysis.judged(folder)) == 255


def test_what_is_in_force_is_undone_when_the_world_is_closed(
    operated: Operated,
) -> None:
    tasks = {task: words_for(task)(text) for task, text in commands(operated)}
    where = {name: place.listen for name, place in operated.places.items()}
    acts = Commands(Operator(where, tasks), operated.places)
    processes = OperatedProcesses(operated.places, acts)
    network = OperatedNetwork(operated.places, acts, cuts=True)

    async def harm_and_close() -> None:
        ended = await processes.end(["n1"])
        assert ended["n1"].signal == "kill_command"
        assert processes.pid("n1") is None
        assert list((await processes.pause("n2")).values()) == ["T"]
        await network.set_rules({("n1", "n3"): LinkRule(cut=True)})
        await processes.close()
        await network.close()

    asyncio.run(harm_and_close())
    assert operated.calls()[-3:] == ["resume n2", "start n1", "heal n3"]
    for place in operated.places.values():
        wait_until_accepts(place)


def commands(operated: Operated) -> Iterator[tuple[Task, str]]:
    for task in TASKS:
        yield task, operated.options(task)[f"{task}_command"]


def test_a_second_run_on_the_same_nodes_does_not_see_the_values_of_the_first(
    operated: Operated, tmp_path: Path
) -> None:
    for workload in ("register", "register"):
        spec = operated.spec(time_limit_s=1.0, workload=workload, seed=1)
        folder = execution.run(spec, tmp_path / "results")
        record = analysis.judged(folder)
        assert record.verdict == "valid", record


@pytest.mark.parametrize(
    ("given", "kind", "needed"),
    [
        ((), "kill", "--set kill_command=COMMAND and --set start_command=COMMAND"),
        (("kill",), "kill", "--set start_command=COMMAND"),
        (("pause",), "pause", "--set resume_command=COMMAND"),
        ((), "partition", "--set partition_command=COMMAND and --set heal_command"),
        (TASKS, "delay", "let launch: start the nodes"),
        (TASKS, "clock", "let launch: start the nodes"),
        (TASKS, "disk", "let launch: start the nodes"),
        (TASKS, "starve", "let launch: start the nodes"),
    ],
)
def test_a_fault_without_its_command_is_refused_and_the_command_named(
    tmp_path: Path, given: tuple[str, ...], kind: str, needed: str
) -> None:
    places = loopback_places(3, tmp_path)
    spec = Operated(tmp_path, places).spec(*given, nemesis=[kind], time_limit_s=2.0)
    with pytest.raises(UsageError) as refused:
        assembling.prepare(spec)
    assert needed in str(refused.value)
    assert "\n" not in str(refused.value)


def test_all_faults_are_those_that_there_are_commands_for(
    operated: Operated,
) -> None:
    spec = operated.spec("kill", "start", nemesis=["all"], time_limit_s=2.0)
    parts, _, rung = assembling.prepare(spec)
    assert list(parts.nemeses) == ["kill"]
    assert rung.name == "attached"


def test_nodes_that_do_not_run_are_named_before_anything_is_written(
    tmp_path: Path,
) -> None:
    cluster = Operated(tmp_path, loopback_places(2, tmp_path))
    with pytest.raises(UsageError, match=r"n1 accepts no connections at 127.*refused"):
        execution.run(cluster.spec(), tmp_path / "results")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' is no address"),
        ("localhost", "'localhost' is no address"),
        ("a:1;b:2", "'a:1;b:2' is no address"),
        ("a:1,", "'' is no address"),
        ("a:0", "'a:0' is no address"),
        ("a:65536", "'a:65536' is no address"),
        ("a:1,a:1", "a:1 comes twice"),
    ],
)
def test_what_is_no_list_of_addresses_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        addresses(text)


def test_addresses_become_nodes_in_their_order() -> None:
    found = {name: str(at) for name, at in addresses("b:2, a:1,[::1]:3").items()}
    assert found == {"n1": "b:2", "n2": "a:1", "n3": "::1:3"}
    assert usual_nodes("attach:b:2,a:1") == 2


@pytest.mark.parametrize(
    ("option", "text", "why"),
    [
        ("kill_command", "kill {peers}", "no placeholder {peers}"),
        ("kill_command", "kill {nod}", "no placeholder {nod}.*did you mean node"),
        ("kill_command", "kill {node", "expected '}'"),
        ("kill_command", "kill 'n1", "No closing quotation"),
        (
            "start_command",
            "no-such-program-at-all",
            "no program no-such-program-at-all is on PATH",
        ),
        ("kill_comand", "true", "no option 'kill_comand'; did you mean kill_command"),
    ],
)
def test_a_command_that_can_t_be_run_is_refused(
    option: str, text: str, why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        AttachSystem(addresses("a:1"), {option: text})


def test_another_number_of_nodes_than_addresses_is_refused(tmp_path: Path) -> None:
    cluster = Operated(tmp_path, loopback_places(2, tmp_path))
    spec = cluster.spec()
    spec.nodes = 5
    with pytest.raises(UsageError, match="2 addresses, and --nodes says 5"):
        assembling.assemble(spec)


def test_services_without_keys_are_not_served() -> None:
    spec = TestSpec(system="attach:a:1", nodes=1, workload="g_set")
    with pytest.raises(UsageError, match="don't speak grow-set"):
        assembling.assemble(spec)


def test_keys_of_a_run_are_its_own_and_come_back_as_they_were() -> None:
    def op(f: str, value: Any = None, key: Any = None) -> Op:
        return Op(-1, -1, 1, "invoke", f, value, key)

    register = OwnKeys(find("workload", "register").factory({}).codec, "w")
    assert register.request(op("read", key=3)) == {"type": "read", "key": "w.3"}
    assert register.request(op("read", key="3")) == {"type": "read", "key": "w-3"}
    appends = OwnKeys(find("workload", "list_append").factory({}).codec, "w")
    asked = op("txn", [["append", 3, 1], ["r", 3, None]])
    body = appends.request(asked)
    assert body["txn"] == [["append", "w.3", 1], ["r", "w.3", None]]
    answered = {"type": "txn_ok", "txn": [["append", "w.3", 1], ["r", "w.3", [1]]]}
    done = [["append", 3, 1], ["r", 3, [1]]]
    assert appends.completion(asked, answered).value == done
