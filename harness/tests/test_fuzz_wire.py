"""Fuzzes what clients hear: runs against nodes that answer with anything at all.

A run of every workload, in virtual time and without sockets: the connection is fed what
a hostile peer would have sent, in pieces of any size, late, twice, or never. The run
ends, the history can be written, read and judged, and no client crashes: an answer that
makes no sense is an operation of which nobody knows, and is counted.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from harness import registry
from harness.errors import NodeReply, Timeout
from harness.history import Op
from harness.history.formats import HistoryWriter, load
from harness.run.interpreter import interpret
from harness.run.store import RunFolder
from harness.systems import wire
from harness.systems.etcd import Etcd, EtcdClient
from harness.systems.wire import Connection, WireClient, WireCounters
from harness.systems.wire_system import WireSystem
from harness.tests.checking import LIMITS
from harness.tests.test_run import run as splitbrain
from harness.verdict import judge
from harness.workload import generator as gen
from harness.worlds.places import Endpoint, NodePlace
from harness.worlds.sim.loop import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.workload import Workload
    from harness.worlds.places import Launch

HOSTILE_NODE = Path(__file__).with_name("hostile_node.py")
PLACES = [
    NodePlace(name, Endpoint("127.0.0.1", 1), {}, Path(), Path(), {})
    for name in ("n1", "n2")
]

# What a peer says

ODD: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
    | st.sampled_from([1.0, 0.5, 1e308, 2**63, 2**64, -(2**63) - 1, 10**400, "\x00"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "1", "x", "k"]), inner, max_size=2)
    ),
    max_leaves=5,
)
DEEP = b"[" * 940 + b"]" * 940
SPLICES = st.binary(max_size=4) | st.sampled_from(
    [
        *(
            b"NaN",
            b"1e999",
            b"9" * 5_000,
            b'"\\ud800"',
            b"\xff",
            b"\xed\xa0\x80",
            b"\0",
        ),
        *(
            b"{}",
            b"}",
            b'"',
            b"\n",
            b"\r\n",
            b"\n\n",
            DEEP,
            b"[" * 3_000,
            b"\xef\xbb\xbf",
        ),
        *(b'"in_reply_to":1,', b'"type":"error",', b"x" * 1500),
    ]
)
FIELDS = [
    *("type", "in_reply_to", "value", "txn", "code", "text", "echo", "id", "token"),
    *("offset", "offsets", "msgs", "messages", "more", "decisions", "votes", "term"),
    *("coordinated", "role", "leader", "msg_id"),
]
ANSWERS: dict[str, dict[str, Any]] = {
    "value": {"value": 1},
    "list": {"value": [1, 2]},
    "null": {"value": None},
    "echo": {"echo": "x", "id": 7, "token": 1, "role": "leader", "term": 1},
    "log": {"offset": 0, "msgs": {"k0": [[0, 1]]}, "offsets": {"k0": 0}},
    "broadcast": {"messages": [1], "more": True},
    "commit": {"decisions": {"1": "commit"}, "votes": {}, "coordinated": {}},
    "error": {"type": "error", "code": 20, "text": "no"},
    "refusal": {"type": "error", "code": 11},
    "doubt": {"type": "error", "code": 13, "text": "?"},
}


@dataclass(frozen=True)
class Saying:
    """How a peer answers one request.

    Attributes:
        answer: One of ANSWERS, or "txn": what was asked, filled in.
        fields: Replaces fields of the body; or of the message, where there are such.
        splices: (where, what) put into the line; `where` counts from the end.
        copies: How often it says so.
        delay_s: How long it thinks about it.
        piece_bytes: How much arrives at a time.
        ends: Whether it hangs up then.
    """

    answer: str = "value"
    fields: tuple[tuple[str, Any], ...] = ()
    splices: tuple[tuple[int, bytes], ...] = ()
    copies: int = 1
    delay_s: float = 0.001
    piece_bytes: int = 1 << 16
    ends: bool = False

    def to(self, line: bytes) -> bytes:
        """The bytes for a request."""
        request = json.loads(line)
        asked = request["body"]
        body: dict[str, Any] = {
            "type": f"{asked['type']}_ok",
            "in_reply_to": asked["msg_id"],
            **ANSWERS.get(self.answer, {}),
        }
        if self.answer == "txn":
            body["txn"] = asked.get("txn")
        message = {"src": request["dest"], "dest": request["src"], "body": body}
        for name, odd in self.fields:
            (message if name in {"src", "dest", "body"} else body)[name] = odd
        data = json.dumps(message).encode()
        for back, splice in self.splices:
            at = max(0, len(data) - back)
            data = data[:at] + splice + data[at:]
        return (data + b"\n") * self.copies


SAYINGS = st.builds(
    Saying,
    st.sampled_from([*ANSWERS, "txn", "txn"]),
    st.lists(
        st.tuples(st.sampled_from([*FIELDS, *FIELDS, "src", "dest", "body"]), ODD),
        max_size=3,
    ).map(tuple),
    st.lists(st.tuples(st.integers(0, 80), SPLICES), max_size=2).map(tuple),
    st.sampled_from([1, 1, 1, 0, 2, 3]),
    st.sampled_from([0.0, 0.001, 0.001, 1.0, 5.0]),
    st.sampled_from([1 << 16, 1 << 16, 7]),
    st.sampled_from([False, False, False, True]),
)


class Peer:
    """The other end of a connection; what `Connection` asks of transports."""

    def __init__(self, connection: Connection, sayings: Sequence[Saying]) -> None:
        self._connection = connection
        self._sayings = sayings
        self._count = 0
        self._is_open = True
        connection.connection_made(cast("asyncio.BaseTransport", self))

    def write(self, line: bytes) -> None:
        saying = self._sayings[self._count % len(self._sayings)]
        self._count += 1
        loop = asyncio.get_running_loop()
        loop.call_later(saying.delay_s, self._say, saying, saying.to(line))

    def abort(self) -> None:
        if self._is_open:
            self._is_open = False
            asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)

    def _say(self, saying: Saying, data: bytes) -> None:
        for begin in range(0, len(data), saying.piece_bytes):
            if self._is_open:
                self._connection.data_received(data[begin : begin + saying.piece_bytes])
        if saying.ends:
            self.abort()


def in_virtual_time(main: Any) -> Any:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


# Runs


@dataclass
class Heard:
    """What came of a run."""

    crashes: list[str]
    counters: WireCounters
    path: Path


async def ran(workload: Workload, sayings: Sequence[Saying], path: Path) -> Heard:
    """A run of `workload` against two such peers."""
    counters = WireCounters()
    loop = asyncio.get_running_loop()
    crashes: list[str] = []

    async def dial(place: NodePlace, counted: WireCounters, _: float) -> Connection:
        await asyncio.sleep(0.001)
        connection = Connection(counted)
        Peer(connection, sayings if place.name == "n1" else sayings[::-1])
        return connection

    phases: list[gen.Generator] = [
        gen.time_limit(20.0, gen.limit(12, workload.generator(4))),
    ]
    final = workload.final_generator(4)
    if final is not None:
        phases.append(gen.time_limit(10.0, gen.limit(30, final)))
    with HistoryWriter(path) as history:
        await interpret(
            gen.clients(gen.phases(*phases)),
            concurrency=4,
            nodes=PLACES,
            open_client=lambda: WireClient(workload.codec, counters, dial),
            nemesis=None,
            record=history.record,
            op_timeout_s=2.0,
            idempotent=workload.idempotent,
            seed=1,
            crash=lambda where, _, trace: crashes.append(f"{where}: {trace}"),
            now_ns=lambda: round(loop.time() * 1e9),
        )
    await asyncio.sleep(2 * wire.LINGER_S)
    return Heard(crashes, counters, path)


WORKLOADS = sorted({p.name for p in registry.plugins("workload").values()})


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wire")


@settings(max_examples=max(150, settings().max_examples))
@given(st.sampled_from(WORKLOADS), st.lists(SAYINGS, min_size=1, max_size=6))
def test_a_run_ends_and_can_be_judged_whatever_its_nodes_say(
    scratch: Path, name: str, sayings: list[Saying]
) -> None:
    path = scratch / "history.jsonl"
    path.unlink(missing_ok=True)
    workload = registry.find("workload", name).factory({})
    heard = in_virtual_time(ran(workload, sayings, path))
    assert not heard.crashes, heard.crashes[0]
    history = load(path)
    counted = sum(heard.counters.as_json().values())
    event(f"{name}: {'some' if counted else 'nothing'} counted")
    for checker in workload.checkers().values():
        result = judge(checker, history, LIMITS)
        assert not result.stats.get("crashed"), result.reason
        json.dumps(result.as_json())


# What systems ask beside


class Asked(WireSystem):
    """A system of nothing but the questions that all have."""

    services = frozenset[str]()

    def launch(self, place: NodePlace) -> Launch:
        raise NotImplementedError


@example([Saying(fields=(("wall_ns", 10**400), ("role", "leader"), ("term", 10**400)))])
@given(
    st.lists(SAYINGS, min_size=1, max_size=4)
    | st.lists(
        st.tuples(st.sampled_from(["role", "term", "wall_ns"]), ODD).map(
            lambda field: Saying(fields=(("role", "leader"), field))
        ),
        min_size=1,
        max_size=3,
    )
)
def test_status_clock_and_members_are_told_or_not_whatever_nodes_say(
    sayings: list[Saying],
) -> None:
    async def main() -> None:
        async def dial(place: NodePlace, counted: WireCounters, _: float) -> Connection:
            connection = Connection(counted)
            Peer(connection, sayings)
            return connection

        system = Asked()
        system.dial = dial
        assert await system.leader(PLACES) in {None, "n1", "n2"}
        wall_ns = await system.read_wall_clock_ns(PLACES[0])
        assert wall_ns is None or round(wall_ns / 1e6, 3) is not None
        members = await system.members(PLACES)
        assert all(isinstance(name, str) for name in members)
        with contextlib.suppress(NodeReply, Timeout):
            await system.change("add", PLACES[0], PLACES[1], 1.0)

    in_virtual_time(main())


# HTTP


HEADS = [
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 500 No\r\n", b"HTTP/1.1 \xb2\xb2\xb2\r\n"),
    *(b"HTTP/1.0 200 OK\r\n", b"\r\n", b"", b"HTTP/1.1 -20 OK\r\n"),
]
HEADERS = [
    *(b"Connection: close\r\n", b"Content-Length: 99\r\n", b"Content-Length: -1\r\n"),
    *(b"Content-Length: 1_0\r\n", b"Content-Length: \xb2\r\n", b": \r\n", b"x\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"X: " + b"x" * 70_000 + b"\r\n"),
    b"Content-Length: 9999999999999999999999\r\n",
]
ETCD = {
    "count": "1",
    "succeeded": True,
    "header": {"member_id": "7", "raft_term": "2"},
    "leader": "7",
    "raftTerm": "2",
    "kvs": [{"key": "YQ==", "value": base64.b64encode(b"1").decode()}],
}


@st.composite
def http_answers(draw: st.DrawFn) -> bytes:
    """An answer of etcd's gateway, or nearly one."""
    answer: Any = {**ETCD}
    for name in draw(
        st.lists(st.sampled_from([*ETCD, "error", "message"]), max_size=2)
    ):
        answer[name] = draw(ODD)
    if draw(st.integers(0, 7)) == 0:
        answer["kvs"] = [{"value": draw(ODD)}]
    if draw(st.integers(0, 7)) == 0:
        value = draw(st.sampled_from([b"NaN", b"1e999", b"\xff", DEEP, b'"\\ud800"']))
        answer["kvs"] = [{"value": base64.b64encode(value).decode()}]
    content = json.dumps(answer if draw(st.integers(0, 9)) else draw(ODD)).encode()
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(SPLICES) + content[at:]
    head = draw(st.sampled_from(HEADS * 1 + HEADS[:1] * 9))
    headers = b"".join(draw(st.lists(st.sampled_from(HEADERS), max_size=1)))
    if draw(st.booleans()):
        framed = b"%x;a=b\r\n%s\r\n0\r\nX: y\r\n\r\n" % (len(content), content)
        return head + headers + b"Transfer-Encoding: chunked\r\n\r\n" + framed
    return head + headers + b"Content-Length: %d\r\n\r\n" % len(content) + content


