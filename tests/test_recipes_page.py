"""The page on recipes of one's own is true: its files and commands, in a folder with pictures."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.core import TyperGroup
from typer.main import get_command

from kdlib.cli import app

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "book" / "recipes.md").read_text(encoding="utf-8")
FILES = re.findall(r"```\{code-block\} \w+\n:caption: `([\w.]+)`\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"^kd (.+?)(?: +#.*)?$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page's files, and pets: noise, a little lighter in the second class."""
    place = tmp_path_factory.mktemp("page")
    for name, text in FILES:
        (place / name).write_text(text)
    noise = np.random.default_rng(0)
    for light, label in enumerate(("cats", "dogs")):
        (place / "pets" / label).mkdir(parents=True)
        for number in range(20):
            pixels = noise.integers(0, 200, (40, 40, 3)) + 50 * light
            Image.fromarray(pixels.astype(np.uint8)).save(place / "pets" / label / f"{number}.png")
    return place


def test_there_are_two_files():
    assert [name for name, _ in FILES] == ["my.toml", "my_things.py"]
    assert len(COMMANDS) == 10


@pytest.mark.parametrize("command", COMMANDS)
def test_kd_does_what_the_page_shows(folder, command):
    words = shlex.split(command)
    if words[0] == "sweep":
        assert isinstance(group := get_command(app), TyperGroup)
        assert group.commands["sweep"].make_context("sweep", words[1:]).params["cores"] == 2
        return
    places = {f"KDLIB_{name}": str(folder / name.lower()) for name in ("RUNS", "RESULTS")}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "kdlib.cli", *words, *(["--device", "cpu"] if words[0] == "run" else [])],
        cwd=folder, env=os.environ | places | {"PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert words[1].replace(".toml:", "/").removesuffix(".toml").partition("*")[0] in done.stdout


def test_the_data_set_of_the_page_is_there(folder):
    code = "import my_things, kdlib; print(len(kdlib.load_data('few-digits', size=16).classes))"
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "10\n", done.stderr
