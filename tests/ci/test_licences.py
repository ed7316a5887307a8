"""Licences, citation and changelog: there, valid, and of one mind."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
import yaml
from made_up_course import ROOT

import kdlib
from kdlib.data.catalogue import sources

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_citation_is_valid_and_of_this_version() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.citation-file-format"]
    done = subprocess.run([*check, str(ROOT / "CITATION.cff")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] == kdlib.__version__
    assert citation["repository-code"] == PROJECT["urls"]["Repository"]
    assert citation["license"] == PROJECT["license"] == "MIT"


@pytest.mark.parametrize(
    ("name", "first", "inside"),
    [
        ("LICENSE", "MIT License", "without restriction, including without limitation the rights"),
        ("ci/pages/sphinx/static/vendor/katex/LICENSE", "The MIT License (MIT)", "Khan Academy"),
        ("LICENSE-TEXT", "The text and the figures of the course", "Section 8 -- Interpretation."),
    ],
)
def test_each_licence_is_whole(name: str, first: str, inside: str) -> None:
    text = (ROOT / name).read_text()
    assert text.startswith(first)
    assert inside in text


def test_the_installed_package_carries_its_licence() -> None:
    carried = [file for file in metadata.files("kdlib") or () if file.parent.name == "licenses"]
    assert [file.read_text() for file in carried] == [(ROOT / "LICENSE").read_text()]


def test_every_data_set_states_its_terms_and_whom_to_thank() -> None:
    for source in sources().values():
        assert len(source.licence) > 5, source.name
        assert len(source.citation) > 20, source.name


def test_the_page_on_contributing_names_every_licence_file() -> None:
    page = (ROOT / "book" / "contributing" / "index.md").read_text()
    git = ["git", "-C", str(ROOT), "ls-files", "*LICENSE*", "CITATION.cff"]
    files = subprocess.run(git, check=True, capture_output=True, text=True).stdout.split()
    assert {"LICENSE", "LICENSE-TEXT", "CITATION.cff"} < set(files)
    for file in files:
        folder, _, name = file.rpartition("/")
        assert f"`{name}`" in page, file
        assert folder in page, file
    assert "`kdlib/data/datasets.toml`" in page, "which has the terms of the data sets"


def test_the_changelog_begins_with_what_is_not_released() -> None:
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("#")]
    assert headings[:2] == ["# Changelog", "## Unreleased"]
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert {line[4:] for line in headings if line.startswith("### ")} <= kinds
