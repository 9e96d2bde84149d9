"""raft-rs: what its node is told, and a real one whose log is torn or damaged."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from harness.errors import NodeReply, NotInstalledError
from harness.history import Op
from harness.registry import find
from harness.systems.raft_rs import SOFTWARE, RaftRs
from harness.tests.loopback import eventually, loopback_nodes, loopback_places

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from harness.tests.loopback import LoopbackNodes

TEST_LIMIT_S = 90.0
CALL_LIMIT_S = 2.0
REGISTER = find("workload", "register").factory({})


def op(f: str, key: int, value: object = None) -> Op:
    return Op(-1, -1, 1, "invoke", f, value, key)


def test_its_node_is_told_how_to_read_and_what_to_keep(tmp_path: Path) -> None:
    program = tmp_path / "raft_rs"
    program.touch(mode=0o755)
    given = {"reads": "lease", "store": "file-nosync", "binary": str(program)}
    place = loopback_places(3, tmp_path)["n1"]
    launch = RaftRs(given).launch(place)
    assert list(launch.argv) == [str(program), "--reads=lease", "--store=file-nosync"]
    assert launch.env["SPLITBRAIN_LISTEN"] == str(place.listen)


def test_a_node_that_was_not_built_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPLITBRAIN_SYSTEMS", str(tmp_path))
    with pytest.raises(NotInstalledError, match="systems install raft_rs"):
        RaftRs({}).check_installed()


def with_real_nodes(
    count: int, tmp_path: Path, body: Callable[[LoopbackNodes], Awaitable[None]]
) -> None:
    """Carry `body` out with nodes on loopback; skip where none was built."""
    if not SOFTWARE.installs():
        pytest.skip("raft_rs is not installed: splitbrain systems install raft_rs")

    async def limited() -> None:
        async with (
            asyncio.timeout(TEST_LIMIT_S),
            loopback_nodes(RaftRs({}), count, tmp_path) as nodes,
        ):
            await body(nodes)

    asyncio.run(limited())


async def until_ok(nodes: LoopbackNodes, name: str, asked: Op) -> Op:
    """Ask a node until it answers; only for what may well happen more than once."""
    answers: list[Op] = []

    async def succeeds() -> bool:
        client = nodes.system.client(REGISTER)
        try:
            async with asyncio.timeout(CALL_LIMIT_S):
                await client.open(nodes.places[name])
                answers.append(await client.invoke(asked))
        except (NodeReply, TimeoutError):
            return False
        finally:
            await client.close()
        return True

    await eventually(succeeds, f"{name}: {asked.f} {asked.key}", TEST_LIMIT_S)
    return answers[-1]


def test_a_torn_write_is_cut_off_and_a_damaged_log_is_refused(tmp_path: Path) -> None:
    async def body(nodes: LoopbackNodes) -> None:
        log = nodes.places["n1"].data_dir / "raft.log"
        for value in range(5):
            await until_ok(nodes, "n1", op("write", 1, value))
        nodes.kill("n1")
        whole = log.read_bytes()
        log.write_bytes(whole + whole[-30:] + bytes(7))
        await nodes.start("n1")
        assert (await until_ok(nodes, "n1", op("read", 1))).value == 4
        assert "cut off a write that was not finished" in nodes.log("n1")

        nodes.kill("n1")
        damaged = bytearray(log.read_bytes())
        damaged[damaged.rindex(b'["write"')] ^= 1
        log.write_bytes(damaged)
        nodes.system.ready_timeout_s = 1.0
        with pytest.raises(AssertionError, match="never served") as caught:
            await nodes.start("n1")
        assert re.search(r"raft\.log: damaged at byte \d+", str(caught.value))
        assert log.read_bytes() == damaged

    with_real_nodes(1, tmp_path, body)


@pytest.mark.nightly
def test_who_was_away_for_a_whole_log_is_brought_level_by_a_snapshot(
    tmp_path: Path,
) -> None:
    async def body(nodes: LoopbackNodes) -> None:
        nodes.kill("n3")
        client = nodes.system.client(REGISTER)
        await client.open(nodes.places["n1"])
        await until_ok(nodes, "n1", op("write", 7, "kept"))
        written = 0
        while written < WRITES:
            try:
                await client.invoke(op("write", 1, written))
            except NodeReply:
                await client.close()
                await client.open(nodes.places["n1"])
            else:
                written += 1
        await client.close()
        await nodes.start("n3")
        assert (await until_ok(nodes, "n3", op("read", 1))).value == WRITES - 1
        assert (await until_ok(nodes, "n3", op("read", 7))).value == "kept"
        nodes.kill("n3")
        await nodes.start("n3")
        assert (await until_ok(nodes, "n3", op("read", 7))).value == "kept"

    with_real_nodes(3, tmp_path, body)


WRITES = 2300
"""Enough for a snapshot, and for entries behind it to be dropped."""
