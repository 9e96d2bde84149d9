from __future__ import annotations

import hashlib
import os
from pathlib import Path

from harness.run import programs
from harness.worlds.places import Launch


def test_files_that_a_command_names_are_known_by_their_digest(tmp_path: Path) -> None:
    script, config = tmp_path / "node.py", tmp_path / "node.toml"
    script.write_text("print(1)")
    config.write_text("x = 1")
    launch = Launch(["/bin/sh", "node.py", f"--config={config}", "n1"], cwd=tmp_path)
    found = programs.digests([launch, launch], leave_out=tmp_path / "run")
    shell = str(Path("/bin/sh"))
    assert set(found) == {shell, str(script), str(config)}
    assert found[str(script)] == f"sha256:{hashlib.sha256(b'print(1)').hexdigest()}"


def test_folders_pipes_and_files_of_nodes_are_no_programs(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "data").write_text("")
    os.mkfifo(tmp_path / "pipe")
    words = [
        str(tmp_path),
        str(tmp_path / "pipe"),
        str(run / "data"),
        "a\0b",
        "x" * 5000,
    ]
    assert programs.digests([Launch(words)], leave_out=run) == {}
    assert programs.digest(tmp_path / "pipe") is None


def test_a_long_file_is_known_by_its_length(tmp_path: Path) -> None:
    long = tmp_path / "server"
    with long.open("wb") as file:
        file.truncate(programs.BYTES_MAX + 1)
    assert programs.digest(long) == f"bytes:{programs.BYTES_MAX + 1}"


def test_only_so_many_files_are_read(tmp_path: Path) -> None:
    names = [str(tmp_path / f"{n}") for n in range(programs.FILES_MAX + 5)]
    for name in names:
        Path(name).write_text(name)
    found = programs.digests([Launch(names)], leave_out=tmp_path / "run")
    assert list(found) == names[: programs.FILES_MAX]


def test_a_change_and_a_loss_are_told(tmp_path: Path) -> None:
    kept, changed, gone = (tmp_path / name for name in ("kept", "changed", "gone"))
    for path in (kept, changed, gone):
        path.write_text("before")
    words = [str(kept), str(changed), str(gone)]
    recorded = programs.digests([Launch(words)], leave_out=tmp_path / "run")
    assert programs.changes(recorded) == []
    changed.write_text("after")
    gone.unlink()
    assert programs.changes(recorded) == [
        f"the system's program changed since: {changed}",
        f"the system's program is gone: {gone}",
    ]
