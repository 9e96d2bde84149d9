"""PostgreSQL: what its errors mean, how it starts, and real runs where it is there."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from harness.cli import run_command
from harness.errors import NodeReply, NotInstalledError, UsageError
from harness.systems import postgresql
from harness.systems.postgresql import PostgreSQL
from harness.worlds.places import Endpoint, make_place

if TYPE_CHECKING:
    from pathlib import Path

    from harness.worlds.places import NodePlace

asyncpg = pytest.importorskip("asyncpg")


def is_there() -> bool:
    try:
        PostgreSQL({}).check_installed()
    except NotInstalledError:
        return False
    return True


needs_it = pytest.mark.skipif(not is_there(), reason="needs PostgreSQL")


def places(folder: Path, count: int) -> list[NodePlace]:
    cluster = {f"n{i}": Endpoint(f"198.18.0.{i}", 7000) for i in range(1, count + 1)}
    return [make_place(name, cluster, {}, folder) for name in cluster]


def installed(folder: Path, *programs: str) -> PostgreSQL:
    for name in programs:
        (folder / name).touch(mode=0o755)
    return PostgreSQL({"binary": str(folder / "postgres")})


@pytest.mark.parametrize(
    ("state", "of_commit", "of_a_statement"),
    [
        ("40001", True, True),  # serialization_failure
        ("40P01", True, True),  # deadlock_detected
        ("40003", False, False),  # statement_completion_unknown
        ("57P01", False, False),  # admin_shutdown
        ("08003", False, False),  # the connection is gone
        ("", False, False),
        ("53100", False, True),  # disk_full
        ("23505", False, True),  # unique_violation
        ("XX000", False, False),  # internal_error
    ],
)
def test_an_error_is_definite_only_if_nothing_can_have_been_written(
    state: str, of_commit: bool, of_a_statement: bool
) -> None:
    assert postgresql.of_commit(state) == of_commit
    assert postgresql.of_a_statement(state) == of_a_statement


class Connection:
    """A connection of the driver that fails at one statement."""

    def __init__(self, failing: str, error: Exception) -> None:
        self.failing = failing
        self.error = error
        self.sent: list[str] = []
        self.closed = False

    async def execute(self, sql: str, *_: Any) -> str:
        self.sent.append(sql)
        if sql == self.failing:
            raise self.error
        return sql

    def is_closed(self) -> bool:
        return self.closed

    def terminate(self) -> None:
        self.closed = True


async def transact(connection: Connection) -> None:
    async with postgresql._transaction(connection):
        await connection.execute("SELECT")


@pytest.mark.parametrize(
    ("failing", "error", "definite", "sent_last", "code"),
    [
        ("SELECT", asyncpg.SerializationError("lost"), True, "ROLLBACK", 30),
        ("SELECT", asyncpg.AdminShutdownError("stop"), True, "ROLLBACK", 11),
        ("SELECT", ConnectionResetError("gone"), True, "ROLLBACK", 11),
        ("BEGIN", asyncpg.InterfaceError("closed"), True, "ROLLBACK", 11),
        ("COMMIT", asyncpg.SerializationError("lost"), True, "COMMIT", 30),
        ("COMMIT", asyncpg.AdminShutdownError("stop"), False, "COMMIT", None),
        ("COMMIT", ConnectionResetError("gone"), False, "COMMIT", None),
    ],
)
def test_what_fails_before_commit_is_definite_and_later_only_a_rollback_is(
    failing: str, error: Exception, definite: bool, sent_last: str, code: int | None
) -> None:
    connection = Connection(failing, error)
    with pytest.raises(NodeReply) as caught:
        asyncio.run(transact(connection))
    assert (caught.value.definite, caught.value.code) == (definite, code)
    assert connection.sent[-1] == sent_last


def test_a_commit_that_rolled_back_is_a_definite_failure() -> None:
    class RolledBack(Connection):
        async def execute(self, sql: str, *_: Any) -> str:
            return "ROLLBACK" if sql == "COMMIT" else sql

    with pytest.raises(NodeReply, match="COMMIT was answered with ROLLBACK") as caught:
        asyncio.run(transact(RolledBack("", ValueError())))
    assert caught.value.definite


def test_a_connection_that_does_not_roll_back_is_given_up() -> None:
    connection = Connection("ROLLBACK", ConnectionResetError("gone"))

    async def refused() -> None:
        async with postgresql._transaction(connection):
            raise NodeReply(definite=True, text="refused")

    with pytest.raises(NodeReply, match="refused"):
        asyncio.run(refused())
    assert connection.closed


def test_the_first_start_makes_a_data_folder_and_later_ones_find_it(
    tmp_path: Path,
) -> None:
    system = installed(tmp_path, "postgres")
    (place,) = places(tmp_path, 1)
    first = system.launch(place).argv
    assert first[:2] == ["/bin/sh", "-ec"]
    assert f'{tmp_path}/initdb -D "$new"' in first[2]
    (place.data_dir / "pg").mkdir()
    (place.data_dir / "pg" / "PG_VERSION").touch()
    later = system.launch(place).argv
    assert later[0] == str(tmp_path / "postgres")
    assert "--listen_addresses=198.18.0.1" in later


def test_a_lock_file_that_a_loss_of_power_left_empty_is_removed(tmp_path: Path) -> None:
    system = installed(tmp_path, "postgres")
    (place,) = places(tmp_path, 1)
    data = place.data_dir / "pg"
    data.mkdir()
    (data / "PG_VERSION").touch()
    (data / "postmaster.pid").write_text("2\n")
    assert system.launch(place).argv[0] == str(tmp_path / "postgres")
    (data / "postmaster.pid").write_text("")
    assert f"rm {data}/postmaster.pid; exec " in system.launch(place).argv[2]


def test_the_others_are_standbys_that_copy_the_first(tmp_path: Path) -> None:
    system = installed(tmp_path, "postgres", "pg_basebackup")
    one, two = places(tmp_path, 2)
    system.check_nodes(["n1", "n2"])
    assert [system.role(place) for place in (one, two)] == ["primary", "standby"]
    assert "host=198.18.0.1 port=7000" in system.launch(two).argv[2]


def test_commit_waits_for_as_many_standbys_as_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "postgres").touch(mode=0o755)
    (tmp_path / "pg_basebackup").touch(mode=0o755)
    given = {"binary": str(tmp_path / "postgres"), "synchronous_standbys": "1"}
    system = PostgreSQL(given)
    system.check_nodes(["n1", "n2"])
    command = " ".join(system.launch(places(tmp_path, 2)[0]).argv)
    assert "--synchronous_standby_names=ANY 1 (*)" in command.replace("'", "")
    with pytest.raises(UsageError, match="--nodes 2"):
        system.check_nodes(["n1"])


def test_standbys_need_a_program_that_copies(tmp_path: Path) -> None:
    system = installed(tmp_path, "postgres")
    system.check_nodes(["n1"])
    with pytest.raises(NotInstalledError, match="there is no pg_basebackup in"):
        system.check_nodes(["n1", "n2"])


# real runs


def run(results: Path, *flags: str) -> int:
    return run_command(["run", "postgresql", "--results", str(results), *flags])


def anomalies(results: Path) -> str:
    (file,) = results.glob("*/*/verdict.json")
    return " ".join(re.findall(r'"name": ?"([^"]+)"', file.read_text()))


def test_the_links_that_npm_only_lists_are_made(tmp_path: Path) -> None:
    package = listing(tmp_path, "native/lib/libpq.so.5.16", "native/lib/libpq.so.5")
    (package / "native/lib/libpq.so.5.16").write_text("a library")
    postgresql._link_libraries(tmp_path)
    assert (package / "native/lib/libpq.so.5").read_text() == "a library"


@pytest.mark.parametrize(
    ("source", "target"),
    [("../../../lib", "native/lib/a"), ("native/lib/a", "../../../etc/a"), (1, 2)],
)
def test_a_list_of_links_to_elsewhere_is_refused(
    tmp_path: Path, source: Any, target: Any
) -> None:
    listing(tmp_path, source, target)
    with pytest.raises(UsageError, match=r"pg-symlinks\.json"):
        postgresql._link_libraries(tmp_path)


def listing(folder: Path, source: Any, target: Any) -> Path:
    """An archive of npm, unpacked, that lists one link."""
    package = folder / "node_modules" / postgresql._NPM
    (package / "native" / "lib").mkdir(parents=True)
    listed = json.dumps([{"source": source, "target": target}])
    (package / "native" / "pg-symlinks.json").write_text(listed)
    return package


@needs_it
def test_snapshot_isolation_is_not_serializable(tmp_path: Path) -> None:
    flags = ("--workload", "list_append", "--set", "isolation=repeatable-read")
    ends = ("--time-limit", "20", "--until-invalid", "--seed", "3")
    assert run(tmp_path, *flags, *ends) == 1
    assert "G2-item" in anomalies(tmp_path)


@needs_it
def test_serializable_bears_kills(tmp_path: Path) -> None:
    flags = ("--workload", "list_append", "--nemesis", "kill")
    assert run(tmp_path, *flags, "--time-limit", "3", "--seed", "3") == 0


@needs_it
@pytest.mark.nightly
@pytest.mark.parametrize("workload", ["register", "bank", "lock", "queue", "set", "kv"])
def test_every_workload_finds_a_serializable_server_right(
    tmp_path: Path, workload: str
) -> None:
    nemesis = ("--nemesis", "kill,pause,power,disk")
    flags = ("--workload", workload, *nemesis, "--time-limit", "10", "--seed", "3")
    assert run(tmp_path, *flags) in {0, 2}


@needs_it
@pytest.mark.nightly
def test_a_standby_that_is_cut_off_answers_with_what_it_had(tmp_path: Path) -> None:
    flags = ("--nodes", "2", "--set", "reads=own", "--nemesis", "partition")
    assert run(tmp_path, *flags, "--time-limit", "20", "--until-invalid") == 1
    assert "stale" in anomalies(tmp_path)


@needs_it
@pytest.mark.nightly
def test_a_commit_that_does_not_wait_for_the_disk_is_lost_with_the_power(
    tmp_path: Path,
) -> None:
    flags = ("--workload", "set", "--set", "synchronous_commit=off")
    ends = ("--nemesis", "power", "--time-limit", "20", "--seed", "1")
    assert run(tmp_path, *flags, *ends) == 1
    assert "lost" in anomalies(tmp_path)
