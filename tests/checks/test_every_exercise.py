"""Every exercise of every chapter: its chapter's tests give it at least two wrong answers, told apart."""

import importlib
from collections import defaultdict
from pathlib import Path

import pytest

from kdlib.checks import exercises

FEWEST = 2
FILES = sorted(Path(__file__).parent.glob("test_chapter[0-9][0-9].py"))


@pytest.fixture
def sentences(monkeypatch):
    """For each exercise, what its checker says is wrong while this fixture is in use."""
    said, find = defaultdict(set), exercises._find

    def find_and_note(number):
        checker = find(number)

        def note(answer):
            try:
                sentence = checker(answer)
            except Exception as error:
                said[number].add(str(error))
                raise
            if sentence is not None:
                said[number].add(sentence)
            return sentence

        return note

    monkeypatch.setattr(exercises, "_find", find_and_note)
    return said


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_two_wrong_answers_are_told_apart(file, sentences):
    chapter = file.stem.removeprefix("test_chapter")
    importlib.import_module(f"kdlib.checks.chapter{chapter}")
    registered = [number for number in exercises._CHECKERS if number.split(".")[0] == str(int(chapter))]
    assert len(registered) >= 4
    # The tests of one chapter, once more, with somebody listening.
    failed = pytest.main([str(file), "--quiet", "--capture=no", "-p", "no:cacheprovider"])
    assert failed == 0, f"{file.name} fails by itself: mend that first"
    few = {number: sentences[number] for number in registered if len(sentences[number]) < FEWEST}
    assert not few, f"list at least {FEWEST} wrong answers for each of {sorted(few)} in {file.name}"
    untested = set(sentences) - set(registered)
    assert not untested, f"{file.name} tests exercises of no such number: {sorted(untested)}"


def test_every_chapter_with_checkers_has_such_tests():
    checkers = Path(exercises.__file__).parent.glob("chapter[0-9][0-9].py")
    assert {path.stem for path in checkers} == {path.stem.removeprefix("test_") for path in FILES}
