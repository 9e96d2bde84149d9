"""The museum's table in README.md, made from what runs of the suite left.

    .venv/bin/splitbrain suite museum     # several times: each one is a try
    .venv/bin/python -m harness.tests.museum results/suites/*-museum/suite.json

Rows of several results are put together by their names. A weakness counts as found in a
try if its row came out as expected, and a control as clean if it was valid. A row that
is in none of the results keeps the line that it has in the page.
"""

from __future__ import annotations

import datetime
import json
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
README = ROOT / "docs" / "museum.md"
SUITE = ROOT / "harness" / "suites" / "museum.yaml"
MARK = re.compile(r"(<!-- museum -->\n).*?(<!-- end of museum -->)", re.DOTALL)

NAMES_MAX = 3
"""Anomalies that are shown of a row that expects none by name."""

RENEW = "to renew it: .venv/bin/python -m harness.tests.museum RESULTS..."


def suite_rows() -> list[dict[str, Any]]:
    """The rows of the suite, as its file has them."""
    rows: list[dict[str, Any]] = yaml.safe_load(SUITE.read_text())["rows"]
    return rows


def tries_of(files: list[Path]) -> dict[str, list[dict[str, Any]]]:
    """Name -> what became of the row in each result in which it ran."""
    tries = defaultdict(list)
    for file in files:
        for row in json.loads(file.read_text())["rows"]:
            if not row["skipped"] and row["verdict"] != "error":
                tries[row["name"]].append(row)
    return tries


def standing_lines() -> dict[str, list[str]]:
    """Name of a weakness -> its line in the page."""
    found = MARK.search(README.read_text())
    lines = found[0].splitlines() if found else []
    return {line.split(" | ")[0].removeprefix("| "): [line] for line in lines}


def table(files: list[Path]) -> str:
    """The table: each weakness, how it was found, and what became of its control."""
    tries = tries_of(files)
    standing = standing_lines()
    lines = [
        "| weakness | source | found as | found | s | control |",
        "|---|---|---|---|---|---|",
    ]
    for row in suite_rows():
        if row.get("expect") != "invalid":
            continue
        if row["name"] not in tries:
            lines += standing.get(row["name"], [])
            continue
        found = tries[row["name"]]
        hits = [one for one in found if one["as_expected"]]
        seen = sorted({name for one in hits for name in one["anomalies"]})
        names = [row["anomaly"]] if row.get("anomaly") in seen else seen[:NAMES_MAX]
        seconds = [one["convicted_s"] or one["seconds"] for one in hits]
        controls = tries.get(row.get("control", ""), [])
        clean = sum(one["verdict"] == "valid" for one in controls)
        cells = (
            row["name"],
            row["source"],
            ", ".join(names),
            f"{len(hits)} of {len(found)}",
            f"{statistics.median(seconds):.1f}" if seconds else "",
            f"valid {clean} of {len(controls)}: {row['control']}" if controls else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    today = datetime.datetime.now(tz=datetime.UTC).date()
    lines += ["", f"Measured on {today}, at commit {commit}, on two cores."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the table of these results into the README."""
    made = table([Path(name) for name in sys.argv[1:]])
    text = README.read_text()
    assert MARK.search(text), "README.md has no place for the museum"
    README.write_text(MARK.sub(lambda mark: mark[1] + made + mark[2], text))


if __name__ == "__main__":
    main()
