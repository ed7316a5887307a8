"""The print edition: every page in its order, references inside it, numbers in its contents, bookmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from bs4 import BeautifulSoup, Tag

from ci.chapters import CourseError, Repository
from ci.pages import printed

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PAGE = """<html><head><link rel="stylesheet" href="_static/look.css"></head><body>
<article class="bd-article"><section id="top">
<h1>{title}<a class="headerlink">#</a></h1>{text}</section></article></body></html>"""
PREDICTION = """<div class="prediction" id="prediction-1-2"><p>Which?</p>
<details data-answer="wrong"><summary>One</summary><p>No.</p></details>
<details data-answer="right"><summary>Two</summary><p>Yes, two.</p></details></div>"""
PAGES = {
    "intro": "<p>See <a href='01-alone.html#there'>there</a> and <a href='records.html'>the records</a>.</p>",
    "01-alone": f"""<p id="there">Here.</p>
        <div class="cell"><details class="hide"><pre>code</pre></details></div>
        {PREDICTION}<details class="solution"><summary>Solution 1.1</summary><p>42.</p></details>""",
    "02-library": "<p>Go <a href='intro.html'>back</a>. <img src='_images/plot.png' alt='A plot'></p>",
}


@pytest.fixture
def built(repository: Repository) -> Repository:
    """Built pages of the made-up course."""
    (repository.html / "_static").mkdir(parents=True)
    (repository.html / "_static" / "look.css").write_text("p { color: black }")
    (repository.html / "_static" / "logo.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    for name, text in PAGES.items():
        (repository.html / f"{name}.html").write_text(PAGE.format(title=name, text=text))
    chapters = "[{file: 01-alone}, {file: 02-library}, {file: records}]"
    contents = f"root: intro\nparts:\n- caption: Part\n  chapters: {chapters}\n"
    (repository.book / "_toc.yml").write_text(contents)
    return repository


def edition(repository: Repository) -> Tag:
    return BeautifulSoup(printed.compose(repository, printed.read_leaves(repository), {}), "html.parser")


def test_every_page_is_in_it_in_order_and_the_records_are_not(built: Repository) -> None:
    assert [leaf.name for leaf in printed.read_leaves(built)] == ["intro", "01-alone", "02-library"]


def test_references_lead_to_places_in_the_edition(built: Repository) -> None:
    page = edition(built)
    ids = {str(node["id"]) for node in page.select("[id]")}
    links = [str(link["href"]) for link in page.select("a[href]")]
    assert "#01-alone--there" in links
    assert all(link.removeprefix("#") in ids for link in links)
    assert "the records" in page.get_text()


def test_folded_code_is_left_out_and_solutions_come_last(built: Repository) -> None:
    page = edition(built)
    assert page.select("details.hide, div.cell, .headerlink") == []
    last = page.select(".leaf")[-1]
    assert "42." in last.get_text()
    assert all(solution.has_attr("open") for solution in last.select("details"))


def test_the_answer_to_a_prediction_is_not_beside_its_question(built: Repository) -> None:
    *leaves, answers = edition(built).select(".leaf")
    question = " ".join(leaf.get_text() for leaf in leaves)
    assert "Two" in question
    assert "Yes, two." not in question
    assert "No." not in question
    assert "Prediction 1.2" in answers.get_text()
    assert "Yes, two." in answers.get_text()


def test_a_page_that_was_not_built_is_named(built: Repository) -> None:
    (built.html / "02-library.html").unlink()
    with pytest.raises(CourseError, match=r"no page .*02-library\.html: run `make book` first"):
        printed.read_leaves(built)


def test_the_printed_contents_say_on_which_page_each_part_begins(built: Repository, browser: Browser) -> None:
    from pypdf import PdfReader

    pages = printed.print_edition(browser, built, built.build / printed.NAME)
    reader = PdfReader(built.build / printed.NAME)
    texts = [page.extract_text() for page in reader.pages]
    assert len(texts) == pages == 6  # title, contents, three pages, solutions
    for number, name in enumerate(("intro", "01-alone", "02-library"), start=3):
        assert f"{name}{number}" in texts[1].replace(" ", "").replace("\n", "")
        assert name in texts[number - 1]
    titles = [entry.title for entry in reader.outline if not isinstance(entry, list)]
    assert titles == ["intro", "01-alone", "02-library", "Solutions of the exercises"]
    assert [path.name for path in built.build.glob("*.pdf")] == [printed.NAME]
