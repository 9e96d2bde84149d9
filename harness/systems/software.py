"""Software of others that systems run: recipes to install it, and where it is.

A system that needs a program has a `Software` (the ability `Installable`): what the
program is called, and a recipe for each version that `splitbrain systems install` can
bring. A recipe is data: it says which packages of which registry, and which file shows
that they hold what is needed. `installing.py` carries recipes out, below one folder:

    $SPLITBRAIN_SYSTEMS, else $XDG_CACHE_HOME/splitbrain/systems (~/.cache/...)
        NAME/VERSION/                 one install, whole or not there at all
        NAME/VERSION/installed.json   from where, and the checksum of every archive

`Software.find` says what to run. `--set binary=FILE` is that file, and
`--set version=VERSION` an install of that version. Without either it is the first of:

    the version that `systems install NAME` brings, if it is installed
    the program on PATH, or in the folders where distributions put it
    another version that is installed, in the order of the recipes

So whoever installs an old version for one run does not have it in all others.

Choices: a script on PATH is passed over, because it executes the real program, and a
process that runs a new program loses its clock faults for a moment.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import importlib.util
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from harness.errors import NotInstalledError, UsageError
from harness.options import Checked, Text, shown
from harness.registry import Option

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ANY = "*"
"""The version of a recipe that serves every version: `{version}` stands for it.

