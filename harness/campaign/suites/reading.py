"""Reads suite files; every error at its place, and before anything runs.

A row is made of what it says itself, over the profile that it names, over the defaults
of its file, over those of a file that includes it. A matrix makes many rows of one.
Each value remembers where it was written, so that an error tells file, line and column
whatever way the value came.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import msgspec

from harness import registry
from harness.campaign.engine import HERE
from harness.campaign.suites import naming
from harness.campaign.suites.results import RowResult, condition
from harness.campaign.suites.rows import SEED_MAX, Row
from harness.errors import NotInstalledError, UsageError, UsageErrors
from harness.faults import profiles
from harness.faults import schedule as schedules
from harness.host import documents
from harness.host.documents import Mark, Marks, Route
from harness.options import Duration, Whole
from harness.registry import nearest
from harness.run import asking, monitor
from harness.run.assembling import assemble, moments
from harness.systems import mutants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from harness.campaign.engine import Engine
    from harness.run.assembling import Parts
    from harness.run.spec import TestSpec

P = ParamSpec("P")
T = TypeVar("T")

BUNDLED = Path(__file__).parents[2] / "suites"
"""Suites that come with splitbrain; named without their ending."""

ROWS_MAX = 10_000
INCLUDES_MAX = 8
"""Files that include each other, one within the other."""
PROBLEMS_MAX = 20
"""Problems that are told at once."""
BUDGET = Duration(1.0, 604_800.0)
SEEDS = Whole(1, 100_000)
RETRIES = Whole(0, 10)
KEPT = Whole(0, 1_000_000)

ROW_ONLY = frozenset({"matrix", "exclude", "faults"})
"""Keys of a row in a file that no `Row` has: they make rows, or part of one."""
ROW_KEYS = (*Row.__struct_fields__, *sorted(ROW_ONLY))
SUITE_KEYS = ("name", "rows", "defaults", "profiles", "include", "budget", "keep")
PROFILE_KEYS = ("nemesis", "plan", "set")
INCLUDE_KEYS = ("suite", "only", "defaults")
KEEP_KEYS = ("valid_runs", "nights", "free_mb")


class Keep(msgspec.Struct, forbid_unknown_fields=True):
    """What is kept of a suite's runs, beside every failure.

    Attributes:
        valid_runs: Newest valid runs of each row that are kept whole; of older ones
            only verdict and report. None for all.
        nights: Newest nights whose valid runs are kept at all. None for all.
        free_mb: Megabytes of the disk that no row begins without.
    """

    valid_runs: int | None = None
    nights: int | None = None
    free_mb: int = 500


@dataclass(frozen=True)
class Place:
    """Where a value was written."""

    file: Path
    mark: Mark

    def __str__(self) -> str:
        return f"{self.file}, {self.mark}"


@dataclass
class Source:
    """Where a row and its fields were written.

    Attributes:
        row: The row itself.
        fields: Field, or path within one -> where it was written.
    """

    row: Place
    fields: dict[Route, Place] = field(default_factory=dict)

    def of(self, route: Route) -> Place:
        """Where a part of the row was written, or else the innermost around it."""
        while route and route not in self.fields:
            route = route[:-1]
        return self.fields.get(route, self.row)


@dataclass
class Suite:
    """A suite file, read.

    Attributes:
        file: The file.
        name: What it is called.
        rows: Its rows and those of the files that it includes.
        sources: Row's name -> where it was written.
        budget_s: How long a night takes; None for as long as the rows need.
        keep: What is kept of its runs.
    """

    file: Path
    name: str
    rows: list[Row] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)
    budget_s: float | None = None
    keep: Keep = field(default_factory=Keep)


class Problems:
    """Gathers what is wrong with a file, to tell of it at once."""

    def __init__(self) -> None:
        self._told: list[str] = []

    def __len__(self) -> int:
        return len(self._told)

    def add(self, place: Place, what: str) -> None:
        """Note a problem."""
        line = f"{place}: {what}"
        if line not in self._told:
            self._told.append(line)

    def refuse(self) -> None:
        """Raises UsageErrors with the problems if there are any."""
        more = len(self._told) - PROBLEMS_MAX
        told = self._told[:PROBLEMS_MAX]
        if more > 0:
            told.append(f"and {more} more")
        if told:
            raise UsageErrors(told)


def find(path: Path) -> Path:
    """The file that `path` means: itself, or a bundled suite of that name.

    Raises:
        UsageError: There is neither a file nor a suite of that name.
    """
    bundled = BUNDLED / f"{path}.yaml"
    if path.exists():
        return path
    if bundled.is_file():
        return bundled
    names = sorted(file.stem for file in BUNDLED.glob("*.yaml"))
    raise UsageError(
        f"there is no suite file {path}{nearest(str(path), names)} "
        f"(suites that come with splitbrain: {', '.join(names)})"
    )


def load(path: Path) -> Suite:
    """A suite, its rows checked one by one but not yet whether they can be run.

    Raises:
        UsageError: Names each problem's file, line and column, a line each.
    """
    problems = Problems()
    suite = _File(path, problems, ()).suite()
    problems.refuse()
    if not suite.rows:
        raise UsageError(f"{path}: the suite has no rows")
    if len(suite.rows) > ROWS_MAX:
        raise UsageError(f"{path}: {len(suite.rows)} rows; at most {ROWS_MAX}")
    for name, count in Counter(row.name for row in suite.rows).items():
        if count > 1:
            problems.add(
                suite.sources[name].of(("name",)), f"two rows are called {name!r}"
            )
    valid = {row.name for row in suite.rows if row.expect == "valid"}
    for row in suite.rows:
        if row.control is not None and row.control not in valid:
            problems.add(
                suite.sources[row.name].of(("control",)),
                f"row {row.name!r}: no row that is to be valid is called "
                f"{row.control!r}, its control{nearest(row.control, valid)}",
            )
    problems.refuse()
    return suite


@dataclass(frozen=True)
class _Written:
    """A row as it is written: merged data, and where each part of it stands."""

    data: dict[str, object]
    source: Source


class _File:
    """One suite file.

    Args:
        path: The file.
        problems: Gets what is wrong.
        within: The files that include it, the outermost first.
    """

    def __init__(
        self, path: Path, problems: Problems, within: tuple[Path, ...]
    ) -> None:
        self._path = path
        self._problems = problems
        self._within = within
        self._marks = Marks()
        data = documents.read_yaml(path, self._marks)
        if isinstance(data, list):
            data = {"rows": data}
            self._root: Route = ()
        else:
            self._root = ("rows",)
        if not isinstance(data, dict):
            what = "nothing" if data is None else f"a {type(data).__name__}"
            raise UsageError(
                f"{path}: a suite is a mapping with `name` and `rows`, or a list of "
                f"rows; this is {what}"
            )
        self._data: dict[str, object] = data

    def suite(self) -> Suite:
        """The suite; problems are noted, and what they concern is left out."""
        data = self._data
        for key in data:
            if key not in SUITE_KEYS:
                near = nearest(key, SUITE_KEYS)
                self._note((key,), f"a suite has no `{key}`{near}")
        name = data.get("name", self._path.stem)
        if not isinstance(name, str) or not name.strip():
            self._note(("name",), f"`name` must be a text, not {_shown(name)}")
            name = self._path.stem
        suite = Suite(self._path, name)
        if "budget" in data:
            suite.budget_s = self._duration(("budget",), data["budget"])
        if "keep" in data:
            suite.keep = self._keep(data["keep"])
        defaults = self._mapping(("defaults",), data.get("defaults", {}), ROW_KEYS)
        profiles = self._profiles(data.get("profiles", {}))
        for row, source in self._included(data.get("include", [])):
            suite.rows.append(row)
            suite.sources[row.name] = source
        rows = data.get("rows", [])
        if not isinstance(rows, list):
            self._note(("rows",), f"`rows` must be a list, not {_shown(rows)}")
            rows = []
        if not rows and not suite.rows and "include" not in data:
            self._note(("rows",), "the suite has no rows")
        for number, written in enumerate(rows):
            for one in self._unfolded(number, written, defaults, profiles):
                made = self._row(one, number)
                if made is not None:
                    suite.rows.append(made)
                    suite.sources[made.name] = one.source
        return suite

    def _note(self, route: Route, what: str) -> None:
        self._problems.add(self._place(route), what)

    def _place(self, route: Route) -> Place:
        return Place(self._path, self._marks.of(route))

    def _mapping(
        self, route: Route, data: object, keys: Iterable[str]
    ) -> dict[str, object]:
        """A mapping with these keys; others are noted and left out."""
        name = f"`{route[-1]}`" if isinstance(route[-1], str) else "this"
        if not isinstance(data, dict):
            self._note(route, f"{name} must be a mapping, not {_shown(data)}")
            return {}
        known = list(keys)
        for key in data:
            if key not in known:
                self._note((*route, key), f"there is no `{key}`{nearest(key, known)}")
        return {key: value for key, value in data.items() if key in known}

    def _duration(self, route: Route, value: object) -> float | None:
        try:
            return duration_s(value)
        except ValueError:
            what = f"`{route[-1]}` {_shown(value)}: it takes {BUDGET.told}"
            self._note(route, what)
            return None

    def _keep(self, data: object) -> Keep:
        told = self._mapping(("keep",), data, KEEP_KEYS)
        fields = {}
        for key, value in told.items():
            if not isinstance(value, int) or not KEPT.admits(value):
                what = f"`{key}` {_shown(value)}: it takes {KEPT.told}"
                self._note(("keep", key), what)
            else:
                fields[key] = value
        return Keep(**fields)

    def _profiles(self, data: object) -> dict[str, dict[str, object]]:
        if not isinstance(data, dict):
            what = f"`profiles` must be a mapping, not {_shown(data)}"
            self._note(("profiles",), what)
            return {}
        return {
            name: self._mapping(("profiles", name), told, PROFILE_KEYS)
            for name, told in data.items()
        }

    def _included(self, data: object) -> Iterator[tuple[Row, Source]]:
        """The rows of other files, with this file's ideas of defaults."""
        several = data if isinstance(data, list) else [data]
        for number, told in enumerate(several):
            route: Route = ("include", number) if several is data else ("include",)
            given = {"suite": told} if isinstance(told, str) else told
            given = self._mapping(route, given, INCLUDE_KEYS)
            name, only = given.get("suite"), given.get("only", "")
            if not isinstance(name, str) or not isinstance(only, str):
                what = "write the name of a suite, or {suite: NAME, only: WORDS}"
                self._note(route, what)
                continue
            over = self._mapping(
                (*route, "defaults"), given.get("defaults", {}), ROW_KEYS
            )
            yield from self._rows_of(route, name, only, over)

    def _rows_of(
        self, route: Route, name: str, only: str, over: Mapping[str, object]
    ) -> Iterator[tuple[Row, Source]]:
        beside = self._path.parent / name
        try:
            file = find(beside if beside.exists() else Path(name))
        except UsageError as problem:
            self._note(route, str(problem))
            return
        within = (*self._within, self._path.resolve())
        if file.resolve() in within or len(within) > INCLUDES_MAX:
            chain = " -> ".join(str(path) for path in (*within, file))
            self._note(route, f"suites include each other: {chain}")
            return
        inner = _File(file, self._problems, within)
        inner.override(over)
        suite = inner.suite()
        chosen = [row for row in suite.rows if not only or row.chosen_by(only)]
        if only and not chosen:
            self._note(route, f"{file}: no row's name or tag is {only!r}")
        yield from ((row, suite.sources[row.name]) for row in chosen)

    def override(self, over: Mapping[str, object]) -> None:
        """Take other defaults before one's own."""
        own = self._data.get("defaults")
        if isinstance(own, dict) or own is None:
            self._data["defaults"] = {**(own or {}), **over}

    # rows

    def _unfolded(
        self,
        number: int,
        written: object,
        defaults: Mapping[str, object],
        profiles: Mapping[str, dict[str, object]],
    ) -> Iterator[_Written]:
        """The rows that one entry of `rows` stands for."""
        route = (*self._root, number)
        own = self._mapping(route, written, ROW_KEYS)
        merged = {**defaults, **own}
        source = Source(self._place(route))
        for key, value in merged.items():
            at: Route = (*route, key) if key in own else ("defaults", key)
            self._put(source, (key,), at, value)
        if empty := [key for key in ROW_ONLY if key in merged and merged[key] is None]:
            self._note((*route, empty[0]), f"`{empty[0]}` is empty")
            return
        faults = merged.pop("faults", None)
        if faults is not None:
            if not isinstance(faults, str) or faults not in profiles:
                what = f"there is no profile {_shown(faults)}"
                near = nearest(str(faults), profiles) if profiles else ""
                self._note((*route, "faults"), f"{what}{near}")
                return
            mine = merged.get("set", {})
            for key, value in profiles[faults].items():
                at = ("profiles", faults, key)
                if key == "set" and isinstance(value, dict) and isinstance(mine, dict):
                    merged["set"] = {**value, **mine}
                    for name in value.keys() - mine.keys():
                        self._put(source, ("set", name), (*at, name), None)
                elif key not in own:
                    merged[key] = value
                    self._put(source, (key,), at, value)
        matrix, exclude = merged.pop("matrix", None), merged.pop("exclude", None)
        if matrix is None:
            if exclude is not None:
                self._note((*route, "exclude"), "`exclude` is for rows with a `matrix`")
            yield _Written(merged, source)
            return
        for chosen in self._combinations(route, matrix, exclude or []):
            yield self._filled_in(merged, source, route, chosen)

    def _put(self, source: Source, key: Route, at: Route, value: object) -> None:
        """Note where a value and its parts were written."""
        source.fields[key] = self._place(at)
        if isinstance(value, dict):
            for name, part in value.items():
                self._put(source, (*key, name), (*at, name), part)
        elif isinstance(value, list):
            for place, part in enumerate(value):
                self._put(source, (*key, place), (*at, place), part)

    def _combinations(
        self, route: Route, matrix: object, exclude: object
    ) -> Iterator[dict[str, object]]:
        at = (*route, "matrix")
        if not isinstance(matrix, dict) or not matrix:
            what = (
                f"`matrix` must be a mapping of fields to lists, not {_shown(matrix)}"
            )
            self._note(at, what)
            return
        usable = True
        for key, values in matrix.items():
            head = key.partition(".")[0]
            known = [name for name in ROW_KEYS if name not in ROW_ONLY]
            if head not in known or (head != key and head != "set"):
                what = f"a row has no `{key}`{nearest(key, known)}"
                self._note((*at, key), f"{what}; write options as set.NAME")
                usable = False
            if not isinstance(values, list) or not values:
                what = f"`{key}` in a matrix must be a list, not {_shown(values)}"
                self._note((*at, key), what)
                usable = False
        if not isinstance(exclude, list) or not all(
            isinstance(e, dict) for e in exclude
        ):
            what = "`exclude` must be a list of mappings such as {nodes: 3}"
            self._note((*route, "exclude"), what)
            usable = False
        if not usable:
            return
        assert isinstance(exclude, list)
        for place, one in enumerate(exclude):
            for key in one:
                if key not in matrix:
                    what = f"the matrix has no `{key}`{nearest(key, matrix)}"
                    self._note((*route, "exclude", place, key), what)
        count = 1
        for values in matrix.values():
            count *= len(values)
        if count > ROWS_MAX:
            self._note(at, f"the matrix makes {count} rows; at most {ROWS_MAX}")
            return
        for values in itertools.product(*matrix.values()):
            chosen = dict(zip(matrix, values, strict=True))
            if any(all(chosen.get(k) == v for k, v in one.items()) for one in exclude):
                continue
            yield chosen

    def _filled_in(
        self,
        data: dict[str, object],
        source: Source,
        route: Route,
        chosen: dict[str, object],
    ) -> _Written:
        """A row of a matrix: its values in their places, and in its name."""
        data, fields = {**data}, dict(source.fields)
        given = data.get("set", {})
        data["set"] = {**given} if isinstance(given, dict) else given
        for key, value in chosen.items():
            place = self._place((*route, "matrix", key))
            if key.startswith("set.") and isinstance(data["set"], dict):
                data["set"][key[4:]] = value
                fields["set", key[4:]] = place
            else:
                data[key] = value
                fields[(key,)] = place
        name = data.get("name")
        if isinstance(name, str):
            told = {key: _in_name(value) for key, value in chosen.items()}
            used = set(re.findall(r"\{([^{}]*)\}", name))
            for key in used & told.keys():
                name = name.replace(f"{{{key}}}", told[key])
            rest = [text for key, text in told.items() if key not in used]
            data["name"] = f"{name} ({', '.join(rest)})" if rest else name
        return _Written(data, Source(source.row, fields))

    def _row(self, written: _Written, number: int) -> Row | None:
        """The row, or None if something is wrong with it, which is noted."""
        source, data = written.source, written.data
        name = str(data.get("name", "no name"))[:60]
        where = f"row {number + 1} ({name})"

        def note(route: Route, what: str) -> None:
            self._problems.add(source.of(route), f"{where}: {what}")

        for needed in ("name", "system"):
            if needed not in data:
                note((), f"it lacks a `{needed}`")
                return None
        try:
            row = msgspec.convert(data, Row)
        except msgspec.ValidationError as problem:
            what, _, at = str(problem).partition(" - at `$")
            note(_route(at), what)
            return None
        before = len(self._problems)
        if not row.name.strip():
            note(("name",), "`name` is empty")
        if row.expect is None:
            note(("expect",), "expect must be valid or invalid")
        if not SEEDS.admits(row.seeds):
            note(("seeds",), f"seeds must be {SEEDS.told}")
        if isinstance(row.seed, int) and not 0 <= row.seed <= SEED_MAX:
            note(("seed",), f"seed must be from 0 to {SEED_MAX}, nightly or fresh")
        if not RETRIES.admits(row.retries):
            note(("retries",), f"retries must be {RETRIES.told}")
        if row.budget is not None:
            try:
                duration_s(row.budget)
            except ValueError:
                what = f"budget {_shown(row.budget)}: it takes {BUDGET.told}"
                note(("budget",), what)
        for figure, text in row.shows.items():
            try:
                condition(text)
            except UsageError as problem:
                note(("shows", figure), str(problem))
        if row.explore:
            for field_ in ("plan", "shows", "until_anomaly", "also"):
                if getattr(row, field_):
                    note((field_,), f"a row that explores takes no `{field_}`")
        return row if len(self._problems) == before else None


