"""Carries out recipes (`software.py`): fetches, verifies and unpacks, or builds.

An install is made in a folder of its own, `.partial`, and gets its name when it is
whole; so one that was cut off leaves nothing that counts, and the next removes what it
left. A lock keeps two from working on the same system.

Archives are fetched by the registry's own client, which verifies what the registry
signs. Beside that, an archive whose checksum is written in the recipe, or in the record
of the install that is to be replaced, must have it still.

Each way to fail is told in one line. Clients say in many words that there is no network
or no such version; `WHY` has the phrases by which these are told from other failures.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from xml.sax.saxutils import escape

from harness.errors import NotInstalledError, UsageError
from harness.host import interrupts, syscalls
from harness.systems import software as softwares
from harness.systems.software import (
    RECORD,
    Debian,
    Go,
    Install,
    Maven,
    Npm,
    PyPI,
    Rust,
    Software,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

Tell: TypeAlias = Callable[[str], None]
Sums: TypeAlias = Mapping[str, str]

LOCK = "Cargo.lock"
"""Beside a program that was built with cargo: which crates, and their checksums."""

NO_NETWORK = "no network"
NO_SUCH = "no such version"
DISK_FULL = "no space left on the disk"

WHY: Sequence[tuple[str, str]] = (
    (r"No space left on device|ENOSPC|not enough free space", DISK_FULL),
    (
        r"Could not resolve host|failure resolving|Network is unreachable|no such host"
        r"|Connection refused|ENOTFOUND|EAI_AGAIN"
        r"|ECONNREFUSED|ENETUNREACH|ETIMEDOUT|dial tcp|timed out|Unknown host"
        r"|Failed to establish a new connection|Temporary failure"
        r"|no route to host|ConnectTimeout|offline",
        NO_NETWORK,
    ),
    (
        r"Unable to locate package|no installation candidate|was not found"
        r"|No matching distribution|ETARGET|E404|notarget|unknown revision"
        r"|no matching versions|Could not find artifact|could not find"
        r"|not found: |404 Not Found|does not exist in|Couldn't find any package"
        r"|invalid: should be v\d|version is not available",
        NO_SUCH,
    ),
)
"""Phrases in clients' output -> what they mean; the first that is found counts."""

_SEARCHED_CHARS = 20_000
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_NOT_THE_REASON = re.compile(r"^(npm (err!|error) )?(A complete log|$)|^\[notice\]")


def install(
    software: Software, version: str, tell: Tell, *, again: bool = False
) -> Install:
    """Bring a version, unless it is there already.

    Args:
        software: What a system runs.
        version: The version; "" for the usual one.
        tell: Gets a line for each step.
        again: Do it even if it is there.

    Raises:
        UsageError: It can't be had: there is no such version, no network, no room, or
            an archive that is not the one that it should be.
        NotInstalledError: The program that fetches or builds it isn't there.
    """
    recipe = software.recipe(version)
    source = recipe.source
    _need(source.tool, source.get_tool)
    named = f"{software.name} {recipe.version}"
    waits = f"waits for another install of {software.name}"
    home = softwares.root() / software.name
    folder, partial = home / recipe.version, home / ".partial"
    with (
        _told(named),
        _locked(home, lambda: tell(waits)),
    ):
        if not again and (found := software.installed(recipe.version)):
            return found
        shutil.rmtree(partial, ignore_errors=True)
        try:
            archives, content = partial / "archives", partial / "content"
            archives.mkdir(parents=True)
            content.mkdir()
            former = softwares.read_record(folder) or {"archives": {}}
            wanted = {**former["archives"], **recipe.sums}
            work = _Work(tell, archives, content, wanted, folder)
            sums = _bring(source, work)
            if recipe.finish is not None:
                tell("prepares what was unpacked")
                recipe.finish(content)
            if softwares.below(content, recipe.program) is None:
                raise UsageError(f"{source.told} does not hold {recipe.program}")
            record = {
                "system": software.name,
                "version": recipe.version,
                "source": source.told,
                "archives": dict(sorted(sums.items())),
                "libraries": _libraries(content),
                "built_from": recipe.built_from(),
                "installed": datetime.datetime.now(datetime.UTC).isoformat(),
            }
            (content / RECORD).write_text(f"{json.dumps(record, indent=2)}\n")
            if folder.exists():
                os.rename(folder, partial / "former")
            os.rename(content, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    found = software.installed(recipe.version)
    assert found is not None
    return found


class _Work:
    """The folders of one install, and its commands.

    Args:
        tell: Gets a line for each step.
        archives: Where archives go.
        content: What will be the install.
        wanted: Archive -> the checksum that it must have.
        former: The install that is to be replaced, if there is one.
    """

    def __init__(
        self, tell: Tell, archives: Path, content: Path, wanted: Sums, former: Path
    ) -> None:
        self.tell = tell
        self.archives = archives
        self.content = content
        self.former = former
        self._wanted = wanted

    def verified(self, sums: Sums) -> Sums:
        """The checksums of what was fetched; none may differ from what is known.

        Raises:
            UsageError: One does.
        """
        for archive, found in sums.items():
            wanted = self._wanted.get(archive, found)
            if wanted != found:
                raise UsageError(
                    f"the checksum of {archive} differs: it is {found}, and should be "
                    f"{wanted}; nothing was installed"
                )
        return sums

    def fetched(self) -> Sums:
        """The checksums of all archives that are there; verified."""
        files = sorted(path for path in self.archives.iterdir() if path.is_file())
        return self.verified({path.name: _sha256(path) for path in files})

    def run(self, *words: str, cwd: Path | None = None, env: Sums | None = None) -> str:
        """The output of a command.

        Raises:
            UsageError: It failed; says why, as far as can be told.
        """
        self.tell(" ".join(words)[:200])
        stops = interrupts.stop_signals()

        def begin() -> None:
            syscalls.die_with_parent(signal.SIGKILL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)

        # An interrupt between fork and `try` would leave the command behind.
        signal.pthread_sigmask(signal.SIG_BLOCK, stops)
        try:
            command = subprocess.Popen(
                words,
                cwd=cwd or self.archives,
                env={**os.environ, "LC_ALL": "C", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
                preexec_fn=begin,
            )
            try:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)
                output, _ = command.communicate()
            except BaseException:  # An interrupt, too: nothing may outlive us.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(command.pid, signal.SIGKILL)
                command.communicate()
                raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)
        if command.returncode:
            raise UsageError(_why_failed(words, command.returncode, output))
        return output


