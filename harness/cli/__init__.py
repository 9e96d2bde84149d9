"""The command line: one module a command, each named like it.

main.py       the group of commands, and how they end: exit statuses
terminal.py   what commands say, and complaints
flags.py      flags that several commands have
catalogue.py  what `list` tells, also for the tables of our pages
progress.py   the line that shows how a run goes
outlet.py     standard output that may be closed or full
"""

from harness.cli.group import cli, main, run_command

__all__ = ["cli", "main", "run_command"]
