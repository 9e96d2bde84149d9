"""The run folder: everything a run leaves behind, written as it happens.

    results/<system>-<workload>/<utc>-<seed>/
        test.yaml  plan.yaml  history.jsonl  faults.jsonl  clocks.jsonl  errors.jsonl
        run.json  verdict.json  report.html  nodes/n1/{log,data}
        resources.jsonl  logtimes.jsonl (`harness.run.gauges`)
        bulk.tar.gz (`harness.host.packing`)  thinned.json (`harness.host.thinning`)

Lines are appended with one write each and are never rewritten, so a readable prefix is
left however the controller ends, even by a full disk. verdict.json and report.html can
be made again from the rest (`splitbrain report RUN`). `harness.run.records` has the
content of test.yaml, run.json and verdict.json.

`RunFolder` writes a folder and reads it strictly: it refuses damaged files, as a folder
with one may have others. `Salvage` reads what is left of a folder, for reports.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
import yaml

from harness.errors import HarnessError, UsageError
from harness.host import documents, nodefiles, packing, program, thinning
from harness.host.documents import writing
from harness.run.records import (
    VERSION,
    FaultLine,
    RunRecord,
    TestRecord,
    VerdictRecord,
)
from harness.run.spec import check_numbers
from harness.visible import without_colours

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RUN_NAME = re.compile(r"[^A-Za-z0-9._-]+")

READ = (
    "test.yaml",
    "plan.yaml",
    "run.json",
    "verdict.json",
    "history.jsonl",
    "faults.jsonl",
    "clocks.jsonl",
    "errors.jsonl",
    "resources.jsonl",
    "logtimes.jsonl",
    "messages.jsonl",
    "why.json",
)
"""The files of a run folder that judges and reports read, beside those of nodes."""

MEND = "restore it from a copy, or run the test again"
LINES_BYTES_MAX = 256 << 20
FILE_BYTES_MAX = 1 << 30
TEXT_BYTES_MAX = 32 * 1024
LOG_TAIL_BYTES = 48 * 1024
"""Length of the end of each node's log that a report shows; it links to the rest."""

_NO_SUCH_PLACE = {errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}

_FOLDED = set("\x85\u2028\u2029")

_FAULT_LINE = msgspec.json.Decoder(FaultLine)

R = TypeVar("R")
V = TypeVar("V", TestRecord, RunRecord, VerdictRecord)


def jsonable(value: Any) -> Any:
    """The text of a value that JSON has no form for: evidence is kept in any case."""
    return repr(value)


def as_data(record: msgspec.Struct) -> dict[str, Any]:
    """A record of `harness.run.records` as it stands in its file."""
    data: dict[str, Any] = msgspec.to_builtins(record, enc_hook=jsonable)
    return data


