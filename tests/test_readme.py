"""The README is true: its commands exist, its code runs, its files are there."""

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

from ci.__main__ import parser
from kdlib.cli import app
from kdlib.experiments import find_recipes

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def write_stripes(folder):
    """Large pictures in colour: stripes across, stripes down, on a ground of any colour, and noise on all."""
    noise = np.random.default_rng(0)
    for number in range(2 * 75):
        across = number % 2
        pixels = noise.integers(0, 90, (48, 64, 3)) + noise.integers(0, 80, 3)
        (pixels if across else pixels.swapaxes(0, 1))[number % 8 :: 16] += 80
        place = folder / ("across" if across else "down")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")


@pytest.mark.parametrize(
    ("name", "said"),
    [("digits", "pictures of 1×8×8, 10 classes"), ("folder:stripes/", "pictures of 3×32×32, 2 classes")],
)
def test_the_code_distils_a_student(tmp_path, name, said):
    """In a process and a folder of its own, as a reader would run it, and with a folder of theirs."""
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line]) <= 10
    assert code.count('load_data("digits")') == 1
    code = code.replace('load_data("digits")', f'load_data("{name}")')
    write_stripes(tmp_path / "stripes")
    script = tmp_path / "readme.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    accuracy = float(re.search(r"'accuracy': ([\d.]+)", done.stdout)[1])
    agreement = float(re.search(r"'agreement': ([\d.]+)", done.stdout)[1])
    assert min(accuracy, agreement) > 0.8


@pytest.mark.parametrize("target", re.findall(r"`?make (\w+)", README))
def test_the_make_targets_exist(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("line", re.findall(r"^kd (.*?) +#", README, re.MULTILINE))
def test_kd_takes_the_commands_and_has_the_recipes(line):
    words = shlex.split(line)
    command = get_command(app)
    while isinstance(command, TyperGroup) and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    parsed = command.make_context("kd", words).params
    for recipes in [word for word in words if "/" in word and not word.endswith(".json")]:
        assert find_recipes(recipes, parsed.get("profile") or "quick")


@pytest.mark.parametrize("arguments", re.findall(r"`python -m ci ([^`]+)`", README))
def test_ci_takes_the_commands(arguments):
    parser().parse_args(arguments.split())


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_the_links_lead_somewhere(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("folder", re.findall(r"^\| `(\w+/)` \|", README, re.MULTILINE))
def test_the_folders_exist(folder):
    assert (ROOT / folder).is_dir()


def test_the_two_commands_come_first():
    first = blocks("bash")[0]
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make book", "make test"]
    assert README.index("make book") < 200
