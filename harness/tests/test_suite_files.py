"""Suite files: what they may say, where an error is told, and what editors know."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from harness.campaign.suites import reading, schema
from harness.campaign.suites.rows import Row
from harness.cli import cli
from harness.cli.group import run_command
from harness.errors import UsageError

if TYPE_CHECKING:
    import random
    from pathlib import Path

jsonschema = pytest.importorskip("jsonschema")


def write(folder: Path, text: str, name: str = "suite.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def names(path: Path) -> list[str]:
    return [row.name for row in reading.load(path).rows]


def refused(path: Path) -> str:
    def read() -> None:
        suite = reading.load(path)
        reading.check(suite, suite.rows)

    with pytest.raises(UsageError) as caught:
        read()
    return str(caught.value)


def test_a_list_of_rows_alone_is_a_suite_with_the_name_of_its_file(
    tmp_path: Path,
) -> None:
    suite = reading.load(write(tmp_path, "- {name: a, system: raft}", "mine.yaml"))
    assert (suite.name, [row.name for row in suite.rows]) == ("mine", ["a"])


def test_a_matrix_is_a_row_for_each_combination_but_those_left_out(
    tmp_path: Path,
) -> None:
    text = """
- name: "{system}"
  matrix: {system: [raft, zab], set.reads: [log, local], nodes: [3, 5]}
  exclude: [{system: zab, set.reads: log}, {nodes: 5, set.reads: local}]
  set: {fsync: false}
"""
    rows = reading.load(write(tmp_path, text)).rows
    assert [row.name for row in rows] == [
        "raft (log, 3)",
        "raft (log, 5)",
        "raft (local, 3)",
        "zab (local, 3)",
    ]
    assert rows[2].set == {"fsync": False, "reads": "local"}
    assert [row.nodes for row in rows] == [3, 5, 3, 3]


def test_a_profile_gives_faults_that_a_row_may_override(tmp_path: Path) -> None:
    text = """
profiles:
  rough: {nemesis: [partition, kill], set: {partition.targets: one, kill.targets: all}}
rows:
  - {name: a, system: raft, faults: rough}
  - {name: b, system: raft, faults: rough, nemesis: [kill], set: {kill.targets: one}}
