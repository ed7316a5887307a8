"""The checkers of chapter 6: right answers pass, and each plausible mistake is named."""

import pytest

from kdlib import losses
from kdlib.course import checks


def says(number, answer, words):
    feedback = checks.check(number, answer)
    return feedback.state == "wrong" and words in feedback.message


@pytest.mark.parametrize("number", ["6.1", "6.2", "6.3", "6.4", "6.5", "6.6"])
def test_an_exercise_not_begun_is_open(number):
    assert checks.check(number, ...).state == "open"


class TestMapByHand:
    def test_right(self):
        assert checks.check("6.1", 0.8137).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (7, "sum over the channels"),
            (7 / 12, "sum of the two places"),
            (-0.19612, "before you sum"),
            (0.19612, "each activation first"),
            (3.5 / 74**0.5, "in the norm as well"),
            (0.7071, "p = 2"),
            (0.5, "divide by the length"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("6.1", answer, words)


def scaled(summed):
    return summed / summed.flatten(1).norm(dim=1)[:, None, None]


class TestAttentionMap:
    @pytest.mark.parametrize(
        "function",
        [losses.attention_map, lambda f, p: scaled(f.abs().pow(p).mean(dim=1))],
    )
    def test_right(self, function):
        assert checks.check("6.2", function).state == "right"

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (lambda f, p: scaled(f.pow(p).sum(dim=1).abs()), "before the sum"),
            (lambda f, p: scaled(f.pow(p).sum(dim=1)), "At p = 1 negative"),
            (lambda f, p: scaled((f if p == 3 else f.abs()).pow(p).sum(dim=1)), "At p = 3 negative"),
            (lambda f, p: f.abs().pow(p).sum(dim=1), "not been scaled; divide"),
            (lambda f, p: f.abs().pow(p).mean(dim=1), "mean over the channels"),
            (
                lambda f, p: (s := f.abs().pow(p).sum(1)) / s.sum(dim=(1, 2), keepdim=True),
                "sum over the places",
            ),
            (lambda f, p: (s := f.abs().pow(p).sum(1)) / s.amax(dim=(1, 2), keepdim=True), "largest place"),
            (lambda f, p: (s := f.abs().pow(p).sum(1)) / s.norm(), "share one norm"),
            (lambda f, p: scaled(f.sum(dim=1).abs().pow(p)), "before the sum"),
            (lambda f, _: scaled(f.abs().sum(dim=1)), "At p = 2 it is off"),
            (lambda f, _: f, "return (4, 3, 5)"),
        ],
    )
    def test_wrong(self, function, words):
        assert says("6.2", function, words)

    def test_nan_is_explained(self):
        def no_absolute_value(features, p):
            return scaled((features if p > 4 else features.abs()).pow(p).sum(dim=1))

        assert says("6.2", no_absolute_value, "NaN")


class TestCarriedWeight:
    def test_right(self):
        assert checks.check("6.3", 3.125).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (1000, "so must the weights"),
            (0.625, "divide it by the paper's loss"),
            (6.25, "same gradient"),
            (15.625, "also squares"),
            (200, "64 places"),
            (25, "not 8"),
            (320_000, "other way round"),
            (7, "set the products equal"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("6.3", answer, words)


def gap(student, teacher):
    return (losses.attention_map(student) - losses.attention_map(teacher)).flatten(1)


class TestPaperLoss:
    def test_right(self):
        assert (
            checks.check("6.4", lambda s, t: losses.attention_transfer_loss(s, t, form="paper")).state
            == "right"
        )

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (losses.attention_transfer_loss, "the code's form"),
            (lambda s, t: gap(s, t).square().sum(dim=1).mean(), "squared the lengths"),
            (lambda s, t: gap(s, t).norm(), "whole batch"),
            (lambda s, t: gap(s, t).norm(dim=1).sum(), "summed over images"),
            (lambda s, t: gap(s, t).norm(dim=1).mean() / 15, "number of places"),
            (
                lambda s, t: (s.square().sum(1) - t.square().sum(1)).flatten(1).norm(dim=1).mean(),
                "not been scaled",
            ),
            (lambda s, t: gap(s, t).abs().sum(dim=1).mean(), "absolute differences"),
            (lambda s, t: 3 * gap(s, t).norm(), "where the paper's form is"),
            (lambda s, t: gap(s, t).norm(dim=1), "return ()"),
        ],
    )
    def test_wrong(self, function, words):
        assert says("6.4", function, words)


class TestUnseenChanges:
    @pytest.mark.parametrize("answer", [{"a", "c", "e"}, ["e", "C", "a"], "ace"])
    def test_right(self, answer):
        assert checks.check("6.5", answer).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            ({"c", "e"}, "(a) again"),
            ({"a", "b", "c", "e"}, "(b) again"),
            ({"a", "e"}, "(c) again"),
            ({"a", "c", "d", "e"}, "(d) again"),
            ({"a", "c"}, "(e) again"),
            ({"a", "c", "e", "f"}, "(f) again"),
            ({"a", "x"}, "letters a to f"),
            (3, "set of letters"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("6.5", answer, words)


class TestLargerPictures:
    def test_right(self):
        assert checks.check("6.6", {"code": 0.25, "paper": 1.02}).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            ({"code": 4.0, "paper": 0.98}, "put the loss at 32 pixels above"),
            ({"code": 0.25, "paper": 0.25}, "are of one form"),
            ({"code": 1.02, "paper": 0.25}, "changed places"),
            ({"code": 0.9, "paper": 1.2}, "four times as many"),
            ({"code": 0.25, "paper": 4.1}, "too far from 1"),
            ({"code": 0.25}, "with the keys 'code', 'paper'"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("6.6", answer, words)
