"""While a chapter's checkers are tested, what they say is listened to: each tells two mistakes apart."""

import importlib
import re
from collections import defaultdict

import pytest

from kdlib.course.checks import exercises

FEWEST = 2


class Heard:
    """What was heard in one module of tests.

    Attributes:
        sentences: for each exercise, what its checker said was wrong.
        tests: how many have run.
    """

    def __init__(self):
        self.sentences, self.tests = defaultdict(set), 0

    def listen(self, number, checker):
        def noting(answer):
            try:
                sentence = checker(answer)
            except Exception as error:
                self.sentences[number].add(str(error))
                raise
            self.sentences[number] |= {sentence} - {None}
            return sentence

        return noting


@pytest.fixture(scope="module", autouse=True)
def heard(request):
    """Listen to the checkers, and after the last test of a chapter's module look whether they said enough.

    A part of a module (a test by its name, `-k`, what ran before a failure) says nothing of the rest.
    """
    heard, find, session = Heard(), exercises._find, request.session
    failed = session.testsfailed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exercises, "_find", lambda number: heard.listen(number, find(number)))
        yield heard
    chapter = re.fullmatch(r"test_chapter(\d\d)", request.path.stem)
    if chapter is None or session.testsfailed > failed:
        return
    if heard.tests == sum(1 for _ in session.genitems(request.node)):
        demand_enough(heard, chapter[1], request.path.name)
    elif request.config.getoption("loadgroup", False) and not request.config.getoption("maxfail"):
        chosen = sum(item.path == request.path for item in session.items)
        assert heard.tests == chosen, f"the tests of {request.path.name} were spread over workers"


def demand_enough(heard, chapter, file):
    """Fail, with their numbers, where exercises were given too few different mistakes."""
    importlib.import_module(f"kdlib.course.checks.chapter{chapter}")
    registered = [number for number in exercises._CHECKERS if number.split(".")[0] == str(int(chapter))]
    if few := [number for number in registered if len(heard.sentences[number]) < FEWEST]:
        rule = f"{FEWEST} mistakes that their checker tells apart"
        pytest.fail(f"{file} has less than {rule} in exercise {', '.join(few)}: add some.", pytrace=False)


@pytest.fixture(autouse=True)
def _counted(heard):
    yield
    heard.tests += 1