class HttpPeer:
    """Stands for a socket: answers the first POST, and hangs up."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.transport = self
        self.reader = asyncio.StreamReader()

    def write(self, _: bytes) -> None:
        self.reader.feed_data(self._answer)
        self.reader.feed_eof()

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        pass

    async def wait_closed(self) -> None:
        pass


def answered(content: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content


ASKED_OF_ETCD: list[tuple[str, str, Any]] = [
    ("register", "read", None),
    ("register", "write", 1),
    ("register", "cas", [1, 2]),
    ("list_append", "txn", [["append", 1, 2], ["r", 3, None]]),
    ("lock", "acquire", None),
    ("kafka", "send", [["send", "1", 5]]),
    ("kafka", "assign", ["1"]),
]


@example([answered(b'{"responses":[{"response_range":{"kvs":[{"value":"MQ=="}]}}]}')])
@example([answered(b'{"header":1,"leader":"x"}')])
@example([answered(b'{"header":{},"leader":[],"raftTerm":"x"}')])
@example([answered(b'{"succeeded":"false","kvs":[{"value":"TmFO"}]}')])
@given(st.lists(http_answers() | st.binary(max_size=60), min_size=1, max_size=3))
def test_an_etcd_client_knows_or_says_that_nobody_knows(answers: list[bytes]) -> None:
    turns = itertools.cycle(answers)

    async def main() -> None:
        async def connected(*_: Any) -> tuple[asyncio.StreamReader, Any]:
            peer = HttpPeer(next(turns))
            return peer.reader, peer

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio, "open_connection", connected)
            for name, f, value in ASKED_OF_ETCD:
                workload = registry.find("workload", name).factory({})
                client = EtcdClient(workload.codec, serializable=False)
                await client.open(PLACES[0])
                with contextlib.suppress(NodeReply):
                    done = await client.invoke(Op(0, 0, 0, "invoke", f, value, 1))
                    assert done.type == "ok"
                    json.dumps(done.value, allow_nan=False).encode()
                await client.close()
            system = Etcd.__new__(Etcd)
            system._has_served = set()
            assert await system.ready(PLACES[0]) in {True, False}
            assert await system.leader(PLACES) in {None, "n1", "n2"}

    in_virtual_time(main())


# A process


@pytest.mark.parametrize("seed", [1])
def test_a_run_over_a_hostile_process_ends_with_a_verdict(
    tmp_path: Path, seed: int
) -> None:
    command = [sys.executable, str(HOSTILE_NODE), str(seed)]
    status, outcome, err = splitbrain(
        tmp_path,
        *(
            f"launch:{shlex.join(command)}",
            "--nodes",
            "1",
            "--time-limit",
            "2",
            "--network",
            "proxy",
        ),
        *("--set", "register.keys=1", "--time-limit", "2", "--concurrency", "4"),
        *("--seed", str(seed)),
    )
    assert status in {0, 1, 2}, (seed, err)
    assert outcome["harness"]["ok"], (seed, outcome)
    run = RunFolder.open(Path(outcome["run"])).read_as("run.json", dict[str, Any])
    assert run is not None
    counters = run["counters"]
    assert counters["client_crashes"] == 0, (seed, counters)
    assert sum(counters[name] for name in WireCounters().as_json()) > 0, (
        seed,
        counters,
    )
