"""The live progress line of a run: one line on a terminal, nothing elsewhere."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.controller import Progress


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
        sys.stderr.write("\r\x1b[2K" + text[:width])
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._enabled:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
