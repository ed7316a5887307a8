"""Exercises and claims: what is said of an answer, and what stops a chapter."""

from pathlib import Path

import IPython.display
import pytest

from kdlib.course import checks
from kdlib.course.checks import exercises
from kdlib.experiments import PairedDifference


@pytest.fixture
def doubled(monkeypatch):
    monkeypatch.setattr(exercises, "_CHECKERS", dict(exercises._CHECKERS))

    @checks.exercise("99.1")
    def double_of_three(answer):
        return None if answer + 0 == 6 else f"{answer} is not 6; multiply by two."


@pytest.mark.usefixtures("doubled")
class TestExercises:
    def test_right_wrong_and_open_answers(self):
        assert checks.check("99.1", 6).state == "right"
        wrong = checks.check("99.1", 9)
        assert (wrong.state, wrong.message) == ("wrong", "9 is not 6; multiply by two.")
        assert checks.check("99.1", ...).state == "open"

    def test_an_answer_that_breaks_the_checker_is_wrong(self):
        feedback = checks.check("99.1", "six")
        assert feedback.state == "wrong"
        assert "TypeError" in feedback.message

    def test_feedback_is_escaped(self):
        assert "&lt;b&gt;" in checks.Feedback("1.1", "wrong", "<b>")._repr_html_()

    @pytest.mark.parametrize("number", ["99.2", "98.1", "one", ""])
    def test_exercises_that_do_not_exist(self, number):
        with pytest.raises(ValueError, match="no exercise"):
            checks.check(number, 1)


class TestClaims:
    @pytest.mark.parametrize("bounds", [{"at_least": 2.0}, {"at_most": 4}, {"at_least": 3, "at_most": 3}])
    def test_claims_that_hold(self, bounds, capsys):
        checks.claim("It gains", 3.0, unit="points", **bounds)
        assert "It gains: 3 points" in capsys.readouterr().out

    @pytest.mark.parametrize("bounds", [{"at_least": 3.5}, {"at_most": 2}])
    def test_claims_that_do_not(self, bounds):
        with pytest.raises(
            AssertionError, match=r"It gains: the value is 3 points, and should be at (least|most)"
        ):
            checks.claim("It gains", 3.0, unit="points", **bounds)

    def test_nan_bears_out_nothing(self):
        with pytest.raises(AssertionError, match="nan"):
            checks.claim("It gains", float("nan"), at_least=0)

    def test_what_a_claim_says_is_escaped_in_a_notebook(self, monkeypatch):
        shown = []
        monkeypatch.setattr(IPython, "get_ipython", object)
        monkeypatch.setattr(IPython.display, "display", lambda data, **_: shown.append(data["text/html"]))
        checks.claim("<b>", 3.0, at_least=2, unit="<b>")
        assert "<b>" not in shown[0]
        assert shown[0].count("&lt;b&gt;") == 3, "the sentence, the value and its bound"

    @pytest.mark.parametrize("bounds", [{"at_least": 0}, {"at_most": 5}, {"at_least": 1.9, "at_most": 4.1}])
    def test_of_a_difference_the_whole_interval_counts(self, bounds, capsys):
        checks.claim("It gains", PairedDifference(0.03, 0.02, 0.04, 20), **bounds)
        assert "It gains: +3.0 points (95 % interval +2.0 to +4.0), 20 seeds" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "bounds", [{"at_least": 2.5}, {"at_most": 3.5}, {"at_least": 2.5, "at_most": 3.5}]
    )
    def test_a_mean_within_bounds_that_its_interval_passes_is_no_claim(self, bounds):
        with pytest.raises(AssertionError, match=r"It gains: the interval is \+3.0 points .* should be at"):
            checks.claim("It gains", PairedDifference(0.03, 0.02, 0.04, 20), **bounds)

    def test_claims_need_a_bound(self):
        with pytest.raises(ValueError, match="has no bound"):
            checks.claim("It gains", 3.0)


def test_every_chapter_with_checkers_has_tests_of_them():
    checkers = Path(exercises.__file__).parent.glob("chapter[0-9][0-9].py")
    tests = Path(__file__).parent.glob("test_chapter[0-9][0-9].py")
    assert {path.stem for path in checkers} == {path.stem.removeprefix("test_") for path in tests}
