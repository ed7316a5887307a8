"""The set-up: what it decides, what a failure leaves, and that every list of versions says the same."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from made_up_course import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ci import environment, pins
from ci.environment import Plan


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository's root with the two files that decide what .venv holds."""
    (tmp_path / "ci").mkdir()
    (tmp_path / "ci/constraints.txt").write_text("torch==2.0\n")
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "kdlib"\ndependencies = ["torch>=2"]\n'
        '[project.optional-dependencies]\nbook = ["jupyter_book>=1"]\n'
        'dev = ["kdlib[book]", "no-such-package"]\n'
    )
    return tmp_path


def make_venv(root: Path, stamp: str | None) -> None:
    """A .venv with an interpreter and this stamp."""
    python = environment.python_of(root / ".venv")
    python.parent.mkdir(parents=True)
    python.touch()
    if stamp is not None:
        environment.stamp_path(root / ".venv").write_text(stamp)


@pytest.mark.parametrize(
    ("stamp", "inside", "installed", "plan"),
    [
        ("current", False, False, Plan.USE_VENV),
        ("current", True, True, Plan.USE_RUNNING),
        ("another", False, False, Plan.UPDATE),
        ("another", True, True, Plan.UPDATE),
        (environment.UNFINISHED, False, False, Plan.CREATE),
        (None, False, False, Plan.UPDATE),
        (None, True, True, Plan.USE_RUNNING),
        (None, True, False, Plan.UPDATE),
        ("another", False, True, Plan.USE_RUNNING),
    ],
)
def test_what_the_set_up_decides(
    root: Path, stamp: str | None, inside: bool, installed: bool, plan: Plan
) -> None:
    make_venv(root, environment.fingerprint(root) if stamp == "current" else stamp)
    assert environment.decide(root, inside_venv=inside, installed=installed) is plan


def test_without_a_venv_one_is_made(root: Path) -> None:
    assert environment.decide(root, inside_venv=False, installed=False) is Plan.CREATE
    (root / ".venv").mkdir()
    assert environment.decide(root, inside_venv=False, installed=False) is Plan.CREATE


@pytest.mark.parametrize("name", ["pyproject.toml", "ci/constraints.txt"])
def test_changed_versions_update_the_venv(root: Path, name: str) -> None:
    make_venv(root, environment.fingerprint(root))
    path = root / name
    path.write_text(path.read_text() + "# changed\n")
    assert environment.decide(root, inside_venv=False, installed=False) is Plan.UPDATE


def test_a_python_that_lacks_a_direct_dependency_is_not_used(root: Path) -> None:
    assert environment.is_installed(ROOT)
    assert not environment.is_installed(root)


@pytest.mark.parametrize(("returncode", "finished"), [(0, True), (1, False)])
def test_a_set_up_that_fails_is_not_believed_finished(
    root: Path, monkeypatch: pytest.MonkeyPatch, returncode: int, finished: bool
) -> None:
    make_venv(root, "another")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=returncode))
    if finished:
        environment.set_up(root, Plan.UPDATE)
    else:
        with pytest.raises(SystemExit, match="Set-up failed"):
            environment.set_up(root, Plan.UPDATE)
    assert (environment.decide(root, inside_venv=False, installed=False) is Plan.USE_VENV) == finished


def test_a_set_up_that_fails_says_what_it_needs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_venv(root, "another")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2.4e9))
    with pytest.raises(SystemExit) as failed:
        environment.set_up(root, Plan.UPDATE)
    said = str(failed.value)
    assert "reaches pypi.org, and 6 GB on the disk" in said
    assert f"{root}, which has 2 GB free" in said
    assert f"this is {sys.version_info[0]}.{sys.version_info[1]}." in said


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


def requirements() -> list[Requirement]:
    return [Requirement(line) for line in environment.direct_requirements(ROOT)]


def test_pyproject_gives_lower_bounds_and_no_pins() -> None:
    for requirement in requirements():
        operators = {specifier.operator for specifier in requirement.specifier}
        assert ">=" in operators, requirement
        assert not operators & {"==", "===", "~="}, requirement
        assert requirement.url is None, requirement


def test_every_direct_dependency_is_pinned_once_within_its_bounds() -> None:
    lines = (ROOT / "ci/constraints.txt").read_text().splitlines()
    names = [environment.name_of(line) for line in lines if not line.startswith("#")]
    assert len(names) == len(set(names))
    pinned = pins.read_pins(ROOT / "ci/constraints.txt")
    for requirement in requirements():
        assert requirement.specifier.contains(pinned[environment.name_of(requirement.name)]), requirement


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pins are made on Python 3.11")
def test_every_pin_runs_on_the_oldest_python_that_pyproject_allows() -> None:
    pinned = pins.read_pins(ROOT / "ci/constraints.txt")
    installed = {name for name in pinned if environment.is_distribution(name)}
    assert installed >= set(pins.direct_pins(ROOT))
    for name, version in [(name, pinned[name]) for name in installed]:
        assert metadata.version(name) == version, f"{name}: run `python -m ci pins`"
        allowed = str(metadata.metadata(name).json.get("requires_python", ""))
        assert SpecifierSet(allowed).contains("3.11.0"), f"{name} {version} needs Python {allowed}"


def test_conda_users_get_the_same_versions() -> None:
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    listed = conda["dependencies"][-1]["pip"]
    exact = dict(line.split("==") for line in listed if "==" in line)
    assert exact == pins.direct_pins(ROOT)
    assert [line for line in listed if "==" not in line] == ["-c ci/constraints.txt", "-e .[book,dev]"]


@pytest.mark.parametrize("name", ["ci/constraints.txt", "environment.yml"])
def test_no_list_of_versions_names_a_host_or_a_local_file(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"://|--(extra-)?index-url|--find-links| @ ", text)


def test_pins_are_written_into_the_conda_file_and_nowhere_else() -> None:
    text = "a:\n  - pip:\n      - torch==1\n      - numpy==1\n      - -e .\n"
    written = pins.with_versions(text, {"torch": "2.12.1"})
    assert written == "a:\n  - pip:\n      - torch==2.12.1\n      - -e .\n"
