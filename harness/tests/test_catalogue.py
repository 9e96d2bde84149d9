"""`splitbrain list NAME`: what one plug-in is, and what it runs with."""

from __future__ import annotations

import shlex

import pytest

from harness import registry
from harness.cli import catalogue
from harness.tests.test_recipes import parsed

KINDS = {
    title: [plugin.title for plugin in registry.plugins(kind).values()]
    for kind, title in catalogue.TITLES.items()
}


@pytest.mark.parametrize(
    ("title", "name"),
    [(title, name) for title, names in KINDS.items() for name in names],
)
def test_a_plug_in_tells_a_command_to_begin_with(title: str, name: str) -> None:
    (told,) = catalogue.about(name)[title]
    words = shlex.split(told["try"])
    assert words[0] == "splitbrain"
    parsed(words[1:])


def test_a_system_and_its_workloads_tell_of_each_other() -> None:
    workloads = catalogue.about("zab")["systems"][0]["workloads"]
    assert "broadcast" in workloads
    for name in workloads:
        assert "zab" in catalogue.about(name)["workloads"][0]["systems"]
    assert "commit" not in workloads


def test_a_system_tells_the_faults_that_it_bears() -> None:
    faults = catalogue.about("sqlite")["systems"][0]["faults"]
    assert "power" in faults
    assert "partition" not in faults


@pytest.mark.parametrize("name", ["2pc", "two_phase_commit"])
def test_an_alias_is_told_and_found(name: str) -> None:
    text = catalogue.as_text(catalogue.about(name))
    assert "also called 2pc" in text


def test_an_adapter_is_found_without_its_command() -> None:
    assert catalogue.about("launch")["systems"][0]["name"] == "launch:..."
