"""The page on loops of one's own is true: its code runs, on the digits and on a folder of photographs."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PAGE = (Path(__file__).parents[1] / "book" / "own-loop.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run(code, folder):
    script = folder / "page.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_loops_train(tmp_path):
    """Each block goes on where the one before it ended, as a reader would paste them."""
    printed = run("\n".join(BLOCKS[:-1]), tmp_path)
    assert set(re.findall(r"'([a-z ]+)':", printed)) == {"hard labels", "soft targets", "hints"}


@pytest.mark.system
def test_the_script_distils_a_transformer_on_a_folder_of_photographs(tmp_path):
    noise = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 16)):
        for number in range(count):
            place = tmp_path / "photos" / part / ("dark", "light")[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            pixels = noise.integers(0, 120, (70, 90, 3)) + 130 * (number % 2)
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.jpg")
    script = BLOCKS[-1]
    assert len([line for line in script.splitlines() if line and "import" not in line]) <= 30
    printed = run(script.replace("epochs=20", "epochs=2"), tmp_path)
    assert "'agreement'" in printed
