"""Nodes on other machines: runs over real SSH servers, and what stays when they die."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from harness.campaign.experiment import Experiment
from harness.campaign.suites.rows import seed_row
from harness.errors import NotInstalledError, UsageError
from harness.run.spec import TestSpec
from harness.tests.sshd_hosts import Machines, machines, why_no_hosts
from harness.worlds.processes import Limits
from harness.worlds.ssh import connecting, hosts, ledger, uploads
from harness.worlds.ssh.hosts import Host
from harness.worlds.ssh.ledger import Ledger
from harness.worlds.ssh.mirror import Mirror
from harness.worlds.ssh.offer import NFT, PROXY, Survey
from harness.worlds.ssh.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

WITHIN_S = 150.0
needs_hosts = pytest.mark.skipif(bool(why_no_hosts()), reason=why_no_hosts())
NODES = ("n1", "n2", "n3", "n4")
CUT = [link for peer in NODES[1:] for link in (["n1", peer], [peer, "n1"])]
FAULTS: list[dict[str, Any]] = [
    {
        "at": {"time_s": 0.3},
        "fault": {"kind": "partition", "shape": "one", "cut": CUT[:4]},
        "heal": {"after_s": 1.0},
    },
    {
        "at": {"time_s": 1.8},
        "fault": {"kind": "kill", "target": ["n2"]},
        "heal": {"after_s": 0.4},
    },
    {
        "at": {"time_s": 2.6},
        "fault": {"kind": "pause", "target": ["n3"]},
        "heal": {"after_s": 0.4},
    },
    {
        "at": {"time_s": 3.4},
        "fault": {
            "kind": "clock",
            "mode": "bump",
            "clock": "wall",
            "target": ["n1"],
            "offset_ms": 5000,
        },
        "heal": {"after_s": 0.4},
    },
]
FOR_MINUTES: list[dict[str, Any]] = [{**FAULTS[0], "heal": {"after_s": 250}}]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Three machines."""
    with machines(tmp_path_factory.mktemp("hosts"), 3) as made:
        yield made