A recipe may serve versions that end with a word, as `*-npm`; `{version}` is then what
stands before it. Such a recipe comes before one for all versions.
"""

RECORD = "installed.json"
"""The file that makes a folder an install; it is written last."""

_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~_-]{0,99}")


def version_text(text: str) -> str:
    """A version, which is the name of a folder too; ValueError if it can be none."""
    if text and not _VERSION.fullmatch(text):
        raise ValueError("it has letters, digits and .+~_- only")
    return text


VERSION = Option(
    "version",
    "",
    "the installed version to run (splitbrain systems list)",
    Checked("a version, or nothing", version_text, 100),
)
"""The option of a system that chooses among installed versions."""

BINARY = Option("binary", "", "the program to run, and no other", Text(4096))
"""The option of a system that names its program."""


@dataclass(frozen=True)
class Debian:
    """Packages of Debian or Ubuntu, unpacked with what they need and isn't there.

    Nothing is configured: no user is made, no service started, and root isn't needed.
    The install finds its own libraries (`Install.env`).
    """

    packages: tuple[str, ...]

    tool: ClassVar[str] = "apt-get"
    get_tool: ClassVar[str] = "Debian and Ubuntu have it"

    @property
    def told(self) -> str:
        """Where this comes from, in words."""
        return f"Debian: {' '.join(self.packages)}"


@dataclass(frozen=True)
class PyPI:
    """Python distributions, as `NAME==VERSION`, with what they need."""

    requirements: tuple[str, ...]

    tool: ClassVar[str] = "pip"
    get_tool: ClassVar[str] = "python -m ensurepip"

    @property
    def told(self) -> str:
        """Where this comes from, in words."""
        return f"PyPI: {' '.join(self.requirements)}"


@dataclass(frozen=True)
class Npm:
    """Packages of npm, as `NAME@VERSION`; none of their scripts is run."""

    packages: tuple[str, ...]

    tool: ClassVar[str] = "npm"
    get_tool: ClassVar[str] = "apt-get install npm"

    @property
    def told(self) -> str:
        """Where this comes from, in words."""
        return f"npm: {' '.join(self.packages)}"


@dataclass(frozen=True)
class Maven:
    """Artifacts of Maven Central, put into `lib/`, and Java files compiled with them.

    Attributes:
        artifacts: Each as GROUP:NAME:VERSION[:PACKAGING[:CLASSIFIER]].
        transitive: Whether what they depend on comes too.
        sources: Java files, which are compiled into `classes/`.
    """

    artifacts: tuple[str, ...]
    transitive: bool = True
    sources: tuple[Path, ...] = ()

    tool: ClassVar[str] = "mvn"
    get_tool: ClassVar[str] = "apt-get install maven"

    @property
    def told(self) -> str:
        """Where this comes from, in words."""
        return f"Maven: {' '.join(self.artifacts)}"


@dataclass(frozen=True)
class Go:
    """A program in Go, put into `bin/`: either a package or a folder of ours.

    Attributes:
        package: As `go install` wants it, PATH@VERSION.
        source: A folder with go.mod and go.sum, whose name the program gets.
        module: What its go.mod requires beside, PATH@VERSION. It then needs no go.sum:
            Go's database of checksums vouches for what is fetched.
    """

    package: str = ""
    source: Path | None = None
    module: str = ""

    tool: ClassVar[str] = "go"
    get_tool: ClassVar[str] = "apt-get install golang-go"

    @property
    def told(self) -> str:
        """Where this comes from, in words."""
        return f"Go: {self.package or self.module or _named(self.source)}"


@dataclass(frozen=True)
class Rust:
    """A program in Rust, put into `bin/`: either a crate or a folder of ours.

    Attributes:
        crate: As `cargo install` wants it, NAME@VERSION.
        source: A folder with Cargo.toml. Without a Cargo.lock beside it, the crates
            are chosen by the first install, and kept by those that replace it.
    """

    crate: str = ""
    source: Path | None = None

    tool: ClassVar[str] = "cargo"
    get_tool: ClassVar[str] = "apt-get install cargo"

    @property
    def told(self) -> str:
        """Where this comes from, in words."""
        return f"Rust: {self.crate or _named(self.source)}"


Source = Debian | PyPI | Npm | Maven | Go | Rust
S = TypeVar("S", bound=Source)


@dataclass(frozen=True)
class Recipe:
    """How to install one version.

    Attributes:
        version: What people call it; ANY for all that have no recipe of their own,
            with a word behind it for those that end with that.
        source: The packages. In each text `{version}` stands for the version.
        program: The file below the install's folder that is to be run; a pattern
            (`glob`) if its place differs between machines. It may hold `{version}`.
        sums: Archive -> its checksum, as `installed.json` tells it, for archives that
            must not be others.
        finish: Called with the folder once all is unpacked, for what is left to do.
            It raises OSError or UsageError if it can't.
    """

    version: str
    source: Source
    program: str
    sums: Mapping[str, str] = field(default_factory=dict)
    finish: Callable[[Path], None] | None = None

    def at(self, version: str) -> Recipe:
        """This recipe for one version."""
        plain = version.removesuffix(self.version.removeprefix(ANY))
        plain = plain if self.version.startswith(ANY) else version
        return dataclasses.replace(
            self,
            version=version,
            source=_filled(self.source, plain),
            program=self.program.replace("{version}", plain),
        )

    def built_from(self) -> str:
        """A digest of the files of ours that are compiled; empty if there are none."""
        files = sorted(_sources(self.source))
        if not files:
            return ""
        digest = hashlib.sha256()
        for path in files:
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Install:
    """A program that is there to be run.

    Attributes:
        version: Of an install of ours; empty for a program found elsewhere.
        folder: The install's folder; None for a program found elsewhere.
        program: The program, or the file that the recipe names in its place.
        env: What the program needs in its environment (`Launch.env`): LD_LIBRARY_PATH,
            PYTHONPATH, NODE_PATH or CLASSPATH, as the source demands.
        told: Where it comes from, in words.
    """

    version: str
    folder: Path | None
    program: Path
    env: Mapping[str, str]
    told: str


@dataclass(frozen=True)
class Software:
    """What one system runs.

    Attributes:
        name: The system's name.
        recipes: The first is what `systems install NAME` brings.
        program: Its name on PATH; empty if it can't be used from there.
        elsewhere: Patterns (`glob`) of the program's path in other places, best last.
        driver: The Python library that clients of the system need; empty for none.
    """

    name: str
    recipes: tuple[Recipe, ...]
    program: str = ""
    elsewhere: tuple[str, ...] = ()
    driver: str = ""

    @property
    def lacks_driver(self) -> bool:
        """Whether clients need a Python library that is not installed."""
        return bool(self.driver) and importlib.util.find_spec(self.driver) is None

    def check_driver(self) -> None:
        """Raises NotInstalledError if clients need a Python library that is missing."""
        if self.lacks_driver:
            text = f"{self.driver}, which clients of {self.name} need, is not installed"
            raise NotInstalledError(f"{text}: pip install {self.driver}")

    def recipe(self, version: str) -> Recipe:
        """The recipe for a version, filled in; "" is the usual one.

        Raises:
            UsageError: There is none; says which there are.
        """
        for recipe in self.recipes:
            many = recipe.version.startswith(ANY)
            if recipe.version == version or (not version and not many):
                return recipe.at(recipe.version)
        for recipe in self.recipes:
            many = recipe.version.startswith(ANY)
            if many and version and version.endswith(recipe.version.removeprefix(ANY)):
                return recipe.at(version)
        known = ", ".join(recipe.version for recipe in self.recipes)
        raise UsageError(
            f"there is no recipe for {self.name} {shown(version)} (versions: {known})"
        )

    def find(self, version: str = "", binary: str = "") -> Install:
        """What to run; the module's docstring says in which order it is looked for.

        Raises:
            UsageError: There is no program `binary`, or no recipe for `version`.
            NotInstalledError: It is not installed; says how to get it.
        """
        if binary:
            path = shutil.which(binary)
            if path is None:
                text = f"{self.name}: binary={shown(binary)}: there is no such program"
                raise UsageError(text)
            return Install("", None, Path(path).absolute(), {}, path)
        if version:
            return self._of_version(version)
        installs = self.installs()
        usual = [one for one in installs if one.version == self.recipe("").version]
        found = [*usual, *filter(None, [self.outside()]), *installs]
        if not found:
            raise self._not_installed("")
        return found[0]

    def installs(self) -> list[Install]:
        """The installs that are whole and up to date, in the order of the recipes."""
        versions = [recipe.version for recipe in self.recipes]
        home = root() / self.name
        there = sorted(path.parent.name for path in home.glob(f"*/{RECORD}"))
        there.sort(key=lambda v: versions.index(v) if v in versions else len(versions))
        return [found for version in there if (found := self.installed(version))]

    def installed(self, version: str) -> Install | None:
        """The install of that version, if it is whole and up to date."""
        folder = root() / self.name / version
        record = read_record(folder)
        if record is None:
            return None
        try:
            recipe = self.recipe(version)
        except UsageError:
            return None  # its recipe is gone
        program = below(folder, recipe.program)
        if program is None or record["built_from"] != recipe.built_from():
            return None
        env = environment(recipe.source, folder, record["libraries"])
        return Install(version, folder, program, env, record["source"])

    def outside(self) -> Install | None:
        """The program on PATH, or elsewhere on this machine."""
        path = shutil.which(self.program) if self.program else None
        if path is None or Path(path).read_bytes()[:2] == b"#!":
            path = None
            for pattern in self.elsewhere:
                path = max(_runnable(glob.glob(pattern)), key=_natural, default=path)
        if path is None:
            return None
        return Install("", None, Path(path).absolute(), {}, path)

    def _of_version(self, version: str) -> Install:
        recipe = self.recipe(version)
        found = self.installed(recipe.version)
        if found is None:
            raise self._not_installed(recipe.version)
        return found

    def _not_installed(self, version: str) -> NotInstalledError:
        named = f"{self.name}@{version}" if version else self.name
        folder = root() / self.name / (version or self.recipe("").version)
        if (record := read_record(folder)) and record["built_from"]:
            why = f"{self.name} was installed by another version of splitbrain"
        else:
            why = f"{self.name}{f' {version}' * bool(version)} is not installed"
        told = (
            "" if version or not self.program else f", or have {self.program} on PATH"
        )
        return NotInstalledError(f"{why}: splitbrain systems install {named}{told}")


def root() -> Path:
    """The folder of all installs."""
    if given := os.environ.get("SPLITBRAIN_SYSTEMS"):
        return Path(given).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser().absolute() / "splitbrain" / "systems"


def read_record(folder: Path) -> dict[str, Any] | None:
    """What an install's `installed.json` tells; None if the folder is no install."""
    try:
        record = json.loads((folder / RECORD).read_text())
        fits = isinstance(record["libraries"], list)
        fits &= isinstance(record["archives"], dict)
        fits &= isinstance(record["source"], str)
        fits &= isinstance(record["built_from"], str)
    except (OSError, ValueError, TypeError, LookupError):
        return None
    return record if fits else None


