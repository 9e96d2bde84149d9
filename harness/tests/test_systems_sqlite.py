"""SQLite as a system: what is committed, what its errors mean, and what power takes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from harness import registry
from harness.campaign.suites.rows import Row
from harness.judge import analysis
from harness.run import execution
from harness.run.spec import TestSpec, usual_nodes
from harness.systems.programs import sqlite_node
from harness.systems.programs.sqlite_node import JOURNAL, SYNCHRONOUS, Store
from harness.systems.programs.storing import CORRUPT_STATUS
from harness.worlds.os.disk.mounting import why_no_disks

if TYPE_CHECKING:
    from pathlib import Path

    from harness.run.records import VerdictRecord

WRITE_1 = {"type": "write", "key": 1, "value": 1}
WRITE_2 = {"type": "write", "key": 1, "value": 2}
READ = {"type": "read", "key": 1}


def made(folder: Path, journal: str = "delete") -> Store:
    return Store(folder / "store.db", "full", journal)


def other(folder: Path) -> closing[sqlite3.Connection]:
    """Another connection to the same file."""
    path = folder / "store.db"
    return closing(sqlite3.connect(path, timeout=0, isolation_level=None))


def test_the_options_are_those_of_the_program() -> None:
    options = {o.name: o.kind for o in registry.find("system", "sqlite").options}
    for name, modes in (("synchronous", SYNCHRONOUS), ("journal", JOURNAL)):
        assert [options[name].parse(mode) for mode in modes] == list(modes)


@pytest.mark.parametrize("journal", JOURNAL)
def test_what_is_answered_is_committed(tmp_path: Path, journal: str) -> None:
    store = made(tmp_path, journal)
    txn = [["append", 2, 7], ["add", 3, 5], ["r", 1, None]]
    assert store.carry_out(WRITE_1) == {"type": "write_ok"}
    done = store.carry_out({"type": "txn", "txn": txn})
    assert done["txn"] == [["append", 2, 7], ["add", 3, 5], ["r", 1, 1]]
    with other(tmp_path) as connection:
        [mode] = connection.execute("PRAGMA journal_mode").fetchone()
        assert (mode == "wal") == (journal == "wal")
        rows = connection.execute("SELECT * FROM cells ORDER BY name").fetchall()
    assert rows == [("key/1", "1"), ("key/2", "[7]"), ("key/3", "5")]


def test_a_refused_transaction_leaves_nothing_behind(tmp_path: Path) -> None:
    store = made(tmp_path)
    txn = [["w", 1, 1], ["add", 2, -1]]
    assert store.carry_out({"type": "txn", "txn": txn})["code"] == 14
    assert store.carry_out(READ)["code"] == 20
    assert store.carry_out(WRITE_1) == {"type": "write_ok"}


def test_an_error_before_the_commit_is_definite(tmp_path: Path) -> None:
    store = made(tmp_path)
    assert store.carry_out(WRITE_1) == {"type": "write_ok"}
    with other(tmp_path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        refused = store.carry_out(WRITE_2)
    assert refused["code"] == 11
    assert refused["text"].startswith("SQLITE_BUSY")
    assert store.carry_out(READ)["value"] == 1
    assert store.carry_out(WRITE_2) == {"type": "write_ok"}


def test_a_full_disk_before_the_commit_is_definite(tmp_path: Path) -> None:
    store = made(tmp_path)
    assert store._connection is not None
    store._connection.execute("PRAGMA max_page_count=4")
    refused = store.carry_out({**WRITE_1, "value": "x" * 50_000})
    assert refused["code"] == 11
    assert refused["text"].startswith("SQLITE_FULL")
    assert store.carry_out(READ)["code"] == 20
    assert store.carry_out(WRITE_1) == {"type": "write_ok"}


def test_a_commit_that_fails_leaves_the_outcome_open(tmp_path: Path) -> None:
    store = made(tmp_path)
    assert store.carry_out(WRITE_1) == {"type": "write_ok"}
    with other(tmp_path) as connection:
        # A reader bars a rollback journal's COMMIT, and nothing before it.
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM cells").fetchall()
        unknown = store.carry_out(WRITE_2)
    assert unknown["code"] == 13
    assert unknown["text"].startswith("COMMIT failed: SQLITE_BUSY")
    assert store.carry_out(READ)["value"] == 1
    assert store.carry_out(WRITE_2) == {"type": "write_ok"}


def test_a_corrupt_file_ends_the_node(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"no database" * 1000)
    argv = [*("-P", "-m", sqlite_node.__name__), "--journal", "wal"]
    done = subprocess.run(
        [sys.executable, *argv, "--synchronous", "off"],
        env={**os.environ, "SPLITBRAIN_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == CORRUPT_STATUS
    told = "can't open store.db: SQLITE_NOTADB: file is not a database\n"
    assert done.stderr == told


def test_a_run_that_names_no_number_of_nodes_has_as_many_as_the_system_says() -> None:
    for system, nodes in (("sqlite", 1), ("raft", 5), ("launch:true", 5)):
        assert usual_nodes(system) == nodes
        row = Row(name="a", system=system)
        assert row.experiment(1).spec.nodes == nodes
    assert Row(name="a", system="raft", nodes=3).experiment(1).spec.nodes == 3


# Whole runs

CUTS = [
    {
        "at": {"time_s": 1.5},
        "fault": {"kind": kind, "target": ["n1"]},
        "heal": {"after_s": 0.5},
    }
    for kind in ("power", "kill")
]
POWER, KILL = CUTS


def judged(folder: Path, fault: dict[str, Any], **options: str) -> VerdictRecord:
    spec = TestSpec(system="sqlite", nodes=1, time_limit_s=4, seed=3, options=options)
    return analysis.judged(execution.run(spec, folder, plan=[fault]))


@pytest.mark.nightly
@pytest.mark.skipif(bool(why_no_disks()), reason="no disks of ours here")
@pytest.mark.parametrize("journal", ["wal", "truncate", "persist", "delete"])
def test_power_takes_what_sqlite_did_not_sync_and_a_kill_takes_nothing(
    tmp_path: Path, journal: str
) -> None:
    lost = judged(tmp_path, POWER, synchronous="off", journal=journal)
    assert lost.verdict == "invalid"
    # Deleting the rollback journal is durable with `extra` only.
    most = "extra" if journal == "delete" else "full"
    kept = judged(tmp_path, POWER, synchronous=most, journal=journal)
    assert kept.verdict == "valid"
    killed = judged(tmp_path, KILL, synchronous="off", journal=journal)
    assert killed.verdict == "valid"