class JsonLines:
    """An append-only file of JSON lines.

    Raises:
        HarnessError: The file can't be made or written to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with writing(path):
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one line at once, either the whole of it or nothing."""
        line = msgspec.json.encode(record, enc_hook=jsonable) + b"\n"
        with writing(self._path):
            written = os.write(self._fd, line)
            if written < len(line):
                # A full disk took a part of the line; the next must not follow on it.
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class _Dumper(yaml.SafeDumper):
    """A YAML dumper that writes every text so that it is read back unchanged."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Double-quote some texts: elsewhere PyYAML folds line breaks of Unicode."""
    style = '"' if _FOLDED & set(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, results: Path, name: str, seed: int) -> RunFolder:
        """A new folder `results/name/<utc>-<seed>`; `results/latest` points at it.

        Raises:
            UsageError: No folder can have that name.
            HarnessError: The disk is full or read-only, or another user owns the place.
        """
        now = datetime.datetime.now(datetime.UTC)
        stamp = now.strftime("%Y%m%dT%H%M%S.%f")[:-3] + "Z"
        parent = results.absolute() / RUN_NAME.sub("_", name)
        path = parent / f"{stamp}-{seed}"
        try:
            path.mkdir(parents=True)
            point(results.absolute() / "latest", path)
        except OSError as problem:
            fault = UsageError if problem.errno in _NO_SUCH_PLACE else HarnessError
            raise fault(
                f"cannot write results to {results}: {problem.strerror}; "
                "choose another place with --results DIR"
            ) from problem
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The folder of an earlier run, unpacked if it was packed.

        Raises:
            UsageError: There is no run at `path`, links lead out of its folder, it was
                thinned, or what was packed can't be unpacked.
        """
        try:
            os.stat(path / "test.yaml")
        except (OSError, ValueError) as problem:  # ValueError: a NUL in its name
            if isinstance(problem, OSError) and problem.errno not in _NO_SUCH_PLACE:
                raise UsageError(
                    f"cannot read {path / 'test.yaml'}: {problem.strerror}"
                ) from None
            raise UsageError(
                f"{path} is no run folder: it has no test.yaml "
                "(runs are in results/, and results/latest is the last one)"
            ) from None
        refuse_links_out(path)
        thinning.refuse(path)
        packing.unpack(path)
        return cls(path.resolve())

    def need_room(self) -> None:
        """See that files can be written here, before any work is done for them.

        Raises:
            UsageError: They can't.
        """
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise UsageError(
                f"cannot write to {self.path}, where the result is to go: copy the run "
                "to a place of yours first"
            )

    def test(self) -> TestRecord:
        """What was asked for.

        The command that repeats the run is made anew: the one in test.yaml has paths
        relative to the working directory and the folder's place of that time.

        Raises:
            UsageError: test.yaml is missing or damaged, or has impossible numbers.
        """
        test = self._record("test.yaml", TestRecord)
        if test is None:
            raise UsageError(f"{self.path} is no run folder: it has no test.yaml")
        if test.version > 0 and not test.repro:
            raise UsageError(
                f"{self.path / 'test.yaml'} is cut off: it lacks its last keys; {MEND}"
            )
        if test.version == 0:
            written = self.read_as("test.yaml", dict[str, Any])
            assert written is not None
            if written["spec"].get("plan") is not None:
                test.plan = "written"  # version 0 kept a written plan in the spec
        try:
            check_numbers(test.spec)
        except UsageError as bad:
            raise UsageError(f"{self.path / 'test.yaml'}: {bad}") from None
        plan = self.path / "plan.yaml" if test.plan == "written" else None
        test.repro = shlex.join(test.spec.command(plan))
        return test

    def run(self) -> RunRecord | None:
        """How the run went; None if its controller ended before it could record that.

        Raises:
            UsageError: run.json is damaged.
        """
        return self._record("run.json", RunRecord)

    def verdict(self) -> VerdictRecord | None:
        """What the run showed; None if the run has not been judged.

        Raises:
            UsageError: verdict.json is damaged.
        """
        return self._record("verdict.json", VerdictRecord)

    def write_run(self, record: RunRecord) -> None:
        """Store how the run went."""
        self.write_json("run.json", as_data(record))

    def write_verdict(self, record: VerdictRecord) -> None:
        """Store what the run showed."""
        self.write_json("verdict.json", as_data(record))

    def _record(self, name: str, kind: type[V]) -> V | None:
        record = self.read_as(name, kind)
        if record is not None and record.version > VERSION:
            raise UsageError(
                f"{self.path / name} is of version {record.version}, and this program "
                f"reads up to {VERSION}: use the one that wrote it"
            )
        return record

    def lines(self, name: str) -> JsonLines:
        """The append-only file called `name`."""
        return JsonLines(self.path / name)

    def lines_anew(self, name: str) -> JsonLines:
        """A new, empty append-only file called `name`; what was there is removed.

        A node could write to its folder, and may have put something there.

        Raises:
            HarnessError: What was there can't be removed.
        """
        try:
            nodefiles.clear(self.path / name)
            return JsonLines(self.path / name)
        except OSError as problem:
            raise HarnessError(
                f"cannot make {self.path / name}: {problem.strerror}"
            ) from None

    def write_yaml(self, name: str, data: Any) -> None:
        """Store `data` under `name`."""
        text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
        self.write_text(name, text)

    def write_json(self, name: str, data: Any) -> None:
        """Store `data` under `name`, indented, replacing it in one step."""
        text = json.dumps(data, indent=2, default=jsonable, ensure_ascii=False)
        self.write_text(name, text + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Store `text` under `name`, replacing it in one step.

        Raises:
            HarnessError: It can't be written; the former content is still there.
        """
        temporary = self.path / f".{name}.tmp"
        try:
            with writing(self.path / name):
                # A folder may come from anywhere, and a link in it lead anywhere.
                temporary.unlink(missing_ok=True)
                with temporary.open("x", encoding="utf-8") as file:
                    file.write(text)
                temporary.replace(self.path / name)
        except HarnessError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def read_as(self, name: str, kind: type[R]) -> R | None:
        """The content of the JSON or YAML file `name`; None if there is no such file.

        Raises:
            UsageError: The file is damaged; names it and the place. A controller writes
                such files in one step, so a damaged one was altered afterwards.
        """
        path = self.path / name
        if not os.path.exists(path):
            return None
        read = documents.read_json if path.suffix == ".json" else documents.read_yaml
        try:
            return msgspec.convert(read(path), kind)
        except msgspec.ValidationError as bad:
            raise UsageError(f"{path} is damaged: {bad}; {self._mend(name)}") from None
        except UsageError as bad:
            where = "" if str(path) in str(bad) else f"{path}: "
            raise UsageError(f"{where}{bad}; {self._mend(name)}") from None

    def _mend(self, name: str) -> str:
        """What to do about a damaged file."""
        if name == "verdict.json":
            run = shlex.quote(program.near(self.path))
            return f"{program.called()} report {run} judges the run anew"
        return MEND

    def faults(self) -> list[FaultLine]:
        """The lines of faults.jsonl, which the controller alone has written.

        A last line without its newline is left out: the controller was killed while it
        wrote it.

        Raises:
            UsageError: Any other line is damaged; names the file and the line.
        """
        path = self.path / "faults.jsonl"
        if not os.path.exists(path):
            return []
        *lines, _ = documents.read_bytes(path, bytes_max=LINES_BYTES_MAX).split(b"\n")
        found = []
        for number, line in enumerate(lines, start=1):
            try:
                found.append(_FAULT_LINE.decode(line))
            except (ValueError, RecursionError) as bad:
                raise UsageError(
                    f"{path}, line {number} is damaged: {bad}; {MEND}"
                ) from None
        return found

    def read_lines(self, name: str) -> list[dict[str, Any]]:
        """The JSON objects of a lines file; lines that hold none are passed over."""
        try:
            return list(nodefiles.objects(self.path / name))
        except OSError:
            return []

    def tail_of_log(self, node: str, *, lines: int = 5) -> str:
        """The last lines of a node's log, for messages."""
        try:
            with nodefiles.open_plain(self.path / "nodes" / node / "log") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - 4096))
                text = log.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(text.strip().splitlines()[-lines:])


