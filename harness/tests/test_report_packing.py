"""Packed columns come back whole, in Python and in the page's own scripts."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.packing import Bulk, unpacked
from harness.visible import visible

numbers = st.integers(-(2**53), 2**53)
columns = st.lists(
    st.lists(numbers | st.integers(-2, 300) | st.integers(0, 70_000), max_size=30),
    max_size=5,
)
tables = st.lists(st.text(max_size=12).map(visible), min_size=1, max_size=20)


def packed(given_columns: list[list[int]], table: list[str]) -> tuple[str, str]:
    bulk = Bulk()
    for position, column in enumerate(given_columns):
        bulk.column(f"c{position}", column)
    bulk.strings("strings", table)
    directory, text = bulk.packed()
    return json.dumps(directory), text


@given(columns, tables)
def test_all_that_was_packed_comes_back(
    given_columns: list[list[int]], table: list[str]
) -> None:
    directory, text = packed(given_columns, table)
    found = unpacked(json.loads(directory), text)
    assert found.pop("strings") == table
    assert [column.tolist() for column in found.values()] == given_columns


def test_a_number_that_the_page_could_not_hold_is_refused() -> None:
    with pytest.raises(OverflowError, match="too_far"):
        Bulk().column("too_far", [2**53 + 1])


def test_a_million_small_numbers_take_a_byte_or_two_each() -> None:
    bulk = Bulk()
    bulk.column("took", np.random.default_rng(1).integers(0, 5000, 1_000_000))
    _, text = bulk.packed()
    assert len(text) < 2.6e6


def test_the_scripts_of_the_page_unpack_the_same() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here to run the page's scripts")
    columns = [[], [0, 255, 256, -1], [2**53, -(2**40), 7], [5] * 9, [-3, 65_535]]
    table = ["", "read \N{RIGHTWARDS ARROW} 7", "\N{CAT}", "a\nb", '"</script>']
    directory, text = packed(columns, table)
    core = (resources.files("harness.report.assets") / "core.js").read_text("utf-8")
    page = json.dumps({"bulk": json.loads(directory), "faults": [], "end": 1})
    unpacking = core[: core.index("const calls =")]
    script = f"""
const texts = {{run: {json.dumps(page)}, packed: {json.dumps(text)}}};
const document = {{getElementById: (id) => ({{textContent: texts[id]}})}};
(async () => {{
  {unpacking}
  const plain = Object.entries(bulk).map(([name, part]) => [name, Array.from(part)]);
  console.log(JSON.stringify(Object.fromEntries(plain)));
}})();
{core[core.index("function unpack(") : core.index("const calls =")]}
"""
    done = subprocess.run(
        [node, "-"], input=script, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found.pop("strings") == table
    assert list(found.values()) == columns
