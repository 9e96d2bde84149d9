"""The command `splitbrain`, from its first moment: also `python -m harness`.

An interpreter that meets an error which nobody handles exits with 1, and here that says
that a history is invalid. Importing the command line takes time, in which an interrupt
may come, and can fail where an installation is damaged. So this module imports nothing
that it can put off.
"""

import signal
import sys


def main() -> None:
    """Run the command and exit with its status."""
    status = 255
    before = signal.getsignal(signal.SIGTERM)
    try:
        if before is signal.SIG_DFL:  # else the starter ignores it
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        from harness import cli

        signal.signal(signal.SIGTERM, before)
        status = cli.run_command()
    except KeyboardInterrupt:
        status = 2
        print("splitbrain: interrupted", file=sys.stderr)  # noqa: T201  # no cli yet
    except BaseException:
        import traceback

        traceback.print_exc()
    # Nothing is left to be told, and a traceback of shutting down would be.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(status)


if __name__ == "__main__":
    main()
