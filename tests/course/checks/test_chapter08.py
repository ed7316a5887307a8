"""The checkers of chapter 8: right answers pass, and each plausible mistake is named."""

import math

import pytest
import torch
import torch.nn.functional as F

from kdlib.course import checks


def says(number, answer, words):
    feedback = checks.check(number, answer)
    return feedback.state == "wrong" and words in feedback.message


@pytest.mark.parametrize("number", ["8.1", "8.2", "8.3", "8.4", "8.5", "8.6"])
def test_an_exercise_not_begun_is_open(number):
    assert checks.check(number, ...).state == "open"


class TestSurerTeacher:
    def test_right(self):
        # The label's logit against all others together is 4 ln 1.5 before, and 10 more after.
        ahead = 4 * math.log(1.5) + 10
        assert checks.check("8.1", torch.tensor(-ahead / 4).sigmoid()).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (3.0265e-05, "through the temperature"),
            (0.94811, "probability of the label"),
            (0.03283, "sum to 1"),
            (0.4, "before anything was added"),
            (0.89039, "you made them smaller"),
            (0.2, "Write down the odds"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("8.1", answer, words)

    def test_no_number(self):
        assert "give one number" in checks.check("8.1", "little").message


def others(student, teacher, labels, temperature):
    keep = [[c for c in range(student.shape[1]) if c != y] for y in labels.tolist()]
    rows = torch.arange(len(labels))[:, None]
    log_q, log_p = (F.log_softmax(z[rows, keep] / temperature, dim=1) for z in (student, teacher))
    return F.kl_div(log_q, log_p, reduction="none", log_target=True)


def renormalised(student, teacher, labels, temperature):
    keep = labels[:, None] != torch.arange(student.shape[1])
    q, p = ((z / temperature).softmax(dim=1)[keep].view(len(z), -1) for z in (student, teacher))
    q, p = (v / v.sum(dim=1, keepdim=True) for v in (q, p))
    return (p * (p / q).log()).sum(dim=1).mean()


class TestOthersPart:
    def test_right(self):
        assert checks.check("8.2", lambda *z: others(*z).sum(dim=1).mean()).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (lambda s, t, y, T: T**2 * others(s, t, y, T).sum(dim=1).mean(), "T² is in"),
            (lambda s, t, y, T: others(s, t, y, T).sum(), "summed over the images"),
            (lambda s, t, y, T: others(s, t, y, T).mean(), "other classes as well"),
            (lambda s, t, y, T: others(t, s, y, T).sum(dim=1).mean(), "changed places"),
            (lambda s, t, y, _: others(s, t, y, 1.0).sum(dim=1).mean(), "temperature has no effect"),
            (
                lambda s, t, _, T: F.kl_div(
                    F.log_softmax(s / T, 1), F.softmax(t / T, 1), reduction="batchmean"
                ),
                "label is still among",
            ),
            (
                lambda s, t, y, T: (
                    others(s, t, y, T).sum(dim=1) * (1 - (t / T).softmax(1)[range(len(y)), y])
                ).mean(),
                "1 − p is still in it",
            ),
            (renormalised, "take the label out before"),
            (lambda s, *_: s.sum() * 0 + 7, "It gives 7"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("8.2", answer, words)

    def test_no_function(self):
        assert "give the function itself" in checks.check("8.2", 3).message


FORGIVEN = {"soft targets": {"a"}, "others' part": {"a", "c"}, "standardised": {"a", "b"}}


class TestForgiven:
    def test_right(self):
        assert checks.check("8.3", FORGIVEN).state == "right"

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"soft targets": set()}, "a for soft targets"),
            ({"soft targets": {"a", "b"}}, "b for soft targets"),
            ({"others' part": {"a"}}, "c for others' part"),
            ({"standardised": {"a", "b", "d"}}, "d for standardised"),
        ],
    )
    def test_wrong(self, change, words):
        assert says("8.3", FORGIVEN | change, words)

    @pytest.mark.parametrize("answer", [{"a"}, {"soft targets": {"a"}}])
    def test_other_keys(self, answer):
        assert "give a dictionary" in checks.check("8.3", answer).message

    def test_other_letters(self):
        assert "letters a to d" in checks.check("8.3", FORGIVEN | {"standardised": {"e"}}).message


class TestEqualWeights:
    def test_right(self):
        assert checks.check("8.4", (1, 9)).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            ((1, 8), "left out α"),
            ((0.1, 9), "labels weigh 1"),
            ((0.1, 0.9), "as it stands"),
            ((9, 1), "order"),
            ((2, 2), "Add up"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("8.4", answer, words)

    def test_one_number(self):
        assert "give two numbers" in checks.check("8.4", 9).message


class TestDistOfOne:
    def test_right(self):
        assert checks.check("8.5", 1).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"), [(0, "no correlation at all"), (2, "correlation of −1"), (5, "counts as 0")]
    )
    def test_wrong(self, answer, words):
        assert says("8.5", answer, words)


class TestTheSameFiftyPictures:
    def test_right(self):
        assert checks.check("8.6", {"shifted": 0.95, "as they are": 0.89}).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            ({"shifted": 95, "as they are": 89}, "between 0 and 1"),
            ({"shifted": 0.95, "as they are": 0.95}, "augment=False"),
            ({"shifted": 0.89, "as they are": 0.95}, "changed places"),
            ({"shifted": 0.899, "as they are": 0.834}, "the other teacher's students"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("8.6", answer, words)
