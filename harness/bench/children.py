"""Runs one task in a process of its own, and brings its answer back.

    python -P -m harness.bench.tasks TASK '{"argument": ...}'

The answer is the last line of its standard output, as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, cast

from harness.errors import HarnessError

TASK_LIMIT_S = 300.0


class BenchError(HarnessError):
    """A measurement could not be made; says why."""


def measure(task: str, /, **arguments: Any) -> dict[str, Any]:
    """The answer of a task of `harness.bench.tasks`.

    Raises:
        BenchError: The task failed; the message ends with its last line.
    """
    command = [sys.executable, "-P", "-m", "harness.bench.tasks", task]
    status, out, err = run([*command, json.dumps(arguments)], TASK_LIMIT_S)
    if status:
        raise BenchError(f"{task} failed: {last_line(err)}")
    return cast("dict[str, Any]", answer_in(task, out))


def run(
    command: list[str], limit_s: float, env: dict[str, str] | None = None
) -> tuple[int, str, str]:
    """Exit status, standard output and error of a command.

    Raises:
        BenchError: The command can't be started, or takes too long and was ended.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
            env=env,
        )
    except OSError as problem:
        raise BenchError(f"cannot run {command[0]}: {problem.strerror}") from None
    except subprocess.TimeoutExpired:
        raise BenchError(f"{command[0]} gave no answer in {limit_s:g} s") from None
    return done.returncode, done.stdout, done.stderr


def answer_in(name: str, out: str) -> Any:
    """The JSON in the last line of what a command printed.

    Raises:
        BenchError: The last line is no JSON.
    """
    try:
        return json.loads(last_line(out))
    except ValueError:
        raise BenchError(f"{name} gave no answer: {last_line(out)!r}") from None


def last_line(text: str) -> str:
    """The last line that isn't blank; empty if there is none."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
