"""The command `splitbrain`, from its first moment: also `python -m harness`.

The interpreter exits with 1 after an error that is not handled, and here that status
says that a history is invalid. The import of the command line takes time, in which an
interrupt may come, and it fails if the installation is damaged. So this module imports
as late as it can.
"""

import signal
import sys

INTERRUPTED = '{"verdict": "unknown", "reason": "interrupted", "interrupted": true}'
"""What `harness.cli.terminal.interrupted` prints as JSON."""


def main() -> None:
    """Run the command and exit with its status."""
    status, heard, begun = 255, list[object](), False

    def stop(number: int, frame: object) -> None:
        heard.append(number)
        raise KeyboardInterrupt

    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # ignored ones stay so
                signal.signal(number, stop)
        from harness import cli

        if not heard:  # an import may take an interrupt for a failure of its own
            begun = True
            status = cli.run_command()
    except KeyboardInterrupt as caught:
        heard.append(caught)
    except BaseException:  # the interpreter would exit with 1, which means invalid
        if not heard:
            import traceback

            traceback.print_exc()
    if heard:
        status = 2
        if "--json" in sys.argv and not begun:
            print(INTERRUPTED)  # noqa: T201  # no cli yet
        print("splitbrain: interrupted", file=sys.stderr)  # noqa: T201
    # If code made from text, such as that of dataclasses, is interrupted, the
    # interpreter ends itself by SIGINT, even if the interrupt was caught, unless such
    # code runs once more.
    exec("")  # noqa: S102  # only ever this text
    # The status is known, and all is printed. An interrupt from here on would take the
    # one away, and print a traceback of shutting down.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is stop:
            signal.signal(number, signal.SIG_IGN)
    sys.exit(status)


if __name__ == "__main__":
    main()
