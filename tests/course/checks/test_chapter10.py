"""The checkers of chapter 10: right answers pass, and each plausible mistake is named."""

import math

import pytest
import torch
import torch.nn.functional as F

from kdlib.course import checks


def says(number, answer, words):
    feedback = checks.check(number, answer)
    return feedback.state == "wrong" and words in feedback.message


@pytest.mark.parametrize("number", ["10.1", "10.2", "10.3", "10.4", "10.5", "10.6"])
def test_an_exercise_not_begun_is_open(number):
    assert checks.check(number, ...).state == "open"


class TestNumbers:
    @pytest.mark.parametrize(("number", "answer"), [("10.1", 0.34994), ("10.2", 0.085366)])
    def test_right(self, number, answer):
        assert checks.check(number, answer).state == "right"

    @pytest.mark.parametrize(
        ("number", "answer", "words"),
        [
            ("10.1", 1 - math.sqrt(0.11), "one standard error"),
            ("10.1", 1 + 1.96 * math.sqrt(0.11), "upper end"),
            ("10.1", 1.96 * math.sqrt(0.11), "half the width"),
            ("10.1", 1 - 1.96 * math.sqrt(0.01), "not the difference"),
            ("10.1", 1 - 1.96 * math.sqrt(0.06), "only the second"),
            ("10.1", 0.0034994, "a fraction"),
            ("10.1", 1, "difference itself"),
            ("10.1", -3, "Difference in points"),
            ("10.2", 0.7, "had T² too"),
            ("10.2", 0.3, "weight of the labels"),
            ("10.2", 0.98315, "25 inside already"),
            ("10.2", 0.016854, "weight of the labels"),
            ("10.2", 0.318182, "T² is 25"),
            ("10.2", 0.028, "weigh 1 − α"),
            ("10.2", 0.093333, "α / (1 − α)"),
            ("10.2", 5, "Set 25 α"),
        ],
    )
    def test_wrong(self, number, answer, words):
        assert says(number, answer, words)


def errors(student, teacher, regressors):
    return [r(s) - t for s, t, r in zip(student, teacher, regressors, strict=True)]


def total(losses):
    return torch.stack(list(losses)).sum()


class TestRegressedFeatures:
    def test_right(self):
        def loss(student, teacher, regressors):
            target = [features.detach() for features in teacher]
            return total(error.pow(2).mean() for error in errors(student, target, regressors))

        assert checks.check("10.3", loss).state == "right"

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            (lambda e: total(x.pow(2).mean() for x in e) / 2, "the report sums"),
            (lambda e: total(x.pow(2).sum() for x in e), "summed the squares"),
            (lambda e: total(x.pow(2).flatten(1).sum(1).mean() for x in e), "all but the images"),
            (lambda e: e[1].pow(2).mean(), "Only the last"),
            (lambda e: e[0].pow(2).mean(), "Only the first"),
            (lambda e: 0.1 * total(x.pow(2).mean() for x in e), "β is in it"),
            (lambda e: total(x.abs().mean() for x in e), "sum of the errors"),
            (lambda e: total(x.pow(2).mean() for x in e), "reaches the teacher"),
            (lambda e: total(x.pow(2).mean() for x in e).detach(), "reaches the regressors"),
        ],
    )
    def test_wrong(self, wrong, words):
        assert says("10.3", lambda *given: wrong(errors(*given)), words)

    def test_regressors_that_are_frozen(self):
        def loss(student, teacher, regressors):
            with torch.no_grad():
                reached = [r(s) for r, s in zip(regressors, student, strict=True)]
            reached = [features.requires_grad_() for features in reached]
            return total(F.mse_loss(r, t.detach()) for r, t in zip(reached, teacher, strict=True))

        assert says("10.3", loss, "reaches the regressors")

    def test_no_tensor(self):
        assert "return a tensor" in checks.check("10.3", lambda *_: 1.0).message


class TestSilentShapes:
    SHAPES = {  # noqa: RUF012
        "a": ((8, 1, 4, 4), (8, 256, 4, 4)),
        "b": ((8, 64, 4, 4), (8, 256, 4, 4)),
        "c": ((8, 64, 1, 1), (8, 64, 4, 4)),
        "d": ((8, 10), (10,)),
        "e": ((8, 64, 4, 4), (8, 64, 2, 2)),
    }

    @pytest.mark.filterwarnings("ignore:Using a target size")
    def test_right_is_what_torch_does(self):
        accepted = set()
        for letter, (first, second) in self.SHAPES.items():
            try:
                F.mse_loss(torch.zeros(first), torch.zeros(second))
                accepted.add(letter)
            except RuntimeError:
                pass
        assert checks.check("10.4", accepted).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            ({"c", "d"}, "repeated 256 times"),
            ({"a", "b", "c", "d"}, "neither 64 nor 256"),
            ({"a", "d"}, "single place"),
            ({"a", "c"}, "missing dimension"),
            ({"a", "c", "d", "e"}, "2 is not 1"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("10.4", answer, words)

    @pytest.mark.parametrize(("answer", "words"), [("acd", "set of letters"), ({"a", "x"}, "letters a to e")])
    def test_no_letters(self, answer, words):
        assert words in checks.check("10.4", answer).message


class TestChooseThenReport:
    @staticmethod
    def by(found, part):
        return max(found, key=lambda setting: int(found[setting][part].sum()))

    def test_right(self):
        def report(found):
            best = self.by(found, 0)
            return best, sum(found[best][1].tolist()) / len(found[best][1])

        assert checks.check("10.5", report).state == "right"

    @pytest.mark.parametrize(
        ("chooser", "judge", "words"),
        [
            (1, lambda pair: pair[1].double().mean(), "only to judge"),
            (0, lambda pair: pair[0].double().mean(), "validation accuracy"),
            (0, lambda pair: torch.cat(pair).double().mean(), "both kinds"),
            (0, lambda pair: pair[1].sum(), "number of images"),
            (1, lambda pair: pair[0].double().mean(), "It chooses"),
            (0, lambda _: 0.123, "It reports"),
        ],
    )
    def test_wrong(self, chooser, judge, words):
        def report(found):
            setting = self.by(found, chooser)
            return setting, judge(found[setting])

        assert says("10.5", report, words)

    def test_the_worst(self):
        assert says("10.5", lambda _: ("T = 2", 0.7), "worst")

    def test_no_pair(self):
        assert "a setting and a number" in checks.check("10.5", lambda _: 0.5).message


class TestImagesToChooseBy:
    def test_right(self):
        assert checks.check("10.6", {30: 3.0, 100: 1.4, 300: 0.7}).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            ({30: -3.0, 100: -1.4, 300: -0.7}, "Choosing flatters"),
            ({30: 0.03, 100: 0.014, 300: 0.007}, "looks like a fraction"),
            ({30: 3.0, 100: 3.0, 300: 3.0}, "All three are the same"),
            ({30: 0.7, 100: 1.4, 300: 3.0}, "less is luck"),
            ({30: 3.2, 100: 2.8, 300: 2.4}, "too near"),
            (3.0, "with the keys 30, 100, 300"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("10.6", answer, words)
