"""The set-up: what it decides, what real pip leaves and says when it fails, and what the locks promise."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from made_up_course import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ci import environment, pins
from ci.environment import LEVELS, UNFINISHED, Plan

# A project that pip installs as it installs kdlib, from no index: it builds itself.
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "kdlib"
dependencies = ["small-book>=1"]
[project.optional-dependencies]
notebook = ["small_figures>=1"]
book = ["kdlib[notebook]", "jupyter-of-the-book>=1"]
dev = ["kdlib[book]", "small-dev>=1"]
"""
BACKEND = """
import zipfile
from pathlib import Path

def build_editable(folder, settings=None, metadata=None):
    with zipfile.ZipFile(Path(folder, "kdlib-1-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("kdlib-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: kdlib\\nVersion: 1\\n")
        about = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr("kdlib-1.dist-info/WHEEL", about)
        wheel.writestr("kdlib-1.dist-info/RECORD", "")
    return "kdlib-1-py3-none-any.whl"
"""


def make_wheel(folder: Path, name: str, size: int = 10, tag: str = "py3-none-any") -> str:
    """A package of one module of so many bytes; the line of a lock file that asks for it."""
    folder.mkdir(exist_ok=True)
    module = name.replace("-", "_")
    path = folder / f"{module}-1-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{module}.py", "#" * size)
        wheel.writestr(f"{module}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        wheel.writestr(
            f"{module}-1.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"
        )
        wheel.writestr(f"{module}-1.dist-info/RECORD", "")
    return f"{name}==1 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository's root with a lock file of one small package a level, and pip on no network."""
    root = tmp_path / "course"
    (root / "ci/requirements").mkdir(parents=True)
    environment.lock_of(root, "book").write_text(make_wheel(tmp_path / "wheels", "small-book"))
    environment.lock_of(root, "dev").write_text(
        "-r book.txt\n" + make_wheel(tmp_path / "wheels", "small-dev")
    )
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "backend.py").write_text(BACKEND)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_RETRIES", "1")  # with none, pip says nothing of the first failure
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return root


@pytest.fixture(scope="module")
def bare_venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with pip alone."""
    venv = tmp_path_factory.mktemp("bare") / ".venv"
    environment.create(venv)
    return venv


@pytest.fixture
def with_pip(root: Path, bare_venv: Path) -> Path:
    """The root with a .venv that has pip alone."""
    (root / ".venv").symlink_to(bare_venv, target_is_directory=True)
    return root


def make_venv(root: Path, *stamp: str) -> None:
    """A .venv with an interpreter and this stamp."""
    python = environment.python_of(root / ".venv")
    python.parent.mkdir(parents=True)
    python.touch()
    if stamp:
        environment.stamp_path(root / ".venv").write_text("\n".join(stamp))


def decided(
    root: Path, level: str, *, inside: bool = False, installed: bool = False, own: bool = False
) -> Plan:
    return environment.decide(root, level, inside_venv=inside, installed=installed, own=own or installed)


@pytest.mark.parametrize(
    ("stamp", "inside", "installed", "plan"),
    [
        ("current", False, False, Plan.USE_VENV),
        ("current", True, True, Plan.USE_RUNNING),
        ("another", False, False, Plan.UPDATE),
        ("another", True, True, Plan.UPDATE),
        (UNFINISHED, False, False, Plan.CREATE),
        (None, False, False, Plan.UPDATE),
        (None, True, True, Plan.USE_RUNNING),
        (None, True, False, Plan.UPDATE),
        ("another", False, True, Plan.USE_RUNNING),
    ],
)
def test_what_the_set_up_decides(
    root: Path, stamp: str | None, inside: bool, installed: bool, plan: Plan
) -> None:
    make_venv(
        root, *([environment.fingerprint(root, "book") if stamp == "current" else stamp] if stamp else [])
    )
    assert decided(root, "book", inside=inside, installed=installed) is plan


def test_without_a_venv_one_is_made(root: Path) -> None:
    assert decided(root, "book") is Plan.CREATE
    (root / ".venv").mkdir()
    assert decided(root, "book") is Plan.CREATE


def test_an_environment_of_ones_own_is_asked_to_grow_and_gets_no_second_one(root: Path) -> None:
    assert decided(root, "book", installed=True) is Plan.USE_RUNNING
    assert decided(root, "dev", own=True) is Plan.TELL
    make_venv(root, environment.fingerprint(root, "dev"))
    assert decided(root, "dev", own=True) is Plan.USE_VENV


def test_building_the_book_asks_for_nothing_of_the_developers(root: Path) -> None:
    names = {level: set(environment.direct_requirements(root, level)) for level in LEVELS}
    assert names["book"] == {"small-book>=1", "small_figures>=1", "jupyter-of-the-book>=1"}
    assert names["dev"] - names["book"] == {"small-dev>=1"}


@pytest.mark.parametrize(
    ("name", "stale"),
    [
        ("pyproject.toml", {"book", "dev"}),
        ("ci/requirements/book.txt", {"book", "dev"}),
        ("ci/requirements/dev.txt", {"dev"}),
    ],
)
def test_changed_versions_update_the_levels_that_have_them(root: Path, name: str, stale: set[str]) -> None:
    make_venv(root, *(environment.fingerprint(root, level) for level in LEVELS))
    path = root / name
    path.write_text(path.read_text() + "# changed\n")
    assert {level for level in LEVELS if decided(root, level) is Plan.UPDATE} == stale
    assert {level for level in LEVELS if decided(root, level) is Plan.USE_VENV} == {*LEVELS} - stale


def test_a_python_that_lacks_a_direct_dependency_is_not_used(root: Path) -> None:
    assert environment.is_installed(ROOT, "dev")
    assert not environment.is_installed(root, "book")


def test_an_environment_grows_and_survives_what_stops_it(root: Path) -> None:
    """Real pip, from nothing to the developers' tools; each way to fail leaves what was there before."""
    venv, wheels = root / ".venv", root.parent / "wheels"
    environment.set_up(root, "book", decided(root, "book"))
    assert (decided(root, "book"), decided(root, "dev")) == (Plan.USE_VENV, Plan.UPDATE)
    assert has(root, "small-book", "kdlib")
    assert not has(root, "small-dev")
    (venv / "made once").touch()

    (wheels / "small_dev-1-py3-none-any.whl").rename(root / "away.whl")
    with pytest.raises(SystemExit, match="Set-up failed: a package has no ready-made file"):
        environment.set_up(root, "dev", decided(root, "dev"))
    assert (decided(root, "book"), decided(root, "dev")) == (Plan.USE_VENV, Plan.UPDATE)

    (root / "away.whl").rename(wheels / "small_dev-1-py3-none-any.whl")
    environment.set_up(root, "dev", decided(root, "dev"))
    assert {decided(root, level) for level in LEVELS} == {Plan.USE_VENV}
    assert has(root, "small-dev")

    (installed,) = venv.rglob("small_dev-1.dist-info")  # as if pip had been killed in the middle of it
    (installed / "INSTALLER").unlink()
    next(venv.rglob("small_dev.py")).unlink()
    environment.stamp_path(venv).write_text(environment.fingerprint(root, "book"))
    environment.set_up(root, "dev", decided(root, "dev"))
    assert has(root, "small-dev")
    assert list(venv.rglob("small_dev.py"))
    assert (venv / "made once").exists()


