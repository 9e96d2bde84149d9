"""`splitbrain check`: recorded histories, judged."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.flags import AS_JSON, MEGABYTES, SECONDS, key_values, number
from harness.cli.terminal import complain, say
from harness.errors import UsageError
from harness.host import interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.judge.check import FileResult
    from harness.judge.explain import Explained, Explanations
    from harness.verdict import Helpers, Limits


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--checker", default="linearizable", show_default=True)
@click.option("--model", help=(
    "register, cas-register, kv, ... (see list), or yours: module:Class, file.py:Class."
))  # fmt: skip
@click.option("--explain-plan", is_flag=True, help=(
    "Tell which algorithm decided which keys, and why."
))  # fmt: skip
@click.option("--consistency", help="Consistency model to ask for.")
@click.option("--option", "options", multiple=True, metavar="K=V", help=(
    "Option of the checker."
))  # fmt: skip
@click.option("--format", "form", default="auto", show_default=True, help=(
    "auto, jsonl, edn, jepsen-log, plume or cobra."
))  # fmt: skip
@click.option("--independent/--no-independent", default=None, help=(
    "EDN values are [key value] tuples of jepsen.independent; default: if they show."
))  # fmt: skip
@click.option(
    "--vacuous",
    default="unknown",
    show_default=True,
    type=click.Choice(["unknown", "valid"]),
    help="The verdict when nothing happened that could be judged.",
)
@click.option("--explain", type=click.Path(path_type=Path), metavar="DIR", help=(
    "Write each anomaly to DIR as text, DOT and SVG, and an index.html of all."
))  # fmt: skip
@number("--time-limit", SECONDS, help="Seconds; then the verdict is unknown.")
@number("--memory-limit", MEGABYTES, help="Megabytes; then unknown.")
@click.option("--executor", default="local", metavar="WHERE", help=(
    "Where keys are judged that take long: local, or dask://HOST:PORT, a cluster's "
    "scheduler; for --checker linearizable."
))  # fmt: skip
@AS_JSON
@interrupts.raised()
def check(
    files: Sequence[str],
    *,
    checker: str,
    model: str | None,
    explain_plan: bool,
    consistency: str | None,
    options: Sequence[str],
    form: str,
    independent: bool | None,
    vacuous: str,
    explain: Path | None,
    time_limit: float | None,
    memory_limit: int | None,
    executor: str,
    as_json: bool,
) -> int:
    """Judge recorded histories: JSON lines, Jepsen's EDN, or logs; .gz as they are.

    A FILE may be a run folder, and - is standard input.

    With --json each FILE is one line, an object:

    \b
    file, verdict      null where the file could not be judged; error says why
    anomalies          how many there are of each name
    found              the anomalies, at most 20 of a name, in the form of verdict.json:
      name, explanation, key, details
      ops, lines         indices of the operations, and their lines in FILE if known
      witness            nodes, lines, and edges: source, target, kind, reason
      ..._left_out       how many more ops, nodes or edges there are; they end at 100
    left_out           how many more anomalies of a name there are than found tells
    keys_left_out      how many more keys are broken, where nobody named their anomalies
    not                the weakest consistency models that are broken
    stats, ops         the checker's figures, and the events in FILE
    seconds            spent on it
    reason, remarks    why the verdict is unknown, and what else to know about it
    plan               where it was asked for
    """  # noqa: D301  # as above
    from harness.judge import check as checking
    from harness.judge import explain as explaining
    from harness.verdict import Limits, Verdict

    given = key_values("--option", options)
    if model is not None:
        given["model"] = model
    if explain_plan:
        given["explain-plan"] = "true"
    if consistency is not None:
        given["consistency"] = consistency
    if files.count("-") > 1:
        raise UsageError("- is standard input, which can be read once")
    limits = Limits(time_limit, memory_limit)

    if executor != "local" and checker != "linearizable":
        raise UsageError(
            f"--executor is for --checker linearizable, which judges keys one by one; "
            f"{checker} judges on this machine"
        )

    held = contextlib.ExitStack()  # in the child, which ends without closing it

    def helpers() -> Helpers | None:
        if executor == "local":
            return None
        from harness.campaign.choosing import engine_of

        engine = engine_of(executor, Path("results"), "", complain)
        return held.enter_context(engine).helpers()

    def make_judge() -> Callable[[str], FileResult]:
        return checking.judge_of(
            checker,
            given,
            form,
            dataclasses.replace(limits, helpers=helpers()),
            independent=independent,
            vacuous=Verdict.parse(vacuous),
        )

    explanations = None if explain is None else explaining.Explanations(explain)
    statuses, explained = [], []
    for status, text, explanation in _each_judged(
        files, make_judge, limits, explanations, as_json=as_json
    ):
        statuses.append(status)
        say(text)
        if explanation is not None:
            explained.append(explanation)
    if explanations is not None:
        index = explanations.finish(explained)
        if not as_json:
            say(f"explanations: {index}")
    return checking.exit_status(statuses)


def _each_judged(
    files: Sequence[str],
    make_judge: Callable[[], Callable[[str], FileResult]],
    limits: Limits,
    explanations: Explanations | None,
    *,
    as_json: bool,
) -> Iterator[tuple[int, str, Explained | None]]:
    """(exit status, text, explanation) of each file, judged in a child.

    The judge is made in the child, as a user's model may do anything to its process.
    The text is made there, too, as histories stay in the child.
    """
    from harness.host import apart
    from harness.judge import check as checking
    from harness.judge import explain as explaining
    from harness.judge.text import render_text

    judge = functools.cache(make_judge)

    def tell(result: FileResult, place: str) -> tuple[int, str, Explained | None]:
        text = json.dumps(result.as_json()) if as_json else render_text(result)
        explained = None
        if explanations is not None:
            explained = explanations.explain(result, place)
        return result.exit_status, text, explained

    tasks = list(zip(files, explaining.places(files), strict=True))
    for done in apart.each_apart(tasks, lambda task: tell(judge()(task[0]), task[1])):
        if isinstance(done, apart.Died):
            file, place = done.item
            yield tell(checking.died(file, str(done), limits), place)
        else:
            yield done
