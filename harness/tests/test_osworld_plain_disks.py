"""Disks of real nodes where FUSE can't be had: what is left, and what is refused."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError, UsageError
from harness.run import execution
from harness.run.assembling import prepare
from harness.run.spec import TestSpec
from harness.worlds.capabilities import Capabilities
from harness.worlds.disks import Damage, Decay, DiskRule, Loss
from harness.worlds.os.disk import mounting, plain
from harness.worlds.os.disk.plain import PlainDisks
from harness.worlds.os.offer import offer
from harness.worlds.places import Endpoint, make_place

if TYPE_CHECKING:
    from collections.abc import Mapping

WHY = "/dev/fuse is not there: `modprobe fuse` as root makes it"


@pytest.fixture(autouse=True)
def no_fuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounting, "why_no_disks", lambda: WHY)


def disks_on(folder: Path) -> tuple[PlainDisks, Path]:
    there = {"n1": Endpoint("127.0.0.1", 7000)}
    places = {"n1": make_place("n1", there, {}, folder)}
    return PlainDisks(places), places["n1"].data_dir


@given(
    kind=st.sampled_from(["flip", "truncate", "restore"]),
    was=st.binary(max_size=20),
    now=st.binary(max_size=20),
    seed=st.integers(0, 99),
)
def test_damage_is_told_as_it_is_and_repaired(
    kind: Decay, was: bytes, now: bytes, seed: int
) -> None:
    async def scenario(folder: Path) -> None:
        disks, data = disks_on(folder)
        (data / "below").mkdir()
        file, other = data / "below" / "file", data / "other"
        file.write_bytes(was)
        other.write_bytes(b"other")
        damage = Damage(kind, "below/*", seed)
        assert await disks.snapshot("n1", damage) == 1
        file.write_bytes(now)
        done = await disks.damage("n1", damage)
        bad = file.read_bytes()
        possible = was != now if kind == "restore" else bool(now)
        assert (done.file == "below/file") == possible == (bad != now)
        if kind == "restore":
            assert bad == was
        elif possible and kind == "flip":
            assert bytes.fromhex(done.after) == bad[done.at : done.at + 1]
        elif possible:
            assert bad == now[: done.at]
            assert (done.before, done.after) == (str(len(now)), str(len(bad)))
        assert await disks.repair("n1") == possible
        assert file.read_bytes() == now
        assert other.read_bytes() == b"other"
        assert (await disks.damage("n1", Damage("stale"))).file == ""

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder)))


def test_what_was_written_over_damage_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        disks, data = disks_on(tmp_path)
        (data / "file").write_bytes(b"before")
        await disks.damage("n1", Damage("flip"))
        (data / "file").write_bytes(b"after")
        assert await disks.repair("n1") == 0
        await disks.damage("n1", Damage("truncate"))
        (data / "file").unlink()
        assert await disks.repair("n1") == 0

    asyncio.run(scenario())


def test_what_it_cannot_do_is_an_error_of_ours(tmp_path: Path) -> None:
    disks, _ = disks_on(tmp_path)
    with pytest.raises(HarnessError, match="without FUSE"):
        asyncio.run(disks.cut_power({"n1": Loss()}))
    with pytest.raises(HarnessError, match="without FUSE"):
        asyncio.run(disks.set_rules({"n1": [DiskRule(error="EIO")]}))


# What is refused


def refusal(nemesis: str, plan: Any = None, **options: str) -> str:
    spec = TestSpec(system="raft", nemesis=[nemesis], options=options)
    try:
        prepare(spec, plan)
    except UsageError as error:
        return str(error)
    return ""


def test_what_needs_more_is_refused_with_what_to_install_and_what_is_left() -> None:
    for nemesis in ("power", "disk"):
        told = refusal(nemesis)
        assert f"--nemesis {nemesis} can't be had here: {WHY}. Without it" in told
        assert "(disk.modes=enospc)" in told
        assert "\n" not in told
    assert not refusal("disk", **{"disk.modes": "enospc"})
    assert "can't be had" in refusal(
        "disk", **{"disk.modes": "enospc", "disk.files": "wal"}
    )
    assert not refusal("rot")
    assert "can't be had" in refusal("rot", **{"rot.kinds": "flip+stale"})


FULL = {"kind": "disk", "target": ["n1"], "mode": "enospc"}
FULL["operations"] = ["write", "create"]


def test_of_a_written_plan_only_what_it_says_is_refused() -> None:
    def step(fault: Mapping[str, object]) -> list[Any]:
        return [{"at": {"time_s": 1}, "fault": fault, "heal": {"after_s": 1}}]

    stale = {"kind": "rot", "target": ["n1"], "decay": "stale"}
    assert not refusal("disk", step(FULL))
    assert "can't be had" in refusal("disk", step({**FULL, "files": "wal"}))
    assert "can't be had" in refusal("disk", step({**FULL, "mode": "eio"}))
    assert not refusal("rot", step({**stale, "decay": "truncate"}))
    assert "can't be had" in refusal("rot", step(stale))


def test_without_a_tmpfs_only_damage_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "why_no_tmpfs", lambda: "no namespaces")
    asked = Capabilities(disks=frozenset({"full"}))
    offered = offer("proxy", asked)
    assert offered.able.disks == {"decay"}
    left = "there is less: damage to files of nodes that are down (rot)"
    assert offered.refusal(asked).endswith(left)


# A whole run


@pytest.mark.skipif(bool(plain.why_no_tmpfs()), reason="no tmpfs here")
def test_a_run_has_full_disks_and_damaged_files(tmp_path: Path) -> None:
    rot = {"kind": "rot", "target": ["n2"], "decay": "flip", "seed": 5}
    plan = [
        {"at": {"time_s": at_s}, "fault": fault, "heal": {"after_s": 0.5}}
        for at_s, fault in ((0.5, FULL), (1.3, rot))
    ]
    spec = TestSpec(
        system="raft",
        nodes=3,
        nemesis=["disk", "rot"],
        rate=100,
        time_limit_s=2.5,
        seed=11,
    )
    folder = execution.run(spec, tmp_path, plan=plan).path
    lines = (folder / "faults.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    assert [line["title"] for line in told if line["kind"] == "plain-disks"] == [
        f"disks can only be full, or be damaged where a node is down: {WHY}"
    ]
    ends = {line["kind"]: line for line in told if line["event"] == "end"}
    assert ends["disk"]["bit"], ends
    assert ends["disk"]["evidence"]["met"] == {"n1": {"probe ENOSPC": 1}}
    assert ends["rot"]["bit"], ends
    assert ends["rot"]["evidence"]["damaged"]["n2"]["file"] == "wal"
    for node in ("n1", "n2", "n3"):
        wal = folder / "nodes" / node / "data" / "wal"
        assert wal.stat().st_size > 0, "what was on the tmpfs is kept"
