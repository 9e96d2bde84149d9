"""Connections to hosts: log in, bring our code there, and start the agent."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, NotInstalledError, UsageError
from harness.worlds.ssh import uploads
from harness.worlds.ssh.hosts import UNCHECKED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncssh

    from harness.worlds.ssh.hosts import Host

CONNECT_S = 15.0
BOOT_S = 60.0
ANSWER_S = 30.0
KEEPALIVE_S = 5.0
KEEPALIVES_MAX = 4
PYTHON_MIN = (3, 11)
INSTALL = "pip install 'splitbrain[ssh]'"


class HostError(HarnessError):
    """A host can't be reached or used; says which, and why."""


def check_installed() -> None:
    """Refuse to go on without asyncssh.

    Raises:
        NotInstalledError: It isn't here.
    """
    if importlib.util.find_spec("asyncssh") is None:
        raise NotInstalledError(f"--hosts needs asyncssh, which isn't here: {INSTALL}")


class Session:
    """An agent on a host, over a connection of its own.

    Attributes:
        host: The host.
        reader: What the agent says.
        writer: What it is told.
    """

    def __init__(
        self,
        host: Host,
        connection: asyncssh.SSHClientConnection,
        process: asyncssh.SSHClientProcess[bytes],
    ) -> None:
        self.host = host
        self._connection = connection
        self._process = process
        self.reader = process.stdout
        self.writer = process.stdin
        self._said = bytearray()
        self._stderr = asyncio.get_running_loop().create_task(self._hear_stderr())

    @property
    def last_words(self) -> str:
        """The end of what it said on standard error, in a line; may be empty."""
        lines = self._said.decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip()[:300] if lines else ""

    @property
    def said(self) -> str:
        """The end of what it said on standard error."""
        return self._said.decode("utf-8", "replace")

    async def _hear_stderr(self) -> None:
        with contextlib.suppress(Exception):
            while data := await self._process.stderr.read(4096):
                self._said += data
                del self._said[: -(16 << 10)]

    async def read(self) -> dict[str, Any]:
        """The next line that it says.

        Raises:
            UsageError: It can't work in its folder there.
            HostError: It says nothing in time, no line of ours, or has ended.
        """
        import asyncssh

        try:
            async with asyncio.timeout(BOOT_S):
                line = await self.reader.readline()
                told = json.loads(line) if line else None
        except TimeoutError:
            raise HostError(f"{self.host.name}: no answer in {BOOT_S:g} s") from None
        except ValueError:
            text = line.decode("utf-8", "replace").strip()[:120]
            why = f"its shell says {text!r} where nothing may be said"
            raise HostError(f"{self.host.name}: {why}") from None
        except (OSError, asyncssh.Error) as problem:
            raise HostError(f"{self.host.name}: {problem}") from problem
        if isinstance(told, dict) and "problem" in told:
            where = f"{self.host.name}: {self.host.folder}"
            raise UsageError(f"{where}: {told['problem']} (folder: in the hosts file)")
        if not isinstance(told, (dict, list)):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait_closed(), 2)
            why = self.last_words or "it ended without a word"
            raise HostError(f"{self.host.name}: {self.host.python}: {why}")
        return told  # type: ignore[return-value]  # a list is an answer to heal

    def write(self, message: Any) -> None:
        """Tell it a line."""
        self.writer.write(json.dumps(message).encode() + b"\n")

    async def close(self) -> None:
        """Hang up, and wait until what ran there has ended."""
        with contextlib.suppress(Exception):
            self.writer.write_eof()
        with contextlib.suppress(TimeoutError, Exception):
            await asyncio.wait_for(self._process.wait_closed(), ANSWER_S)
        self.abort()

    def abort(self) -> None:
        """Hang up at once."""
        self._stderr.cancel()
        self._connection.abort()


async def connect(host: Host) -> Session:
    """Log in and start the agent, which then waits to be told what for.

    Raises:
        UsageError: The host refuses us, or is not what the hosts file says.
        HostError: It can't be reached, or can't run the agent.
    """
    import asyncssh

    options: dict[str, Any] = {}
    if host.user:
        options["username"] = host.user
    if host.key:
        options["client_keys"] = [host.key]
    if host.known_hosts:
        unchecked = host.known_hosts == UNCHECKED
        options["known_hosts"] = None if unchecked else host.known_hosts
    where = f"{host.name} ({host.address} port {host.port})"
    try:
        connection = await asyncssh.connect(
            host.address,
            host.port,
            connect_timeout=CONNECT_S,
            login_timeout=CONNECT_S,
            keepalive_interval=KEEPALIVE_S,
            keepalive_count_max=KEEPALIVES_MAX,
            **options,
        )
    except asyncssh.HostKeyNotVerifiable as problem:
        how = f"ssh-keyscan -p {host.port} {host.address} >> ~/.ssh/known_hosts"
        raise UsageError(
            f"{where}: its host key is not known ({problem.reason}): check and add it, "
            f"as by {how}; or say known_hosts: {UNCHECKED}"
        ) from None
    except asyncssh.PermissionDenied as problem:
        user = host.user or "you"
        raise UsageError(
            f"{where}: it does not let {user} in ({problem.reason}): see its key and "
            "user in the hosts file"
        ) from None
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as problem:
        raise UsageError(f"{where}: key {host.key}: {problem}") from None
    except (OSError, TimeoutError, asyncssh.Error) as problem:
        why = str(problem) or type(problem).__name__
        raise HostError(f"{where} can't be reached: {why}") from None
    try:
        return await _boot(host, connection)
    except BaseException:  # whatever it is, it is raised again
        connection.abort()
        raise


async def _boot(host: Host, connection: asyncssh.SSHClientConnection) -> Session:
    boot = Path(__file__).with_name("boot.py").read_text()
    sudo = "sudo -n --preserve-env=SSH_CONNECTION " if host.sudo else ""
    command = f"exec {sudo}{host.python} -c {shlex.quote(boot)}"
    process: asyncssh.SSHClientProcess[bytes] = await connection.create_process(
        command, encoding=None, window=1 << 22
    )
    session = Session(host, connection, process)
    try:
        told = await session.read()
    except HostError as problem:
        raise UsageError(f"{problem} (python: PATH in the hosts file)") from None
    version = tuple(told.get("python", ()))
    if version < PYTHON_MIN:
        has = ".".join(map(str, version))
        raise UsageError(
            f"{host.name}: {host.python} is Python {has} there, and the agent needs "
            "3.11 or newer (python: PATH in the hosts file)"
        )
    digest, code = uploads.code()
    session.write({"folder": host.folder, "digest": digest, "bytes": len(code)})
    told = await session.read()
    if not told["have"]:
        session.writer.write(code)
    return session


async def ask(host: Host, what: str) -> Any:
    """Ask a host to look at itself ("look"), or to heal what runs left ("heal").

    Raises:
        UsageError, HostError: As `connect`; or there is no answer.
    """
    async with _asked(host) as session:
        session.write({"ask": what, "address": host.node_address})
        return await session.read()


@contextlib.asynccontextmanager
async def _asked(host: Host) -> AsyncIterator[Session]:
    session = await connect(host)
    try:
        yield session
    finally:
        await session.close()


async def ask_all(hosts: list[Host], what: str) -> list[Any]:
    """Ask all hosts at once; the answers in their order.

    Raises:
        UsageError, HostError: One of them could not be asked.
    """
    return list(await asyncio.gather(*(ask(host, what) for host in hosts)))
