"""The parameters of every chapter: what it cannot use is refused in its first cells, before it trains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from ci.chapters import default_parameters, read_notebook, source_of
from kdlib.course import checks

ROOT = Path(__file__).parents[2]
CHAPTERS = [*sorted((ROOT / "book").glob("*.ipynb")), ROOT / "ci/chapter_template/99-title.ipynb"]

# Looked at by `load_data` and `create_model` in the cells that come next, before anything is trained.
LATER = {"folder", "teacher_name"}

MISTAKES = {
    "profile": ("qiuck", r"profile is 'qiuck'; choose 'quick', 'short' or 'full'\."),
    "seed": (-1, r"seed is -1; give a whole number, 0 or more\."),
    "n_seeds": (1, r"n_seeds is 1; give a whole number, 2 or more, because an interval over seeds needs "),
    "device": ("gpu", "device 'gpu' cannot be used here; try 'auto' or 'cpu'"),
}


@pytest.fixture(autouse=True)
def own_style() -> Iterator[None]:
    """The chapters set a style of their plots."""
    with plt.rc_context():
        yield


def begin(chapter: Path, **given: Any) -> None:
    """Run a chapter's parameters, those that papermill would give it, and its imports."""
    cells = {cell["id"]: source_of(cell) for cell in read_notebook(chapter)["cells"]}
    names: dict[str, Any] = {}
    exec(cells["parameters"], names)
    names |= given
    exec(cells["imports"], names)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem[:2])
def test_a_mistake_in_a_parameter_is_told_in_the_first_cells(chapter: Path) -> None:
    begin(chapter, device="cpu")
    for name in default_parameters(read_notebook(chapter)).keys() - LATER:
        wrong, message = MISTAKES.get(name, (0, f"{name} is 0; give a whole number, 1 or more"))
        with pytest.raises(ValueError, match=f"^{message}"):
            begin(chapter, **{name: wrong})


@pytest.mark.parametrize("wrong", [2.5, 4.0, "4", True, None])
@pytest.mark.parametrize("name", ["seed", "n_seeds", "epochs"])
def test_counts_are_whole_numbers(name: str, wrong: Any) -> None:
    """As papermill passes what is given to it with -p."""
    given: dict[str, Any] = {"seed": 0, "n_seeds": 2, "epochs": 1, name: wrong}
    with pytest.raises(ValueError, match=f"^{name} is {wrong!r}; give a whole number, "):
        checks.parameters("quick", device="cpu", **given)


@pytest.mark.parametrize("profile", ["quick", "short", "full"])
def test_what_a_chapter_can_use_is_not_refused(profile: str) -> None:
    checks.parameters(profile, seed=0, n_seeds=2, device="auto", epochs=1)