def refuse_links_out(folder: Path) -> None:
    """Refuse a run folder in which something that is read lies elsewhere.

    Run folders come from anywhere, and a link in one could have a report show any file
    of the user's. What nodes put into folders of theirs is seen to by `nodefiles`.

    Raises:
        UsageError: There is such a link; names it.
    """
    nodes = folder / "nodes"
    # A folder of nodes that leads out is refused itself.
    places = [nodes / name for name in _names_in(nodes)]
    for path in [*(folder / name for name in READ), nodes, *places]:
        if leads_out(folder, path):
            raise UsageError(
                f"{path} is a link that leads out of the run's folder, so it is not "
                "read; remove it, or put a copy in its place"
            )


def leads_out(folder: Path, path: Path) -> bool:
    """Whether links make a path below a folder that of something outside of it."""
    inside = os.path.join(os.path.realpath(folder), "")
    return not os.path.realpath(path).startswith(inside)


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def point(link: Path, target: Path) -> None:
    """Make `link` a symbolic link to `target`, replacing an older one in one step."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent))
    temporary.replace(link)


@dataclass(frozen=True)
class LogTail:
    """The end of a node's log; `size` is the length of the whole log in bytes."""

    node: str
    text: str
    size: int
    cut: bool


@dataclass
class Lines(Generic[R]):
    """The good lines of a JSON lines file, and a sentence about the others."""

    items: list[R] = field(default_factory=list)
    problem: str = ""


