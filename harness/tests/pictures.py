"""Makes the pictures of our documents: reports of runs that show what reports are for.

    .venv/bin/python -m harness.tests.pictures [NAME ...]    # writes docs/pictures

Runs in the simulated world are the same each time; those of real processes are tried
with several seeds. Each picture is the top of a report, by day. Raise FORMAT when
reports look different, and make the pictures anew: a test holds the two together.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import yaml

from harness.cli import examples
from harness.tests.browser import Tab, started

FORMAT = 2
ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"
SEEDS = 5
WIDTH, HEIGHT = 1200, 1500
TOO_FAST = {"kind": "clock", "mode": "drift", "clock": "mono", "target": "leader"}
LEASE_PLAN = [
    {"at": {"time_s": 1.5}, "fault": {**TOO_FAST, "rate": 0.1}, "heal": {"after_s": 7}},
    {
        "at": {"time_s": 1.8},
        "fault": {"kind": "partition", "target": "leader"},
        "heal": {"after_s": 5},
    },
]


class Showpiece(NamedTuple):
    """A run worth a picture.

    Attributes:
        command: The arguments of `splitbrain run`.
        plan: Its plan, if any.
        example: The example that is copied to where it runs, if any.
        status: The exit status of a run that shows it.
    """

    command: str
    plan: list[dict[str, object]] | None = None
    example: str = ""
    status: int = 1


SHOWPIECES = {
    "3pc-split": Showpiece("3pc --world sim --nemesis partition --time-limit 20"),
    "raft-stale-lease": Showpiece(
        "raft --world sim --set reads=lease --set clock_drift_bound=0.1", LEASE_PLAN
    ),
    "raft-stale-local": Showpiece(
        "raft --world sim --set reads=local --nemesis partition --time-limit 20"
    ),
    "sqlite-power": Showpiece(
        "sqlite --set synchronous=off --nemesis power --time-limit 6"
    ),
    "pysyncobj-stale": Showpiece("pysyncobj --nemesis partition --time-limit 10"),
    "2pc-blocked": Showpiece(
        "2pc --world sim --workload commit --nemesis kill --set kill.targets=one "
        "--time-limit 20",
        status=0,
    ),
    "write-skew": Showpiece(
        "postgresql --workload list_append --set isolation=repeatable-read "
        "--time-limit 10"
    ),
    "tutorial": Showpiece(
        "launch:python3_raft.py --nodes 3 --nemesis partition "
        "--set partition.shapes=leader --time-limit 30 --until-invalid",
        example="python",
    ),
}


def report_of(piece: Showpiece, folder: Path) -> Path | None:
    """The report of the first run that shows it; None if there was none."""
    words = [word.replace("python3_", "python3 ") for word in piece.command.split()]
    command = ["splitbrain", "run", *words]
    if piece.example:
        examples.copy(examples.found() / examples.TOLD[piece.example][0], folder)
    if piece.plan is not None:
        (folder / "plan.yaml").write_text(yaml.safe_dump(piece.plan))
        command += ["--plan", "plan.yaml"]
    bin_folder = str(Path(sys.executable).parent)
    env = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    for seed in range(1, SEEDS + 1):
        # Relative, as the picture shows the command that repeats the run.
        asked = [*command, "--seed", str(seed), "--results", f"seed-{seed}"]
        done = subprocess.run(
            asked, cwd=folder, env=env, capture_output=True, text=True, check=False
        )
        if done.returncode == piece.status:
            return (folder / f"seed-{seed}" / "latest" / "report.html").resolve()
        if done.returncode == 254:
            print(done.stderr.strip(), file=sys.stderr)  # noqa: T201
            return None
    return None


def main(names: list[str]) -> int:
    """Make the pictures of these names, or all; returns how many could not be made."""
    known = list(SHOWPIECES)
    if odd := [name for name in names if name not in known]:
        sys.exit(f"no such picture: {', '.join(odd)}; there are {', '.join(known)}")
    PICTURES.mkdir(parents=True, exist_ok=True)
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        pages: dict[str, str] = {}
        for name in names or known:
            folder = Path(scratch) / name
            folder.mkdir()
            if report := report_of(SHOWPIECES[name], folder):
                pages[name] = report.as_uri()
            else:
                failed += 1
                print(f"{name}: no run showed it", file=sys.stderr)  # noqa: T201
        for browser in started():
            for name, address in pages.items():
                with Tab(browser, address, width=WIDTH, height=HEIGHT) as tab:
                    tab.settle()
                    tab.page.screenshot(path=PICTURES / f"{name}.png")
    (PICTURES / "FORMAT").write_text(f"{FORMAT}\n")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