def duration_s(value: object) -> float:
    """The seconds of a budget: a number, or a text such as 10m; ValueError if none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(value)  # noqa: TRY004  # it is what people wrote
    return BUDGET.parse(f"{value:g}" if isinstance(value, float) else str(value))


def _shown(value: object) -> str:
    return repr(value)[:60]


def _in_name(value: object) -> str:
    if isinstance(value, list):
        return "+".join(map(str, value)) or "none"
    return str(value) if isinstance(value, str | int | float) else json.dumps(value)


def _route(text: str) -> Route:
    """The path in msgspec's words: `.plan[0].at` is ("plan", 0, "at")."""
    return tuple(
        int(number) if number else name
        for name, number in re.findall(r"\.([\w-]+)|\[(\d+)\]", text)
    )


# Whether rows can be run.


def check(suite: Suite, rows: Sequence[Row], engine: Engine = HERE) -> list[RowResult]:
    """Check that the run of each of a suite's rows is possible, before any is run.

    Returns:
        A skipped result for each row that the machines lack something for: the program
        or library of its system, or the disks that its faults need.

    Raises:
        UsageError: Names each problem's place and row, a line each.
    """
    problems, absent = Problems(), []
    for row in rows:
        source = suite.sources[row.name]
        try:
            _check_row(row, engine)
        except NotInstalledError as lack:
            absent.append(RowResult(row, absent=str(lack)))
        except _Misplaced as problem:
            problems.add(source.of(problem.route), f"row {row.name!r}: {problem}")
    problems.refuse()
    return absent


