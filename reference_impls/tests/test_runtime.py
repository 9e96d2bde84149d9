"""The runtime, as processes over real sockets and disks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from reference_impls import raft, runtime, wal
from reference_impls.tests.processes import (
    DEADLINE_S,
    NodeClient,
    Processes,
    wait_for,
)
from reference_impls.wal import records_of

if TYPE_CHECKING:
    from pathlib import Path


def test_every_node_serves_and_what_is_written_is_read_everywhere(
    tmp_path: Path,
) -> None:
    with Processes(tmp_path, 3) as cluster:
        cluster.leader()
        for value, name in enumerate(cluster.names):
            reply = cluster.call_until_ok(name, type="write", key=1, value=value)
            assert reply["type"] == "write_ok"
            for other in cluster.names:
                read = cluster.call_until_ok(other, type="read", key=1)
                assert read["value"] == value
        missing = cluster.call_until_ok("n1", type="read", key=2)
        assert (missing["type"], missing["code"]) == ("error", 20)
        cas = {"type": "cas", "key": 1, "from": 2, "to": 9}
        assert cluster.call_until_ok("n2", **cas)["type"] == "cas_ok"
        assert cluster.call_until_ok("n3", **cas)["code"] == 22


def test_a_killed_leader_is_replaced_and_comes_back_with_its_log(
    tmp_path: Path,
) -> None:
    with Processes(tmp_path, 3) as cluster:
        leader = cluster.leader()
        cluster.call_until_ok(leader, type="write", key=1, value="before")
        cluster.kill(leader)
        new = cluster.leader(without=leader)
        cluster.call_until_ok(new, type="write", key=1, value="during")
        cluster.start(leader)
        read = cluster.call_until_ok(leader, type="read", key=1)
        assert read["value"] == "during"

        def caught_up() -> bool:
            statuses = [cluster.call(name, type="status") for name in cluster.names]
            return len({status["commit_index"] for status in statuses}) == 1

        wait_for(caught_up, "the restarted node to catch up")


def test_a_cluster_that_is_killed_whole_keeps_its_data(tmp_path: Path) -> None:
    with Processes(tmp_path, 3) as cluster:
        cluster.leader()
        for value in range(20):
            cluster.call_until_ok("n1", type="write", key=value, value=value)
        for name in cluster.names:
            cluster.kill(name)
        for name in cluster.names:
            cluster.start(name)
        for value in range(20):
            read = cluster.call_until_ok("n2", type="read", key=value)
            assert read["value"] == value
        logs = []
        for name in cluster.names:
            cluster.kill(name)
            logs.append(committed_log(tmp_path / name / wal.FILE_NAME))
    shortest = min(map(len, logs))
    assert shortest >= 20
    assert all(log[:shortest] == logs[0][:shortest] for log in logs)


def committed_log(path: Path) -> list[raft.Entry]:
    core = raft.Raft("n1", ["n2", "n3"], raft_options())
    core.start(records_of(str(path)))
    return core.log.since(1)


def raft_options() -> dict[str, str]:
    return {option.name: option.default for option in raft.OPTIONS}


def test_a_paused_leader_is_replaced_and_follows_when_it_wakes(tmp_path: Path) -> None:
    with Processes(tmp_path, 3) as cluster:
        leader = cluster.leader()
        cluster.signal(leader, signal.SIGSTOP)
        try:
            new = cluster.leader(without=leader)
            cluster.call_until_ok(new, type="write", key=1, value=1)
        finally:
            cluster.signal(leader, signal.SIGCONT)
        read = cluster.call_until_ok(leader, type="read", key=1)
        assert read["value"] == 1


@pytest.mark.parametrize("reads", ["read_index", "lease", "local"])
def test_each_way_of_reading_serves(tmp_path: Path, reads: str) -> None:
    with Processes(tmp_path, 3, f"reads={reads}", "fsync=false") as cluster:
        leader = cluster.leader()
        cluster.call_until_ok(leader, type="write", key=1, value=1)

        def everyone_reads_it() -> bool:
            replies = [cluster.call(n, type="read", key=1) for n in cluster.names]
            return all(reply.get("value") == 1 for reply in replies)

        wait_for(everyone_reads_it, "every node to read what was written")


def test_requests_that_arrive_together_share_their_fdatasyncs(tmp_path: Path) -> None:
    with Processes(tmp_path, 3) as cluster, cluster.client(cluster.leader()) as client:
        wait_for(
            lambda: client.call(type="write", key=0, value=0)["type"] == "write_ok",
            "the first write",
        )
        frames = [
            {
                "src": "c",
                "dest": client.node,
                "body": {"type": "write", "key": i, "value": i, "msg_id": 1000 + i},
            }
            for i in range(300)
        ]
        data = "".join(json.dumps(frame) + "\n" for frame in frames)
        client.sock.sendall(data.encode())
        replies = [client.receive() for _ in frames]
        assert {reply["type"] for reply in replies} == {"write_ok"}
        assert [r["in_reply_to"] for r in replies] == [1000 + i for i in range(300)]
        name = client.node
        appended = [o for o in cluster.observations(name) if o["kind"] == "appended"]
    assert len(appended) < 100, "300 writes went to the log one by one"


def test_a_node_answers_for_itself(tmp_path: Path) -> None:
    with Processes(tmp_path, 1) as cluster, cluster.client("n1") as client:
        assert client.call(type="init", node_id="n1", node_ids=["n1"]) == {
            "type": "init_ok",
            "in_reply_to": 1,
        }
        assert client.call(type="echo", echo=[1, "a"])["echo"] == [1, "a"]
        first, second = (client.call(type="clock") for _ in range(2))
        assert second["mono_ns"] > first["mono_ns"]
        assert second["wall_ns"] > 1_600_000_000 * 10**9
        wait_for(
            lambda: client.call(type="status")["role"] == "leader", "n1 to lead itself"
        )
        status = client.call(type="status")
        assert status["leader"] == "n1"
        assert status["term"] >= 1
        assert status["commit_index"] == status["last_applied"] >= 1


def test_without_a_leader_a_request_is_refused_for_sure(tmp_path: Path) -> None:
    with Processes(tmp_path, 3) as cluster:
        for name in cluster.names[1:]:
            cluster.kill(name)
        with cluster.client("n1") as client:
            wait_for(
                lambda: client.call(type="status")["leader"] is None, "n1 to be alone"
            )
            assert client.call(type="write", key=1, value=1)["code"] == 11


def test_observations_can_be_read_while_it_runs(tmp_path: Path) -> None:
    with Processes(tmp_path, 1) as cluster:
        cluster.call_until_ok("n1", type="write", key=1, value=1)
        lines = cluster.observations("n1")
    kinds = [line["kind"] for line in lines]
    assert kinds.index("became_candidate") < kinds.index("became_leader")
    assert "committed" in kinds
    assert [line["seq"] for line in lines] == list(range(len(lines)))
    assert all(line["node"] == "n1" and line["mono_ns"] > 0 for line in lines)


def message_on(sock: socket.socket) -> dict[str, Any]:
    """The next message on a socket; what follows stays there."""
    sock.settimeout(DEADLINE_S)
    line = b""
    while not line.endswith(b"\n"):
        line += sock.recv(1) or pytest.fail("closed within a line")
    message: dict[str, Any] = json.loads(line)
    return message


def drain(sock: socket.socket) -> None:
    """Take off a socket what has come."""
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while sock.recv(1 << 16):
            pass


def test_a_node_talks_on_the_connection_of_a_peer_whose_name_comes_first(
    tmp_path: Path,
) -> None:
    cluster = Processes(tmp_path, 2)
    hello = {"src": "n2", "dest": "n1", "body": {"type": "hello"}}
    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", cluster.ports["n1"])
        listener = stack.enter_context(socket.create_server(address))
        listener.settimeout(DEADLINE_S)
        cluster.start("n2")
        stack.callback(cluster.kill, "n2")
        link = stack.enter_context(listener.accept()[0])
        assert message_on(link) == hello
        assert message_on(link)["body"]["type"] == "pre_vote", "n1 has said nothing yet"
        ours = stack.enter_context(cluster.client("n2")).sock
        ours.sendall(json.dumps({**hello, "src": "n1", "dest": "n2"}).encode() + b"\n")
        asked = message_on(ours)
        assert (asked["src"], asked["dest"]) == ("n2", "n1")
        assert asked["body"]["type"] == "pre_vote"
        drain(link)
        ours.shutdown(socket.SHUT_RDWR)
        assert message_on(link)["body"]["type"] == "pre_vote", "its link stands by"


# --- hostile input ------------------------------------------------------------------

HOSTILE = {
    "text": b"hello\n",
    "binary": bytes(range(256)) + b"\n",
    "not UTF-8": b'{"src":"\xff"}\n',
    "http": b"GET / HTTP/1.1\r\nHost: n1\r\n\r\n",
    "a number": b"7\n",
    "no body": b'{"src":"c","dest":"n1"}\n',
    "a body that is no object": b'{"src":"c","dest":"n1","body":[]}\n',
    "no type": b'{"src":"c","dest":"n1","body":{"msg_id":99}}\n',
    "a type that is no string": b'{"src":"c","dest":"n1","body":{"type":[]}}\n',
    "NaN": b'{"src":"c","dest":"n1","body":{"type":"echo","echo":NaN}}\n',
    "deep": b"[" * 100_000 + b"\n",
    "digits": b"9" * 10_000 + b"\n",
    "empty lines": b"\n" * 1000,
}


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> object:
    directory = tmp_path_factory.mktemp("victim")
    with Processes(directory, 1, "fsync=false") as cluster:
        cluster.call_until_ok("n1", type="write", key="k", value="v")
        yield cluster


CUT_OFF = r"reset|pipe|closed|timed out"


def flood(client: NodeClient, data: bytes) -> None:
    """Send until the node has had enough, then listen until it hangs up."""
    for _ in range(2000):
        client.sock.sendall(data)
    while True:
        client.receive()


def unharmed(victim: Processes) -> bool:
    return victim.call("n1", type="read", key="k").get("value") == "v"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_lines_do_no_harm(victim: Processes, name: str) -> None:
    with victim.client("n1") as client:
        client.sock.sendall(HOSTILE[name])
        msg_id = client.send(type="echo", echo=1)
        replies = [client.receive()]
        while replies[-1].get("in_reply_to") != msg_id:
            assert replies[-1]["code"] == 12
            replies.append(client.receive())
        assert replies[-1]["echo"] == 1
        assert len(replies) > 1 or name == "empty lines"
    assert unharmed(victim)


def test_a_line_without_end_is_cut_off(victim: Processes) -> None:
    with victim.client("n1") as client, pytest.raises(OSError, match=CUT_OFF):
        flood(client, b"x" * (1 << 16))
    assert unharmed(victim)


def test_a_line_of_one_mebibyte_is_still_served(victim: Processes) -> None:
    with victim.client("n1") as client:
        text = "x" * ((1 << 20) - 200)
        assert client.call(type="echo", echo=text)["echo"] == text
        assert client.call(type="write", key=1, value=text)["code"] == 12


def test_a_flood_of_nonsense_ends_its_connection_only(victim: Processes) -> None:
    with victim.client("n1") as client, pytest.raises(OSError, match=CUT_OFF):
        flood(client, b"nonsense\n" * 10)
    assert unharmed(victim)
    status = victim.call("n1", type="status")
    assert status["counters"]["malformed"] >= 100


def test_many_connections_that_say_nothing_do_no_harm(victim: Processes) -> None:
    sockets = [socket.create_connection(("127.0.0.1", victim.ports["n1"]))]
    sockets += [socket.create_connection(sockets[0].getpeername()) for _ in range(200)]
    assert unharmed(victim)
    for sock in sockets:
        sock.close()
    assert unharmed(victim)


def test_a_reader_that_never_reads_does_not_stop_the_others(victim: Processes) -> None:
    with victim.client("n1") as deaf:
        deaf.sock.settimeout(0.2)
        line = json.dumps(
            {"src": "c", "dest": "n1", "body": {"type": "echo", "echo": "x" * 500_000}}
        )
        with pytest.raises(OSError, match=CUT_OFF):
            flood(deaf, line.encode() + b"\n")
        assert unharmed(victim)


def test_a_message_for_another_node_is_refused(victim: Processes) -> None:
    with victim.client("n1") as client:
        client.node = "n9"
        assert client.call(type="read", key="k")["code"] == 1


# --- bad starts ---------------------------------------------------------------------


def run(arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "reference_impls.runtime", *arguments],
        env={"PATH": os.environ.get("PATH", ""), **environment},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ([], "usage"),
        (["raf"], "no protocol 'raf'"),
        (["../raft"], "no name of a protocol"),
        (["kv"], "has no build"),
        (["raft", "--reads"], "unknown argument '--reads'"),
        (["raft", "--option", "reads"], "KEY=VALUE"),
        (["raft", "--option", "reads=fast"], "it takes one of log, read_index"),
        (["raft", "--option", "heartbeat_ms=-1"], "it takes a number from 1 to"),
        (["raft", "--option", "colour=red"], "no option 'colour'"),
        (["raft", "--option=reads="], "reads='' is not possible"),
        (["raft"], "SPLITBRAIN_NODE is not set"),
    ],
)
def test_bad_usage_is_refused_in_one_line(arguments: list[str], what: str) -> None:
    status, text = run(arguments, {})
    assert status == runtime.EXIT_USAGE
    assert what in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SPLITBRAIN_LISTEN", "nowhere"),
        ("SPLITBRAIN_LISTEN", "127.0.0.1:99999"),
        ("SPLITBRAIN_PEERS", "n2"),
        ("SPLITBRAIN_PEERS", "[]"),
        ("SPLITBRAIN_PEERS", '{"n2": 7}'),
        ("SPLITBRAIN_PEERS", '{"n2": "h:1", "n2": "h:2"}'),
    ],
)
def test_a_bad_environment_is_refused(tmp_path: Path, name: str, value: str) -> None:
    environment = Processes(tmp_path, 1).environment("n1")
    status, text = run(["raft"], {**environment, name: value})
    assert status == runtime.EXIT_USAGE
    assert name in text


@pytest.mark.parametrize(
    "option",
    [
        "heartbeat_ms=200",
        "election_timeout_ms_max=100",
        "election_timeout_ms_min=0",
        "clock_drift_bound=1",
    ],
)
def test_options_that_make_no_sense_together_are_refused(
    tmp_path: Path, option: str
) -> None:
    environment = Processes(tmp_path, 1).environment("n1")
    status, text = run(["raft", "--option", option], environment)
    assert status == runtime.EXIT_USAGE
    assert option.split("=")[0] in text
    assert not (tmp_path / "n1").exists()


def test_a_corrupt_log_stops_the_node_with_a_clear_message(tmp_path: Path) -> None:
    with Processes(tmp_path, 1) as cluster:
        for value in range(5):
            cluster.call_until_ok("n1", type="write", key=1, value=value)
        environment = cluster.environment("n1")
    path = tmp_path / "n1" / wal.FILE_NAME
    data = bytearray(wal.without_room(path.read_bytes()))
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    status, text = run(["raft"], environment)
    assert status == runtime.EXIT_DATA
    assert "no torn tail" in text
    assert "Traceback" not in text


def test_an_address_in_use_stops_the_node_with_a_clear_message(tmp_path: Path) -> None:
    cluster = Processes(tmp_path, 1)
    with socket.create_server(("127.0.0.1", cluster.ports["n1"])):
        status, text = run(["raft"], cluster.environment("n1"))
    assert status == runtime.EXIT_MACHINE
    assert "Address already in use" in text


def test_the_options_describe_themselves() -> None:
    status, text = run(["raft", "--describe"], {})
    assert status == 0
    described = json.loads(text)
    assert described["protocol"] == "raft"
    names = {option["name"] for option in described["options"]}
    assert {"reads", "pre_vote", "heartbeat_ms", "fsync"} <= names
    assert all(option["meaning"] for option in described["options"])


# --- parts --------------------------------------------------------------------------


class Turn:
    """What a node's turn is made of; it notes in which order the parts are asked."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.pending = ["a record"]

    def write(self) -> None:
        self.pending.clear()
        self.order.append("written")

    def sync(self) -> None:
        self.order.append("durable")

    def flush(self) -> None:
        self.order.append("told")

    def release(self) -> None:
        self.order.append("released")


