"""`make pdf`: the book as one PDF with a title page, contents, page numbers and bookmarks.

The built pages become one long page, with references to each other inside it, and Chromium prints that twice:
once to learn on which page each chapter begins, and once with these numbers in the contents.
"""

from __future__ import annotations

import copy
import html
import logging
import posixpath
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import yaml
from bs4 import BeautifulSoup, Tag

from ci.chapters import CourseError, Repository
from ci.execute import find_commit
from ci.pages.browser import open_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAME = "kd-course.pdf"
TITLE = "Knowledge distillation"
# On paper: no navigation, no code that the page folds away, none of what answers to a pointer.
DROPPED = ".headerlink, .kd-notation, .kd-definition, .kd-times, script, noscript, button, details.hide"
LOOK = Path(__file__).with_suffix(".css")
SOLUTIONS = "solutions-of-the-exercises"
LEFT_OUT = ("records", "api/", "changelog")  # long, and looked up on the built pages


@dataclass(frozen=True)
class Leaf:
    """One page of the book as a part of the edition: its place in it, its heading and its text."""

    name: str
    part: str
    title: str
    body: Tag
    solutions: list[Tag]


def read_order(repository: Repository) -> Iterator[tuple[str, str]]:
    """The pages of the edition in the order of the table of contents, each with its part's caption."""
    contents = yaml.safe_load((repository.book / "_toc.yml").read_text(encoding="utf-8"))
    yield contents["root"], ""
    for part in contents["parts"]:
        for entry in part["chapters"]:
            for name in (entry["file"], *(below["file"] for below in entry.get("sections", []))):
                if not name.startswith(LEFT_OUT):
                    yield name, part["caption"]


def read_leaves(repository: Repository) -> list[Leaf]:
    """Every page of the edition, made ready for paper.

    Raises:
        CourseError: a page has not been built.
    """
    order = list(read_order(repository))
    names = {name for name, _ in order}
    leaves = []
    for name, part in order:
        path = repository.html / f"{name}.html"
        if not path.is_file():
            raise CourseError(f"There is no page {path}: run `make book` first.")
        article = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser").select_one(
            "article.bd-article"
        )
        if article is None:
            raise CourseError(f"{path} has no article: run `make book` again.")
        for node in article.select(DROPPED):
            node.decompose()
        for cell in article.select("div.cell"):
            if not cell.get_text(strip=True) and cell.find("img") is None:
                cell.decompose()
        redirect(article, name, names, repository.html)
        solutions = answers_to_predictions(article)
        solutions += [details.extract() for details in article.select("details.solution")]
        heading = article.select_one("h1")
        leaves.append(Leaf(name, part, heading.get_text() if heading else name, article, solutions))
    return leaves


def redirect(article: Tag, name: str, names: set[str], folder: Path) -> None:
    """Make ids unique in the edition, and let links and images lead to where they are now."""
    for node in article.select("[id]:not(svg *)"):  # a drawing refers to its own parts from the stylesheet
        node["id"] = anchor(name, str(node["id"]))
    for image in article.select("img[src]"):
        if not urlsplit(str(image["src"])).scheme:
            image["src"] = (folder / name).parent.joinpath(str(image["src"])).resolve().as_uri()
    for link in article.select("a[href]"):
        parts = urlsplit(str(link["href"]))
        if parts.scheme:
            continue
        path = posixpath.join(posixpath.dirname(name), parts.path) if parts.path else f"{name}.html"
        page = posixpath.normpath(path).removesuffix(".html")
        if page not in names:
            link.unwrap()
        else:
            link["href"] = f"#{anchor(page, parts.fragment)}"


def anchor(page: str, place: str = "") -> str:
    """The id in the edition of a page, or of a place on it."""
    return "--".join(filter(None, [page.replace("/", "-"), place]))


def answers_to_predictions(article: Tag) -> list[Tag]:
    """The right answer of each prediction, taken off the page; its options stay there as a list."""
    answers = []
    for box in article.select(".prediction"):
        for option in box.select("details[data-answer]"):
            summary = option.select_one("summary")
            if summary is None:
                continue
            summary.name = "p"
            if option["data-answer"] == "right":
                answer = copy.copy(option)
                answer.name = "div"
                number = str(box.get("id", "")).rpartition("prediction-")[2].replace("-", ".")
                label = f"<p><strong>Prediction {number}</strong></p>"
                answer.insert(0, BeautifulSoup(label, "html.parser"))
                answers.append(answer)
            option.replace_with(summary)
            summary["class"] = "option"
    return answers


def stylesheets(folder: Path) -> list[str]:
    """The addresses of all stylesheets that the pages use, in the order in which they use them."""
    found: dict[str, None] = {}
    for page in sorted(folder.glob("*.html")):
        head = BeautifulSoup(page.read_text(encoding="utf-8").partition("</head>")[0], "html.parser")
        for link in head.select('link[rel="stylesheet"]'):
            found.setdefault((folder / urlsplit(str(link["href"])).path).as_uri())
    # The course's own come last, in whatever order the pages need them.
    return sorted(found, key=lambda address: "/course" in address or "/icons" in address)


