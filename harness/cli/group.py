"""The command line: `splitbrain run | check | suite | replay | report | list | ...`.

Exit status of all commands: 0 valid (or as expected), 1 invalid (or not as expected), 2
unknown, 254 bad usage, 255 the harness failed. It does not change if the reader of the
output has gone. Commands import the modules that they need themselves, as numpy and
others would make even `--help` slow.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

import click

from harness.cli import completion
from harness.cli.adapter import adapter
from harness.cli.bench import bench
from harness.cli.check import check
from harness.cli.convert import convert
from harness.cli.doctor import doctor
from harness.cli.examples import examples
from harness.cli.explain import explain
from harness.cli.explore import explore
from harness.cli.hosts import hosts
from harness.cli.list import list_
from harness.cli.outlet import outlets
from harness.cli.replay import replay
from harness.cli.report import report
from harness.cli.run import run
from harness.cli.runs import runs
from harness.cli.serve import serve
from harness.cli.shrink import shrink
from harness.cli.suite import suite
from harness.cli.systems import systems
from harness.cli.terminal import begin, complain, interrupted, say, say_error
from harness.cli.worker import worker
from harness.errors import (
    EXIT_HARNESS,
    EXIT_USAGE,
    HarnessError,
    UsageError,
    UsageErrors,
)
from harness.host import interrupts, scarcity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Commands(click.Group):
    """A group of commands that names the nearest ones if one is mistyped."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Like click's, with the nearest names in the error."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            from harness.registry import nearest

            known = self.list_commands(ctx)
            raise UsageError(
                f"there is no command {args[0]!r}{nearest(args[0], known)} "
                f"(commands: {', '.join(known)})"
            ) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Like click's, but code that ends the process with a status is our fault.

        click takes any broken pipe for that of standard output.
        """
        scarcity.refuse_little_memory()
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.Abort from None  # click would add an empty line
        except (SystemExit, BrokenPipeError) as leaving:
            raise RuntimeError(f"{type(leaving).__name__}: {leaving}") from leaving


def _tell_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        from harness.host import release

        say(f"splitbrain {release.told()}")
        context.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_tell_version,
    help="Tell the version, the commit and Python's version.",
)
def cli() -> None:
    """Break a real distributed system and learn whether it kept its promises.

    \b
    splitbrain run raft --nemesis partition,kill     a torture run, with a verdict
    splitbrain check history.edn --model register    judge a recorded history
    splitbrain doctor                                what this machine can do

    Exit status: 0 valid or as expected, 1 invalid or not as expected, 2 unknown or
    interrupted, 254 bad usage, 255 the harness failed. A reader of the output that has
    gone changes none of them; output that a full disk did not take is 255.
    """  # noqa: D301  # click wants the character \b itself


_COMMANDS = (
    run,
    explore,
    replay,
    shrink,
    explain,
    check,
    suite,
    runs,
    serve,
    report,
    convert,
    adapter,
    examples,
    list_,
    systems,
    hosts,
    doctor,
    worker,
    bench,
    completion.completion,
)
for _command in _COMMANDS:
    cli.add_command(_command)
completion.attach(cli)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its status."""
    sys.exit(run_command(arguments))


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status.

    The status stays the same if the reader of the output has gone; it is 255 if a full
    disk did not take the output.
    """
    # If OpenBLAS can't start threads of its own, it ends the process, or sends it
    # SIGINT. No work here is large enough for them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    words = sys.argv[1:] if arguments is None else arguments
    if (answered := completion.answer(cli)) is not None:
        return answered
    begin()

    # A command handles stop signals while it has something to lose. Before and after
    # that, too, they have to end it with a status of ours, and with JSON if asked.
    @interrupts.raised()
    def command() -> object:
        return cli.main(arguments, standalone_mode=False)

    with outlets() as out:
        status = status_of(command, as_json="--json" in words)
    if out.problem is None:
        return status
    complain(f"cannot write to standard output: {out.problem.strerror}")
    return status if status == EXIT_USAGE else EXIT_HARNESS


def status_of(command: Callable[[], Any], *, as_json: bool = False) -> int:
    """Run a command and return its exit status; prints its error in one line.

    The traceback of a bug of ours is printed, too.
    """
    try:
        status = command()
    except click.ClickException as problem:
        complain(problem.format_message())
        return EXIT_USAGE
    except UsageErrors as problems:
        for line in problems.lines:
            complain(line)
        return EXIT_USAGE
    except UsageError as problem:
        complain(str(problem))
        return EXIT_USAGE
    except HarnessError as failure:
        told = scarcity.words if scarcity.is_scarcity(failure) else str
        complain(f"the harness failed: {told(failure)}")
        return EXIT_HARNESS
    except (KeyboardInterrupt, click.Abort):
        return interrupted("interrupted", as_json=as_json)
    except BaseException as fault:  # even SystemExit: its status would pass for ours
        if scarcity.is_scarcity(fault):
            complain(f"the harness failed: {scarcity.words(fault)}")
            return EXIT_HARNESS
        complain("the harness failed, and this is its fault:")
        say_error(traceback.format_exc().rstrip())
        return EXIT_HARNESS
    return status if isinstance(status, int) else 0
