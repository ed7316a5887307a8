"""A new chapter that keeps the rules: notebook, checkers and tests from a template, and its two entries."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from ci.chapters import Chapter, CourseError, Repository, load_chapters
from ci.execute import write_whole

TEMPLATE = Path(__file__).parent / "chapter_template"
TEMPLATE_TITLE = "Title of the chapter"
# The template is a whole chapter, number 99: it is linted, typed and formatted as all others are.
TEMPLATE_NUMBER = "99"
LONGEST_TITLE = 60
# Letters and digits of any script, and punctuation that means nothing to Markdown or in a docstring.
TITLE = re.compile(r"[^\W_]([^\W_]|[ ,.;:?!'’()/+-])*")


def make_chapter(repository: Repository, title: str) -> list[Path]:
    """Write the files of a new last chapter and list it, all or nothing; return the files.

    Raises:
        CourseError: the title cannot be one, or the chapter or one of its files is there already.
    """
    chapters = load_chapters(repository)
    words = slug_words(title)
    for chapter in chapters:
        if chapter.slug[3:] == words:
            raise CourseError(
                f"The chapter {chapter.slug} is there already: choose another title than {title!r}."
            )
    number = int(chapters[-1].number) + 1
    slug = f"{number:02d}-{words}"
    new = {
        repository.book / f"{slug}.ipynb": "99-title.ipynb",
        repository.root / f"kdlib/course/checks/chapter{number:02d}.py": "chapter99.py",
        repository.root / f"tests/course/checks/test_chapter{number:02d}.py": "test_chapter99.py",
    }
    for path in new:
        if path.exists():
            raise CourseError(f"{path.relative_to(repository.root)} is there already: move it away first.")
    contents = {path: filled(name, number, title) for path, name in new.items()}
    contents |= listed(repository, chapters[-1], slug)
    write_all(contents)
    return list(contents)


def slug_words(title: str) -> str:
    """The part of a slug that says what the chapter is about: `the-kl-loss`.

    Raises:
        CourseError: the title cannot be one.
    """
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower().replace("'", "")
    words = "-".join(re.findall(r"[a-z0-9]+", plain))
    if not (TITLE.fullmatch(title) and words and title == title.strip() and len(title) <= LONGEST_TITLE):
        raise CourseError(
            f"{title!r} cannot be a chapter's title: give at most {LONGEST_TITLE} letters, digits, spaces "
            "and any of ,.;:?!'()/+- on one line, a letter or digit first."
        )
    return words


def filled(name: str, number: int, title: str) -> str:
    """A file of the template, with this number and title."""
    text = (TEMPLATE / name).read_text(encoding="utf-8")
    text = text.replace(f"chapter{TEMPLATE_NUMBER}", f"chapter{number:02d}")
    return text.replace(TEMPLATE_NUMBER, str(number)).replace(TEMPLATE_TITLE, title)


def listed(repository: Repository, last: Chapter, slug: str) -> dict[Path, str]:
    """chapters.yml and _toc.yml with the chapter after the last one; comments and layout stay.

    Raises:
        CourseError: _toc.yml lists the last chapter in another form than the others.
    """
    listing, contents = repository.book / "chapters.yml", repository.book / "_toc.yml"
    entry = f'{slug}:\n  needs: ["{last.number}"]\n  budget: {{quick: 60, short: 3600, full: 3600}}\n'
    text = contents.read_text(encoding="utf-8")
    found = re.search(rf"^( *- )file: {re.escape(last.slug)}\n", text, re.MULTILINE)
    if found is None:
        raise CourseError(f"book/_toc.yml does not list {last.slug} on a line of its own: give it one.")
    after = f"{found.group(1)}file: {slug}\n"
    return {
        listing: listing.read_text(encoding="utf-8").rstrip("\n") + f"\n{entry}",
        contents: text[: found.end()] + after + text[found.end() :],
    }


def write_all(contents: dict[Path, str]) -> None:
    """Write the files; when one cannot be written, all are as they were."""
    before = {path: path.read_bytes() if path.exists() else None for path in contents}
    try:
        for path, text in contents.items():
            write_whole(path, text.encode("utf-8"))
    except BaseException:
        for path, content in before.items():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                write_whole(path, content)
        raise
