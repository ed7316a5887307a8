"""The spelling check reads prose and nothing else, and says where a doubtful word is."""

from __future__ import annotations

import pytest
from made_up_course import chapter_cells, markdown, write_notebook

from ci import spelling
from ci.chapters import Repository


@pytest.fixture
def course(repository: Repository) -> Repository:
    (repository.root / "README.md").write_text("# A course\n")
    return repository


def test_good_prose_is_not_mentioned(course: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    assert spelling.check(course) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("We recieve it.", "recieve ==> receive"),
        ("A favorite color.", "favorite ==> favourite"),
    ],
)
def test_a_misspelling_and_an_american_word_are_found_with_their_cell(
    text: str, found: str, course: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [*chapter_cells("Alone", "1 + 1"), markdown("end", f"# End\n\n{text}")]
    write_notebook(course.book / "01-alone.ipynb", *cells)
    assert spelling.check(course) == 1
    assert f"book/01-alone.ipynb/end:3: {found}" in capsys.readouterr().out


def test_docstrings_are_read_and_code_is_not(course: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    source = '"""One.\n\nThe behavior.\n\nArgs:\n    color: of it.\n"""\n\ncolor = "recieve"  # recieve\n'
    (course.root / "kdlib" / "loss.py").write_text(source)
    assert spelling.check(course) == 1
    assert capsys.readouterr().out.splitlines() == ["kdlib/loss.py:3: behavior ==> behaviour"]


@pytest.mark.parametrize("text", ["`optimizer`", "$color$", "```\nrecieve\n```", "[it](color.md)", '"Color"'])
def test_code_formulas_links_and_quotations_are_left_alone(text: str, course: Repository) -> None:
    (course.book / "intro.md").write_text(f"# Intro\n\n{text}\n")
    assert spelling.check(course) == 0
