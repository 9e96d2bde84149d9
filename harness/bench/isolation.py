"""Rows that measure the checkers of transactions, as `splitbrain check FILE` runs them.

Time and memory are those of the whole command: start, reading the file, judging it.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.bench import children
from harness.bench.children import BenchError
from harness.bench.figures import Budget
from harness.bench.rows import CHECK_LIMIT_S, Row, column, scratch
from harness.bench.transactions import TransactionShape

if TYPE_CHECKING:
    from harness.bench.figures import Figure
    from harness.bench.rows import Lab

PEAK_MEMORY = (
    "import resource, subprocess, sys; "
    "status = subprocess.call(sys.argv[1:]); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); "
    "sys.exit(status)"
)
"""A program that runs another one and prints its peak memory, in KiB, last."""


@dataclass(frozen=True)
class IsolationRow:
    """How one history of transactions is judged.

    Attributes:
        shape: The history; the verdict is known from it.
        budget: Of the time.
        memory: Of the peak memory.
    """

    shape: TransactionShape
    budget: Budget | None = None
    memory: Budget | None = None

    def __call__(self, lab: Lab, row: Row) -> list[Figure]:
        """Measure; a sample a turn, all of the same history."""
        with scratch(lab) as folder:
            path = str(Path(folder) / "history.jsonl")
            children.measure("make_transactions", shape=asdict(self.shape), path=path)
            answers = [self.judge(path) for _ in range(lab.repeat)]
        seconds = row.figure("", "s", column(answers, "seconds"))
        memory = row.figure("peak memory", "MiB", column(answers, "peak_mib"))
        return [
            replace(seconds, budget=self.budget),
            replace(memory, budget=self.memory),
        ]

    def judge(self, path: str) -> dict[str, Any]:
        """One turn.

        Raises:
            BenchError: The verdict is wrong; no figure makes up for that.
        """
        command = [sys.executable, "-m", "harness", "check", path, "--json"]
        command += ["--checker", self.shape.kind, "--time-limit", str(CHECK_LIMIT_S)]
        begun = time.perf_counter()
        _, out, err = children.run(
            [sys.executable, "-c", PEAK_MEMORY, *command], 2 * CHECK_LIMIT_S
        )
        seconds = time.perf_counter() - begun
        lines = out.split()
        if not lines or not lines[-1].isdigit():
            raise BenchError(f"check failed: {children.last_line(err)}")
        verdict = json.loads(out.strip().rpartition("\n")[0])["verdict"]
        promised = "invalid" if self.shape.planted else "valid"
        if verdict not in {promised, "unknown"}:
            raise BenchError(f"our verdict is {verdict}, not {promised}")
        return {"seconds": seconds, "peak_mib": int(lines[-1]) / 1024}


def rows() -> list[Row]:
    """What the budgets promise, and what a violation and registers cost."""
    return [
        Row(
            "check/list-append-100k",
            "list-append, 100k transactions, all anomalies",
            IsolationRow(TransactionShape("list-append", 100_000), Budget(1.5)),
        ),
        Row(
            "check/list-append-100k-invalid",
            "the same with stale reads",
            IsolationRow(TransactionShape("list-append", 100_000, planted=True)),
        ),
        Row(
            "check/list-append-1m",
            "list-append, 1M transactions, all anomalies",
            IsolationRow(
                TransactionShape("list-append", 1_000_000), Budget(15.0), Budget(1536)
            ),
            full_only=True,
        ),
        Row(
            "check/rw-register-100k",
            "rw-register, 100k transactions, proved strictly serializable",
            IsolationRow(TransactionShape("rw-register", 100_000)),
        ),
    ]
