"""Chapter 14: its checkers name each plausible mistake, and its ten lines run on a folder of images."""

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdlib.course import checks
from kdlib.deploy import load_program

CHAPTER = Path(__file__).parents[3] / "book" / "14-your-own-model.ipynb"


def says(number, answer, words):
    feedback = checks.check(number, answer)
    return feedback.state == "wrong" and words in feedback.message


@pytest.mark.parametrize("number", ["14.1", "14.2", "14.3", "14.4", "14.5"])
def test_an_exercise_not_begun_is_open(number):
    assert checks.check(number, ...).state == "open"


class TestSizeOfAFile:
    def test_right(self):
        assert checks.check("14.1", 11.18e6 * torch.float32.itemsize / 1e6).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (11.18, "one byte"),
            (11.18 * 2, "float16"),
            (11.18 * 8, "float64"),
            (11.18 * 32, "bits"),
            (11.18e6 * 4, "Those are bytes"),
            (11.18e3 * 4, "kilobytes"),
            (11.18e6 * 4 / 2**20, "mebibytes"),
            (30, "How many bytes"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("14.1", answer, words)


class TestSafeLead:
    def test_right(self):
        """With a little more of a lead the class stays whatever happens; with a little less it may not."""
        lead = 0.004
        for shift, stays in ((1e-4, True), (-1e-4, False)):
            worst = torch.tensor([lead + shift - 0.002, 0.002])
            assert (int(worst.argmax()) == 0) is stays
        assert checks.check("14.2", lead).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [(0.002, "the second 0.002 higher"), (0.001, "add up"), (0, "turn them round"), (4, "fall as far")],
    )
    def test_wrong(self, answer, words):
        assert says("14.2", answer, words)


def pairs(train, test):
    return (train[None] == test[:, None]).flatten(2).all(dim=2)


class TestTwins:
    @pytest.mark.parametrize("kind", [int, lambda count: count])
    def test_right(self, kind):
        assert checks.check("14.3", lambda a, b: kind(pairs(a, b).any(dim=1).sum())).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (lambda a, b: pairs(a, b).sum(), "not pairs"),
            (lambda a, b: pairs(a, b).any(dim=1).unique().numel() + 1, "twice was counted once"),
            (
                lambda a, b: len({i.numpy().tobytes() for i in a} & {i.numpy().tobytes() for i in b}),
                "each of",
            ),
            (lambda a, b: pairs(a, b)[:, : len(b)].diagonal().sum(), "same number only"),
            (lambda a, b: pairs(a, b).any(dim=1).double().mean(), "give how many"),
            (lambda a, b: len(a) - len(b) - 5, "finds 0"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("14.3", answer, words)

    def test_an_image_that_is_nearly_the_same(self):
        def tolerant(train, test):
            return (
                ((train[None].int() - test[:, None].int()).abs() <= 1).flatten(2).all(dim=2).any(dim=1).sum()
            )

        assert says("14.3", tolerant, "One pixel may not differ")

    def test_no_function(self):
        assert "give the function itself" in checks.check("14.3", 3).message


class TestFairRatio:
    def test_right(self):
        def fair(teacher, student, warm_up):
            return float(np.median(teacher[warm_up:]) / np.median(student[warm_up:]))

        assert checks.check("14.4", fair).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (lambda t, s, w: statistics.median(s[w:]) / statistics.median(t[w:]), "other way round"),
            (lambda t, s, w: statistics.mean(t[w:]) / statistics.mean(s[w:]), "Those are means, which"),
            (lambda t, s, _: statistics.median(t) / statistics.median(s), "warm-up is still in it"),
            (lambda t, s, _: statistics.mean(t) / statistics.mean(s), "with the warm-up still"),
            (lambda t, s, w: min(t[w:]) / min(s[w:]), "fastest calls"),
            (lambda t, s, w: statistics.median(t[w:]) - statistics.median(s[w:]), "a difference"),
            (lambda t, s, w: statistics.median(t[:-w]) / statistics.median(s[:-w]), "last calls"),
            (lambda t, s, w: statistics.median(t[:w]) / statistics.median(s[:w]), "kept the warm-up"),
            (lambda t, s, w: (len(t) + len(s) + w) / 6, "it gives 3"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("14.4", answer, words)


class TestTwoWidths:
    def test_right(self):
        assert checks.check("14.5", {4: 0.84, 16: 0.952}).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            ({4: 84, 16: 95.2}, "Give fractions"),
            ({4: 0.9, 16: 0.9}, "was the width passed on"),
            ({4: 0.1, 16: 0.12}, "no good teacher"),
            ({4: 0.95, 16: 0.84}, "each other's keys"),
            ({4: 0.84}, "the keys 4, 16"),
            (0.9, "the keys 4, 16"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("14.5", answer, words)


@pytest.fixture
def pets(tmp_path):
    """A folder as a reader might have one: names with blanks, several sizes, kinds and colours."""
    root = tmp_path / "my pets"
    draw = np.random.default_rng(0)
    for name, ground in (("dark", 60), ("light ones", 190)):
        (root / name).mkdir(parents=True)
        for number in range(30):
            noise = draw.integers(-40, 40, size=(20 + number, 40 - number, 3))
            picture = Image.fromarray(np.clip(ground + noise, 0, 255).astype(np.uint8))
            picture = picture.convert("L") if number % 3 == 0 else picture
            picture.save(root / name / f"{number}.{('png', 'jpg')[number % 2]}")
    return root


def test_the_ten_lines_are_a_program_that_distils_from_a_folder(pets):
    """The parameters and the cell, copied into a file and run in a process of its own."""
    cells = {cell["id"]: cell for cell in json.loads(CHAPTER.read_text(encoding="utf-8"))["cells"]}
    (parameters,) = (cell for cell in cells.values() if "parameters" in cell["metadata"].get("tags", ()))
    lines = "".join(cells["ten-lines"]["source"])
    assert len([line for line in lines.splitlines() if line and "import" not in line]) <= 10
    settings = "".join(parameters["source"])
    changed = {"folder": str(pets), "size": 8, "teacher_epochs": 60, "epochs": 60}
    for name, value in changed.items():
        settings, count = re.subn(rf"^{name} = .*$", f"{name} = {value!r}", settings, flags=re.MULTILINE)
        assert count == 1
    script = pets.parent / "own.py"
    script.write_text(f"{settings}\n{lines}")
    done = subprocess.run(
        [sys.executable, script], cwd=pets.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    accuracy = {who: float(value) for who, value in re.findall(r"(\w+): ([\d.]+)", done.stdout)}
    assert min(accuracy["teacher"], accuracy["student"]) > 0.8
    network = load_program(f"{pets}-student.pt2")
    grounds = torch.tensor([60, 190], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 8, 8)
    assert network(grounds).argmax(dim=1).tolist() == [0, 1]