def compose(repository: Repository, leaves: Sequence[Leaf], numbers: dict[str, int]) -> str:
    """The edition as one page of HTML; `numbers` are the pages on which its parts begin, once known."""
    styles = "".join(f'<link rel="stylesheet" href="{address}">' for address in stylesheets(repository.html))
    look = LOOK.read_text(encoding="utf-8")
    static = repository.html / "_static"
    scripts = [static / "vendor/katex/katex.min.js", static / "mathematics.js"]
    return "\n".join(
        [
            f'<!doctype html><html lang="en-GB" data-theme="light"><title>{TITLE}</title>',
            f'<meta charset="utf-8">{styles}<style>{look}{running_heads(leaves)}</style>',
            title_page(repository),
            contents(leaves, numbers),
            *(chapter(leaf) for leaf in leaves),
            solutions_of(leaves),
            *(f'<script src="{script.as_uri()}"></script>' for script in scripts),
        ]
    )


def running_heads(leaves: Sequence[Leaf]) -> str:
    """A named page for each leaf, with its title at the head."""
    rules = []
    for place, leaf in enumerate(leaves):
        title = leaf.title.replace("\\", "").replace('"', "\\22 ")
        rules.append(f"#leaf-{place} {{ page: leaf-{place} }}")
        rules.append(f'@page leaf-{place} {{ @top-right {{ content: "{title}" }} }}')
    return "\n".join(rules)


def title_page(repository: Repository) -> str:
    """Title, what the book is, and from which sources it was made."""
    logo = (repository.html / "_static" / "logo.svg").as_uri()
    return (
        f'<header class="title-page"><img alt="" src="{logo}"><p class="title">{TITLE}</p>'
        "<p>A course in which every figure, table and claim is made by the code in the book</p>"
        f'<p class="sources">Print edition, from commit {html.escape(find_commit(repository))}</p></header>'
    )


def contents(leaves: Sequence[Leaf], numbers: dict[str, int]) -> str:
    """The table of contents, part by part; a page number that is not known yet takes up its place."""
    rows, part = [], ""
    for leaf in leaves:
        if leaf.part != part:
            part = leaf.part
            rows.append(f'<p class="part">{html.escape(part)}</p>')
        rows.append(row(leaf.name, leaf.title, numbers))
    rows += ['<p class="part">Solutions</p>', row(SOLUTIONS, "Solutions of the exercises", numbers)]
    return f'<nav class="edition-contents"><p class="title">Contents</p>{"".join(rows)}</nav>'


def row(name: str, title: str, numbers: dict[str, int]) -> str:
    """One line of the contents."""
    return f'<p><a href="#{anchor(name)}">{html.escape(title)}</a><span>{numbers.get(name, 0):3d}</span></p>'


def chapter(leaf: Leaf) -> str:
    """One leaf, beginning on a page of its own."""
    place = leaf.body.get("data-place")
    return f'<div class="leaf" id="leaf-{place}"><div id="{anchor(leaf.name)}"></div>{leaf.body}</div>'


def solutions_of(leaves: Sequence[Leaf]) -> str:
    """The solutions of all chapters, out of sight of the exercises."""
    parts = []
    for leaf in leaves:
        if leaf.solutions:
            for details in leaf.solutions:
                if details.name == "details":
                    details["open"] = ""
            texts = "".join(str(details) for details in leaf.solutions)
            parts.append(f"<h2>{html.escape(leaf.title)}</h2>{texts}")
    return (
        f'<div class="leaf" id="{SOLUTIONS}"><article class="bd-article"><section>'
        f"<h1>Solutions of the exercises</h1>{''.join(parts)}</section></article></div>"
    )


def print_edition(browser: Browser, repository: Repository, target: Path) -> int:
    """Print the edition into its place, as a whole or not at all, and return its number of pages."""
    from pypdf import PdfReader, PdfWriter

    # Chromium counts its objects a little wrongly, which pypdf mends and mentions.
    logging.getLogger("pypdf").setLevel(logging.ERROR)
    leaves = read_leaves(repository)
    for place, leaf in enumerate(leaves):
        leaf.body["data-place"] = str(place)
    names = [*(leaf.name for leaf in leaves), SOLUTIONS]
    with tempfile.TemporaryDirectory(dir=repository.build) as scratch:
        printed = Path(scratch) / "printed.pdf"
        numbers = print_once(browser, repository, leaves, {}, printed, names)
        again = print_once(browser, repository, leaves, numbers, printed, names)
        if again != numbers:
            raise CourseError(
                "The contents moved the pages that they list: make their rows in printed.css fixed."
            )
        writer = PdfWriter(clone_from=PdfReader(printed))
        writer.add_metadata({"/Title": TITLE, "/Author": "the kd-course authors"})
        writer.page_mode = "/UseOutlines"
        finished = Path(scratch) / "finished.pdf"
        writer.write(finished)
        pages = len(writer.pages)
        finished.replace(target)
    return pages


def print_once(
    browser: Browser,
    repository: Repository,
    leaves: Sequence[Leaf],
    numbers: dict[str, int],
    target: Path,
    names: Sequence[str],
) -> dict[str, int]:
    """Print the edition, and return the page on which each named part begins."""
    from pypdf import PdfReader

    source = target.with_suffix(".html")
    source.write_text(compose(repository, leaves, numbers), encoding="utf-8")
    with browser.new_page() as page:
        page.goto(source.as_uri(), wait_until="load")
        page.evaluate("document.fonts.ready")
        page.pdf(path=target, prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
    reader = PdfReader(target)
    places = reader.named_destinations
    return {name: (reader.get_destination_page_number(places[f"/{anchor(name)}"]) or 0) + 1 for name in names}


def pdf(repository: Repository) -> int:
    """Make the print edition, and say where it is."""
    target = repository.build / NAME
    with open_browser() as browser:
        pages = print_edition(browser, repository, target)
    print(f"{target}: {pages} pages, {target.stat().st_size / 1e6:.1f} MB.")
    return 0