def run(
    on: Machines,
    place: Path,
    *words: str,
    plan: Sequence[Mapping[str, Any]] = (),
    status: int = 0,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The verdict of a run with a status, and the lines of its faults."""
    done = subprocess.run(
        command(on, place, *words, plan=plan),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    told = json.loads(done.stdout)
    lines = Path(told["run"], "faults.jsonl").read_text().splitlines()
    return told, [json.loads(line) for line in lines]


def command(
    on: Machines, place: Path, *words: str, plan: Sequence[Mapping[str, Any]] = ()
) -> list[str]:
    """The command line of a run on the machines."""
    (place / "plan.yaml").write_text(yaml.safe_dump(list(plan)))
    return on.command(
        *("run", *words, "--hosts", str(on.file), "--results", str(place / "results")),
        *("--plan", str(place / "plan.yaml"), "--seed", "1", "--json"),
    )


def bit(lines: Sequence[Mapping[str, Any]]) -> dict[str, bool | None]:
    """Kind of fault -> whether the last of its kind bit."""
    return {line["kind"]: line["bit"] for line in lines if line["event"] == "end"}


def assert_nothing_left(on: Machines) -> None:
    """See that no machine has processes, tables, ledgers or runs of ours."""

    def left() -> list[Any]:
        return [
            each
            for number in range(len(on.servers))
            for each in (
                *on.processes(number).values(),
                *on.on(number, "nft", "list", "tables").splitlines(),
                *(on.shelf(number) / "ledgers").glob("*"),
                *(on.shelf(number) / "runs").glob("*"),
            )
        ]

    eventually(lambda: not left(), lambda: f"left on the machines: {left()}")


def eventually(holds: Callable[[], bool], why: Callable[[], str]) -> None:
    """Wait until something holds."""
    end_s = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < end_s, why()
        time.sleep(0.05)


@contextmanager
def under_cut(on: Machines, place: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of raft in which n1 is cut off for minutes, on the first machine."""
    words = command(
        on, place, "raft", "--nodes=3", "--time-limit=300", plan=FOR_MINUTES
    )
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        try:
            eventually(
                lambda: (
                    '"cut_n2" drop' in on.on(0, "nft", "list", "ruleset")
                    or started.poll() is not None
                ),
                lambda: "nothing is cut",
            )
            assert started.poll() is None, started.communicate()
            yield started
        finally:
            started.kill()


def pids(on: Machines, number: int, name: str) -> list[int]:
    """The processes of that name on a machine."""
    return [pid for pid, called in on.processes(number).items() if called == name]


@needs_hosts
def test_nodes_on_three_machines_are_cut_killed_paused_and_skewed(
    three: Machines, tmp_path: Path
) -> None:
    told, lines = run(
        three, tmp_path, "raft", "--nodes=3", "--time-limit=4.5", plan=FAULTS
    )
    assert told["verdict"] == "valid"
    assert bit(lines) == {
        "partition": True,
        "kill": True,
        "pause": True,
        "clock": True,
    }
    for node in ("n1", "n2", "n3"):
        folder = Path(told["run"], "nodes", node)
        assert (folder / "log").stat().st_size, "the log did not come"
        assert (folder / "observe.jsonl").stat().st_size, "observations did not come"
        assert any((folder / "data").iterdir()), "the data did not come"
    assert_nothing_left(three)


@needs_hosts
def test_several_nodes_on_a_machine_are_cut_by_proxies(
    three: Machines, tmp_path: Path
) -> None:
    step = {**FAULTS[0], "fault": {**FAULTS[0]["fault"], "cut": CUT}}
    told, lines = run(
        three, tmp_path, "raft", "--nodes=4", "--time-limit=2", plan=[step]
    )
    assert told["verdict"] == "valid"
    assert bit(lines) == {"partition": True}
    assert_nothing_left(three)


@needs_hosts
@pytest.mark.nightly
def test_reads_of_a_cut_off_leader_are_convicted_on_machines(
    three: Machines, tmp_path: Path
) -> None:
    words = ("raft", "--nodes=3", "--set=reads=local", "--time-limit=4")
    told, _ = run(three, tmp_path, *words, plan=FAULTS[:1], status=1)
    found = told["checkers"]["linearizable"]["anomalies"]
    assert "stale-read" in {anomaly["name"] for anomaly in found}


@needs_hosts
def test_a_command_and_its_folder_are_uploaded(three: Machines, tmp_path: Path) -> None:
    nodes = Path(__file__).parents[2] / "examples" / "nodes" / "python"
    words = (f"launch:python3 {nodes}/abd.py", f"--upload={nodes}")
    told, _ = run(three, tmp_path, *words, "--nodes=4", "--time-limit=1")
    assert told["verdict"] == "valid"
    (stored,) = (three.shelf(0) / "store").iterdir()
    assert (stored / "python" / "abd.py").read_bytes() == (
        nodes / "abd.py"
    ).read_bytes()


@needs_hosts
def test_machines_are_healed_when_the_controller_is_killed(
    three: Machines, tmp_path: Path
) -> None:
    with under_cut(three, tmp_path) as started:
        started.kill()
        assert_nothing_left(three)


@needs_hosts
@pytest.mark.nightly
def test_machines_are_healed_when_an_agent_is_killed_and_the_run_says_which(
    three: Machines, tmp_path: Path
) -> None:
    with under_cut(three, tmp_path) as started:
        (agent,) = pids(three, 0, "sb-ssh-agent")
        os.kill(agent, signal.SIGKILL)
        out, err = started.communicate(timeout=WITHIN_S)
        assert started.returncode == 255, out + err
        assert "the connection to host a is lost" in out + err
    assert_nothing_left(three)


@needs_hosts
def test_what_a_dead_machine_left_is_healed_when_asked(
    three: Machines, tmp_path: Path
) -> None:
    with under_cut(three, tmp_path) as started:
        # As when it loses power, but that its tables stay.
        ours = {"sb-ssh-guardian", "sb-ssh-agent", "sb-warden"}
        for pid, name in three.processes(0).items():
            if name in ours:
                os.kill(pid, signal.SIGKILL)
        out, err = started.communicate(timeout=WITHIN_S)
        assert started.returncode == 255, out + err
        assert "the connection to host a is lost" in out + err
    eventually(lambda: not three.processes(0), lambda: str(three.processes(0)))
    assert "splitbrain_" in three.on(0, "nft", "list", "tables")
    (ledger,) = (three.shelf(0) / "ledgers").iterdir()
    words = three.command("hosts", "check", str(three.file))
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert f"left by   {ledger.stem}" in done.stdout, done.stdout + done.stderr
    words = three.command("hosts", "heal", str(three.file), "--json")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (healed,) = json.loads(done.stdout)["a"]
    assert (healed["run"], healed["problems"]) == (ledger.stem, [])
    assert healed["table"]
    assert_nothing_left(three)


@needs_hosts
@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("known_hosts", "other_hosts", "host key is not known"),
        ("key", "host_key", "does not let root in"),
        ("python", "python0", "python0: not found"),
        ("folder", "/proc/none", "/proc/none"),
        ("node_address", "10.77.0.99", "is no address of that machine"),
        ("address", "10.77.0.77", "can't be reached"),
    ],
)
def test_a_host_that_can_not_be_used_is_named(
    three: Machines, tmp_path: Path, field: str, value: str, why: str
) -> None:
    (three.folder / "other_hosts").write_text("")
    data = yaml.safe_load(three.file.read_text())
    file = str(three.folder / value)
    data["hosts"][1][field] = file if field in {"known_hosts", "key"} else value
    other = tmp_path / "hosts.yaml"
    other.write_text(yaml.safe_dump(data))
    words = three.command("run", "raft", "--hosts", str(other), "--time-limit=1")
    done = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    unreachable = field == "address"
    assert done.returncode == (255 if unreachable else 254), done.stdout
    (line,) = done.stderr.splitlines()
    assert re.search(r": b\b", line)
    assert why in line


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: it takes a list of hosts"),
        ("hosts: []", "line 1: it takes 1 to 256 hosts"),
        ("hosts:\n- {name: a}", "line 2: a host without 'address'"),
        ("- {name: a, adress: 127.0.0.1}", "line 1: unknown field 'adress'"),
        ("hosts:\n- name: a\n  address: 127.0.0.1\n  port: 0", "line 4: port: 0"),
        ("hosts:\n- name: a b\n  address: 127.0.0.1", "line 2: name: 'a b'"),
        ("- {name: a, address: 127.0.0.1}\n" * 2, "line 2: name: 'a' comes twice"),
        ("defaults: {key: /none}\nhosts: [127.0.0.1]", "line 1: key: there is no file"),
        ("defaults: {sudo: 1}\nhosts: [127.0.0.1]", "sudo: 1: it takes true or false"),
        ("- {name: a, address: 0.0.0.0}", "address: '0.0.0.0' is no machine's"),
        ("- 7", "a host is a mapping"),
        ("host: []", "it takes a list of hosts"),
    ],
)
def test_a_hosts_file_is_refused_by_line_and_field(
    tmp_path: Path, text: str, told: str
) -> None:
    file = tmp_path / "hosts.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        hosts.read(file)
    assert told in str(refused.value)
    assert str(file) in str(refused.value)