def _bring(source: softwares.Source, work: _Work) -> Sums:
    """Put what the source names into `work.content`; the checksums of its archives."""
    match source:
        case Debian():
            return _debian(source, work)
        case PyPI():
            return _pypi(source, work)
        case Npm():
            return _npm(source, work)
        case Maven():
            return _maven(source, work)
        case Go():
            return _go(source, work)
        case Rust():
            return _rust(source, work)


def _debian(source: Debian, work: _Work) -> Sums:
    try:
        _download_packages(source, work, [])
    except UsageError as error:
        # The machine's lists may be old, or empty, and only root may renew them.
        if NO_SUCH not in str(error):
            raise
        own = work.archives / "apt"
        options = [
            *("-o", f"Dir::State::Lists={own}/lists"),
            *("-o", f"Dir::Cache={own}/cache"),
            *("-o", "APT::Sandbox::User=root"),
        ]
        for folder in ("lists/partial", "cache/archives/partial"):
            (own / folder).mkdir(parents=True)
        work.run("apt-get", "-qq", *options, "update")
        _download_packages(source, work, options)
        shutil.rmtree(own)
    sums = work.fetched()
    for archive in sums:
        work.run("dpkg-deb", "-x", archive, str(work.content))
    return sums


def _download_packages(source: Debian, work: _Work, options: Sequence[str]) -> None:
    """Fetch the packages, and those that they need and that this machine lacks."""
    simulated = work.run(
        "apt-get",
        *options,
        "-s",
        "--no-install-recommends",
        "install",
        *source.packages,
    )
    needed = re.findall(r"^Inst (\S+) (?:\[\S*\] )?\((\S+)", simulated, re.MULTILINE)
    versions = dict(needed)
    missing = [f"{name}={version}" for name, version in versions.items()]
    named = [package for package in source.packages if package not in versions]
    quiet = ("-qq", "-o", "APT::Sandbox::User=root")
    work.run("apt-get", *quiet, *options, "download", *named, *missing)


def _pypi(source: PyPI, work: _Work) -> Sums:
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
    here = str(work.archives)
    work.run(*pip, "download", "--quiet", "--dest", here, *source.requirements)
    sums = work.fetched()
    offline = ("--no-index", "--find-links", here, "--target", str(work.content))
    work.run(*pip, "install", "--quiet", *offline, *source.requirements)
    return sums


def _npm(source: Npm, work: _Work) -> Sums:
    work.run("npm", "pack", "--loglevel=error", *source.packages)
    sums = work.fetched()
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    archives = [str(work.archives / archive) for archive in sums]
    work.run("npm", "install", *quiet, "--prefix", str(work.content), *archives)
    return sums


def _maven(source: Maven, work: _Work) -> Sums:
    pom = work.archives / "pom.xml"
    pom.write_text(_pom(source))
    goal = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
    lib = work.content / "lib"
    flags = [f"-DoutputDirectory={lib}", "-DincludeScope=runtime"]
    if not source.transitive:
        flags.append("-DexcludeTransitive=true")
    quiet = ("-B", "-q", "-Dstyle.color=never")
    work.run("mvn", *quiet, "-f", str(pom), goal, *flags)
    sums = work.verified({path.name: _sha256(path) for path in sorted(lib.iterdir())})
    if source.sources:
        _need("javac", "apt-get install default-jdk-headless")
        files = [str(path) for path in source.sources]
        classes = str(work.content / "classes")
        work.run("javac", "-nowarn", "-cp", f"{lib}/*", "-d", classes, *files)
    return sums


