"""The checkers of chapter 12: right answers pass, and each plausible mistake is named."""

import statistics

import pytest
import torch

from kdlib.course import checks


def says(number, answer, words):
    feedback = checks.check(number, answer)
    return feedback.state == "wrong" and words in feedback.message


@pytest.mark.parametrize("number", ["12.1", "12.2", "12.3", "12.4", "12.5", "12.6"])
def test_an_exercise_not_begun_is_open(number):
    assert checks.check(number, ...).state == "open"


class TestTranslatedAlpha:
    def test_right(self):
        assert checks.check("12.1", 0.9).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [(0.1, "weight of the teacher"), (0.5, "the same in both"), (10, "add up to 1"), (2, "What weight")],
    )
    def test_wrong(self, answer, words):
        assert says("12.1", answer, words)


def smallest(digits=6, order=range(1, 201), images_count=True):
    def answer(printed, images):
        images = images if images_count else 1
        for n in order:
            if f"{round(printed * images * n) / (images * n):.{digits}f}" == f"{printed:.{digits}f}":
                return n
        return None

    return answer


class TestSmallestN:
    def test_right(self):
        assert checks.check("12.2", smallest()).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (smallest(digits=2), "compare all six"),
            (smallest(order=range(200, 0, -1)), "start with the smallest"),
            (smallest(images_count=False), "how many *answers* fit"),
            (lambda *_: 190, "times images times n"),
            (lambda *_: None, "fits. Compare after rounding"),
            (lambda *given: smallest()(*given) or 200, "return None there"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("12.2", answer, words)

    def test_no_function(self):
        assert "give the function itself" in checks.check("12.2", 100).message

    def test_no_whole_number(self):
        assert "return a whole number" in checks.check("12.2", lambda *_: 3.5).message


class TestSpread:
    def test_right(self):
        assert checks.check("12.3", lambda curves: torch.tensor(curves)[:, -1].std()).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (lambda curves: torch.tensor(curves).std(), "spread over everything"),
            (lambda curves: torch.tensor(curves).std(correction=0), "spread over everything"),
            (lambda curves: torch.tensor(curves)[:, -1].std(correction=0), "needs n − 1"),
            (lambda curves: torch.tensor(curves)[:, -1].var(), "take its root"),
            (lambda curves: torch.tensor(curves).mean(dim=1).std(), "averaged each curve"),
            (lambda curves: torch.tensor(curves).std(dim=1).mean(), "within each run"),
            (lambda curves: torch.tensor(curves)[:, -1].std() / 3**0.5, "standard error"),
            (lambda _: 1.0, "last value of each curve"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("12.3", answer, words)

    def test_the_best_epoch(self):
        # In the checker's curves the last epoch is the best one only where nothing falls at the end.
        feedback = checks.check("12.3", lambda curves: statistics.stdev(max(curve) for curve in curves))
        assert feedback.state == "wrong"
        assert "best epoch" in feedback.message


def parts(student, teacher, factor=0.25):
    error = student - teacher
    of_difference = factor * (error[:, 1] - error[:, 0]).square().mean()
    return torch.stack([of_difference, error.mean(dim=1).square().mean()])


class TestParts:
    def test_right(self):
        assert checks.check("12.4", parts).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (lambda s, t: parts(s, t).flip(0), "The order is"),
            (lambda s, t: parts(s, t, factor=1), "has a factor"),
            (lambda s, t: len(s) * parts(s, t), "summed over the images"),
            (lambda s, t: (s - t).square().mean(dim=0) / 2, "not the parts of d and m"),
            (lambda s, t: parts(s, t, factor=0.5), "add up to"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("12.4", answer, words)

    def test_another_shape(self):
        assert "return (2,)" in checks.check("12.4", lambda s, t: s - t).message


class TestEnoughImages:
    def test_right(self):
        assert checks.check("12.5", 9024).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (564, "a quarter of one"),
            (95, "square"),
            (150400, "p (1 − p)"),
            (18048, "difference of two"),
            (40000, "one half"),
            (3, "Solve"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("12.5", answer, words)


class TestWhisperingTeacher:
    def test_right(self):
        assert checks.check("12.6", {"as it is": 0.986, "an eighth": 0.934}).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            ({"as it is": 98.6, "an eighth": 93.4}, "between 0 and 1"),
            ({"as it is": 0.986, "an eighth": 0.986}, "same target"),
            ({"as it is": 0.934, "an eighth": 0.986}, "changed places"),
            ({"as it is": 0.987, "an eighth": 0.98}, "nearly level"),
            ({"as it is": 0.62, "an eighth": 0.58}, "too low"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("12.6", answer, words)
