"""Nights of a suite: order, seeds, budgets, crashes and what comes after them."""

from __future__ import annotations

import datetime
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from harness.campaign import engine
from harness.campaign.experiment import Experiment
from harness.campaign.outcome import Finding, Outcome
from harness.campaign.suites import (
    exploring,
    journal,
    known,
    nights,
    planning,
    reading,
    running,
)
from harness.campaign.suites.nights import Night
from harness.campaign.suites.results import RowResult
from harness.campaign.suites.rows import Row
from harness.cli import cli
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE_S = 60.0
SMALL = """
name: small
defaults: {world: sim, ops: 60, time_limit_s: 3}
rows:
  - {name: raft, system: raft, nemesis: [kill], seeds: 3}
  - {name: zab, system: zab, nemesis: [kill], seeds: 3}
  - {name: fixed, system: raft, seed: 7}
"""


def run(*words: object) -> tuple[int, str]:
    """Exit status and output of a command."""
    done = CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)
    if isinstance(done.exception, UsageError):
        return 254, str(done.exception)
    assert done.exception is None, done.exception
    return done.return_value, done.output


def night(**rows: dict[str, Any]) -> Night:
    return Night(Path(), rows)


def ran(seed: int = 0, *, good: bool = True, took_s: float = 1.0) -> dict[str, Any]:
    seeds = [{"seed": seed, "took_s": took_s}]
    return {"as_expected": good, "runs": 1, "seeds": seeds}


def row(name: str, **fields: Any) -> Row:
    return Row(name=name, system="raft", **fields)


def fresh() -> int:
    return 123


# order and seeds


def test_rows_that_said_something_new_come_first_then_those_that_wait_longest() -> None:
    last = night(a=ran(), b=ran(good=False), c=ran(), e={"runs": 0})
    before = night(a=ran(), b=ran(), c=ran(good=False), e=ran(), d=ran())
    rows = [row(name) for name in "abcdef"]
    ordered = planning.in_order(rows, [last, before])
    # b failed, c was mended; f was never run; d and e were left out; a is as ever.
    assert [one.name for one in ordered] == ["b", "c", "f", "d", "e", "a"]


def test_a_first_night_goes_by_the_file() -> None:
    rows = [row(name) for name in "cab"]
    assert planning.in_order(rows, []) == rows


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.booleans()), max_size=5))
def test_no_row_waits_for_ever(told: list[dict[str, bool]]) -> None:
    """A night too short for all reaches each row within as many nights as rows."""
    former = [night(**{n: ran(good=g) for n, g in one.items()}) for one in told]
    rows = [row(name) for name in "abc"]
    reached = set()
    for _ in rows:
        first = planning.in_order(rows, former)[0]
        reached.add(first.name)
        former.insert(0, night(**{first.name: ran()}))
        if not any(one.off(name) for one in former[:2] for name in "abc"):
            continue
        # What said something new comes again, but is then as it was.
        former.insert(0, night(**{first.name: ran()}))
    waiting = [one.name for one in planning.in_order(rows, former)]
    assert reached | set(waiting[:2]) == set("abc")


def test_seeds_go_on_where_the_last_night_with_the_row_ended() -> None:
    former = [night(b=ran(3)), night(a=ran(41))]
    assert planning.first_seed(row("a"), former, fresh) == 42
    assert planning.first_seed(row("b"), former, fresh) == 4
    assert planning.first_seed(row("c"), former, fresh) == 0
    assert planning.first_seed(row("a", seed=5), former, fresh) == 5
    assert planning.first_seed(row("a", seed="fresh"), former, fresh) == 123


def test_a_run_takes_as_long_as_the_last_time_or_its_limit() -> None:
    assert planning.need_s(row("a"), [night(), night(a=ran(took_s=9.5))]) == 9.5
    assert planning.need_s(row("a", time_limit_s=20), []) > 20
    assert planning.need_s(row("a", time_limit_s=20, world="sim"), []) < 10