def _pom(source: Maven) -> str:
    """A project that depends on the artifacts."""
    dependencies = ""
    for artifact in source.artifacts:
        tags = ("groupId", "artifactId", "version", "type", "classifier")
        pairs = zip(tags, artifact.split(":"), strict=False)
        inside = "".join(f"<{tag}>{escape(text)}</{tag}>" for tag, text in pairs)
        dependencies += f"<dependency>{inside}</dependency>"
    return (
        "<project><modelVersion>4.0.0</modelVersion><groupId>splitbrain</groupId>"
        "<artifactId>install</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>\n"
    )


def _go(source: Go, work: _Work) -> Sums:
    programs = work.content / "bin"
    env = {"GOBIN": str(programs), "CGO_ENABLED": "0"}
    if source.source is None:
        work.run("go", "install", source.package, env=env)
    else:
        build = shutil.copytree(source.source, work.archives / source.source.name)
        out = str(programs / source.source.name)
        changes = "readonly"
        if source.module:
            changes = "mod"
            flag = f"-require={source.module}"
            work.run("go", "mod", "edit", flag, cwd=build, env=env)
        flags = ("-trimpath", f"-mod={changes}", "-buildvcs=false", "-o", out)
        work.run("go", "build", *flags, ".", cwd=build, env=env)
    told = work.run("go", "version", "-m", str(programs))
    modules = re.findall(
        r"^\t(?:mod|dep|=>)\t(\S+)\t(\S+)\t(h1:\S+)", told, re.MULTILINE
    )
    return work.verified({f"{path}@{version}": h1 for path, version, h1 in modules})


def _rust(source: Rust, work: _Work) -> Sums:
    env = {"CARGO_TARGET_DIR": str(work.archives / "target")}
    quiet = ("--quiet", "--locked", "--root", str(work.content))
    if source.source is None:
        name, _, version = source.crate.partition("@")
        work.run("cargo", "install", *quiet, "--version", version, name, env=env)
        return work.verified(_crate_sum(name, version))
    build = shutil.copytree(source.source, work.archives / source.source.name)
    lock = build / LOCK
    locked = lock.is_file()
    if not locked and (work.former / LOCK).is_file():
        shutil.copy(work.former / LOCK, lock)
    # Of a lock that is there, cargo keeps what still fits the manifest.
    work.run("cargo", "fetch", "--quiet", *["--locked"] * locked, cwd=build, env=env)
    crates = tomllib.loads(lock.read_text())["package"]
    sums = work.verified(
        {
            f"{crate['name']}@{crate['version']}": crate["checksum"]
            for crate in crates
            if "checksum" in crate
        }
    )
    work.run("cargo", "install", *quiet, "--offline", "--path", str(build), env=env)
    shutil.copy(lock, work.content / LOCK)
    return sums


def _crate_sum(name: str, version: str) -> Sums:
    """The checksum of the archive that cargo has fetched, if it still has it."""
    home = Path(os.environ.get("CARGO_HOME") or "~/.cargo").expanduser()
    found = sorted(home.glob(f"registry/cache/*/{name}-{version}.crate"))
    return {found[0].name: _sha256(found[0])} if found else {}


def untar(archive: Path, folder: Path) -> None:
    """Unpack an archive of tar, however compressed, for recipes' `finish`.

    Raises:
        UsageError: It is no such archive, or has files that would lie elsewhere.
    """
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise UsageError(f"{archive.name} can't be unpacked: {error}") from error


def _libraries(content: Path) -> list[str]:
    """The folders below one that hold shared libraries with a version (lib*.so.1)."""
    found = {path.parent for path in content.rglob("lib*.so.*")}
    return sorted(str(folder.relative_to(content)) for folder in found)


def _need(program: str, advice: str) -> None:
    """Raises NotInstalledError unless there is such a program."""
    if program == "pip":
        import importlib.util

        there = importlib.util.find_spec("pip") is not None
    else:
        there = shutil.which(program) is not None
    if not there:
        raise NotInstalledError(f"{program} is needed for this, and not here: {advice}")


def _why_failed(words: Sequence[str], status: int, output: str) -> str:
    """Why a command failed, in one line."""
    program = "pip" if "pip" in words else words[0]
    plain = _COLOUR.sub("", output)
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    said = [line for line in lines if not _NOT_THE_REASON.search(line)]
    for pattern, meaning in WHY:
        for line in said:
            if re.search(pattern, line[:_SEARCHED_CHARS], re.IGNORECASE):
                return f"{meaning}: {program} says {line[:300]!r}"
    last = next(
        (line for line in said if re.search("err|fatal", line, re.IGNORECASE)),
        said[-1] if said else "nothing",
    )
    return f"{program} failed with status {status}, and says {last[:300]!r}"


@contextlib.contextmanager
def _told(named: str) -> Iterator[None]:
    """Say what could not be installed, whatever goes wrong."""
    try:
        yield
    except NotInstalledError:
        raise
    except UsageError as error:
        raise UsageError(f"{named} was not installed: {error}") from error
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        why = DISK_FULL if full else f"{error.strerror or error}"
        where = f" ({error.filename})" if error.filename else ""
        raise UsageError(f"{named} was not installed: {why}{where}") from error


@contextlib.contextmanager
def _locked(home: Path, waits: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of one system's installs; it ends with this process."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