def test_records_are_written_before_anything_is_told_and_synced_after() -> None:
    """So what is told before it is durable is lost with the power, and by no kill."""
    turn = Turn()
    node: Any = runtime.Node.__new__(runtime.Node)
    node.wal = node.observations = turn
    node.dirty, node.held = {turn}, []
    runtime.Node.flush(node)
    assert turn.order[:4] == ["written", "told", "told", "durable"]


class FakeClock:
    """A monotonic clock under the test's control."""

    def __init__(self) -> None:
        self.ns = 10**12

    def monotonic_ns(self) -> int:
        return self.ns


def test_timers_fire_in_order_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    monkeypatch.setattr(runtime, "time", clock)
    timers = runtime.Timers()
    timers.set("b", 20, 20)
    timers.set("a", 10, 10)
    timers.set("c", 5, 5)
    timers.cancel("c")
    assert timers.pop_due() is None
    assert timers.wait_s() == pytest.approx(0.010)
    clock.ns += 25_000_000
    assert [timers.pop_due() for _ in range(3)] == ["a", "b", None]
    assert timers.wait_s() is None


def test_a_patient_timer_is_never_put_off_and_ends_when_it_is_set_for_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(runtime, "time", clock)
    timers = runtime.Timers()
    for _ in range(3):
        timers.set_unless_set("batch", 10)
        assert timers.pop_due() is None
        clock.ns += 4_000_000
    assert timers.pop_due() == "batch"
    timers.set_unless_set("batch", 10)
    timers.set("batch", 0, 0)
    timers.set_unless_set("batch", 10)
    assert timers.pop_due() == "batch"


def test_a_clock_set_back_does_not_stop_the_timers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(runtime, "time", clock)
    timers = runtime.Timers()
    timers.set("heartbeat", 50, 50)
    clock.ns -= 3600 * 10**9
    assert timers.wait_s() == pytest.approx(0.050)
    clock.ns += 50_000_000
    assert timers.pop_due() == "heartbeat"


def test_timers_draw_from_the_whole_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "time", FakeClock())
    timers = runtime.Timers()
    waits = []
    for _ in range(200):
        timers.set("election", 150, 300)
        waits.append(timers.wait_s() or 0.0)
    assert 0.150 <= min(waits) < 0.165
    assert 0.285 < max(waits) <= 0.300
