"""Whatever has happened to a failed run, it is made ready for another, or refused.

That is what `replay`, `shrink` and `explain` do before anything runs; one line has to
say what is wrong. Damage as in `test_fuzz_run_folder`, and of what real runs tell of
events before strikes, and of earlier searches. Run for longer with
`--hypothesis-profile nightly`.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import cli, report
from harness.campaign import replay, why
from harness.campaign.experiment import Experiment
from harness.campaign.shrinking import changes
from harness.campaign.shrinking import shelf as shelves
from harness.campaign.shrinking.lab import Tried
from harness.campaign.shrinking.size import size
from harness.cli.replay import headline
from harness.faults import plan as plans
from harness.run import assembling
from harness.run.doctor import Rung
from harness.run.store import RunFolder
from harness.tests.mutations import damaged, randoms, spoiled
from harness.tests.test_fuzz_documents import refusal_of
from harness.tests.test_fuzz_run_folder import read, written
from harness.tests.test_replay import simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from harness.faults import Schedule
    from harness.run.assembling import Parts
    from harness.run.spec import PlanData, TestSpec

FILES = (
    *("test.yaml", "run.json", "verdict.json", "history.jsonl", "faults.jsonl"),
    *("clocks.jsonl", "plan.yaml", "nodes/n1/observe.jsonl", "nodes/n2/log"),
    *("shrunk/best.yaml", "shrunk/tried.jsonl", "why.json"),
)
TRIED = {
    "id": "a",
    "changed": "fewer",
    "world": "sim",
    "size": {"steps": 1},
    "runs": 3,
    "hits": 1,
    "accepted": False,
}


def planned(folder: Path) -> None:
    """Replay, shrink and explain a run, up to where something would be run."""
    recorded = replay.load(RunFolder.open(folder))
    assert all("\n" not in remark for remark in recorded.remarks), recorded.remarks
    headline(recorded, 3)
    for variant in recorded.variants.values():
        again = Experiment.decode(variant.encode())
        assert again == variant
        again.command()
        if again.plan is not None:
            plans.parse(again.plan, "plan")


def shrunk(folder: Path) -> None:
    recorded = shelves.failing(RunFolder.open(folder))
    start = shelves.Shelf(RunFolder.open(folder)).start()
    if start is not None:
        size(start.best)
        start.best.command()
    size(changes.drawn(recorded.variants["time"]))


def explained(folder: Path) -> None:
    recorded = why.load(RunFolder.open(folder))
    assert recorded.end_ns > 0
    why.happenings(recorded.recording)


ACTS: dict[str, Callable[[Path], None]] = {
    "replay": planned,
    "shrink": shrunk,
    "explain": explained,
}


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated run that failed, an earlier search beside it."""
    results = tmp_path_factory.mktemp("failed")
    run = simulate(results, "raft", seed=2, options={"reads": "local"})
    shelf = shelves.Shelf(RunFolder(run))
    shelf.adopted(changes.drawn(Experiment.load(RunFolder(run))))
    shelf.tried(msgspec.convert(TRIED, Tried))
    shelf.close()
    (run / "why.json").write_text("{}\n")
    for act in ACTS.values():
        assert refusal_of(lambda act=act: act(run)) == ""  # type: ignore[misc]
    return run


