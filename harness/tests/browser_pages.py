"""Every kind of page that we write, for tests that look at each in a browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.cli.group import run_command
from harness.report import build, build_index
from harness.serve.static import write as write_static
from harness.tests.report_runs import write_run
from harness.tests.test_report import poisoned
from harness.tests.test_report_suite import ROWS
from harness.tests.test_runs import write as write_small
from harness.tests.test_serve import night

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HOSTILE_NAMES = "<b>x</b> \u202egnirts\u202c \x1b[31m %s ${7*7} {{7*7}} 'a\" &amp;"


def invalid(run: Path) -> None:
    """A run with one stale read."""
    write_run(run, ops=1500, seconds=20)


def valid(run: Path) -> None:
    """A run in which nothing went wrong."""
    write_run(run, ops=400, seconds=10, anomaly=False)


def hostile(run: Path) -> None:
    """A run with markup and scripts in every string that a node or a client gave."""
    write_run(run, ops=1500, seconds=20)
    poisoned(run)


def odd(run: Path) -> None:
    """A run with long, right-to-left and controlling strings in most places."""
    write_run(run, ops=1500, seconds=20)
    change(run, "test.yaml", lambda text: text.replace("raft", "ra" + "f" * 300 + "t"))
    long = json.dumps(HOSTILE_NAMES + "word" * 60)
    change(
        run, "faults.jsonl", lambda text: re.sub(r'"isolate[^"]*"', _put(long), text)
    )
    change(
        run,
        "history.jsonl",
        lambda text: text.replace('"timeout after 1000 ms"', long),
    )
    change(
        run, "verdict.json", lambda text: text.replace("stale-read", "stale-read" * 30)
    )


def _put(text: str) -> Callable[[re.Match[str]], str]:
    return lambda _: text


def empty(run: Path) -> None:
    """A folder with nothing in it."""
    run.mkdir()


def killed(run: Path) -> None:
    """What a controller leaves that is killed amid a run."""
    write_run(run, ops=1500, seconds=20)
    for name in ("run.json", "verdict.json", "plan.yaml"):
        (run / name).unlink()
    for name in ("history.jsonl", "faults.jsonl"):
        change(run, name, lambda text: text[: len(text) // 2])


def idle(run: Path) -> None:
    """A run without a single operation."""
    write_run(run, ops=400, seconds=10, anomaly=False)
    (run / "history.jsonl").write_bytes(b"")


def unknown(run: Path) -> None:
    """A run that nobody could judge."""
    write_run(run, ops=400, seconds=10, anomaly=False)
    told = {"verdict": "unknown", "reason": "No read succeeded after the first fault."}
    judge(run, verdict="unknown", checkers={"linearizable": told})


def harness(run: Path) -> None:
    """A run that failed by a fault of ours."""
    write_run(run, ops=400, seconds=10, anomaly=False)
    trace = "Traceback (most recent call last):\n  File " + "x/" * 90 + "\nOSError: 5"
    judge(run, verdict="unknown", harness={"ok": False, "errors": [trace]})


def crowded(run: Path) -> None:
    """A run of many clients."""
    write_run(run, ops=6000, seconds=60, threads=90)


RUNS = (
    invalid, valid, hostile, odd, empty, killed, idle, unknown, harness, crowded
)  # fmt: skip


def change(run: Path, name: str, new: Callable[[str], str]) -> None:
    """Write a file of a run anew."""
    (run / name).write_text(new((run / name).read_text("utf-8")), "utf-8")


def judge(run: Path, **told: Any) -> None:
    """Write the verdict anew, but for what is not told."""
    verdict = json.loads((run / "verdict.json").read_text())
    (run / "verdict.json").write_text(json.dumps({**verdict, **told}))


def reports(folder: Path) -> dict[str, str]:
    """The address of the report of each kind of run, by its name."""
    addresses = {}
    for make in RUNS:
        make(folder / make.__name__)
        addresses[make.__name__] = build(folder / make.__name__).as_uri()
    return addresses


def suite(folder: Path) -> str:
    """The index of a suite."""
    rows = [*ROWS, {**ROWS[1], "name": HOSTILE_NAMES * 4, "why": HOSTILE_NAMES * 9}]
    folder.mkdir()
    return build_index(folder, rows).as_uri()


def explanations(folder: Path) -> str:
    """The page of `check --explain` for a history of transactions with a cycle."""
    folder.mkdir()
    clients = [
        ('[["append", 1, 1], ["r", 2, null]]', '[["append", 1, 1], ["r", 2, []]]'),
        ('[["append", 2, 1], ["r", 1, null]]', '[["append", 2, 1], ["r", 1, []]]'),
        ('[["r", 1, null], ["r", 2, null]]', '[["r", 1, [1]], ["r", 2, [1]]]'),
    ]
    asked = [(n, "invoke", before) for n, (before, _) in enumerate(clients)]
    told = [(n, "ok", after) for n, (_, after) in enumerate(clients)]
    lines = [
        f'{{"index":{index},"time":{index * 1_000_000},"process":{process},'
        f'"type":"{kind}","f":"txn","value":{value}}}\n'
        for index, (process, kind, value) in enumerate(asked + told)
    ]
    history = folder / "history.jsonl"
    history.write_text("".join(lines))
    command = ["check", str(history), "--checker", "list-append"]
    run_command([*command, "--explain", str(folder / "why")])
    return (folder / "why" / "index.html").as_uri()


def results(folder: Path) -> Path:
    """A results folder with runs of all kinds and two nights of a suite."""
    invalid(folder / "raft-register" / "big")
    odd(folder / "raft-register" / "odd")
    for number in range(6):
        state = "invalid" if number % 2 else "valid"
        write_small(folder, number, state=state, expected="valid", faults={"kill": 2})
    write_small(folder, 7, system=HOSTILE_NAMES.replace("/", "%"), state="invalid")
    live = folder / "raft-register" / "live"
    live.mkdir()
    (live / "test.yaml").write_text("system: raft\nworkload: register\n")
    long = HOSTILE_NAMES * 3
    night(folder, "20261201T000000.000Z", {"a": (True, ""), long: (True, "")})
    night(folder, "20261202T000000.000Z", {"a": (False, ""), long: (False, "")})
    for run in (folder / "raft-register").iterdir():
        build(run)
    return folder


SERVED = (
    "/",
    "/?verdict=unexpected&sort=-ops&text=raft",
    "/run/raft-register/big",
    "/run/raft-register/odd",
    "/fingerprints",
    "/fingerprint?name=stale-read%20/%20linearizable%20/%20raft%20/%20register",
    "/nights",
    "/nights?suite=quick",
    "/trends",
    "/compare?a=raft-register/big&b=raft-register/odd",
)


@contextmanager
def served(results: Path) -> Iterator[str]:
    """`splitbrain serve` over a results folder; the address that it answers at."""
    command = [sys.executable, "-m", "harness", "serve", str(results), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            (port,) = re.findall(r":(\d+)/", line)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def filed(results: Path, target: Path) -> dict[str, str]:
    """The same pages as files."""
    first = write_static(results, target)
    names = ("index.html", "fingerprints.html", "nights.html", "trends.html")
    return {f"file {name}": (first.parent / name).as_uri() for name in names}