class Salvage:
    """Reads what is left of a run folder in any state; never fails.

    Args:
        path: The folder.

    Attributes:
        problems: A sentence for each file that was missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.problems: list[str] = []
        self._path = path

    def text(self, name: str) -> str:
        """The beginning of a text file; empty if there is none to read."""
        return (self._read(name) or b"")[:TEXT_BYTES_MAX].decode("utf-8", "replace")

    def document(self, name: str) -> Any:
        """A YAML or JSON file as plain data; None if it is missing or damaged."""
        data = self._read(name)
        if data is None:
            return None
        is_json = name.endswith(".json")
        if not is_json and len(data) > documents.BYTES_MAX:
            self.problems.append(f"{name} is too large to show.")
            return None
        parse = documents.parse_json if is_json else documents.parse_yaml
        try:
            return parse(data.decode(), name)
        except (UnicodeDecodeError, UsageError):
            self.problems.append(f"{name} is damaged and was ignored.")
            return None

    def lines(self, name: str, kind: type[R], *, optional: bool = False) -> list[R]:
        """The undamaged lines of a JSON lines file. Cost: 2 us a line."""
        data = self._read(name, optional=optional)
        if data is None:
            return []
        lines = decode_lines(data, kind)
        if lines.problem:
            self.problems.append(f"{name}: {lines.problem}")
        return lines.items

    def logs(self) -> list[LogTail]:
        """The ends of the nodes' logs."""
        nodes = self._path / "nodes"
        if not nodes.is_dir():
            self.problems.append("nodes/ (the nodes' logs) is missing.")
            return []
        tails = []
        for node in sorted(nodes.iterdir(), key=lambda path: natural(path.name)):
            if leads_out(self._path, node):
                self.problems.append(f"nodes/{node.name} is a link to elsewhere.")
                continue
            try:
                tails.append(_tail(node.name, node / "log"))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as problem:
                # A node can put anything in the place of its log.
                self.problems.append(f"nodes/{node.name}/log: {problem.strerror}.")
        return tails

    def _read(self, name: str, *, optional: bool = False) -> bytes | None:
        """A file's bytes; None, and a sentence in `problems`, if it can't be read."""
        path = self._path / name
        if not os.path.exists(path):  # pathlib raises in a folder without permission
            if not optional:
                self.problems.append(f"{name} is missing.")
            return None
        if leads_out(self._path, path):
            self.problems.append(f"{name} is a link to elsewhere, and was ignored.")
            return None
        try:
            return documents.read_bytes(path, bytes_max=FILE_BYTES_MAX)
        except UsageError:
            self.problems.append(f"{name} is no plain file, or can't be read.")
            return None


def decode_lines(data: bytes, kind: type[R]) -> Lines[R]:
    """Decode JSON lines; damaged ones are skipped and named in `problem`."""
    decoder = msgspec.json.Decoder(kind)
    try:
        return Lines(decoder.decode_lines(data))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    lines: Lines[R] = Lines()
    raw = data.split(b"\n")
    bad: list[int] = []
    for position, line in enumerate(raw, 1):
        if not line.strip():
            continue
        try:
            lines.items.append(decoder.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            bad.append(position)
    if bad == [len(raw)]:
        lines.problem = f"the last line ({bad[0]}) is torn; the record was cut off."
    elif bad:
        were = "damaged line was" if len(bad) == 1 else "damaged lines were"
        lines.problem = f"{len(bad):,} {were} skipped, the first of them line {bad[0]}."
    return lines


def _tail(node: str, path: Path) -> LogTail:
    """The last LOG_TAIL_BYTES of a log, from the start of a line."""
    with nodefiles.open_plain(path) as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - LOG_TAIL_BYTES))
        data = file.read(LOG_TAIL_BYTES)
    cut = size > LOG_TAIL_BYTES
    if cut:
        data = data.partition(b"\n")[2] or data
    text = without_colours(data.decode("utf-8", "replace"))
    return LogTail(node, text, size, cut)


def natural(name: str) -> tuple[str, int, str]:
    """Sort key that puts n2 before n10."""
    head = name.rstrip("0123456789")
    digits = name[len(head) :][:15]
    return head, int(digits) if digits.isdigit() else -1, name
