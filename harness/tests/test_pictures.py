"""The pictures of our documents are there, small, and of the reports' present look."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("httpx2", reason="httpx2 isn't installed here")

from harness.tests.pictures import FORMAT, PICTURES, ROOT

RENEW = "to renew them: .venv/bin/python -m harness.tests.pictures"
SIZE_MAX = 400_000


def test_pictures_are_of_the_present_format_and_small() -> None:
    assert (PICTURES / "FORMAT").read_text().strip() == str(FORMAT), RENEW
    pictures = list(PICTURES.glob("*.png"))
    assert pictures, RENEW
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG"), picture
        assert picture.stat().st_size < SIZE_MAX, picture


def test_every_picture_that_the_readme_shows_is_there() -> None:
    shown = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert any(name.startswith("docs/pictures/") for name in shown)
    for name in shown:
        assert (ROOT / name).is_file(), name
