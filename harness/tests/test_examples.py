"""The starter nodes keep their promise where first attempts break it."""

from __future__ import annotations

import asyncio
import functools
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from harness.errors import NodeReply
from harness.history import Op
from harness.registry import find
from harness.systems.abilities import Clocked, Led
from harness.tests import starters
from harness.tests.loopback import LoopbackNodes, eventually, loopback_nodes
from harness.worlds.os.switch import why_no_switch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from harness.systems.wire import WireClient

WORKLOAD = find("workload", "register").factory({})
TEST_LIMIT_S = 60.0
RUN_LIMIT_S = 120.0
SLOWLY = {"--rate": "10", "--concurrency": "2", "--op-timeout": "10"}
SEED = 20

OWNER, OTHER = "n1", "n2"

Scenario = "Callable[[LoopbackNodes], Awaitable[None]]"


# A shell takes 20 times as long as others. Daily it only echoes, and answers WIRE.md.
BY_LANGUAGE = [
    pytest.param(name, marks=pytest.mark.nightly if name == "shell" else ())
    for name in starters.LANGUAGES
]


@pytest.fixture(params=BY_LANGUAGE)
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def command(language: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The command of a register node in a language."""
    return starters.command(language, "register", tmp_path_factory.getbasetemp())


def run(
    command: str, directory: Path, scenario: Callable[[LoopbackNodes], Awaitable[None]]
) -> None:
    async def limited() -> None:
        system = find("system", "launch").factory(command, {})
        async with (
            asyncio.timeout(TEST_LIMIT_S),
            loopback_nodes(system, 3, directory) as nodes,
        ):
            await scenario(nodes)

    asyncio.run(limited())


async def client_of(nodes: LoopbackNodes, name: str) -> WireClient:
    client: WireClient = nodes.system.client(WORKLOAD)  # type: ignore[assignment]  # launch's are
    await client.open(nodes.places[name])
    return client


def read(key: object) -> Op:
    return Op(-1, -1, 1, "invoke", "read", None, key)


def write(key: object, value: object) -> Op:
    return Op(-1, -1, 1, "invoke", "write", value, key)


def cas(key: object, before: object, after: object) -> Op:
    return Op(-1, -1, 1, "invoke", "cas", [before, after], key)


def test_every_node_serves_the_same_registers(command: str, tmp_path: Path) -> None:
    async def scenario(nodes: LoopbackNodes) -> None:
        clients = [await client_of(nodes, name) for name in nodes.places]
        await clients[0].invoke(write(1, "a"))
        await clients[1].invoke(cas(1, "a", "b"))
        assert [(await c.invoke(read(1))).value for c in clients] == ["b", "b", "b"]
        system = nodes.system
        assert isinstance(system, Led)
        assert isinstance(system, Clocked)

        async def tells_its_leader() -> bool:
            return await system.leader(list(nodes.places.values())) == OWNER

        async def tells_the_time() -> bool:
            return await system.read_wall_clock_ns(nodes.places[OTHER]) is not None

        await eventually(tells_its_leader, "the owner says that it leads")
        await eventually(tells_the_time, "a node says what its clock shows")
        for client in clients:
            await client.close()

    run(command, tmp_path, scenario)


def test_what_was_confirmed_survives_kills(command: str, tmp_path: Path) -> None:
    async def scenario(nodes: LoopbackNodes) -> None:
        confirmed: dict[int, int] = {}
        for life in range(3):
            clients = [await client_of(nodes, name) for name in nodes.places]
            writers = [
                asyncio.ensure_future(write_until_it_fails(c, key, life, confirmed))
                for key, c in enumerate(clients)
            ]
            enough = functools.partial(have_written, confirmed, life)
            await eventually(enough, "writes through all nodes")
            nodes.kill(OWNER)
            await asyncio.gather(*writers)
            for client in clients:
                await client.close()
            tear_the_journal(nodes, life)
            await nodes.start(OWNER)
            reader = await client_of(nodes, OTHER)
            for key, value in confirmed.items():
                seen = (await reader.invoke(read(key))).value
                # The write that the kill cut short may have happened, or not.
                assert seen in {value, value + 1}, f"life {life}, register {key}"
            await reader.close()

    run(command, tmp_path, scenario)


async def write_until_it_fails(
    client: WireClient, key: int, life: int, confirmed: dict[int, int]
) -> None:
    """Count up in a register, with room between the lives of the owner."""
    for value in range(life * 1_000_000, (life + 1) * 1_000_000):
        try:
            await client.invoke(write(key, value))
        except NodeReply:
            return
        confirmed[key] = value


async def have_written(confirmed: dict[int, int], life: int) -> bool:
    enough = life * 1_000_000 + 5
    return len(confirmed) == 3 and min(confirmed.values()) >= enough


def tear_the_journal(nodes: LoopbackNodes, life: int) -> None:
    """A write that the kill cut in half: never confirmed, so it must not come back."""
    torn = json.dumps([0, -1]).encode()[: 3 + life]
    for journal in nodes.places[OWNER].data_dir.glob("journal.jsonl"):
        with journal.open("ab") as file:  # The shell's node has none.
            file.write(torn)


def test_without_its_owner_a_node_refuses_for_certain(
    command: str, tmp_path: Path
) -> None:
    async def scenario(nodes: LoopbackNodes) -> None:
        nodes.kill(OWNER)
        client = await client_of(nodes, OTHER)
        with pytest.raises(NodeReply, match="n1 can't be reached") as caught:
            await client.invoke(write(1, 1))
        assert (caught.value.definite, caught.value.code) == (True, 11)
        await nodes.start(OWNER)
        assert (await client.invoke(read(1))).value is None
        await client.close()

    run(command, tmp_path, scenario)


def test_an_owner_that_falls_silent_leaves_the_outcome_open(
    command: str, tmp_path: Path
) -> None:
    async def scenario(nodes: LoopbackNodes) -> None:
        client = await client_of(nodes, OTHER)
        await client.invoke(write(1, "old"))
        nodes.signal(OWNER, signal.SIGSTOP)
        with pytest.raises(NodeReply, match="n1 did not answer") as caught:
            await client.invoke(write(1, "new"))
        assert (caught.value.definite, caught.value.code) == (False, 0)
        nodes.signal(OWNER, signal.SIGCONT)
        # It arrives after all, and the answer to it is not taken for the next one's. An
        # owner with a thread for each connection may carry out a read before it.
        seen = [(await client.invoke(read(1))).value]

        async def arrived() -> bool:
            seen.append((await client.invoke(read(1))).value)
            return bool(seen[-1] == "new")

        await eventually(arrived, "the write that nobody knows about arrives")
        assert set(seen) <= {"old", "new"}
        await client.close()

    run(command, tmp_path, scenario)


def test_garbage_and_long_lines_do_not_bring_a_node_down(
    command: str, tmp_path: Path
) -> None:
    async def scenario(nodes: LoopbackNodes) -> None:
        for garbage in (b"hello\n", b"\xff\x00\n", b"[]\n{}\nnull\n", b'{"body":1}\n'):
            await say(nodes, OWNER, garbage)
            await say(nodes, OTHER, garbage)
        await say(nodes, OWNER, b"x" * 3_000_000)
        client = await client_of(nodes, OTHER)
        await client.invoke(write(1, 1))
        assert (await client.invoke(read(1))).value == 1
        await client.close()

    run(command, tmp_path, scenario)


async def say(nodes: LoopbackNodes, name: str, garbage: bytes) -> None:
    """Send bytes, then a question, on one connection; the node may hang up."""
    at = nodes.places[name].listen
    reader, writer = await asyncio.open_connection(at.host, at.port)
    question = {"src": "c1", "dest": name, "body": {"type": "status", "msg_id": 1}}
    writer.write(garbage + b"\n" + json.dumps(question).encode() + b"\n")
    try:
        line = await reader.readline()
    except ConnectionError:
        line = b""
    if line:
        assert json.loads(line)["body"]["in_reply_to"] == 1
    writer.transport.abort()


@pytest.mark.parametrize("language", starters.LANGUAGES)
def test_an_echo_takes_no_more_than_fifteen_lines(language: str) -> None:
    text = starters.source(language, "echo").read_text()
    assert len(text.splitlines()) <= 15


@pytest.mark.parametrize("language", starters.LANGUAGES)
def test_an_echo_answers_and_refuses_what_it_does_not_know(
    language: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def scenario(nodes: LoopbackNodes) -> None:
        at = nodes.places[OWNER].listen
        reader, writer = await asyncio.open_connection(at.host, at.port)
        said = {"any": ["JSON", None, 1.5, '\u00e9 \U0001f600 "\\\n'], "n": 2**53}
        for body in (
            {"type": "echo", "echo": said},
            {"type": "sing"},
            {"type": "echo"},
        ):
            request = {"src": "c1", "dest": OWNER, "body": {**body, "msg_id": 1}}
            writer.write(json.dumps(request).encode() + b"\n")
        answers = [json.loads(await reader.readline())["body"] for _ in range(3)]
        writer.close()
        # Python's answers come in the order in which they are ready.
        by_code = {answer.get("code"): answer for answer in answers}
        assert by_code.keys() == {None, 10, 12}, (answers, nodes.log(OWNER))
        assert by_code[None]["echo"] == said
        assert by_code[None]["type"] == "echo_ok"

    echo = starters.command(language, "echo", tmp_path_factory.getbasetemp())
    run(echo, tmp_path, scenario)


@pytest.mark.parametrize(
    ("language", "program"),
    [
        ("python", "abd"),
        ("go", "abd"),
        *(
            pytest.param(name, "register", marks=pytest.mark.nightly)
            for name in starters.LANGUAGES
        ),
    ],
)
def test_a_starter_node_is_linearizable_under_faults(
    language: str,
    program: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    if why := why_no_switch():
        pytest.skip(f"no switch here: {why}")
    node = starters.command(language, program, tmp_path_factory.getbasetemp())
    ask = {
        "--workload": "register",
        "--nemesis": "partition,kill,pause",
        "--nodes": "3",
        "--time-limit": "6",
        **(SLOWLY if language == "shell" else {"--rate": "200"}),
        "--set": f"register.cas={str(program != 'abd').lower()}",
        "--seed": str(SEED),
        "--results": str(tmp_path),
    }
    run_command = [sys.executable, "-m", "harness", "run", f"launch:{node}", "--json"]
    done = subprocess.run(
        [*run_command, *(word for pair in ask.items() for word in pair)],
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
        check=False,
    )
    told = f"seed {SEED}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, told
    outcome = json.loads(done.stdout)
    assert outcome["verdict"] == "valid", told
    assert outcome["ops"]["ok"] > 20, told
