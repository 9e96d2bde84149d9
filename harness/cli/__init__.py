"""The command line: each command has a module of its name.

    group.py      the group of commands, and how they end: exit statuses
    terminal.py   lines on standard output, and complaints
    flags.py      flags that several commands have
    catalogue.py  the tables of `list`, also for our pages
    progress.py   the line that shows how far a run is
    outlet.py     standard output that may be closed or full

run.py, explore.py (of which exploration.py and exhaustive.py are the two halves),
replay.py, shrink.py, explain.py, suite.py, check.py, report.py, convert.py, list.py,
doctor.py and bench.py are the commands.
"""

from harness.cli.group import cli, main, run_command

__all__ = ["cli", "main", "run_command"]
