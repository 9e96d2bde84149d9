"""Disks and values that a node must not take, for every protocol, as processes."""

from __future__ import annotations

import importlib
import struct
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from reference_impls import runtime, wal
from reference_impls.tests.processes import Processes, wait_for
from reference_impls.tests.test_runtime import run

if TYPE_CHECKING:
    from pathlib import Path

PROTOCOLS = (
    "raft",
    "zab",
    "paxos",
    "multi_paxos",
    "two_phase_commit",
    "three_phase_commit",
)

Body = dict[str, Any]


def storing(protocol: str, value: object) -> Body:
    """A request that keeps `value`."""
    if protocol == "paxos":
        return {"type": "propose", "key": "k", "value": value}
    if protocol.endswith("commit"):
        return {"type": "txn", "txn": [["w", "k", value]]}
    return {"type": "write", "key": "k", "value": value}


def asking(protocol: str) -> Body:
    """A request for the value that is kept."""
    if protocol == "paxos":
        return {"type": "learn", "key": "k"}
    if protocol.endswith("commit"):
        return {"type": "txn", "txn": [["r", "k", None]]}
    return {"type": "read", "key": "k"}


def value_in(reply: Body) -> Any:
    """The value in the answer to a request of `asking`."""
    return reply["txn"][0][2] if "txn" in reply else reply.get("value")


def kept(cluster: Processes) -> Any:
    """The value that the cluster keeps, once it serves."""

    def attempt() -> tuple[Any] | None:
        reply = cluster.call("n1", **asking(cluster.protocol))
        known = reply["type"] != "error" and value_in(reply) is not None
        return (value_in(reply),) if known else None

    return wait_for(attempt, "n1 to serve what it keeps")[0]


def log_of(tmp_path: Path, protocol: str) -> Path:
    """The log of a node that kept "precious" and was killed."""
    with Processes(tmp_path, 1, protocol=protocol) as cluster:
        cluster.call_until_ok("n1", **storing(protocol, "precious"))
    return tmp_path / "n1" / wal.FILE_NAME


def refuses(tmp_path: Path, protocol: str) -> str:
    """The complaint of a node that can't use its data folder."""
    cluster = Processes(tmp_path, 1, protocol=protocol)
    status, text = run([protocol], cluster.environment("n1"))
    assert status == runtime.EXIT_DATA, text
    assert "Traceback" not in text
    assert str(tmp_path / "n1") in text
    return text


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_corruption_in_the_middle_stops_a_node_and_leaves_the_log(
    tmp_path: Path, protocol: str
) -> None:
    path = log_of(tmp_path, protocol)
    with path.open("ab") as log:  # what was written last is whole
        log.write(path.read_bytes())
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 1
    path.write_bytes(data)
    assert "no torn tail" in refuses(tmp_path, protocol)
    assert path.read_bytes() == data


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_torn_tail_is_cut_off_and_nothing_before_it_is_lost(
    tmp_path: Path, protocol: str
) -> None:
    path = log_of(tmp_path, protocol)
    words = struct.pack("<II", 500, 1)
    torn = words + struct.pack("<I", zlib.crc32(words)) + b'[{"half a re'
    with path.open("ab") as log:
        log.write(torn)
    with Processes(tmp_path, 1, protocol=protocol) as cluster:
        assert kept(cluster) == "precious"
        assert "torn tail" in cluster.log("n1")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_folder_of_another_protocol_version_or_node_is_refused(
    tmp_path: Path, protocol: str
) -> None:
    version = importlib.import_module(f"reference_impls.{protocol}").FORMAT_VERSION
    other = PROTOCOLS[PROTOCOLS.index(protocol) - 1]
    for wrong, identity in (
        (f"protocol is {other!r}, not", wal.Identity(other, version, "n1")),
        ("format is", wal.Identity(protocol, version + 1, "n1")),
        ("node is 'n2', not 'n1'", wal.Identity(protocol, version, "n2")),
    ):
        folder = tmp_path / str(version) / wrong.partition(" ")[0]
        log = wal.WriteAheadLog(str(folder / "n1"), identity)
        log.append({"key": "precious"})
        log.sync()
        log.close()
        assert wrong in refuses(folder, protocol)
        assert wal.records_of(log.path) == [{"key": "precious"}]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_value_of_a_mebibyte_is_refused_for_sure_and_harms_nobody(
    tmp_path: Path, protocol: str
) -> None:
    huge = "x" * ((1 << 20) - 500)
    with Processes(tmp_path, 1, protocol=protocol) as cluster:
        reply = cluster.call_until_ok("n1", **storing(protocol, huge))
        assert (reply["type"], reply["code"]) == ("error", 12)
        assert "longer than" in reply["text"]
        cluster.call_until_ok("n1", **storing(protocol, "small"))
        assert kept(cluster) == "small"