"""
    a, b = reading.load(write(tmp_path, text)).rows
    assert a.nemesis == ["partition", "kill"]
    assert (b.nemesis, b.set["kill.targets"]) == (["kill"], "one")
    assert b.set["partition.targets"] == "one"


def test_included_rows_come_first_as_chosen_and_with_other_defaults(
    tmp_path: Path,
) -> None:
    inner = (
        "defaults: {nodes: 3, ops: 9}\nrows:\n- {name: a, system: raft, tags: [x]}\n"
    )
    write(tmp_path, f"{inner}- {{name: b, system: raft, ops: 7}}\n", "inner.yaml")
    outer = write(
        tmp_path,
        "include:\n- {suite: inner.yaml, only: x, defaults: {nodes: 5}}\n"
        "rows: [{name: c, system: zab}]",
    )
    rows = reading.load(outer).rows
    assert [row.name for row in rows] == ["a", "c"]
    assert (rows[0].nodes, rows[0].ops, rows[1].nodes) == (5, 9, None)


def test_suites_that_include_each_other_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "include: a.yaml", "b.yaml")
    said = refused(write(tmp_path, "include: b.yaml", "a.yaml"))
    assert "b.yaml, line 1, column 1: suites include each other: " in said


def test_a_suite_that_comes_with_us_can_be_included(tmp_path: Path) -> None:
    assert len(names(write(tmp_path, "include: [quick]"))) > 10


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "- {name: a, system: rafft}",
            "line 1, column 13: row 'a': there is no system",
        ),
        ("- {name: a, system: raft, workload: regster}", "did you mean register"),
        ("- {name: a, system: raft, nemesis: [kill, pausee]}", "column 43: row 'a'"),
        (
            "- {name: a, system: raft, set: {readz: log}}",
            "column 33: row 'a': raft has",
        ),
        ("- {name: a, system: raft, mutant: two-vote}", "did you mean two-votes"),
        ("- {name: a, system: raft, anomaly: stale-reed}", "did you mean stale-read"),
        (
            "- {name: a, system: raft, also: [availability], "
            "shows: {longest_outtage_s: '>= 1'}}",
            "no checker tells a figure 'longest_outtage_s'; did you mean longest_out",
        ),
        (
            "- {name: a, system: raft, plan: [{at: {time_s: 1}, fault: {kind: kill, "
            "targt: [n1]}, heal: {after_s: 1}}]}",
            "column 27: row 'a': plan: kill has no parameter 'targt'",
        ),
        ("- {name: a, system: raft, seed: nigthly}", "line 1, column 27: row 1 (a)"),
        ("- {name: a, system: raft, budget: long}", "budget 'long': it takes seconds"),
        ("- {name: a, system: raft, retries: 99}", "retries must be a whole number"),
        ("- {name: a, system: raft, faults: rough}", "there is no profile 'rough'"),
        ("- {name: a, matrix: {sistem: [raft]}}", "a row has no `sistem`"),
        ("- {name: a, system: raft, matrix: {nodes: 3}}", "must be a list, not 3"),
        (
            "- {name: a, system: raft, matrix: {nodes: [3]}, exclude: [{node: 3}]}",
            "the matrix has no `node`; did you mean nodes?",
        ),
        (
            "- {name: a, system: raft, matrix: {nodes: [1, 2, 3, 4, 5, 6, 7, 8, 9], "
            + ", ".join(f"set.o{n}: [1, 2, 3, 4, 5, 6, 7, 8, 9]" for n in range(5))
            + "}}",
            "rows; at most 10000",
        ),
        (
            "rows: [{name: a, system: raft}]\nbudgt: 3",
            "line 2, column 1: a suite has no",
        ),
        ("rows: [{name: a, system: raft}]\nbudget: soon", "`budget` 'soon': it takes"),
        (
            "rows: [{name: a, system: raft}]\nkeep: {valid_run: 3}",
            "did you mean valid_r",
        ),
        (
            "include: nowhere.yaml",
            "line 1, column 1: there is no suite file nowhere.yaml",
        ),
        ("include: {suite: quick, only: zzz}", "no row's name or tag is 'zzz'"),
        (
            "defaults: {nodes: three}\nrows: [{name: a, system: raft}]",
            "line 1, column 12",
        ),
        ("profiles: {p: {nodes: 3}}\nrows: [{name: a, system: raft}]", "no `nodes`"),
        (
            "7",
            "a suite is a mapping with `name` and `rows`, or a list of rows; this is",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place_before_anything_runs(
    tmp_path: Path, text: str, complaint: str
) -> None:
    said = refused(write(tmp_path, text))
    assert complaint in said
    assert str(tmp_path / "suite.yaml") in said
    assert said.count("\n") == 0


def test_several_mistakes_are_told_at_once(tmp_path: Path) -> None:
    rows = "".join(f"- {{name: r{n}, system: nope}}\n" for n in range(30))
    lines = refused(write(tmp_path, rows)).splitlines()
    assert len(lines) == reading.PROBLEMS_MAX + 1
    assert "line 20, column" in lines[-2]
    assert lines[-1] == "and 10 more"


def test_each_of_several_mistakes_has_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, "- {name: a, system: nope}\n- {name: b, system: nope}\n")
    assert run_command(["suite", str(file), "--results", str(tmp_path / "none")]) == 254
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in said] == ["splitbrain", "splitbrain"]
    assert "line 2" in said[1]
    assert not (tmp_path / "none").exists()


def test_an_error_in_an_included_file_names_that_file(tmp_path: Path) -> None:
    write(tmp_path, "- {name: a, system: raft,\n   nodes: x}\n", "inner.yaml")
    said = refused(write(tmp_path, "include: inner.yaml"))
    assert f"{tmp_path / 'inner.yaml'}, line 2, column 4: row 1 (a): Expected" in said


def test_the_bundled_suites_fit_the_schema() -> None:
    told = schema.schema()
    jsonschema.Draft202012Validator.check_schema(told)
    for path in reading.BUNDLED.glob("*.yaml"):
        jsonschema.validate(yaml.safe_load(path.read_text()), told)


def test_the_schema_beside_the_bundled_suites_is_current() -> None:
    there = (reading.BUNDLED / "schema.json").read_text(encoding="utf-8")
    assert there == schema.text() + "\n"
    for path in reading.BUNDLED.glob("*.yaml"):
        assert path.read_text().startswith(
            "# yaml-language-server: $schema=schema.json"
        )


def test_the_schema_is_printed_without_a_file() -> None:
    done = CliRunner().invoke(cli, ["suite", "--schema"])
    assert json.loads(done.output) == schema.schema()


def test_every_field_has_a_description() -> None:
    told: Any = schema.schema()
    fields = told["$defs"]["Row"]["properties"]
    lacking = [name for name, field in fields.items() if not field.get("description")]
    assert lacking == []


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 12),
    st.floats(0, 9, allow_nan=False).map(lambda x: round(x, 2)),
    st.sampled_from(
        ["valid", "invalid", "sim", "os", "fresh", "nightly", "10m", ">= 3"]
    ),
    st.lists(st.sampled_from(["kill", "raft", "x"]), max_size=2),
    st.dictionaries(st.sampled_from(["a", "reads"]), st.integers(0, 3), max_size=2),
)


@given(
    st.dictionaries(st.sampled_from((*reading.ROW_KEYS, "nodez")), VALUES, max_size=4)
)
def test_what_the_schema_refuses_the_reader_refuses(
    tmp_path_factory: pytest.TempPathFactory, fields: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "drawn.yaml"
    rows = [{"name": "a", "system": "raft", **fields}]
    path.write_text(yaml.safe_dump(rows, sort_keys=False))
    fits = not list(jsonschema.Draft202012Validator(schema.schema()).iter_errors(rows))
    said = ""
    try:
        reading.load(path)
    except UsageError as refusal:
        said = str(refusal) or "nothing"
    assert not said or str(path) in said
    assert said or fits, f"the reader takes {rows}, and the schema doesn't"


@given(st.randoms(use_true_random=False))
def test_what_a_row_may_say_fits_the_schema(random: random.Random) -> None:
    plain = Row(name="a", system="raft")
    told = {
        name: getattr(plain, name)
        for name in random.sample(Row.__struct_fields__, k=12)
        if getattr(plain, name) is not None and name != "budget"
    }
    jsonschema.validate([told], schema.schema())