def test_defaults_are_those_of_every_host(tmp_path: Path) -> None:
    file = tmp_path / "hosts.yaml"
    b = "{name: b, address: '::1', port: 24}"
    file.write_text(f"defaults: {{user: jo, port: 23}}\nhosts: [127.0.0.1, {b}]")
    found = [(h.name, h.user, h.port, h.node_address) for h in hosts.read(file)]
    assert found == [("127.0.0.1", "jo", 23, "127.0.0.1"), ("b", "jo", 24, "::1")]


def test_without_asyncssh_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(NotInstalledError, match=r"splitbrain\[ssh\]"):
        connecting.check_installed()


def test_nodes_choose_no_file_outside_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "run"
    (folder / "nodes" / "n1").mkdir(parents=True)
    mirror = Mirror(folder, Limits(1 << 20, 1 << 20))

    def take(name: str, node: str = "n1") -> None:
        mirror.take({"node": node, "name": name, "data": "eA==", "fresh": False})

    take("data/a/b")
    kept = folder / "nodes" / "n1" / "data" / "a" / "b"
    assert kept.read_text() == "x"
    for name, node in (
        ("../n2", "n1"),
        ("/etc/x", "n1"),
        ("", "n1"),
        ("a\0", "n1"),
        ("log", "n2"),
        ("log", "../.."),
    ):
        take(name, node)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]