@pytest.fixture(scope="module")
def real(failed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, as if its processes had been real."""
    run = Path(shutil.copytree(failed, tmp_path_factory.mktemp("real") / "run"))
    test = yaml.safe_load((run / "test.yaml").read_text())
    test["spec"]["world"] = "os"
    (run / "test.yaml").write_text(yaml.safe_dump(test))
    return run


@pytest.fixture(scope="module")
def _any_machine() -> Iterator[None]:
    """Real runs need not be possible here."""
    prepare = assembling.prepare

    def pretend(
        spec: TestSpec, written: PlanData | None = None
    ) -> tuple[Parts, Schedule, Rung]:
        here = msgspec.structs.replace(spec, world="sim", network="auto")
        parts, schedule, _ = prepare(here, written)
        spec.nemesis, spec.profile = here.nemesis, here.profile
        return parts, schedule, Rung("switch")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembling, "prepare", pretend)
        yield


def damage(random: Random, folder: Path, changed: int, splices: int) -> Path:
    """Damage a file of the folder; returns it."""
    path = folder / random.choice([name for name in FILES if (folder / name).exists()])
    if random.random() < 0.05:
        path.unlink()
    elif path.name == "log":
        path.write_bytes(spoiled(random, path.read_bytes(), changed + splices))
    else:
        data = written(path, damaged(random, read(path), changed))
        path.write_bytes(spoiled(random, data, splices))
    return path


@settings(max_examples=max(25, settings().max_examples // 2))
@given(
    random=randoms,
    is_real=st.booleans(),
    act=st.sampled_from(sorted(ACTS)),
    changed=st.integers(0, 2),
    splices=st.integers(0, 2),
)
@pytest.mark.usefixtures("_any_machine")
def test_a_damaged_run_is_made_ready_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory,
    failed: Path,
    real: Path,
    random: Random,
    is_real: bool,
    act: str,
    changed: int,
    splices: int,
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed-failed-run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(real if is_real else failed, folder)
    path = damage(random, folder, changed, splices)
    said = refusal_of(lambda: ACTS[act](folder))
    if not said or changed or splices or not path.exists():
        return
    assert "real processes" in said, said


# --- one file, in each way ------------------------------------------------------------

CONTENTS = ("test.yaml", "run.json", "verdict.json", "history.jsonl", "faults.jsonl")
RESULTS = ("shrunk", "shrunk/best.yaml", "shrunk/tried.jsonl", "shrunk/plan.yaml")


def cut_in_a_line(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_at_a_line(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) // 2]))


def put(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Something else in the place of a file or folder."""

    def place(path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        make(path)

    return place


WAYS: dict[str, Callable[[Path], None]] = {
    "cut in a line": cut_in_a_line,
    "cut at a line": cut_at_a_line,
    "empty": put(lambda path: path.write_bytes(b"")),
    "junk": put(lambda path: path.write_bytes(bytes(range(256)) * 9)),
    "nothing but null": put(lambda path: path.write_bytes(b"null\n" * 5)),
    "deep": put(lambda path: path.write_bytes(b"[" * 200_000)),
    "a folder": put(lambda path: path.mkdir()),
    "a pipe": put(os.mkfifo),
    "a device": put(lambda path: path.symlink_to("/dev/zero")),
    "a link out": put(lambda path: path.symlink_to("/etc/passwd")),
    "a link to itself": put(lambda path: path.symlink_to(path.name)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*CONTENTS, *RESULTS])
def test_a_file_that_is_something_else_is_named(
    failed: Path, tmp_path: Path, name: str, way: str
) -> None:
    run = Path(shutil.copytree(failed, tmp_path / "run"))
    path = run / name
    if path.is_dir() and "cut" in way:
        return
    WAYS[way](path)
    said = refusal_of(lambda: shrunk(run))
    is_plain = stat.S_ISREG(os.lstat(path).st_mode)
    if said:
        assert str(path) in said or name == "test.yaml", said
        assert re.search("restore|remove|report|cannot read", said, re.IGNORECASE), said
    elif name == "shrunk":
        assert way == "a folder", "it is begun anew"
    elif name.startswith("shrunk/"):
        assert is_plain, "only its text is damaged, and is written anew or passed over"
    else:
        assert way == "a link to itself", "as if it were not there"


def test_a_folder_that_nobody_may_read_or_write_is_said_to_be_so(
    failed: Path, tmp_path: Path
) -> None:
    """As an ordinary user: root may read all."""
    run = Path(shutil.copytree(failed, tmp_path / "run"))
    for path in [tmp_path, run, *run.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    for path in tmp_path.parents:
        if path.stat().st_uid == os.getuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o011)
    (run / "run.json").chmod(0)

    def as_nobody(act: Callable[[], object]) -> str:
        user = os.geteuid()
        os.seteuid(65534 if user == 0 else user)
        try:
            return refusal_of(act)
        finally:
            os.seteuid(user)

    said = as_nobody(lambda: shrunk(run))
    assert f"cannot read {run / 'run.json'}: Permission denied" in said
    (run / "run.json").chmod(0o644)
    if os.geteuid() == 0:  # the owner's bits are not nobody's
        said = as_nobody(lambda: RunFolder.open(run).need_room())
        assert not said or "copy the run to a place of yours" in said
    run.chmod(0)
    try:
        said = as_nobody(lambda: shrunk(run))
    finally:
        run.chmod(0o755)
    assert f"cannot read {run / 'test.yaml'}: Permission denied" in said


def test_nothing_is_written_through_a_link_in_the_folder(
    failed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(failed, tmp_path / "run"))
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("report.html", ".verdict.json.tmp", f".report.html.{os.getpid()}"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(victim)
    for name in ("tried.jsonl", ".best.yaml.tmp"):
        (run / "shrunk" / name).unlink(missing_ok=True)
        (run / "shrunk" / name).symlink_to(victim)
    assert cli.run_command(["report", str(run)]) == 1
    assert "cannot" not in capsys.readouterr().err
    shelf = shelves.Shelf(RunFolder(run))
    assert "tried.jsonl is not a plain file" in refusal_of(shelf.start)
    shelf.adopted(changes.drawn(Experiment.load(RunFolder(run))))
    assert victim.read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["faults.jsonl", "clocks.jsonl", "why.json", "nodes", "nodes/n1"]
)
def test_nothing_is_read_through_a_link_out_of_the_folder(
    failed: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(failed, tmp_path / "run"))
    place, outside = run / name, tmp_path / "outside"
    if place.exists():
        place.rename(outside)
    else:
        outside.write_text("{}")
    place.symlink_to(outside)
    assert cli.run_command(["report", str(run)]) == 254
    said = capsys.readouterr().err
    assert f"{place} is a link that leads out of the run's folder" in said
    assert said.count("\n") == 1
    page = report.build(run)  # as an index of many runs draws it
    assert "link to elsewhere" in page.read_text("utf-8") or name == "why.json"


def test_a_run_folder_may_be_a_link_and_have_links_within(
    failed: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(failed, tmp_path / "run"))
    (run / "faults.jsonl").rename(run / "kept.jsonl")
    (run / "faults.jsonl").symlink_to("kept.jsonl")
    (tmp_path / "latest").symlink_to("run")
    assert cli.run_command(["report", str(tmp_path / "latest")]) == 1


@pytest.mark.parametrize("name", ["verdict.json", "report.html"])
def test_a_folder_in_the_place_of_a_report_is_named(
    failed: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(failed, tmp_path / "run"))
    (run / name).unlink()
    (run / name).mkdir()
    assert cli.run_command(["report", str(run)]) == 254
    said = capsys.readouterr().err
    assert f"{run / name} is a folder" in said
    assert said.count("\n") == 1
