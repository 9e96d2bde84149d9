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
    status, heard = 255, list[object]()

    def stop(number: int, frame: object) -> None:
        heard.append(number)
        raise KeyboardInterrupt

    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number, handler in before.items():
            if handler != signal.SIG_IGN:  # as the starter wants it
                signal.signal(number, stop)
        from harness import cli

        for number, handler in before.items():
            signal.signal(number, handler)
        if not heard:  # else an import took the interrupt for a failure of its own
            status = cli.run_command()
    except KeyboardInterrupt as caught:
        heard.append(caught)
    except BaseException:  # else the interpreter exits with 1, which says: invalid
        if not heard:
            import traceback

            traceback.print_exc()
    if heard:
        status = 2
        print("splitbrain: interrupted", file=sys.stderr)  # noqa: T201  # no cli yet
    # An interrupt of code that is made from text, as that of dataclasses is, makes the
    # interpreter end itself by SIGINT, caught or not, unless such code runs once more.
    exec("")  # noqa: S102  # no text but this
    # Nothing is left to be told, and a traceback of shutting down would be.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(status)


if __name__ == "__main__":
    main()
