"""`python -m harness` is the command `splitbrain`."""

from harness.cli import main

main()
