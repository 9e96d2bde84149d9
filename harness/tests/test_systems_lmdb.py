"""LMDB as a system: what is committed, what its errors mean, and what power takes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

lmdb = pytest.importorskip("lmdb")

from harness import registry  # noqa: E402 - skipped without LMDB
from harness.judge import analysis  # noqa: E402
from harness.run import execution  # noqa: E402
from harness.run.spec import TestSpec, usual_nodes  # noqa: E402
from harness.systems.programs import lmdb_node  # noqa: E402
from harness.systems.programs.lmdb_node import SYNC, Store  # noqa: E402
from harness.systems.programs.storing import CORRUPT_STATUS  # noqa: E402
from harness.worlds.os.disk.mounting import why_no_disks  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

    from harness.run.records import VerdictRecord

WRITE_1 = {"type": "write", "key": 1, "value": 1}
WRITE_2 = {"type": "write", "key": 1, "value": 2}
READ = {"type": "read", "key": 1}


def test_the_options_are_those_of_the_program() -> None:
    options = {o.name: o.kind for o in registry.find("system", "lmdb").options}
    assert [options["sync"].parse(mode) for mode in SYNC] == list(SYNC)
    assert usual_nodes("lmdb") == 1


@pytest.mark.parametrize("sync", SYNC)
@pytest.mark.parametrize("writemap", [False, True])
def test_what_is_answered_is_committed(
    tmp_path: Path, sync: str, writemap: bool
) -> None:
    store = Store(tmp_path, sync, writemap=writemap)
    txn = [["append", 2, 7], ["add", 3, 5], ["r", 1, None]]
    assert store.carry_out(WRITE_1) == {"type": "write_ok"}
    done = store.carry_out({"type": "txn", "txn": txn})
    assert done["txn"] == [["append", 2, 7], ["add", 3, 5], ["r", 1, 1]]
    argv = ["-c", "import lmdb, sys; print(*lmdb.open(sys.argv[1]).begin().cursor())"]
    seen = subprocess.run(
        [sys.executable, *argv, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [(b"key/1", b"1"), (b"key/2", b"[7]"), (b"key/3", b"5")]
    assert seen.stdout.strip() == " ".join(map(str, rows))
    environment = store._environment
    assert environment is not None
    flags = environment.flags()
    assert (flags["sync"], flags["metasync"]) == (sync != "off", sync != "nometasync")
    assert flags["writemap"] == writemap


def test_a_refused_transaction_leaves_nothing_behind(tmp_path: Path) -> None:
    store = Store(tmp_path, "full")
    txn = [["w", 1, 1], ["add", 2, -1]]
    assert store.carry_out({"type": "txn", "txn": txn})["code"] == 14
    assert store.carry_out(READ)["code"] == 20
    assert store.carry_out(WRITE_1) == {"type": "write_ok"}


def test_an_error_before_the_commit_is_definite(tmp_path: Path) -> None:
    store = Store(tmp_path, "full")
    assert store.carry_out(WRITE_1) == {"type": "write_ok"}
    assert store._environment is not None
    store._environment.set_mapsize(1 << 16)
    refused = store.carry_out({**WRITE_2, "value": "x" * (1 << 17)})
    assert refused["code"] == 11
    assert refused["text"].startswith("MapFullError")
    refused = store.carry_out({**WRITE_2, "key": "k" * 600})
    assert refused["code"] == 11
    assert refused["text"].startswith("BadValsizeError")
    assert store.carry_out(READ)["value"] == 1
    assert store.carry_out(WRITE_2) == {"type": "write_ok"}


FULL = """
import resource, signal, sys
from pathlib import Path
from harness.systems.programs.lmdb_node import Store

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = Store(Path(sys.argv[1]), "full")
small = {"type": "write", "key": 1, "value": "x"}
large = {"type": "write", "key": 2, "value": "x" * 99_999}
read = {"type": "read", "key": 1}
assert store.carry_out(small) == {"type": "write_ok"}
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 15, limits[1]))
print(store.carry_out(large)["code"], store.carry_out(large)["text"])
print(store.carry_out(read)["type"])
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
print(store.carry_out(large)["type"])
"""


def test_a_commit_that_fails_leaves_the_outcome_open(tmp_path: Path) -> None:
    # Files that may grow no longer: pwrite(2) of the commit fails, and nothing before.
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "13 the commit failed: Error: mdb_txn_commit: Input/output error",
        "read_ok",
        "write_ok",
    ], done


@pytest.mark.parametrize(
    "content", [b"no database" * 1000, b""], ids=["not a database", "empty"]
)
def test_a_corrupt_file_ends_the_node(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path, "full")
    assert store.carry_out(WRITE_1) == {"type": "write_ok"}
    file = tmp_path / "data.mdb"
    whole = file.read_bytes()
    # Both meta pages stay; the pages that they point to are not what they should be.
    file.write_bytes(content or whole[:8192] + b"\xff" * (len(whole) - 8192))
    argv = [*("-P", "-m", lmdb_node.__name__), "--sync", "off"]
    done = subprocess.run(
        [sys.executable, *argv],
        env={**os.environ, "SPLITBRAIN_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == CORRUPT_STATUS, done
    assert done.stderr.startswith("can't open data.mdb: ")


# Whole runs


def judged(folder: Path, kind: str, **options: str) -> VerdictRecord:
    spec = TestSpec(
        system="lmdb", nodes=1, time_limit_s=4, seed=3, rate=300, options=options
    )
    fault = {
        "at": {"time_s": 1.5},
        "fault": {"kind": kind, "target": ["n1"]},
        "heal": {"after_s": 0.5},
    }
    return analysis.judged(execution.run(spec, folder, plan=[fault]))


@pytest.mark.nightly
@pytest.mark.skipif(bool(why_no_disks()), reason="no disks of ours here")
@pytest.mark.parametrize("writemap", ["false", "true"])
def test_power_takes_what_lmdb_did_not_sync_and_a_kill_takes_nothing(
    tmp_path: Path, writemap: str
) -> None:
    lost = judged(tmp_path, "power", sync="off", writemap=writemap)
    assert lost.verdict == "invalid"
    kept = judged(tmp_path, "power", sync="full", writemap=writemap)
    assert kept.verdict == "valid"
    killed = judged(tmp_path, "kill", sync="off", writemap=writemap)
    assert killed.verdict == "valid"
