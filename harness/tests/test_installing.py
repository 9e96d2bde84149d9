"""Programs of others: found in the right order, installed whole or not at all.

No test reaches for a registry: clients are scripts that do what the real ones would.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from harness.cli import run_command
from harness.cli.group import cli
from harness.errors import NotInstalledError, UsageError
from harness.run import doctor
from harness.systems import abilities, installing, redis
from harness.systems.installing import install
from harness.systems.software import (
    ANY,
    RECORD,
    Debian,
    Go,
    Maven,
    Npm,
    PyPI,
    Recipe,
    Rust,
    Software,
    environment,
    root,
)

if TYPE_CHECKING:
    from collections.abc import Callable

STORE = Software(
    "store",
    (
        Recipe("2", Npm(("store@2",)), "bin/store"),
        Recipe("1", Npm(("store@1",)), "bin/store"),
        Recipe(f"{ANY}-beta", Npm(("store-beta@{version}",)), "{version}/store"),
        Recipe(ANY, Npm(("store-old@{version}",)), "{version}/store"),
    ),
    program="storeprogram",
)


def test_a_recipe_may_serve_the_versions_that_end_with_a_word() -> None:
    assert STORE.recipe("").version == "2"
    beta, old = STORE.recipe("0.3-beta"), STORE.recipe("0.3")
    assert (beta.version, beta.source) == ("0.3-beta", Npm(("store-beta@0.3",)))
    assert beta.program == "0.3/store"
    assert (old.version, old.source) == ("0.3", Npm(("store-old@0.3",)))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the installs of STORE go."""
    monkeypatch.setenv("SPLITBRAIN_SYSTEMS", str(tmp_path / "systems"))
    return tmp_path / "systems" / "store"


@pytest.fixture
def client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], None]:
    """Puts a client of a registry on PATH: its name, and what it does, for /bin/sh."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/bin:/usr/bin")

    def put(name: str, script: str) -> None:
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)

    return put


NPM = """
case $1 in
  pack) echo "bytes of $3" > "$3.tgz" ;;
  install) mkdir -p "$7/bin" && cat "$8" > "$7/bin/store" ;;