def test_what_a_system_wrote_for_a_node_goes_to_the_host_once(tmp_path: Path) -> None:
    data = tmp_path / "nodes" / "n1" / "data"
    data.mkdir(parents=True)
    (data / "conf").write_text(f"dir={data}")
    (data.parent / "log").write_text("the host's own")
    mirror = Mirror(tmp_path, Limits(1 << 20, 1 << 20))
    ((name, _, content, first),) = mirror.changed("n1", "/there")
    assert (name, content, first) == ("data/conf", b"dir=/there/nodes/n1/data", True)
    assert not list(mirror.changed("n1", "/there"))
    (data / "conf").write_text("else")
    assert [each[2] for each in mirror.changed("n1", "/there")] == [b"else"]


def test_a_run_is_kept_from_hosts_where_nftables_cuts_for_another(
    tmp_path: Path,
) -> None:
    shelf = Shelf(tmp_path)
    Ledger(shelf, "one", "proxy")
    assert not ledger.disturbing(shelf, "two", "proxy")
    assert ledger.disturbing(shelf, "two", "nft") == "one"
    assert not ledger.disturbing(shelf, "one", "nft")
    assert not ledger.left(shelf), "this process lives, so its run is under way"


def test_the_ledger_of_a_dead_agent_is_left(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    Ledger(shelf, "one", "nft")
    path = tmp_path / "ledgers" / "one.jsonl"
    told = json.loads(path.read_text())
    told["agent"]["started"] = "1"  # the pid is another process' now
    path.write_text(json.dumps(told) + '\n{"torn')
    assert ledger.left(shelf) == ["one"]
    assert not ledger.disturbing(shelf, "two", "nft")


def test_the_agent_imports_nothing_that_hosts_lack(tmp_path: Path) -> None:
    _, packed = uploads.code()
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(tmp_path, filter="data")
    script = (
        "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; "
        "import harness.worlds.ssh.agent, reference_impls.runtime, "
        "harness.systems.programs.redis_node; print(harness.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-S", "-c", script],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert str(tmp_path) in done.stdout, done.stderr


def test_runs_of_many_seeds_stay_on_the_hosts() -> None:
    spec = TestSpec(system="raft", hosts="/etc/hosts.yaml", uploads=["/srv/node"])
    row = seed_row(Experiment(spec), 7)
    again = row.experiment(7).spec
    assert (again.hosts, again.uploads) == (spec.hosts, spec.uploads)


def test_the_network_is_the_best_that_hosts_and_system_allow() -> None:
    def survey(controller: str = "10.0.0.9", why_no_nft: str = "") -> Survey:
        named = [Host(name, name, f"10.0.0.{at}") for at, name in enumerate("ab", 1)]
        found = {"why_no_nft": why_no_nft, "controller": controller}
        return Survey(named, [found, found])

    both, own = frozenset({"switch", "proxy"}), frozenset({"switch"})
    assert survey().choose("auto", 2, both) == (NFT, "")
    assert survey().choose("proxy", 2, both) == (PROXY, "")
    assert survey().choose("auto", 1, own) == (PROXY, ""), "one node has no links"
    for hosts_, nodes, why in (
        (survey(), 3, "a host for each"),
        (survey(why_no_nft="no nft"), 2, "no nft"),
        (survey(controller="::ffff:10.0.0.2"), 2, "where a node is"),
    ):
        rung, told = hosts_.choose("auto", nodes, both)
        assert rung == PROXY
        assert why in told
        with pytest.raises(UsageError, match="an address each"):
            hosts_.choose("auto", nodes, own)
    with pytest.raises(UsageError, match="this machine only"):
        survey().choose("auto", 2, frozenset({"router"}))
    with pytest.raises(UsageError, match="--network switch"):
        survey().choose("switch", 2, both)
