"""MariaDB: what the errors of its driver mean, and a real server that is killed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import NodeReply, NotInstalledError, UsageError
from harness.history import Op
from harness.registry import find
from harness.systems.mariadb import DEFINITE, MariaDB, failures
from harness.tests.loopback import LoopbackNodes, loopback_nodes

if TYPE_CHECKING:
    from pathlib import Path

pymysql: Any = pytest.importorskip("pymysql")

TEST_LIMIT_S = 90.0


class Connected:
    """In the place of a connection: whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


def failing(
    error: Exception, definite: frozenset[int] | None
) -> tuple[NodeReply, bool]:
    """What an error becomes, and whether the connection is given up."""
    connection: Any = Connected()
    with pytest.raises(NodeReply) as caught, failures(connection, definite):
        raise error
    return caught.value, connection.closed


def test_a_statement_that_the_server_refused_has_failed_for_certain() -> None:
    deadlock = pymysql.err.OperationalError(1213, "Deadlock found")
    reply, closed = failing(deadlock, DEFINITE)
    assert (reply.definite, reply.code, closed) == (True, 30, False)
    holds_other = pymysql.err.IntegrityError(1048, "Column 'v' cannot be null")
    reply, _ = failing(holds_other, DEFINITE)
    assert (reply.definite, reply.code) == (True, 14)


@pytest.mark.parametrize(
    "error",
    [
        pymysql.err.OperationalError(2013, "Lost connection to server during query"),
        pymysql.err.OperationalError(1053, "Server shutdown in progress"),
        pymysql.err.InternalError("Packet sequence number wrong"),
        ConnectionResetError(),
        AssertionError("no answer of a server"),
    ],
)
def test_what_nobody_refused_may_have_happened(error: Exception) -> None:
    reply, _ = failing(error, DEFINITE)
    assert not reply.definite
    assert failing(error, None)[0].definite, "before COMMIT, or of a read"


@pytest.mark.parametrize(
    "given", [{"isolation": "chaos"}, {"flush_log_at_trx_commit": "3"}, {"fsync": "no"}]
)
def test_options_that_mariadb_does_not_have_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="mariadb"):
        MariaDB(given)


def op(f: str, value: object = None, key: object = 1) -> Op:
    return Op(-1, -1, 1, "invoke", f, value, key)


def test_a_server_keeps_what_it_acknowledged_when_it_is_killed(tmp_path: Path) -> None:
    system = find("system", "mariadb").factory("", {})
    try:
        system.check_installed()
    except NotInstalledError as error:
        pytest.skip(str(error))

    async def scenario(nodes: LoopbackNodes) -> None:
        client = system.client(find("workload", "register").factory({}))
        bank = system.client(find("workload", "bank").factory({}))
        for each in (client, bank):
            await each.open(nodes.places["n1"])
        assert (await client.invoke(op("read"))).value is None
        await client.invoke(op("write", {"any": ["JSON", None, "\u00e9"]}))
        await client.invoke(op("cas", [{"any": ["JSON", None, "\u00e9"]}, 6]))
        with pytest.raises(NodeReply) as caught:
            await client.invoke(op("cas", [5, 7]))
        assert (caught.value.definite, caught.value.code) == (True, 22)
        await bank.invoke(op("open", 100, 0))
        transfer = {"from": "account-0", "to": "account-1", "amount": 40}
        await bank.invoke(op("transfer", transfer, 0))
        with pytest.raises(NodeReply) as caught:
            await bank.invoke(op("transfer", {**transfer, "amount": 101}, 0))
        assert (caught.value.definite, caught.value.code) == (True, 14)
        nodes.kill("n1")
        with pytest.raises(NodeReply):
            await client.invoke(op("write", 7))
        await nodes.start("n1")
        for each in (client, bank):
            await each.close()
            await each.open(nodes.places["n1"])
        assert (await client.invoke(op("read"))).value in {6, 7}
        assert (await bank.invoke(op("read", None, 0))).value["account-1"] == 40
        for each in (client, bank):
            with contextlib.suppress(NodeReply):
                await each.close()

    async def limited() -> None:
        async with (
            asyncio.timeout(TEST_LIMIT_S),
            loopback_nodes(system, 1, tmp_path) as nodes,
        ):
            await scenario(nodes)

    asyncio.run(limited())
