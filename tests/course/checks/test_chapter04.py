"""The checkers of chapter 4: right answers pass, and each plausible mistake is named."""

import pytest
import torch

from kdlib.course import checks


def says(number, answer, words):
    feedback = checks.check(number, answer)
    return feedback.state == "wrong" and words in feedback.message


@pytest.mark.parametrize("number", ["4.1", "4.2", "4.3", "4.4", "4.5"])
def test_an_exercise_not_begun_is_open(number):
    assert checks.check(number, ...).state == "open"


class TestMatchingWeight:
    def test_right(self):
        assert checks.check("4.1", 0.5).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (1, "half of it"),
            (2, "other way round"),
            (0.05, "divided by the ten"),
            (5, "multiplied"),
            (0.3, "limit"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("4.1", answer, words)


class TestChooseThenReport:
    def test_right(self):
        def choose(val, test):
            best = max(val, key=val.get)
            return best, test[best]

        assert checks.check("4.2", choose).state == "right"

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (lambda _, test: (max(test, key=test.get), max(test.values())), "chose by the test accuracy"),
            (lambda val, _: (max(val, key=val.get), max(val.values())), "report the validation accuracy"),
            (lambda val, _: (min(val, key=val.get), 0.83), "use max"),
            (lambda val, _: max(val, key=val.get), "the temperature and the accuracy"),
            (lambda *_: (2, 0.9), "highest validation accuracy is 4"),
            (lambda *_: (4, 0.5), "test accuracy at the chosen"),
            (4, "function itself"),
        ],
    )
    def test_wrong(self, function, words):
        assert says("4.2", function, words)


def centred(z):
    return z - z.mean(dim=1, keepdim=True)


class TestCentredLogitLoss:
    def test_right(self):
        assert checks.check("4.3", lambda s, t: (centred(s) - centred(t)).square().mean()).state == "right"

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (lambda s, t: (s - t).square().mean(), "Nothing was taken out"),
            (lambda s, t: (centred(s) - t).square().mean(), "student only"),
            (lambda s, t: (s - centred(t)).square().mean(), "teacher only"),
            (lambda s, t: ((s - s.mean(0)) - (t - t.mean(0))).square().mean(), "over the images"),
            (lambda s, t: ((s - s.mean()) - (t - t.mean())).square().mean(), "one mean for all"),
            (lambda s, t: (centred(s) - centred(t)).square().sum(dim=1).mean(), "divided by N"),
            (lambda s, t: (centred(s) - centred(t)).square().sum(), "This is the sum"),
            (lambda s, t: (centred(s) - centred(t)).abs().mean(), "where the centred loss is"),
            (lambda s, t: (centred(s) - centred(t)).square(), "return ()"),
        ],
    )
    def test_wrong(self, function, words):
        assert says("4.3", function, words)


class TestPrecision:
    def test_right(self):
        def precision(logits, labels, class_index):
            called = logits.argmax(dim=1) == class_index
            return (labels[called] == class_index).double().mean().item() if called.any() else 0.0

        assert checks.check("4.4", precision).state == "right"

    def test_nothing_called_so(self):
        def precision(logits, labels, class_index):
            return (labels[logits.argmax(dim=1) == class_index] == class_index).double().mean()

        assert says("4.4", precision, "return 0 there")

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (lambda z, y, k: (z.argmax(1)[y == k] == k).double().mean(), "recall"),
            (lambda z, y, _: (z.argmax(1) == y).double().mean(), "accuracy"),
            (lambda z, y, k: ((z.argmax(1) == k) & (y == k)).double().mean(), "divided by all images"),
            (lambda z, y, k: ((z.argmax(1) == k) & (y == k)).sum(), "count"),
            (lambda z, y, k: (y == k).sum() / (z.argmax(1) == k).sum(), "count the right ones"),
        ],
    )
    def test_wrong(self, function, words):
        assert says("4.4", function, words)


class TestDigitNeverSeen:
    def test_right(self):
        assert checks.check("4.5", torch.tensor(0.97)).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (97, "percentage"),
            (-1, "no share"),
            (0.0, "bias"),
            (0.4, "Fewer than half"),
            ({"3s after": 0.97}, "give the one"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("4.5", answer, words)