def below(folder: Path, pattern: str) -> Path | None:
    """The file below a folder that a pattern names; the last in order of several."""
    return max((path for path in folder.glob(pattern) if path.is_file()), default=None)


def environment(
    source: Source, folder: Path, libraries: Sequence[str]
) -> dict[str, str]:
    """What programs of an install need in their environment.

    Args:
        source: Where it came from.
        folder: Its folder.
        libraries: Folders below it with shared libraries.
    """
    match source:
        case Debian():
            paths = [folder / library for library in libraries]
            return {"LD_LIBRARY_PATH": ":".join(map(str, paths))} if paths else {}
        case PyPI():
            # Nodes inherit ours, and would lose what is on it.
            ours = os.environ.get("PYTHONPATH")
            return {"PYTHONPATH": f"{folder}:{ours}" if ours else str(folder)}
        case Npm():
            return {"NODE_PATH": str(folder / "node_modules")}
        case Maven():
            return {"CLASSPATH": f"{folder}/classes:{folder}/lib/*"}
        case Go() | Rust():
            return {}


def _filled(source: S, version: str) -> S:
    """The source with `{version}` replaced in all of its texts."""

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("{version}", version)
        return tuple(map(fill, value)) if isinstance(value, tuple) else value

    fields = dataclasses.fields(source)
    filled = {f.name: fill(getattr(source, f.name)) for f in fields}
    return dataclasses.replace(source, **filled)


def _sources(source: Source) -> list[Path]:
    match source:
        case Maven():
            return list(source.sources)
        case Go(source=Path() as folder) | Rust(source=Path() as folder):
            return [path for path in folder.rglob("*") if path.is_file()]
        case _:
            return []


def _named(folder: Path | None) -> str:
    return "" if folder is None else f"our {folder.name}"


def _runnable(paths: Sequence[str]) -> list[str]:
    return [path for path in paths if os.access(path, os.X_OK)]


def _natural(path: str) -> list[tuple[int, str]]:
    """A key by which 15 is after 9."""
    return [
        (int(part), "") if part.isdigit() else (0, part)
        for part in re.split(r"(\d+)", path)
    ]
