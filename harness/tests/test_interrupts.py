"""An interrupt is never lost, whatever code it comes between."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys

import pytest

from harness.host import interrupts

STOPPED_WITHIN_TEXT = """
import sys, types

def run_command():
    try:
        exec("raise KeyboardInterrupt")
    except KeyboardInterrupt:
        return 2

cli = types.ModuleType("harness.cli")
cli.run_command = run_command
import harness
sys.modules["harness.cli"] = harness.cli = cli
from harness.__main__ import main
main()
"""


def test_an_interrupt_that_some_code_swallowed_is_raised_again() -> None:
    def went_on() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        interrupts.insist()

    with pytest.raises(KeyboardInterrupt), interrupts.raised():
        went_on()


def test_nothing_is_raised_again_where_nothing_came() -> None:
    with interrupts.raised():
        interrupts.insist()
    with contextlib.suppress(KeyboardInterrupt), interrupts.raised():
        signal.raise_signal(signal.SIGTERM)
    interrupts.insist()  # that one ended what it was for


def test_an_error_after_an_interrupt_is_its_doing() -> None:
    def imported() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise ImportError("can't load unicodedata") from None

    with pytest.raises(KeyboardInterrupt), interrupts.raised():
        imported()
    with pytest.raises(ImportError), interrupts.raised():
        raise ImportError("without an interrupt")


def test_an_interrupt_in_code_made_from_text_leaves_the_status_alone() -> None:
    done = subprocess.run([sys.executable, "-c", STOPPED_WITHIN_TEXT], check=False)
    assert done.returncode == 2