class _Misplaced(Exception):  # noqa: N818  # it never leaves this module
    """What is wrong with a part of a row."""

    def __init__(self, route: Route, what: object) -> None:
        super().__init__(str(what))
        self.route = route


def _check_row(row: Row, engine: Engine) -> None:
    """Raises _Misplaced or NotInstalledError unless the row can be run."""

    def blame(route: Route, act: Callable[P, T], *given: P.args, **no: P.kwargs) -> T:
        try:
            return act(*given, **no)
        except NotInstalledError:
            raise
        except UsageError as problem:
            named = _named(row, str(problem))
            raise _Misplaced(
                named if len(named) > len(route) else route, problem
            ) from None

    system = row.system.partition(":")[0]
    blame(("system",), registry.find, "system", system)
    blame(("workload",), registry.find, "workload", row.workload)
    for place, kind in enumerate(row.nemesis):
        if kind not in asking.WORDS:
            blame(("nemesis", place), asking.require_known, kind)
    for place, name in enumerate(row.also):
        blame(("also", place), registry.find, "checker", name)
    if row.mutant is not None:
        title = registry.find("system", system).name
        blame(("mutant",), mutants.find, title, row.mutant)
    experiment = blame((), row.experiment, 0)
    spec: TestSpec = experiment.spec
    try:
        parts: Parts = blame((), assemble, spec)
    except NotInstalledError:  # here; another machine may have it
        blame((), engine.refuse, experiment)
        return
    if row.until_anomaly:
        invariants = parts.system.invariants
        blame(("until_anomaly",), monitor.refuse_unknown, spec, invariants)
    if row.anomaly is not None:
        blame(("anomaly",), naming.refuse_unknown_anomaly, spec, parts, row.anomaly)
    if row.shows:
        for name in row.shows:
            blame(("shows", name), naming.refuse_unknown_figure, spec, parts, name)
    if row.plan is not None:
        blame(("plan",), _check_plan, row)
    blame((), engine.refuse, experiment)


