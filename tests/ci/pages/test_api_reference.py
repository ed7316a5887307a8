"""The API reference has every public name of kdlib, and cards, names and papers lead to where they should."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from made_up_course import ROOT

import kdlib
from ci.pages import cards, methods
from ci.pages.records import load_groups

pytestmark = pytest.mark.system
# What a program does not import from kdlib: the command, the course's own, and what other modules stand on.
NOT_OFFERED = {"cli", "course", "distiller", "files", "names", "own", "paths", "plain"}
EXTENSIONS = ("myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib.bibtex")
ROOMS = [kdlib.__name__, *(f"kdlib.{each.name}" for each in pkgutil.iter_modules(kdlib.__path__))]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference, the cards and the bibliography, built as they are in the book; a warning is an error."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in ("api", "methods"):
        shutil.copytree(ROOT / "book" / name, source / name)
    for name in ("bibliography.md", "references.bib"):
        shutil.copy(ROOT / "book" / name, source)
    cards.stage_cards(source, ROOT, load_groups(source))
    (source / "index.md").write_text("# All\n\n```{toctree}\n:glob:\n\napi/*\nmethods/*\nbibliography\n```\n")
    book = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    settings = {
        **{name: value for name, value in book["sphinx"]["config"].items() if not name.startswith("html_")},
        "extensions": [*EXTENSIONS, "api_reference"],
        "myst_enable_extensions": book["parse"]["myst_enable_extensions"],
        "bibtex_bibfiles": book["bibtex_bibfiles"],
        "suppress_warnings": ["myst.xref_missing"],  # the chapters, which are not there
    }
    (source / "conf.py").write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", str(source), str(built)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'ci/pages/sphinx'}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return built


def inventory(pages: Path) -> set[str]:
    """The names that the pages describe."""
    packed = (pages / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return set(re.findall(r"^(\S+) py:", zlib.decompress(packed).decode(), re.MULTILINE))


def offered(room: ModuleType) -> list[str]:
    """The public names of a module: those that it lists, or that it defines."""
    defined = [
        name
        for name, value in vars(room).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == room.__name__
    ]
    return getattr(room, "__all__", defined)


@pytest.mark.parametrize("name", [name for name in ROOMS if name.partition(".")[2] not in NOT_OFFERED])
def test_every_public_name_is_described_once(name: str, pages: Path) -> None:
    room = importlib.import_module(name)
    assert offered(room)
    rooms = [name for name in ROOMS if name in inventory(pages)]
    for public in offered(room):
        value = getattr(room, public)
        if not isinstance(value, ModuleType):
            # Of one name there may be several things: every registry has a function `register`.
            described = [
                f"{each}.{public}"
                for each in rooms
                if f"{each}.{public}" in inventory(pages)
                and getattr(importlib.import_module(each), public) is value
            ]
            assert len(described) == 1, f"{name}.{public} is described as {described or 'nothing'}"


def test_every_described_name_exists(pages: Path) -> None:
    for name in inventory(pages):
        assert pkgutil.resolve_name(name) is not None


@pytest.mark.parametrize("method", methods.load_methods(ROOT / "book" / "methods", []), ids=lambda m: m.slug)
def test_a_card_leads_to_its_terms_and_losses(method: methods.Method, pages: Path) -> None:
    card = (pages / "methods" / f"{method.slug}.html").read_text(encoding="utf-8")
    found = set(re.findall(r'href="\.\./api/\w+\.html#kdlib\.([\w.]+)"', card))
    for name in method.names:
        assert name in found or f"terms.{name}" in found, name


def test_formulas_papers_and_names_in_docstrings_are_made_readable(pages: Path) -> None:
    losses = (pages / "api" / "losses.html").read_text(encoding="utf-8")
    entry = losses.partition('id="kdlib.losses.soft_target_loss"')[2].partition('<dt class="sig')[0]
    assert re.search(r'<div class="math[^"]*">.*?\\mathrm\{KL\}', entry, re.DOTALL)
    assert re.search(r'href="\.\./bibliography\.html#id\d+"[^>]*>2015</a>', entry)
    assert 'href="index.html#kdlib.Distiller"' in entry
    assert "`" not in re.sub(r"<[^>]*>", "", entry)