esac
"""
"""Takes `npm pack FLAG PACKAGE` and `npm install FLAGS --prefix FOLDER ARCHIVE`."""


def quiet(_: str) -> None:
    pass


def put_install(home: Path, version: str, program: str = "bin/store") -> Path:
    """An install as another session left it; the program."""
    path = home / version / program
    path.parent.mkdir(parents=True)
    path.touch(mode=0o755)
    record = {"archives": {}, "libraries": [], "source": "it", "built_from": ""}
    (home / version / RECORD).write_text(json.dumps(record))
    return path


def test_an_install_is_found_and_tells_its_archives(
    home: Path, client: Callable[[str, str], None]
) -> None:
    client("npm", NPM)
    steps: list[str] = []
    found = install(STORE, "", steps.append)
    assert (found.version, found.program) == ("2", home / "2" / "bin" / "store")
    assert found.program.read_text() == "bytes of store@2\n"
    assert found.env == {"NODE_PATH": f"{home}/2/node_modules"}
    assert steps[0] == "npm pack --loglevel=error store@2"
    record = json.loads((home / "2" / RECORD).read_text())
    assert list(record["archives"]) == ["store@2.tgz"]
    assert STORE.find() == found
    assert {path.name for path in home.iterdir()} == {"2", ".lock"}


def test_what_is_there_is_not_fetched_again(
    home: Path, client: Callable[[str, str], None]
) -> None:
    client("npm", NPM)
    found = install(STORE, "1", quiet)
    client("npm", "exit 1")
    assert install(STORE, "1", quiet) == found


def test_the_usual_version_comes_before_path_and_path_before_other_versions(
    home: Path, client: Callable[[str, str], None], tmp_path: Path
) -> None:
    with pytest.raises(NotInstalledError, match="or have storeprogram on PATH"):
        STORE.find()
    old = put_install(home, "1")
    assert STORE.find().program == old
    on_path = tmp_path / "programs" / "storeprogram"
    client("storeprogram", "a script")
    assert STORE.find().program == old, "a script is passed over"
    on_path.write_bytes(b"\x7fELF")
    assert STORE.find().program == on_path
    usual = put_install(home, "2")
    assert STORE.find().program == usual
    assert STORE.find("1").program == old
    assert STORE.find(binary="storeprogram").program == on_path


def test_a_version_is_one_that_has_a_recipe_and_is_installed(home: Path) -> None:
    with pytest.raises(NotInstalledError, match=r"store 1 is not installed: .*@1$"):
        STORE.find("1")
    program = put_install(home, "0.3", "0.3/store")
    assert STORE.find("0.3").program == program
    pinned = Software("store", STORE.recipes[:2])
    with pytest.raises(UsageError, match=r"no recipe for store 3 \(versions: 2, 1\)"):
        pinned.find("3")


@pytest.mark.parametrize("left", ["nothing", "no program", "no record", "bad record"])
def test_a_folder_without_program_and_record_is_no_install(
    home: Path, left: str
) -> None:
    program = put_install(home, "2")
    if left in {"nothing", "no program"}:
        program.unlink()
    if left in {"nothing", "no record"}:
        (home / "2" / RECORD).unlink()
    if left == "bad record":
        (home / "2" / RECORD).write_text('{"libraries": 3}')
    with pytest.raises(NotInstalledError):
        STORE.find("2")
    assert STORE.installs() == []


@pytest.mark.parametrize(
    ("said", "status", "told"),
    [
        ("npm ERR! code E404", 1, "no such version: npm says 'npm ERR! code E404'"),
        ('a/b: version "v9.9" invalid: should be v3, not v9', 1, "no such version"),
        ("npm error code EAI_AGAIN", 1, "no network: npm says"),
        ("tar: write: No space left on device", 2, "no space left on the disk: npm"),
        ("npm error something else", 7, "npm failed with status 7, and says 'npm err"),
        ("", 3, "npm failed with status 3, and says 'nothing'"),
    ],
)
def test_a_client_that_fails_leaves_nothing_and_one_line_that_says_why(
    home: Path,
    client: Callable[[str, str], None],
    said: str,
    status: int,
    told: str,
) -> None:
    client("npm", f"echo '{said}' >&2; exit {status}")
    with pytest.raises(UsageError) as caught:
        install(STORE, "", quiet)
    assert str(caught.value).startswith(f"store 2 was not installed: {told}")
    assert "\n" not in str(caught.value)
    assert {path.name for path in home.iterdir()} == {".lock"}


def test_a_client_that_is_not_there_is_named_and_how_to_get_it(
    home: Path, client: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(NotInstalledError, match=r"npm is needed.*apt-get install npm"):
        install(STORE, "", quiet)


def test_a_program_that_the_packages_lack_is_no_install(
    home: Path, client: Callable[[str, str], None]
) -> None:
    client("npm", NPM)
    with pytest.raises(UsageError, match=r"does not hold 0\.1/store"):
        install(STORE, "0.1", quiet)
    assert {path.name for path in home.iterdir()} == {".lock"}


def test_an_archive_that_is_another_than_last_time_is_refused_and_the_old_one_stays(
    home: Path, client: Callable[[str, str], None]
) -> None:
    client("npm", NPM)
    found = install(STORE, "2", quiet)
    client("npm", NPM.replace("bytes of", "other bytes of"))
    with pytest.raises(UsageError, match=r"the checksum of store@2\.tgz differs: it"):
        install(STORE, "2", quiet, again=True)
    assert found.program.read_text() == "bytes of store@2\n"
    assert STORE.find() == found


def test_an_archive_that_is_another_than_the_recipe_says_is_refused(
    home: Path, client: Callable[[str, str], None]
) -> None:
    client("npm", NPM)
    sums = {"store@2.tgz": "00"}
    pinned = Software("store", (Recipe("2", Npm(("store@2",)), "bin/store", sums),))
    with pytest.raises(UsageError, match="and should be 00; nothing was installed"):
        install(pinned, "", quiet)
    assert pinned.installs() == []


def test_what_was_cut_off_does_not_count_and_is_swept_away(
    home: Path, client: Callable[[str, str], None]
) -> None:
    client("npm", NPM)
    (home / ".partial" / "content" / "bin").mkdir(parents=True)
    (home / ".partial" / "content" / "bin" / "store").touch()
    with pytest.raises(NotInstalledError):
        STORE.find()
    install(STORE, "", quiet)
    assert not (home / ".partial").exists()


def test_an_interrupt_ends_the_client_and_leaves_nothing(
    home: Path, client: Callable[[str, str], None], tmp_path: Path
) -> None:
    began, pid = tmp_path / "began", tmp_path / "pid"
    os.mkfifo(began)
    client("npm", f"echo $$ > {pid}; echo > {began}; exec sleep 600")
    # A shell has its background jobs ignore interrupts, and so this test.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)

    def tell(_: str) -> None:
        def interrupt() -> None:
            began.read_text()
            # This thread must not take it: commands have one thread.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        threading.Thread(target=interrupt).start()

    try:
        with pytest.raises(KeyboardInterrupt):
            install(STORE, "", tell)
    finally:
        signal.signal(signal.SIGINT, former)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert {path.name for path in home.iterdir()} == {".lock"}


def test_an_install_that_is_killed_ends_its_client_and_counts_for_nothing(
    home: Path, client: Callable[[str, str], None], tmp_path: Path
) -> None:
    """Though its program was unpacked already; the next one sweeps it away."""
    began = tmp_path / "began"
    os.mkfifo(began)
    unpack = "mkdir -p ../content/usr/bin && touch ../content/usr/bin/redis-server"
    client("apt-get", f"{unpack}; echo $$ > {began}; exec sleep 600")
    words = [sys.executable, "-m", "harness", "systems", "install", "redis"]
    killed = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    end = os.pidfd_open(int(began.read_text()))
    killed.kill()
    killed.wait()
    assert select.select([end], [], [], 20)[0], "the client outlives the install"
    os.close(end)
    place = home.parent / "redis"
    assert (place / ".partial/content/usr/bin/redis-server").exists()
    assert redis.SOFTWARE.installs() == []
    client("apt-get", "echo E: no such host; exit 100")
    with pytest.raises(UsageError, match=r"^redis 7.0 was not installed: no network"):
        install(redis.SOFTWARE, "", quiet)
    assert {path.name for path in place.iterdir()} == {".lock"}


def test_two_at_once_take_turns(home: Path, client: Callable[[str, str], None]) -> None:
    client("npm", NPM)
    home.mkdir(parents=True)
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told: list[str] = []

        def tell(line: str) -> None:
            told.append(line)
            if "waits" in line:
                put_install(home, "2")  # the other is done
                fcntl.flock(lock, fcntl.LOCK_UN)

        found = install(STORE, "", tell)
    assert told == ["waits for another install of store"]
    assert found.told == "it"


def test_a_place_that_can_not_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: Callable[[str, str], None]
) -> None:
    client("npm", NPM)
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPLITBRAIN_SYSTEMS", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="store 2 was not installed: Not a directory"):
        install(STORE, "", quiet)


def test_debian_s_packages_come_with_what_they_need_and_is_not_there(
    home: Path, client: Callable[[str, str], None], tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    client(
        "apt-get",
        f'echo "$*" >> {asked}; case "$*" in\n'
        '*install*) printf "Inst libstore (1.2-3 Debian:12/stable [amd64])\\n";'
        ' printf "Inst other [1.0] (1:2.0~rc Debian:12/stable [amd64]) []\\n" ;;\n'
        "*download*) touch store.deb libstore.deb ;; esac",
    )
    client(
        "dpkg-deb",
        '[ $2 = store.deb ] && mkdir -p "$3/bin" && touch "$3/bin/store";'
        '[ $2 = libstore.deb ] && mkdir -p "$3/lib/x" && touch "$3/lib/x/libs.so.1";:',
    )
    software = Software("store", (Recipe("2", Debian(("store",)), "bin/store"),))
    found = install(software, "", quiet)
    download = asked.read_text().splitlines()[1]
    assert download.endswith("download store libstore=1.2-3 other=1:2.0~rc")
    assert found.env == {"LD_LIBRARY_PATH": f"{home}/2/lib/x"}


def test_debian_s_lists_that_are_old_are_renewed_in_a_place_of_ours(
    home: Path, client: Callable[[str, str], None], tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    client(
        "apt-get",
        f'echo "$*" >> {asked}; case "$*" in\n'
        "*update*) exit 0 ;; *Lists*download*) touch store.deb ;; *Lists*) ;;\n"
        '*) echo "E: Unable to locate package store"; exit 100 ;; esac',
    )
    client("dpkg-deb", 'mkdir -p "$3/bin" && touch "$3/bin/store"')
    software = Software("store", (Recipe("2", Debian(("store",)), "bin/store"),))
    assert install(software, "", quiet).version == "2"
    assert "update" in asked.read_text().splitlines()[1]
    assert list(json.loads((home / "2" / RECORD).read_text())["archives"]) == [
        "store.deb"
    ]


def test_maven_s_artifacts_become_a_pom_of_their_own() -> None:
    pom = installing._pom(Maven(("org.a:b:1.0", "org.c:d:2:zip:linux")))
    assert "<artifactId>b</artifactId><version>1.0</version></dependency>" in pom
    assert "<type>zip</type><classifier>linux</classifier>" in pom


def test_a_program_of_ours_is_out_of_date_once_its_source_changes(
    home: Path, client: Callable[[str, str], None], tmp_path: Path
) -> None:
    source = tmp_path / "store"
    source.mkdir()
    (source / "main.go").write_text("one")
    client(
        "go",
        'case $1 in build) mkdir -p "${6%/*}" && cat main.go > "$6" ;;\n'
        'version) printf "\\tdep\\ta/b\\tv1\\th1:x=\\n" ;; esac',
    )
    software = Software("store", (Recipe("2", Go(source=source), "bin/store"),))
    assert install(software, "", quiet).program.read_text() == "one"
    assert json.loads((home / "2" / RECORD).read_text())["archives"] == {
        "a/b@v1": "h1:x="
    }
    (source / "main.go").write_text("two")
    with pytest.raises(NotInstalledError, match="by another version of splitbrain"):
        software.find("2")
    assert install(software, "", quiet).program.read_text() == "two"


CARGO = """
case $1 in
  fetch) [ -f Cargo.lock ] || printf '%s\\n' '[[package]]' 'name = "raft"' \\
    'version = "CHOSEN"' 'checksum = "of CHOSEN"' > Cargo.lock ;;
  install) mkdir -p "$5/bin" && cat "$8/main.rs" > "$5/bin/store" ;;
