"""The command `splitbrain`, from its first moment: also `python -m harness`.

An interpreter that meets an error which nobody handles exits with 1, and here that says
that a history is invalid. Importing the command line takes time, in which Ctrl-C may
come, and can fail where an installation is damaged. So this module imports nothing that
it can put off.
"""

import sys


def main() -> None:
    """Run the command and exit with its status."""
    status = 255
    try:
        from harness import cli

        status = cli.run_command()
    except KeyboardInterrupt:
        status = 2
        print("splitbrain: interrupted", file=sys.stderr)  # noqa: T201  # no cli yet
    except BaseException:
        import traceback

        traceback.print_exc()
    import signal

    # Nothing is left to be told, and a traceback of shutting down would be.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(status)


if __name__ == "__main__":
    main()
