"""Apache Ratis: how its nodes are started, and what a real one answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from harness.errors import NodeReply, NotInstalledError, Timeout, UsageError
from harness.systems.ratis import SOFTWARE, Ratis
from harness.systems.wire import WireCounters, call
from harness.tests.loopback import LoopbackNodes, eventually, loopback_nodes
from harness.worlds.places import Endpoint, NodePlace

TEST_LIMIT_S = 90.0
CALL_LIMIT_S = 5.0
VALUE: Final = {"a": [1, "é"]}


def test_options_are_flags_of_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_installed(tmp_path, monkeypatch)
    (tmp_path / "java").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    listen = Endpoint("127.0.0.1", 7000)
    place = NodePlace("n1", listen, {}, Path("/data"), Path("/log"), {"n1": listen})
    launch = Ratis({"reads": "stale", "flush": "unsafe"}).launch(place)
    assert launch.argv[-3:] == ["RatisNode", "--reads=stale", "--flush=unsafe"]
    assert "-Xmx128m" in launch.argv
    assert launch.env["SPLITBRAIN_LISTEN"] == "127.0.0.1:7000"
    assert launch.env["CLASSPATH"].endswith("/lib/*")


def test_a_value_that_an_option_does_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match="flush"):
        Ratis({"flush": "sometimes"})


def test_what_is_missing_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPLITBRAIN_SYSTEMS", str(tmp_path / "empty"))
    with pytest.raises(NotInstalledError, match="systems install ratis"):
        Ratis({}).check_installed()
    pretend_installed(tmp_path, monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotInstalledError, match="java is not installed: apt-get"):
        Ratis({}).check_installed()


def pretend_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An install of which only the record and the node's class are there."""
    monkeypatch.setenv("SPLITBRAIN_SYSTEMS", str(folder))
    recipe = SOFTWARE.recipe("")
    home = folder / "ratis" / recipe.version
    (home / "classes").mkdir(parents=True)
    (home / recipe.program).touch()
    built_from = recipe.built_from()
    (home / "installed.json").write_text(
        '{"libraries": [], "archives": {}, "source": "a test", '
        f'"built_from": "{built_from}"}}'
    )


def test_a_real_node_says_what_it_refuses_and_keeps_what_it_confirmed(
    tmp_path: Path,
) -> None:
    system = Ratis({})
    try:
        system.check_installed()
    except NotInstalledError as error:
        pytest.skip(str(error))

    async def limited() -> None:
        async with (
            asyncio.timeout(TEST_LIMIT_S),
            loopback_nodes(system, 1, tmp_path) as nodes,
        ):
            await refuses(nodes)
            nodes.kill("n1")
            await nodes.start("n1")
            await eventually_answers(
                nodes, {"type": "read", "key": "k"}, {"type": "read_ok", "value": VALUE}
            )

    asyncio.run(limited())


async def refuses(nodes: LoopbackNodes) -> None:
    write = {"type": "write", "key": "k", "value": VALUE}
    await eventually_answers(nodes, write, {"type": "write_ok"})
    cas = {"type": "cas", "key": "k", "from": VALUE, "to": VALUE}
    await eventually_answers(nodes, cas, {"type": "cas_ok"})
    refused: dict[int, dict[str, Any]] = {
        10: {"type": "frobnicate"},
        12: {"type": "write", "key": 1},
        20: {"type": "read", "key": "nobody wrote this"},
        22: {"type": "cas", "key": "k", "from": 1, "to": 2},
    }
    for code, body in refused.items():
        await eventually_answers(nodes, body, code)


async def eventually_answers(
    nodes: LoopbackNodes, body: dict[str, Any], answer: dict[str, Any] | int
) -> None:
    """Asked again and again, the node gives an answer, or a definite error.

    Only for what may happen twice: a node that has just started has no leader yet, and
    a busy one may be late.
    """

    async def answers() -> bool:
        try:
            got = await call(nodes.places["n1"], body, CALL_LIMIT_S, WireCounters())
        except NodeReply as error:
            return error.definite and error.code == answer
        except Timeout:
            return False
        return isinstance(answer, dict) and got.items() >= answer.items()

    await eventually(answers, f"{answer} to {body}", TEST_LIMIT_S)
