"""The archive is a whole one or none, the same for the same pages, and has only what a browser asks for."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from ci.chapters import CourseError
from ci.pages.offline import pack


@pytest.fixture
def html(tmp_path: Path) -> Path:
    folder = tmp_path / "html"
    (folder / "_static").mkdir(parents=True)
    for name in ("index.html", "_static/look.css", "_static/look.css.map", "objects.inv", ".course-key"):
        (folder / name).write_text(name)
    return folder


def test_only_what_a_reader_needs_is_in_it(html: Path, tmp_path: Path) -> None:
    assert pack(html, tmp_path / "out" / "course.zip") == 2
    with zipfile.ZipFile(tmp_path / "out" / "course.zip") as archive:
        assert archive.namelist() == ["kd-course/_static/look.css", "kd-course/index.html"]
        assert archive.read("kd-course/index.html") == b"index.html"


def test_the_same_pages_give_the_same_archive(html: Path, tmp_path: Path) -> None:
    pack(html, tmp_path / "one.zip")
    (html / "index.html").touch()
    pack(html, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_without_pages_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CourseError, match="run `make book` first"):
        pack(tmp_path, tmp_path / "course.zip")
    assert list(tmp_path.iterdir()) == []


def test_what_fails_half_way_leaves_the_last_archive(
    html: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "course.zip"
    target.write_bytes(b"the last one")

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(OSError, match="No space left"):
        pack(html, target)
    assert target.read_bytes() == b"the last one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["course.zip", "html"]
