"""The checkers of chapter 7: right answers pass, and each plausible mistake is named."""

import pytest
import torch
import torch.nn.functional as F

from kdlib.course import checks


def says(number, answer, words):
    feedback = checks.check(number, answer)
    return feedback.state == "wrong" and words in feedback.message


@pytest.mark.parametrize("number", ["7.1", "7.2", "7.3", "7.4", "7.5", "7.6"])
def test_an_exercise_not_begun_is_open(number):
    assert checks.check(number, ...).state == "open"


class TestCountAngles:
    def test_right(self):
        assert checks.check("7.1", 124992).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (249984, "twice"),
            (41664, "triangles"),
            (2016, "distances"),
            (262144, "repeat"),
            (129024, "corner itself"),
            (64, "Choose the corner"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("7.1", answer, words)


def orthonormal(rows, columns, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(rows, columns, generator=generator, dtype=torch.float64)).Q


class TestDisguise:
    @pytest.mark.parametrize("scale", [1.0, 7.0])
    def test_right(self, scale):
        assert checks.check("7.2", lambda x: scale * x @ orthonormal(10, 5).T).state == "right"

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (lambda x: x @ torch.ones(5, 10, dtype=x.dtype).cumsum(1).cumsum(0).sin(), "orthonormal"),
            (lambda x: x @ orthonormal(10, 5).T + 1, "you moved"),
            (lambda x: torch.cat([x, x], dim=1), "still one of the teacher's"),
            (lambda x: torch.cat([x, 0 * x], dim=1), "still one of the teacher's"),
            (lambda x: torch.cat([2 * x, 0 * x], dim=1), "still one of the teacher's"),
            (lambda x: torch.cat([x, x / 0], dim=1), "infinity"),
            (lambda x: x @ orthonormal(5, 5), "return (7, 10)"),
        ],
    )
    def test_wrong(self, function, words):
        assert says("7.2", function, words)


def similarity(x):
    return F.normalize(x @ x.T, dim=1)


class TestCentredSimilarity:
    def test_right(self):
        assert checks.check("7.3", lambda x: similarity(x - x.mean(dim=0))).state == "right"

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (similarity, "Nothing was taken out"),
            (lambda x: similarity(x - x.mean(dim=1, keepdim=True)), "each image's own mean"),
            (lambda x: similarity(x - x.mean()), "one mean of all"),
            (lambda x: (x - x.mean(0)) @ (x - x.mean(0)).T, "not scaled"),
            (lambda x: similarity(x - x.mean(0)).T, "columns have length 1"),
            (
                lambda x: F.normalize(x - x.mean(0), dim=1) @ F.normalize(x - x.mean(0), dim=1).T,
                "These are cosines",
            ),
            (lambda x: torch.cdist(x, x), "centred features"),
            (lambda x: x, "return (7, 7)"),
        ],
    )
    def test_wrong(self, function, words):
        assert says("7.3", function, words)


def products(first, second):
    return torch.einsum("nihw,njhw->nij", first, second)


class TestAverageFSP:
    def test_right(self):
        assert checks.check("7.4", lambda a, b: products(F.avg_pool2d(a, 2), b) / 16).state == "right"

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (lambda a, b: products(F.max_pool2d(a, 2), b) / 16, "by their maximum"),
            (lambda a, b: products(F.avg_pool2d(a, 2), b), "not divided"),
            (lambda a, b: products(F.avg_pool2d(a, 2), b) / 64, "positions of the larger"),
            (lambda a, b: products(F.avg_pool2d(a, 2), b) / 4, "the side"),
            (lambda a, b: products(F.avg_pool2d(a, 2), b) / 10, "number of channels"),
            (lambda a, b: products(a[:, :, ::2, ::2], b) / 16, "three positions of four"),
            (lambda a, b: products(F.avg_pool2d(a, 2), b) / 3, "mean over positions"),
            (lambda a, b: products(F.avg_pool2d(a, 2), b).transpose(1, 2) / 16, "return (3, 2, 5)"),
        ],
    )
    def test_wrong(self, function, words):
        assert says("7.4", function, words)


class TestSquareForFour:
    def test_right(self):
        square = torch.tensor([[0.0, 0], [0, 1], [1, 1], [1, 0]], dtype=torch.float64)
        relative = torch.pdist(square) / torch.pdist(square).mean()
        loss = F.smooth_l1_loss(relative, torch.ones(6, dtype=torch.float64)).item()
        assert checks.check("7.5", loss).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (0.029437, "half of the square"),
            (0.088312, "sum over the six pairs"),
            (0.176624, "sum of squares"),
            (0.028595, "side of the square"),
            (0.161753, "differences themselves"),
            (0.011039, "no pair with itself"),
            (0, "only three points"),
            (7, "List the six"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("7.5", answer, words)


class TestTeacherOfOtherDigits:
    @pytest.mark.parametrize(
        ("before", "after", "shown"),
        [
            ([0.54, 0.62, 0.67], [0.81, 0.71, 0.66], False),
            ([0.54, 0.62, 0.67], [0.80, 0.87, 0.94], True),
            ([0.54, 0.62, 0.64], [0.50, 0.63, 0.49], False),
        ],
    )
    def test_right_whatever_the_seeds_say(self, before, after, shown):
        answer = {"first weights": before, "taught": after, "shown": shown}
        assert checks.check("7.6", answer).state == "right"

    @pytest.mark.parametrize(
        ("before", "after", "shown", "words"),
        [
            ([54, 62, 67], [81, 71, 66], False, "between 0 and 1"),
            ([0.8, 0.7], [0.8, 0.7], False, "same networks"),
            ([0.54], [0.81], True, "one share for each seed"),
            ([0.54, 0.62], [0.81], True, "one share for each seed"),
            ([0.54, 0.62, 0.67], [0.93, 0.92, 0.97], True, "without 4, 7 and 9"),
            ([0.54, 0.62, 0.67], [0.81, 0.71, 0.66], True, "does not lie above zero"),
            ([0.54, 0.62, 0.67], [0.80, 0.87, 0.94], False, "lies above zero"),
        ],
    )
    def test_wrong(self, before, after, shown, words):
        assert says("7.6", {"first weights": before, "taught": after, "shown": shown}, words)

    def test_of_another_form(self):
        assert says("7.6", {"first weights": [0.5, 0.6], "taught": [0.8, 0.7]}, "with the keys")
