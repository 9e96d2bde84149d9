"""The doctor tries things out, survives what it tries, and says what to do."""

from __future__ import annotations

import json
import os
import time

import pytest

from harness.errors import UsageError
from harness.run import doctor
from harness.run.doctor import GOOD, IMPOSSIBLE, MISSING, Finding
from harness.worlds.os import processtree

NO_SWITCH = Finding("network", MISSING, "it is forbidden.", "Allow it.")


def test_the_examination_finds_out_about_everything_a_run_needs() -> None:
    findings = doctor.examine()
    names = [finding.name for finding in findings]
    assert {"python", "machine", "user", "namespaces", "network", "clocks"} <= {*names}
    assert len(names) == len(set(names))
    assert doctor.can_run(findings)
    for finding in findings:
        assert finding.text.endswith("."), finding
        assert bool(finding.advice) == (finding.state != GOOD), finding
        assert Finding(**json.loads(json.dumps(finding.as_json()))) == finding


def test_the_rung_that_auto_chooses_is_the_one_the_examination_names() -> None:
    rung = doctor.choose_rung("auto")
    assert f"Runs use the {rung.name} network." in doctor.render(doctor.examine())


def test_what_is_missing_is_shown_with_the_way_to_get_it() -> None:
    text = doctor.render([Finding("python", GOOD, "fine."), NO_SWITCH])
    assert "To get it: Allow it." in text
    assert "Runs use the proxy network." in text
    assert "fine. To get it" not in text


def test_lines_fit_a_terminal() -> None:
    text = doctor.render([Finding("name", MISSING, "word " * 100, "advice " * 100)])
    assert max(map(len, text.splitlines())) <= 88


def test_a_machine_without_linux_can_run_nothing() -> None:
    findings = [Finding("machine", IMPOSSIBLE, "Plan 9.", "Get Linux.")]
    assert not doctor.can_run(findings)
    assert "Nothing can run here." in doctor.render(findings)


def test_the_proxy_needs_no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_switch", pytest.fail)
    assert doctor.choose_rung("proxy") == ("proxy", "")


def test_a_rung_nobody_knows_is_refused() -> None:
    with pytest.raises(UsageError, match="choose auto, switch, proxy or router"):
        doctor.choose_rung("bridge")


def test_without_a_switch_auto_is_the_proxy_and_asking_for_it_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "_switch", lambda: NO_SWITCH)
    rung = doctor.choose_rung("auto")
    assert rung.name == "proxy"
    assert "it is forbidden. Allow it." in rung.why
    assert "the proxy: " in doctor.render([doctor._network()])
    with pytest.raises(UsageError, match=r"it is forbidden\. Allow it\. Or use"):
        doctor.choose_rung("switch")


def test_a_check_that_hangs_is_ended_and_said_to_have_hung() -> None:
    def hang() -> Finding:
        time.sleep(600)
        raise AssertionError

    before = {child.pid for child in processtree.walk().children(os.getpid())}
    found = doctor._in_children([("slow", hang), ("quick", lambda: NO_SWITCH)], 1.5)
    assert found == [
        Finding("slow", MISSING, "the check did not finish in time.", found[0].advice),
        NO_SWITCH,
    ]
    after = {child.pid for child in processtree.walk().children(os.getpid())}
    assert after <= before


def test_a_check_that_crashes_is_a_finding_and_not_a_crash() -> None:
    def crash() -> Finding:
        return Finding("never", GOOD, str(1 // 0))

    def end() -> Finding:
        os._exit(9)

    crashed, ended = doctor._in_children([("crash", crash), ("end", end)], 5.0)
    assert "ZeroDivisionError" in crashed.text
    assert (ended.name, ended.state) == ("end", MISSING)