@given(
    st.lists(st.one_of(st.none(), st.integers(1, 900)), max_size=6),
    st.floats(0, 2000),
)
def test_searches_share_what_is_left_and_no_more(
    budgets: list[int | None], left_s: float
) -> None:
    rows = [row(f"r{n}", explore=True, budget=b) for n, b in enumerate(budgets)]
    shares = exploring.shares_s(rows, left_s)
    assert all(share >= 0 for share in shares)
    assert sum(shares) <= left_s + 1e-6
    for share, budget in zip(shares, budgets, strict=True):
        assert budget is None or share <= budget
    open_ended = {s for s, b in zip(shares, budgets, strict=True) if b is None}
    assert len({round(share, 6) for share in open_ended}) <= 1
    if None in budgets:
        assert sum(shares) == pytest.approx(left_s)


# whole nights, in the simulator


def test_a_second_night_has_other_seeds_and_nothing_new(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(SMALL)
    status, said = run("suite", file, "--results", tmp_path, "--baseline", "last")
    assert status == 0, said
    first = nights.former(tmp_path, "small")[0]
    status, said = run("suite", file, "--results", tmp_path, "--baseline", "last")
    assert status == 0, said
    assert f"nothing new beside {first.folder} (3 rows in common)" in said
    second = nights.former(tmp_path, "small")[0]
    seeds = [one["seed"] for one in second.rows["raft"]["seeds"]]  # type: ignore[attr-defined]
    assert seeds == [3, 4, 5]
    assert second.rows["fixed"]["seed"] == 7
    assert "raft   kill     valid     valid    as expected  3 to 5" in said


def test_a_bug_that_was_put_in_is_named_and_fails_the_night(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(SMALL)
    assert run("suite", file, "--results", tmp_path)[0] == 0
    good = "{name: raft, system: raft, nemesis: [kill], seeds: 3}"
    bad = "{name: raft, system: raft, nemesis: [partition], set: {reads: local}, "
    assert good in SMALL
    bad += "seeds: 20, time_limit_s: 20, ops: 800}"
    file.write_text(SMALL.replace(good, bad))
    status, said = run("suite", file, "--results", tmp_path, "--baseline", "last")
    assert status == 1, said
    assert "new: raft: stale-read (linearizable, raft, register) in 1 of " in said
    page = (tmp_path / "suites" / "latest" / "summary.md").read_text()
    assert "new: raft: stale-read" in page


def test_a_known_failure_is_excused_until_its_day(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    stale = "{name: r, system: raft, nemesis: [partition], set: {reads: local}, "
    file.write_text(f"- {stale}world: sim, ops: 800, time_limit_s: 20, seeds: 20}}")
    entry = tmp_path / "known.yaml"
    told = "- {row: r, anomaly: stale-*, reason: by design, until: '%s'}"
    arguments = ("suite", file, "--results", tmp_path, "--known", entry)
    entry.write_text(told % "2999-01-01")
    status, said = run(*arguments)
    assert (status, "known: r: by design (until 2999-01-01)" in said) == (0, True), said
    entry.write_text(told % "2020-01-01")
    status, said = run(*arguments)
    assert status == 1
    assert "the known failure r stale-* expired on 2020-01-01: by design" in said
    for bad, complaint in (
        (told % "soon", "column 49: until 'soon': write a day"),
        ("- {row: r, until: '2999-01-01'}", "missing required field `reason`"),
        ("- {rwo: r}", "an entry has no `rwo`; did you mean row"),
        ("row: r", "known failures are a list"),
    ):
        entry.write_text(bad)
        status, said = run(*arguments)
        assert status == 254
        assert complaint in said


class Pretended:
    """An executor whose runs take no time but that of a clock of its own."""

    now_s = 0.0
    took_s = 10.0

    def __init__(self, *_: object, **__: object) -> None:
        self._asked: list[tuple[int, Experiment]] = []
        self._submitted = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, experiment: Experiment) -> int:
        self._submitted += 1
        self._asked.append((self._submitted, experiment))
        return self._submitted

    def as_completed(self) -> Iterator[tuple[int, Outcome]]:
        while self._asked:
            number, experiment = self._asked.pop(0)
            type(self).now_s += self.took_s
            yield number, outcome(experiment.spec.seed)

    def cancel(self) -> None:
        raise AssertionError

    kill = cancel


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that take ten seconds each, by a clock that only they move."""
    monkeypatch.setattr(Pretended, "now_s", 0.0)
    monkeypatch.setattr(engine.HERE, "executor", Pretended)
    monkeypatch.setattr(time, "monotonic", lambda: Pretended.now_s)


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize("jobs", [1, 2])
def test_time_that_is_left_goes_to_more_seeds_and_rows_without_time_say_so(
    tmp_path: Path, jobs: int
) -> None:
    rows = [
        row("slow", time_limit_s=300),
        row("a", seeds=2),
        row("fixed", seed=7),
        row("bad", expect="invalid"),
        row("b"),
    ]
    needs_s = {one.name: 10.0 for one in rows} | {"slow": 304.0}
    told = running.Night(budget_s=120.0, needs_s=needs_s, seeds={"a": 4})
    runner = running.Runner(tmp_path, done=lambda _: None, night=told)
    found = {one.row.name: one for one in runner.run(rows, jobs)}
    assert found["slow"].unrun == (
        "no time left: a run takes about 304 s, and 120 s of the budget are left"
    )
    runs = {
        name: [one.experiment.spec.seed for one in result.outcomes]
        for name, result in found.items()
    }
    assert runs["fixed"] == [7], "it would repeat itself"
    assert len(runs["bad"]) == 1, "it has been told what it is"
    assert sorted(runs["a"]) == list(range(4, 4 + len(runs["a"])))
    assert sorted(runs["b"]) == list(range(len(runs["b"])))
    assert abs(len(runs["a"]) - 1 - len(runs["b"])) <= 1, "each gets its turn"
    assert 120 <= Pretended.now_s <= 120 + 10 * (jobs - 1)


def test_a_row_for_which_there_was_no_time_comes_first_the_next_night(
    tmp_path: Path,
) -> None:
    file = tmp_path / "s.yaml"
    slow = "  - {name: slow, system: raft, world: os, time_limit_s: 3000}\n"
    file.write_text(SMALL + slow)
    status, said = run("suite", file, "--results", tmp_path, "--budget", "6s", "--json")
    told = {one["name"]: one for one in json.loads(said)["rows"]}
    assert status == 0, said
    assert told["slow"]["skipped"].startswith("no time left: a run takes about 3004 s")
    assert listing(file, tmp_path)[0]["name"] == "slow"


def listing(file: Path, results: Path) -> list[dict[str, Any]]:
    status, said = run("suite", file, "--results", results, "--list", "--json")
    assert status == 0
    told: list[dict[str, Any]] = json.loads(said)
    return told


def test_a_night_that_is_killed_anywhere_goes_on_and_loses_no_run(
    tmp_path: Path,
) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(SMALL.replace("ops: 60, time_limit_s: 3", "ops: 300"))
    words = [sys.executable, "-m", "harness", "suite", str(file), "--results"]
    kept: list[str] = []
    for kills in itertools.count():
        resumed = ["--resume"] * bool(kills)
        with subprocess.Popen(
            [*words, str(tmp_path), *resumed], stdout=subprocess.DEVNULL
        ) as begun:
            if not outcomes_grow(tmp_path, len(kept), begun):
                assert begun.wait() == 0
                break
            begun.kill()
        now = lines(tmp_path, "outcome")
        assert now[: len(kept)] == kept
        kept = now
    assert kills >= 2
    told = nights.former(tmp_path, "small")[0]
    runs = [len(one["seeds"]) for one in told.rows.values()]  # type: ignore[arg-type]
    assert runs == [3, 3, 1]
    seeds = [line["outcome"]["experiment"]["spec"] for line in map(json.loads, kept)]
    distinct = {(one["system"], one["seed"], one["ops"]) for one in seeds}
    assert len(distinct) == len(seeds)
    status, said = run("suite", file, "--results", tmp_path, "--resume")
    assert status == 254
    assert "there is nothing to resume" in said


def lines(results: Path, kind: str) -> list[str]:
    """The whole lines of the night's journal."""
    found = sorted((results / "suites").glob("*Z-small/journal.jsonl"))
    text = found[-1].read_text() if found else ""
    whole = text[: text.rfind("\n") + 1].splitlines()
    return [line for line in whole if json.loads(line)["kind"] == kind]


def outcomes_grow(results: Path, than: int, begun: subprocess.Popen[Any]) -> bool:
    """Wait until there are more outcomes; False if the night ends before."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if begun.poll() is not None:
            return False
        if len(lines(results, "outcome")) >= than + 3:
            return True
        time.sleep(0.01)
    raise AssertionError("no run ended")


def test_an_interrupted_night_says_how_to_go_on(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(SMALL.replace("ops: 60, time_limit_s: 3", "ops: 2000"))
    with subprocess.Popen(
        [sys.executable, "-m", "harness", "suite", file, "--results", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as begun:
        assert outcomes_grow(tmp_path, -2, begun)
        os.kill(begun.pid, signal.SIGTERM)
        _, said = begun.communicate(timeout=DEADLINE_S)
    assert begun.returncode == 2, said
    assert f"suite {file} --resume" in said


def test_a_row_that_changed_is_run_anew_when_a_night_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(SMALL)
    assert run("suite", file, "--results", tmp_path)[0] == 0
    (path,) = (tmp_path / "suites").glob("*Z-small/journal.jsonl")
    told = path.read_text().splitlines(keepends=True)
    path.write_text("".join(told[:-1]) + '{"kind": "outc')  # torn, and never ended
    file.write_text(SMALL.replace("system: zab, ", "system: zab, nodes: 3, "))
    status, said = run("suite", file, "--results", tmp_path, "--resume")
    assert status == 0, said
    assert "row 'zab' is changed since the night began" in said
    assert len([x for x in told if '"outcome"' in x]) == 7
    assert len(lines(tmp_path, "outcome")) == 10


def test_a_journal_that_is_damaged_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(SMALL)
    assert run("suite", file, "--results", tmp_path)[0] == 0
    (path,) = (tmp_path / "suites").glob("*Z-small/journal.jsonl")
    whole = path.read_text().splitlines(keepends=True)
    for number, bad in ((1, "nonsense\n"), (3, '{"kind": "begun"}\n')):
        path.write_text("".join([*whole[: number - 1], bad, *whole[number:-1]]))
        status, said = run("suite", file, "--results", tmp_path, "--resume")
        assert status == 254
        assert f"{path}, line {number}: it is damaged: " in said
    path.write_text(whole[0].replace('"version":1', '"version":9'))
    assert "is of version 9" in run("suite", file, "--results", tmp_path, "--resume")[1]


# what a row's runs come to


def outcome(seed: int, verdict: str = "valid", *, name: str = "stale-read") -> Outcome:
    found = (Finding("linearizable", name),) if verdict == "invalid" else ()
    made = row("r").experiment(seed)
    why = ("a fault of ours",) if verdict == "error" else ()
    return Outcome(
        experiment=Experiment(made.spec),
        verdict=verdict,  # type: ignore[arg-type]
        findings=found,
        errors=why,
        reason="".join(why),
    )


class Played:
    """A runner whose runs are told to it."""

    def __init__(self, verdicts: dict[int, list[str]], **night: Any) -> None:
        self.asked: list[int] = []
        self._verdicts = verdicts
        self.runner = running.Runner(
            Path(), done=lambda _: None, night=running.Night(**night)
        )

    def row(self, **fields: Any) -> RowResult | None:
        pursuit = self.runner._pursue(row("r", **fields))
        sent: Outcome | None = None
        try:
            while True:
                seed = pursuit.send(sent).spec.seed
                self.asked.append(seed)
                sent = outcome(seed, self._verdicts[seed].pop(0))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


def test_a_failure_of_the_harness_is_tried_again_and_an_anomaly_never() -> None:
    played = Played({0: ["error", "valid"], 1: ["invalid", "valid"]})
    result = played.row(seed=0, seeds=3)
    assert played.asked == [0, 0, 1]
    assert result is not None
    assert (result.verdict, len(result.retried)) == ("invalid", 1)
    assert result.as_json()["harness_failures"] == 1
    assert "seed 0 run again, as the harness failed: a fault of ours" in result.line


def test_a_harness_that_fails_again_fails_the_row() -> None:
    played = Played({0: ["error", "error", "valid"]})
    result = played.row(seed=0, retries=1)
    assert played.asked == [0, 0]
    assert result is not None
    assert (result.verdict, result.as_json()["harness_failures"]) == ("error", 2)


def test_no_run_begins_without_room_on_the_disk() -> None:
    played = Played({}, free_mb=1 << 40)
    result = played.row(seed=0)
    assert result is not None
    assert (result.verdict, played.asked) == ("error", [])
    assert "keep.free_mb asks for" in result.error


def test_a_run_that_shows_an_anomaly_decides_whatever_came_besides() -> None:
    before = RowResult(row("r"), (outcome(0), outcome(1, "invalid")))
    more = RowResult(row("r"), (outcome(2),))
    assert running.merged(before, more).verdict == "invalid"
    assert running.merged(more, before).verdict == "invalid"


def test_a_failure_is_excused_only_if_each_of_its_anomalies_is_known() -> None:
    one = known.Entry(anomaly="stale-read", reason="so", until="2999-01-01")
    today = datetime.date(2026, 12, 1)
    both = msgspec.structs.replace(
        outcome(0, "invalid"),
        findings=(Finding("c", "stale-read"), Finding("c", "lost-write")),
    )
    for found, excused in ((outcome(0, "invalid"), True), (both, False)):
        judged = known.judge([RowResult(row("r"), (found,))], [one], today)
        assert bool(judged.excused) == excused
    idle = known.Entry(row="r", anomaly="G1c", reason="old", until="2999-01-01")
    judged = known.judge([RowResult(row("r"), (outcome(0),))], [idle], today)
    assert judged.idle == ["the known failure r G1c did not come: old"]


def test_the_rows_of_another_suite_are_no_night_of_this_one(tmp_path: Path) -> None:
    for name in ("20261201T000000.000Z-a", "20261202T000000.000Z-ab", "x"):
        folder = tmp_path / "suites" / name
        folder.mkdir(parents=True)
        (folder / "suite.json").write_text('{"rows": [{"name": "r"}, 3]}')
    (found,) = nights.former(tmp_path, "a")
    assert list(found.rows) == ["r"]
    with pytest.raises(UsageError, match="no night of a suite"):
        nights.read(tmp_path)


def test_a_torn_line_of_a_journal_is_taken_away_before_another_follows(
    tmp_path: Path,
) -> None:
    (tmp_path / journal.FILE).write_bytes(b'{"whole": 1}\n{"torn')
    diary = journal.Journal(tmp_path)
    diary.write(journal.Line(kind="ended", at_s=1.0))
    diary.close()
    said = (tmp_path / journal.FILE).read_text().splitlines()
    assert [json.loads(line) for line in said][1]["kind"] == "ended"


def test_only_chooses_by_name_or_tag(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "- {name: a, system: raft, tags: [slow]}\n- {name: b, system: raft}"
    )
    suite = reading.load(file)
    assert [one.name for one in reading.chosen(suite, "slow")] == ["a"]
    assert [one.name for one in reading.chosen(suite, "b")] == ["b"]
    with pytest.raises(UsageError, match=r"contains 'c' \(tags: slow\)"):
        reading.chosen(suite, "c")