esac
"""
"""Takes `cargo fetch`, and `cargo install FLAGS --root FOLDER FLAG --path FOLDER`;
chooses a crate where there is no lock."""


def test_the_crates_of_a_program_of_ours_stay_those_of_its_first_install(
    home: Path, client: Callable[[str, str], None], tmp_path: Path
) -> None:
    source = tmp_path / "store"
    source.mkdir()
    (source / "main.rs").write_text("one")
    software = Software("store", (Recipe("2", Rust(source=source), "bin/store"),))
    client("cargo", CARGO.replace("CHOSEN", "1.0"))
    assert install(software, "", quiet).program.read_text() == "one"

    client("cargo", CARGO.replace("CHOSEN", "1.1"))
    (source / "main.rs").write_text("two")
    steps: list[str] = []
    assert install(software, "", steps.append).program.read_text() == "two"
    record = json.loads((home / "2" / RECORD).read_text())
    assert record["archives"] == {"raft@1.0": "of 1.0"}
    fetches, builds = steps
    assert "--locked" not in fetches
    assert {"--locked", "--offline"} <= set(builds.split())
    assert list(source.iterdir()) == [source / "main.rs"]


def test_a_lock_that_a_program_comes_with_is_kept_to(
    home: Path, client: Callable[[str, str], None], tmp_path: Path
) -> None:
    source = tmp_path / "store"
    source.mkdir()
    (source / "main.rs").write_text("one")
    (source / "Cargo.lock").write_text(
        '[[package]]\nname = "raft"\nversion = "1.0"\nchecksum = "another"\n'
    )
    software = Software("store", (Recipe("2", Rust(source=source), "bin/store"),))
    client("cargo", CARGO)
    steps: list[str] = []
    install(software, "", steps.append)
    assert "--locked" in steps[0]
    (source / "Cargo.lock").write_text(
        '[[package]]\nname = "raft"\nversion = "1.0"\nchecksum = "a third"\n'
    )
    with pytest.raises(UsageError, match=r"checksum of raft@1\.0 differs"):
        install(software, "", steps.append, again=True)
    assert steps[-1].startswith("cargo fetch")


def test_each_kind_of_source_says_what_its_programs_need() -> None:
    folder = Path("/f")
    wanted: dict[Any, dict[str, str]] = {
        Maven(("a:b:1",)): {"CLASSPATH": "/f/classes:/f/lib/*"},
        Npm(("a@1",)): {"NODE_PATH": "/f/node_modules"},
        Go("a@1"): {},
        Rust("a@1"): {},
        Debian(("a",)): {},
    }
    for source, env in wanted.items():
        assert environment(source, folder, []) == env
    assert environment(PyPI(("a==1",)), folder, [])["PYTHONPATH"].startswith("/f")


def test_installs_go_to_the_user_s_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPLITBRAIN_SYSTEMS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert root() == Path("/cache/splitbrain/systems")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/u")
    assert root() == Path("/home/u/.cache/splitbrain/systems")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("etcdd", "did you mean etcd"),
        ("raft", "there is nothing to install for raft"),
        ("etcd@", "nothing follows the @"),
        ("etcd@../../x", "names no version"),
        ("launch", "there is nothing to install for launch"),
    ],
)
def test_what_can_not_be_installed_is_bad_usage_in_one_line(
    asked: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["systems", "install", asked]) == 254
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


def test_the_list_says_what_is_here_and_how_to_get_the_rest(home: Path) -> None:
    put_install(home.parent / "etcd", "3.4", "usr/bin/etcd")
    listed = CliRunner().invoke(cli, ["systems", "list"], standalone_mode=False)
    assert "  installed 3.4, from it" in listed.output
    assert "to get VERSION: splitbrain systems install etcd@VERSION" in listed.output
    told = CliRunner().invoke(cli, ["systems", "list", "--json"], standalone_mode=False)
    (etcd,) = [one for one in json.loads(told.output) if one["name"] == "etcd"]
    assert etcd["runs"] == f"{home.parent}/etcd/3.4/usr/bin/etcd"
    assert [one["version"] for one in etcd["installed"]] == ["3.4"]


def test_a_module_is_required_in_the_version_that_is_asked_for(
    home: Path, client: Callable[[str, str], None], tmp_path: Path
) -> None:
    source = tmp_path / "store"
    source.mkdir()
    (source / "go.mod").write_text("module store\n")
    client(
        "go",
        'case $1 in mod) echo "$3" >> go.mod ;;\n'
        'build) [ $3 = -mod=mod ] && mkdir -p "${6%/*}" && cp go.mod "$6" ;;\n'
        "version) ;; esac",
    )
    recipe = Recipe(ANY, Go(source=source, module="a/b@v{version}"), "bin/store")
    found = install(Software("store", (recipe,)), "1.2", quiet)
    assert found.program.read_text() == "module store\n-require=a/b@v1.2\n"
    assert found.told == "Go: a/b@v1.2"
    assert (source / "go.mod").read_text() == "module store\n"


def test_a_library_that_clients_need_and_that_is_missing_is_told_everywhere(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_install(home, "2")
    lacking = dataclasses.replace(STORE, driver="no_such_driver")
    monkeypatch.setattr(abilities, "installable", lambda: [(lacking, "a store")])
    with pytest.raises(NotInstalledError, match=r"^no_such_driver, which clients of"):
        lacking.check_driver()
    listed = CliRunner().invoke(cli, ["systems", "list"], standalone_mode=False)
    assert "  to run it, besides: pip install no_such_driver\n" in listed.output
    finding = next(check for name, check in doctor._systems() if name == "store")()
    assert finding.advice == "pip install no_such_driver"
    dataclasses.replace(lacking, driver="json").check_driver()
