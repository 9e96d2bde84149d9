"""Rows that measure the checkers of transactions, as `splitbrain check FILE` runs them.

Time and memory are those of the whole command: start, reading the file, judging it.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.bench import awdit, children
from harness.bench.children import BenchError
from harness.bench.figures import Budget, PeerFigure
from harness.bench.rows import CHECK_LIMIT_S, Row, column, scratch
from harness.bench.transactions import TransactionShape

if TYPE_CHECKING:
    from harness.bench.figures import Figure
    from harness.bench.rows import Lab
    from harness.bench.transactions import Store

PEAK_MEMORY = (
    "import resource, subprocess, sys; "
    "status = subprocess.call(sys.argv[1:]); "
    "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
    "print(used.ru_maxrss, used.ru_utime + used.ru_stime); "
    "sys.exit(status)"
)
"""A program that runs another one, and at the end prints its peak memory in KiB and its
processor seconds."""


@dataclass(frozen=True)
class IsolationRow:
    """Measures how one history of transactions is judged.

    Attributes:
        shape: The shape of the history, from which its verdict is known.
        budget: Budget of the time.
        memory: Budget of the peak memory.
        model: The consistency model that is asked; empty for the default. AWDIT is
            asked for the same one, if it decides that and is installed.
    """

    shape: TransactionShape
    budget: Budget | None = None
    memory: Budget | None = None
    model: str = ""

    def __call__(self, lab: Lab, row: Row) -> list[Figure]:
        """Take one sample a turn, all of the same history."""
        with scratch(lab) as folder:
            path, for_awdit = (str(Path(folder) / n) for n in ("h.jsonl", "h.txt"))
            theirs = self.peer()
            takes_part = theirs is not None and not theirs.remark
            children.measure(
                "make_transactions",
                shape=asdict(self.shape),
                path=path,
                for_awdit=for_awdit if takes_part else None,
            )
            answers = []
            for _ in range(lab.repeat):
                answers.append(self.judge(path))
                if theirs is not None and takes_part:
                    self.ask_peer(for_awdit, theirs)
        seconds = row.figure("", "s", column(answers, "seconds"))
        memory = row.figure("peak memory", "MiB", column(answers, "peak_mib"))
        cpu = column(answers, "cpu_seconds")
        their_memory = None
        if theirs is not None and theirs.memory_mib:
            their_memory = PeerFigure(theirs.name, theirs.memory_mib)
        return [
            replace(seconds, budget=self.budget, peer=theirs, cpu=cpu),
            replace(memory, budget=self.memory, peer=their_memory),
        ]

    def peer(self) -> PeerFigure | None:
        """An empty figure for AWDIT; None if it doesn't decide the model."""
        if self.model not in awdit.LEVELS:
            return None
        remark = "" if awdit.program() else awdit.MISSING
        return PeerFigure(awdit.NAME, remark=remark)

    def ask_peer(self, path: str, found: PeerFigure) -> None:
        """Take one turn of AWDIT, and add it to `found`.

        Raises:
            BenchError: AWDIT's verdict is another one than that of the shape.
        """
        out, used = measured(awdit.command(self.model, path))
        if awdit.verdict(out) != self.promised:
            raise BenchError(f"{awdit.NAME} says {awdit.verdict(out)}: {self.shape}")
        found.samples.append(used["seconds"])
        found.cpu.append(used["cpu_seconds"])
        found.memory_mib.append(used["peak_mib"])

    @property
    def promised(self) -> str:
        """The verdict that the history must get."""
        return "invalid" if self.shape.planted else "valid"

    def judge(self, path: str) -> dict[str, Any]:
        """Take one turn of ours.

        Raises:
            BenchError: The verdict is wrong; no figure makes up for that.
        """
        command = [sys.executable, "-m", "harness", "check", path, "--json"]
        command += ["--checker", self.shape.kind, "--time-limit", str(CHECK_LIMIT_S)]
        command += ["--consistency", self.model] if self.model else []
        out, used = measured(command)
        verdict = children.answer_in("check", out)["verdict"]
        if verdict not in {self.promised, "unknown"}:
            raise BenchError(f"our verdict is {verdict}, not {self.promised}")
        return used


def measured(command: list[str]) -> tuple[str, dict[str, float]]:
    """The output of a command, and its seconds, processor seconds and memory.

    Raises:
        BenchError: The command prints nothing.
    """
    begun = time.perf_counter()
    _, out, err = children.run(
        [sys.executable, "-c", PEAK_MEMORY, *command], 2 * CHECK_LIMIT_S
    )
    seconds = time.perf_counter() - begun
    said, _, used = out.strip().rpartition("\n")
    if not said:
        raise BenchError(f"{command[0]} failed: {children.last_line(err)}")
    peak_kib, cpu_seconds = used.split()
    return said, {
        "seconds": seconds,
        "cpu_seconds": float(cpu_seconds),
        "peak_mib": int(peak_kib) / 1024,
    }


def rows() -> list[Row]:
    """Rows of the promised budgets, and of the cost of a violation and of registers."""
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
        Row(
            "check/rw-register-1m",
            "rw-register, 1M transactions, the same",
            IsolationRow(
                TransactionShape("rw-register", 1_000_000), None, Budget(1536)
            ),
            full_only=True,
        ),
        *weak_rows(),
    ]


def weak_rows() -> list[Row]:
    """Rows of stores with weak promises, checked for just these."""
    memory = Budget(2048)
    stores: tuple[tuple[Store, float, float], ...] = (
        ("read-committed", 1.5, 12.0),
        ("read-atomic", 1.5, 12.0),
        ("causal", 4.0, 40.0),
    )
    sizes = (("100k", 20_000, False), ("1m", 200_000, True))
    return [
        Row(
            f"check/{store}-{name}",
            f"rw-register, {store}, {name.upper()} reads and writes of 100 keys",
            IsolationRow(of_weak_store(store, transactions), budget, memory, store),
            full_only,
        )
        for store, *limits in stores
        for (name, transactions, full_only), budget in zip(
            sizes, map(Budget, limits), strict=True
        )
    ]


def of_weak_store(store: Store, transactions: int) -> TransactionShape:
    """The shape of transactions of five micro-operations on average, all committed."""
    return TransactionShape(
        "rw-register",
        transactions,
        keys=100,
        writes_per_key=transactions * MICRO_OPS_MAX,
        length_max=MICRO_OPS_MAX,
        fail=0.0,
        crash=0.0,
        store=store,
    )


MICRO_OPS_MAX = 9
