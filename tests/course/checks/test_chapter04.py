"""The checkers of chapter 4: right answers pass, and each plausible mistake is named."""

from statistics import mean

import pytest
import torch
from torch.nn.functional import kl_div

from kdlib.course import checks


def says(number, answer, words):
    feedback = checks.check(number, answer)
    return feedback.state == "wrong" and words in feedback.message


@pytest.mark.parametrize("number", ["4.1", "4.2", "4.3", "4.4", "4.5"])
def test_an_exercise_not_begun_is_open(number):
    assert checks.check(number, ...).state == "open"


class TestMatchingWeight:
    def test_it_gives_the_gradient_of_the_divergence(self):
        generator = torch.Generator().manual_seed(0)
        student, teacher = (0.01 * torch.randn(2, 4, 101, generator=generator)).double()
        student, teacher = (z - z.mean(dim=1, keepdim=True) for z in (student, teacher))
        student.requires_grad_()
        soft, goal = (student / 20).log_softmax(dim=1), (teacher / 20).softmax(dim=1)
        (by_answers,) = torch.autograd.grad(kl_div(soft, goal, reduction="batchmean"), student)
        (by_logits,) = torch.autograd.grad((student - teacher).square().mean(), student)
        ratio = ((by_answers * by_logits).sum() / by_logits.square().sum()).item()
        assert checks.check("4.1", ratio).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (0.5, "with the factor"),
            (1 / 400, "half of it"),
            (1 / 200, "other way round"),
            (0.025, "not with 1/T"),
            (200, "divide by T²"),
            (0.5 / 400 / 101, "divided by the classes"),
            (0.5 / 400 * 101, "multiplied by the classes"),
            (0, "not nothing"),
            (0.3, "one is a multiple"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("4.1", answer, words)


def best_by(read, accuracies):
    return max(accuracies, key=lambda temperature: read(accuracies[temperature]))


class TestChooseThenReport:
    def test_right(self):
        def choose(val, test):
            best = best_by(mean, val)
            return best, mean(test[best])

        assert checks.check("4.2", choose).state == "right"

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (lambda _, t: (best_by(mean, t), mean(t[8])), "chose by the test accuracy"),
            (lambda v, t: (best_by(max, v), mean(t[best_by(max, v)])), "best single run"),
            (lambda v, _: (best_by(mean, v), mean(v[4])), "report the validation accuracy"),
            (lambda v, t: (best_by(mean, v), max(t[4])), "best seed"),
            (lambda v, t: (best_by(mean, v), t[4][0]), "one seed"),
            (lambda v, _: (min(v, key=lambda t: mean(v[t])), 0.83), "use max"),
            (lambda v, _: best_by(mean, v), "the temperature and the accuracy"),
            (lambda v, t: (best_by(mean, v), t[4]), "give one number"),
            (lambda *_: (3, 0.9), "highest mean on validation is 4"),
            (lambda *_: (4, 0.5), "mean test accuracy at the chosen"),
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
