"""Members change in real runs: of foreign nodes, of etcd, and of raft with disks."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.cli import run_command
from harness.errors import NodeReply
from harness.registry import find
from harness.systems.abilities import Administered
from harness.systems.raft import raft
from harness.systems.wire import decode
from harness.systems.wire_system import WireSystem
from harness.worlds.places import Endpoint, NodePlace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

NODE = shlex.join([sys.executable, str(Path(__file__).parent / "member_node.py")])


def struck(folder: Path) -> dict[str, Any]:
    """The evidence of the one membership fault of the run in `folder`."""
    [faults] = folder.rglob("faults.jsonl")
    lines = [json.loads(line) for line in faults.read_text().splitlines()]
    [end] = (line for line in lines if line["event"] == "end")
    assert end["kind"] == "membership"
    return {"bit": end["bit"], **end["evidence"]}


def run(folder: Path, system: str, plan: str, *arguments: str, nodes: int = 3) -> int:
    (folder / "plan.yaml").write_text(plan)
    return run_command(
        [
            *("run", system, "--plan", str(folder / "plan.yaml"), "--seed", "1"),
            *("--nodes", str(nodes), "--results", str(folder / "results")),
            *("--rate", "50", *arguments),
        ]
    )


def plan_of(changes: list[list[str]], disk: str, lasts_s: float) -> str:
    fault = {
        "kind": "membership",
        "changes": changes,
        "disk": disk,
        "patience_ms": 3000,
    }
    step = {"at": {"time_s": 0.2}, "fault": fault, "heal": {"after_s": lasts_s}}
    return json.dumps([step])


def test_a_foreign_node_may_serve_an_operator(tmp_path: Path) -> None:
    changes = [["remove", "n3"], ["add", "n3"], ["remove", "n1"], ["transfer", "n2"]]
    plan = plan_of([*changes, ["remove", "n2"]], "empty", 4.0)
    assert run(tmp_path, f"launch:{NODE}", plan, "--time-limit", "4.5") == 0
    evidence = struck(tmp_path)
    assert evidence["bit"] is True
    assert evidence["done"] == {"remove": 2, "add": 1}
    assert evidence["came_with_empty_disk"] == {"n3": 1}
    assert evidence["refused"] == {"remove": 1, "transfer": 1}
    answers = evidence["answers"]
    assert {text.split(":")[0] for text in answers} == {"remove n1", "transfer n2"}
    assert any("22 n1 has all the data" in text for text in answers)
    assert evidence["members_after"] == ["n1", "n3"]
    assert evidence["members_healed"] == ["n1", "n2", "n3"]


@pytest.mark.skipif(shutil.which("etcd") is None, reason="needs etcd on PATH")
def test_etcd_s_members_leave_and_join_with_empty_disks(tmp_path: Path) -> None:
    changes = [["remove", "leader"], ["add", "removed"]]
    assert run(tmp_path, "etcd", plan_of(changes, "old", 4.0), "--time-limit", "5") == 0
    evidence = struck(tmp_path)
    assert evidence["done"] == {"remove": 1, "add": 1}
    assert sum(evidence["came_with_empty_disk"].values()) == 1
    assert evidence["emptied"]["bytes"] > 0
    assert evidence["members_healed"] == ["n1", "n2", "n3"]


def test_members_are_those_that_the_leader_names_or_most_nodes() -> None:
    old, new = ["n1", "n2"], ["n1", "n2", "n3"]

    def named(leader: str | None, *answers: list[str] | None) -> tuple[str, ...]:
        said = dict(zip(("n1", "n2", "n3"), answers, strict=True))

        def answer(node: str, body: Mapping[str, Any]) -> dict[str, Any]:
            if body["type"] == "status":
                role = "leader" if node == leader else "follower"
                return {"type": "status_ok", "role": role, "term": 1}
            if said[node] is None:
                return {"type": "error", "code": 40, "text": "no member"}
            return {"type": "members_ok", "members": said[node]}

        names: tuple[str, ...] = serving(answer, WireSystem.members)
        return names

    assert named("n3", old, old, new) == tuple(new)
    assert named(None, old, None, old) == tuple(old)
    assert named("n3", old, old, None) == tuple(old)
    assert named(None, None, None, None) == ()


@pytest.mark.parametrize("code", [10, 11, 40, 1000])
def test_a_refused_change_has_the_node_s_code(code: int) -> None:
    def answer(node: str, body: Mapping[str, Any]) -> dict[str, Any]:
        assert body["type"] == "remove"
        assert body["node"] == "n2"
        return {"type": "error", "code": code, "text": "no"}

    def remove(system: WireSystem, places: list[NodePlace]) -> Awaitable[None]:
        return system.change("remove", places[1], places[0], 5.0)

    with pytest.raises(NodeReply) as caught:
        serving(answer, remove)
    assert (caught.value.code, caught.value.definite) == (code, code != 1000)


def serving(
    answer: Callable[[str, Mapping[str, Any]], dict[str, Any]],
    asking: Callable[[WireSystem, list[NodePlace]], Awaitable[Any]],
) -> Any:
    """What comes of asking three nodes that answer so."""

    async def main() -> Any:
        places, servers = [], []
        for name in ("n1", "n2", "n3"):

            async def serve(
                reader: asyncio.StreamReader,
                writer: asyncio.StreamWriter,
                name: str = name,
            ) -> None:
                while line := await reader.readline():
                    message = decode(line)
                    body = answer(name, message.body)
                    body["in_reply_to"] = message.body["msg_id"]
                    reply = {"src": name, "dest": message.src, "body": body}
                    writer.write(json.dumps(reply).encode() + b"\n")
                writer.close()

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            servers.append(server)
            listen = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
            places.append(NodePlace(name, listen, {}, Path(), Path(), {name: listen}))
        try:
            return await asking(raft("", {}), places)
        finally:
            for server in servers:
                server.close()

    return asyncio.run(main())


def test_the_simulator_empties_disks_too(tmp_path: Path) -> None:
    changes = [["remove", "n2"], ["add", "n2"], ["remove", "n3"]]
    plan = plan_of(changes, "empty", 2.0)
    sim = ("--world", "sim", "--time-limit", "4")
    assert run(tmp_path, "raft", plan, *sim) == 0
    evidence = struck(tmp_path)
    assert evidence["came_with_empty_disk"] == {"n2": 1}
    assert evidence["emptied"]["bytes"] > 0
    assert evidence["members_healed"] == ["n1", "n2", "n3"]


def test_etcd_takes_no_old_disk_back_and_raft_does() -> None:
    for name, rejoins in (("etcd", False), ("raft", True)):
        system = find("system", name).factory("", {})
        assert isinstance(system, Administered)
        assert system.rejoins is system.starts_first is rejoins
