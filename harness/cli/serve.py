"""`splitbrain serve`: the results in a browser."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from harness.cli.flags import number
from harness.cli.terminal import complain, say
from harness.errors import UsageError
from harness.host import interrupts
from harness.options import Whole

PORT = 8470
EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104 (recognised, not bound to)


@click.command()
@click.argument("results", type=click.Path(path_type=Path), default=Path("results"))
@click.option("--host", default="127.0.0.1", show_default=True, help=(
    "The address to listen on. Anybody who reaches it can read all results."
))  # fmt: skip
@number("--port", Whole(0, 65535), default=PORT, show_default=True, help=(
    "0 takes any that is free."
))  # fmt: skip
@click.option("--allow-host", "allowed", multiple=True, metavar="NAME", help=(
    "Another name by which browsers reach it; others are refused."
))  # fmt: skip
@interrupts.raised()
def serve(results: Path, *, host: str, port: int, allowed: tuple[str, ...]) -> int:
    """Show the runs in a RESULTS folder in a browser: for reading only.

    Lists of runs to search, ways to fail, nights beside each other, trends, two runs
    compared, runs in progress; the same as JSON below /api.
    """
    import socket

    try:
        import uvicorn

        from harness.serve.app import make_app
    except ImportError:
        raise UsageError(
            "serve needs starlette and uvicorn, which aren't installed here: "
            "pip install 'splitbrain[serve]'"
        ) from None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except (OSError, OverflowError) as problem:
        listener.close()
        why = problem.strerror if isinstance(problem, OSError) else str(problem)
        raise UsageError(f"cannot listen on {host}, port {port}: {why}") from None
    bound = listener.getsockname()[1]
    names = {host, "localhost", "127.0.0.1", "[::1]", *allowed}
    if ":" in host:
        names.add(f"[{host}]")
    hosts = {f"{name}{end}".lower() for name in names for end in ("", f":{bound}")}
    try:
        app = make_app(results, hosts)
    except UsageError:
        listener.close()
        raise
    shown = f"[{host}]" if ":" in host else host
    say(f"http://{shown}:{bound}/  shows {results}; Ctrl-C ends it")
    if host in EVERYWHERE:
        complain("it listens everywhere: anybody who reaches this machine can read it")
    config = uvicorn.Config(app, log_level="warning", server_header=False)
    with listener, contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
    return 0