def _check_plan(row: Row) -> None:
    """Raises UsageError if the steps of a written plan can't be carried out."""
    spec = row.experiment(0).spec
    spec.nemesis = schedules.kinds(row.plan)
    parts = assemble(spec)
    schedules.build(
        parts.nemeses,
        spec.node_names,
        seed=spec.seed,
        time_limit_s=spec.time_limit_s,
        moments=moments(parts.system),
        rhythm=profiles.STANDARD.rhythm,
        written=row.plan,
    )


def _named(row: Row, problem: str) -> Route:
    """The part of a row that a problem names: a step, an option or a field."""
    if row.plan is not None and (step := re.search(r"\bstep (\d+)\b", problem)):
        return ("plan", int(step[1]) - 1)
    words = set(re.findall(r"[\w.-]+", problem))
    for option in row.set:
        if words & {option, option.rpartition(".")[2]}:
            return ("set", option)
    for name in Row.__struct_fields__:
        if f"--{name.removesuffix('_s').replace('_', '-')}" in words:
            return (name,)
    return ()


def chosen(suite: Suite, words: str | None) -> Sequence[Row]:
    """The rows that `--only WORDS` means; all without it.

    Raises:
        UsageError: There is none.
    """
    if words is None:
        return suite.rows
    rows = [row for row in suite.rows if row.chosen_by(words)]
    if not rows:
        tags = sorted({tag for row in suite.rows for tag in row.tags})
        told = f" (tags: {', '.join(tags)})" if tags else ""
        raise UsageError(f"{suite.file}: no row's name contains {words!r}{told}")
    return rows