def has(root: Path, *names: str) -> bool:
    """Whether pip finds these in .venv."""
    pip = [str(environment.python_of(root / ".venv")), "-m", "pip", "show", "--quiet", *names]
    return subprocess.run(pip, capture_output=True).returncode == 0


def test_a_venv_that_was_never_finished_is_made_anew(root: Path) -> None:
    make_venv(root, UNFINISHED)
    (root / ".venv" / "left over").touch()
    environment.set_up(root, "book", decided(root, "book"))
    assert decided(root, "book") is Plan.USE_VENV
    assert not (root / ".venv" / "left over").exists()


def said_of(root: Path) -> str:
    """The last line of what a failing pip makes the set-up say: the sentence."""
    with pytest.raises(SystemExit) as failed:
        environment.install(root, "--requirement", str(environment.lock_of(root, "book")))
    return str(failed.value).splitlines()[-1]


def test_no_network(with_pip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # a port that nobody serves
    assert "no package index could be reached" in said_of(with_pip)


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[str]:
    """The address of a server on this machine whose certificate nobody trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make a certificate with")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
    subprocess.run([*make, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://localhost:{server.server_port}/simple"
        server.shutdown()


def test_a_certificate_that_python_does_not_know(
    with_pip: Path, stranger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", stranger)
    monkeypatch.delenv("PIP_FIND_LINKS")
    said = said_of(with_pip)
    assert "PIP_CERT=FILE.pem make book" in said
    assert "pip config set global.cert FILE.pem" in said
    monkeypatch.setenv("PIP_CERT", str(with_pip / "no such file.pem"))
    assert "PIP_CERT=FILE.pem make book" in said_of(with_pip)


def test_a_full_disk(root: Path, tmp_path: Path) -> None:
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small disk can be mounted by root only")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(small)])
    if mounted.returncode != 0:
        pytest.skip("no disk can be mounted here")
    try:
        course = shutil.copytree(root, small / "course")
        environment.create(course / ".venv")
        environment.lock_of(course, "book").write_text(
            make_wheel(tmp_path / "wheels", "large", size=60_000_000)
        )
        said = said_of(course)
        assert "the disk is full" in said
        assert f"6 GB in {course}, where 0.0 GB are free" in said
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_system_for_which_there_is_no_package(with_pip: Path, tmp_path: Path) -> None:
    line = make_wheel(tmp_path / "wheels", "elsewhere", tag="cp39-cp39-win32")
    environment.lock_of(with_pip, "book").write_text("--only-binary :all:\n" + line)
    assert re.search(
        r"no ready-made file for Python 3\.\d+\.\d+ on .*none is compiled here", said_of(with_pip)
    )


def test_a_package_that_is_not_the_one_that_was_locked(with_pip: Path, tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "small-book", size=11)
    assert "is not the file that was locked" in said_of(with_pip)


def test_a_failure_that_nobody_foresaw_points_at_pips_own_words(root: Path) -> None:
    assert environment.why_it_failed("ERROR: something else", root).startswith(
        "Set-up failed with the message"
    )


def test_a_python_without_ensurepip_is_told_what_to_install(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SystemExit, match="apt-get install python3-venv"):
        environment.create(root / ".venv")
    assert not (root / ".venv").exists()


def test_an_old_python_can_read_the_file_that_turns_it_away() -> None:
    source = (ROOT / "ci/__main__.py").read_text()
    head = source.split("from ci import environment")[0]
    ast.parse(head, feature_version=(3, 7))
    exec(compile(head, "ci/__main__.py", "exec"), {"__name__": "checked"})
    old = head.replace("sys.version_info < (3, 11)", "sys.version_info < (9, 9)")
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer, but .* is older"):
        exec(compile(old, "ci/__main__.py", "exec"), {"__name__": "checked"})


def test_the_commands_start_on_the_standard_library_alone() -> None:
    help_text = subprocess.run(
        [sys.executable, "-S", "-m", "ci", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert all(command in help_text for command in ("book", "test", "lab", "bench", "clean"))


LOCKED = {level: pins.entries(environment.lock_of(ROOT, level).read_text()) for level in LEVELS}


def pinned() -> dict[str, str]:
    """The versions of all packages, by name."""
    both = [pins.read_pins(environment.lock_of(ROOT, level)) for level in LEVELS]
    return both[0] | both[1]


def requirements() -> list[Requirement]:
    return [Requirement(line) for line in environment.direct_requirements(ROOT, "dev")]


def test_pyproject_gives_lower_bounds_and_no_pins() -> None:
    for requirement in requirements():
        operators = {specifier.operator for specifier in requirement.specifier}
        assert ">=" in operators, requirement
        assert not operators & {"==", "===", "~="}, requirement
        assert requirement.url is None, requirement


@pytest.mark.parametrize("level", LEVELS)
def test_every_direct_dependency_is_locked_within_its_bounds(level: str) -> None:
    locked = pinned() if level == "dev" else pins.read_pins(environment.lock_of(ROOT, "book"))
    for line in environment.direct_requirements(ROOT, level):
        assert Requirement(line).specifier.contains(locked[environment.name_of(line)]), line


def test_the_locks_hold_one_version_of_each_package_with_its_hashes() -> None:
    versions: dict[str, set[str]] = {}
    for entry in [entry for level in LEVELS for entry in LOCKED[level].values()]:
        first, *hashes = entry.replace("\\\n", "").split("--hash=")
        requirement = Requirement(first)
        assert hashes, first
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", given) for given in hashes), first
        versions.setdefault(requirement.name, set()).add(str(requirement.specifier))
    assert [name for name, found in versions.items() if len(found) != 1] == []


def test_the_developers_lock_begins_with_the_books_and_repeats_no_entry() -> None:
    lines = environment.lock_of(ROOT, "dev").read_text().splitlines()
    assert [line for line in lines if line.startswith("-")] == [
        "-r book.txt",
        f"--no-binary {pins.FROM_SOURCE}",
    ]
    assert not LOCKED["book"].keys() & LOCKED["dev"].keys()


@pytest.mark.parametrize("name", ["triton", "nvidia-cudnn-cu13", "pywinpty", "appnope"])
def test_what_one_system_needs_is_left_out_on_the_others(name: str) -> None:
    needed = {
        system
        for system in ("linux", "darwin", "win32")
        for line in LOCKED["book"]
        if environment.name_of(line) == name
        and (marker := Requirement(line.removesuffix("\\\n")).marker)
        and marker.evaluate({"sys_platform": system, "os_name": "nt" if system == "win32" else "posix"})
    }
    assert needed == {{"pywinpty": "win32", "appnope": "darwin"}.get(name, "linux")}


def test_every_locked_package_that_is_here_has_its_version_and_runs_on_the_oldest_python() -> None:
    locked = {name: version for name, version in pinned().items() if environment.is_distribution(name)}
    assert locked.keys() >= {environment.name_of(line.name) for line in requirements()}
    for name, version in locked.items():
        assert metadata.version(name) == version, f"{name}: run `python -m ci pins`"
        allowed = metadata.metadata(name)["Requires-Python"] or ""
        assert SpecifierSet(allowed).contains("3.11.5"), f"{name} {version} needs Python {allowed}"


def test_conda_names_no_pin_of_its_own() -> None:
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert conda["dependencies"] == ["python=3.11", "pip", {"pip": ["-r ci/requirements/book.txt"]}]


@pytest.mark.parametrize("name", ["ci/requirements/book.txt", "ci/requirements/dev.txt", "environment.yml"])
def test_no_list_of_versions_names_a_host_or_a_local_file(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"://|--(extra-)?index-url|--find-links| @ ", text)
