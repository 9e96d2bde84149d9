"""Patroni: how its nodes start, which node a client asks, and real failovers."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from harness.cli import run_command
from harness.errors import NodeReply, NotInstalledError, Timeout, UsageError
from harness.registry import find
from harness.systems import patroni, software
from harness.systems.patroni import Patroni, PatroniClient
from harness.worlds.places import Endpoint, make_place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.worlds.places import NodePlace

REGISTER = find("workload", "register").factory({})


def is_there() -> bool:
    try:
        Patroni({}).check_installed()
    except NotInstalledError:
        return False
    return True


needs_it = pytest.mark.skipif(
    not is_there(), reason="needs Patroni, etcd and PostgreSQL"
)


def places(folder: Path) -> list[NodePlace]:
    cluster = {f"n{i}": Endpoint(f"198.18.0.{i}", 7000) for i in (1, 2, 3)}
    return [make_place(name, cluster, {}, folder) for name in cluster]


@pytest.fixture
def installs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with programs, where PostgreSQL, etcd and Patroni are found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("postgres", "etcd", *patroni.PROGRAMS):
        (folder / name).touch(mode=0o755)

    def found(self: software.Software, version: str = "", _: str = "") -> Any:
        return software.Install(version, None, folder / self.name[:8], {}, "a test")

    monkeypatch.setattr(software.Software, "find", found)
    return folder


def config_of(mode: str, place: NodePlace) -> dict[str, Any]:
    launch = Patroni({"synchronous_mode": mode}).launch(place)
    assert str(place.data_dir / "patroni.yml") in launch.argv[2]
    held: dict[str, Any] = json.loads((place.data_dir / "patroni.yml").read_text())
    return held


@pytest.mark.parametrize(
    ("mode", "synchronous", "strict"),
    [("off", False, False), ("on", True, False), ("strict", True, True)],
)
def test_the_modes_are_those_of_patroni(
    tmp_path: Path, installs: Path, mode: str, *, synchronous: bool, strict: bool
) -> None:
    dcs = config_of(mode, places(tmp_path)[0])["bootstrap"]["dcs"]
    asked = (dcs["synchronous_mode"], dcs["synchronous_mode_strict"])
    assert asked == (synchronous, strict)


def test_the_parts_of_a_node_listen_at_ports_of_their_own(
    tmp_path: Path, installs: Path
) -> None:
    place = places(tmp_path)[1]
    config = config_of("strict", place)
    assert config["postgresql"]["listen"] == "198.18.0.2:7000"
    assert config["restapi"]["listen"] == "198.18.0.2:7001"
    asked = ["198.18.0.2:7002", "198.18.0.1:7002", "198.18.0.3:7002"]
    assert config["etcd3"]["hosts"] == asked
    script = Patroni({}).launch(place).argv[2]
    assert "--listen-client-urls=http://198.18.0.2:7002" in script
    assert "n3=http://198.18.0.3:7003" in script


def test_a_node_that_starts_forgets_the_pid_of_its_life_before(
    tmp_path: Path, installs: Path
) -> None:
    place = places(tmp_path)[0]
    first, *_ = Patroni({}).launch(place).argv[2].split()
    assert first == "rm"
    assert (
        f"rm -f {place.data_dir}/pg/postmaster.pid" in Patroni({}).launch(place).argv[2]
    )


def test_a_server_without_the_tools_that_patroni_needs_is_refused(
    installs: Path,
) -> None:
    Patroni({}).check_installed()
    (installs / "pg_rewind").unlink()
    with pytest.raises(NotInstalledError, match="there is no pg_rewind in"):
        Patroni({}).check_installed()


def test_an_option_with_no_such_value_is_refused() -> None:
    with pytest.raises(UsageError, match="synchronous_mode"):
        Patroni({"synchronous_mode": "quorum"})


# which node a client asks


@dataclasses.dataclass
class Server:
    """A node's server, as a connection of the driver shows it."""

    role: str
    closed: bool = False

    async def fetchval(self, _: str) -> Any:
        if self.role == "silent":
            raise ConnectionResetError("gone")
        return "off" if self.role == "primary" else "on"

    def is_closed(self) -> bool:
        return self.closed

    def terminate(self) -> None:
        self.closed = True


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Server]]:
    """Gives servers their roles; the answer grows with each connection made."""

    def roles(**of: str) -> dict[str, Server]:
        made: dict[str, Server] = {}

        async def connect(endpoint: Endpoint, *_: str, **__: str) -> Server:
            name = f"n{endpoint.host[-1]}"
            if of[name] == "down":
                raise NodeReply(definite=True, text="refused")
            made[name] = Server(of[name])
            return made[name]

        monkeypatch.setattr(patroni, "connect", connect)
        return made

    return roles


