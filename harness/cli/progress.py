"""Live progress: one line of standard error if that is a terminal.

Elsewhere there is none, but for work of many minutes, which shows a `Heartbeat`.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING

from harness.cli.terminal import complain
from harness.visible import visible_line

if TYPE_CHECKING:
    from harness.campaign.outcome import Outcome
    from harness.run.controller import Progress


class ProgressLine:
    """Rewrites one line of standard error; silent unless that is a terminal."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled and sys.stderr.isatty()
        self._before = (0.0, 0)

    def show(self, progress: Progress) -> None:
        """Show how far the run is."""
        if not self._enabled:
            return
        left = max(0.0, progress.seconds_limit - progress.seconds)
        then, ok = self._before
        rate = (progress.ok - ok) / max(1e-9, progress.seconds - then)
        self._before = (progress.seconds, progress.ok)
        text = (
            f"{progress.seconds:5.1f} s, {left:.0f} s left | "
            f"ok {progress.ok} ({rate:.0f}/s) fail {progress.fail} "
            f"info {progress.info} | {'; '.join(progress.faults) or 'no fault'}"
        )
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write("\r\x1b[2K" + visible_line(text)[:width])
        sys.stderr.flush()

    def tell(self, text: str) -> None:
        """Show `text` in place of the figures."""
        if self._enabled:
            sys.stderr.write("\r\x1b[2K" + visible_line(text))
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._enabled:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()


HEARTBEAT_S = 10.0


class Heartbeat:
    """A line now and then, for whoever reads standard error later, or in a pipe.

    Args:
        of: What is under way.
        enabled: Whether there are any lines, if standard error is no terminal.
    """

    def __init__(self, of: str, *, enabled: bool) -> None:
        self._of = of
        self._enabled = enabled and not sys.stderr.isatty()
        self._last_s = time.monotonic()

    def tell(self, text: str) -> None:
        """Print how far it is, unless a line was printed a moment ago."""
        now_s = time.monotonic()
        if self._enabled and now_s - self._last_s >= HEARTBEAT_S:
            self._last_s = now_s
            complain(f"{self._of}: {text}")


class SeedsLine:
    """Counts the runs of many seeds on one line of standard error."""

    def __init__(self, seeds: int, *, enabled: bool) -> None:
        self._seeds = seeds
        self._enabled = enabled and sys.stderr.isatty()
        self._begun_s = time.monotonic()
        self._runs = 0
        self._ops = 0

    def show(self, outcome: Outcome) -> None:
        """Count one more run."""
        self._runs += 1
        self._ops += sum(outcome.ops.values())
        self.draw()

    def draw(self) -> None:
        """Show the line."""
        if self._enabled:
            sys.stderr.write(f"\r\x1b[2K{self._text()}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._enabled:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()

    @staticmethod
    def told(outcome: Outcome) -> str:
        """One run, in a line."""
        ok = f"{outcome.ops.get('ok', 0):,} ok, {outcome.run_s:.1f} s"
        return f"{_seed(outcome)}: {outcome.verdict}{_found(outcome)}, {ok}"

    def summary(self, last: Outcome) -> str:
        """The outcomes of all runs, in two lines; `last` is the run that ended them."""
        if last.verdict == "valid":
            return f"all valid: {self._text()}\nrepeat the last: {last.repro}"
        repeat = f"\nrepeat: {last.repro}" if last.repro else ""
        what = f"{_seed(last)} is {last.verdict}{_found(last)}"
        return f"{what}: {self._text()}{repeat}"

    def _text(self) -> str:
        took_s = max(1e-9, time.monotonic() - self._begun_s)
        return (
            f"{self._runs} of {self._seeds} seeds, {self._ops:,} operations, "
            f"{took_s:.1f} s, {self._runs / took_s:.1f} seeds a second"
        )


def _seed(outcome: Outcome) -> str:
    return f"seed {outcome.experiment.spec.seed}"


def _found(outcome: Outcome) -> str:
    """Why a run was not valid, in brackets."""
    what = ", ".join(outcome.anomalies) or outcome.reason
    return f" ({what})" if what else ""