async def asked(place: NodePlace) -> PatroniClient:
    client = PatroniClient(REGISTER.codec, "serializable")
    await client.open(place)
    await client.connection_for({})
    return client


def test_a_client_asks_its_own_node_first_and_then_whichever_is_a_primary(
    tmp_path: Path, dialled: Callable[..., dict[str, Server]]
) -> None:
    place = places(tmp_path)[1]
    made = dialled(n1="primary", n2="primary", n3="primary")
    asyncio.run(asked(place))
    assert list(made) == ["n2"]
    made = dialled(n1="down", n2="standby", n3="primary")
    asyncio.run(asked(place))
    assert {name: one.closed for name, one in made.items()} == {"n2": True, "n3": False}


def test_a_client_that_finds_no_primary_has_failed_for_certain(
    tmp_path: Path, dialled: Callable[..., dict[str, Server]]
) -> None:
    made = dialled(n1="down", n2="standby", n3="silent")
    with pytest.raises(NodeReply, match="no node is a primary") as caught:
        asyncio.run(asked(places(tmp_path)[0]))
    assert (caught.value.definite, caught.value.code) == (True, 11)
    assert all(one.closed for one in made.values())


def test_a_client_whose_primary_ended_looks_for_another(
    tmp_path: Path, dialled: Callable[..., dict[str, Server]]
) -> None:
    async def failed_over() -> list[str]:
        made = dialled(n1="primary", n2="standby", n3="standby")
        client = await asked(places(tmp_path)[0])
        made["n1"].closed = True
        made = dialled(n1="down", n2="standby", n3="primary")
        await client.connection_for({})
        await client.close()
        assert made["n3"].closed
        return list(made)

    assert asyncio.run(failed_over()) == ["n2", "n3"]


def test_of_two_primaries_the_one_on_the_newest_timeline_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timelines = {"198.18.0.1": 1, "198.18.0.2": 2, "198.18.0.3": 0}

    async def timeline(endpoint: Endpoint) -> int | None:
        return timelines.get(endpoint.host)

    monkeypatch.setattr(patroni, "_timeline", timeline)
    assert asyncio.run(Patroni({}).leader(places(tmp_path))) == "n2"
    timelines.clear()
    assert asyncio.run(Patroni({}).leader(places(tmp_path))) is None


def test_a_cluster_that_never_has_a_primary_is_nothing_to_test(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dialled: Callable[..., dict[str, Server]],
) -> None:
    dialled(n1="down", n2="down", n3="down")
    monkeypatch.setattr(patroni, "PREPARE_LIMIT_S", 0.05)
    with pytest.raises(Timeout, match="no primary with its standbys"):
        asyncio.run(Patroni({}).prepare(places(tmp_path)))


# real runs


def run(results: Path, *flags: str) -> int:
    command = ["run", "patroni", "--workload", "set", "--seed", "1"]
    return run_command([*command, "--results", str(results), *flags])


@needs_it
@pytest.mark.nightly  # three etcds and three servers take their time to start
def test_a_cluster_is_found_right_while_nothing_happens(tmp_path: Path) -> None:
    assert run(tmp_path, "--time-limit", "2") == 0


LEADER_CUT_OFF = """
- at: {time_s: 4}
  fault: {kind: partition, target: leader}
  heal: {after_s: 26}
"""


@needs_it
@pytest.mark.nightly
@pytest.mark.parametrize(("mode", "status"), [("off", 1), ("strict", 0)])
def test_a_primary_that_is_cut_off_loses_what_no_standby_has(
    tmp_path: Path, mode: str, status: int
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(LEADER_CUT_OFF)
    flags = ("--plan", str(plan), "--time-limit", "40")
    assert run(tmp_path, *flags, "--set", f"synchronous_mode={mode}") == status
    (file,) = tmp_path.glob("*/*/verdict.json")
    named = re.findall(r'"name": ?"([^"]+)"', file.read_text())
    assert ("lost" in named) == (status == 1)
