"""The checkers of chapter 5: right answers pass, and each plausible mistake is named."""

import pytest
import torch

from kdlib.course import checks


def says(number, answer, words):
    feedback = checks.check(number, answer)
    return feedback.state == "wrong" and words in feedback.message


@pytest.mark.parametrize("number", ["5.1", "5.2", "5.3", "5.4", "5.5", "5.6"])
def test_an_exercise_not_begun_is_open(number):
    assert checks.check(number, ...).state == "open"


class TestRegressorSize:
    def test_right(self):
        assert checks.check("5.1", 1052672).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (1048576, "forgot the batch norm"),
            (1050624, "a scale and a shift, two"),
            (2560, "each pair"),
            (9441280, "3×3"),
            (4096, "batch norm alone"),
            (7, "Count one weight"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("5.1", answer, words)


class TestWhoIsLoud:
    def test_right(self):
        assert checks.check("5.2", {"a": 1, "b": 4, "c": 4}).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            ({"a": 4, "b": 4, "c": 4}, "weights can shrink"),
            ({"a": 0.25, "b": 4, "c": 1}, "at its optimum"),
            ({"a": 1, "b": 2, "c": 2}, "mean of their squares"),
            ({"a": 1, "b": 1, "c": 1}, "no weight makes up"),
            ({"a": 1, "b": 4, "c": 1}, "do not cancel"),
            ({"a": 1, "b": 4, "c": 16}, "student's factor first"),
            (4, "with the keys 'a', 'b', 'c'"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("5.2", answer, words)


def convolved(maps, weights):
    return (weights[None, :, :, None, None] * maps[:, None]).sum(dim=2)


class TestRegressByHand:
    def test_right(self):
        assert checks.check("5.3", convolved).state == "right"

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (lambda m, w: convolved(m, w).relu(), "no ReLU"),
            (lambda m, w: convolved(m, w) / 4, "mean over"),
            (lambda m, w: convolved(m, w.flip(1)), "not those of a 1×1"),
            (lambda m, _: m, "return (3, 7, 5, 6)"),
        ],
    )
    def test_wrong(self, function, words):
        assert says("5.3", function, words)


class TestUndo:
    def test_right(self):
        assert checks.check("5.4", lambda order: torch.eye(len(order))[:, order]).state == "right"

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (lambda order: torch.eye(len(order))[order], "inverse"),
            (lambda order: torch.eye(len(order)), "leaves every channel"),
            (lambda order: torch.ones(len(order), len(order)), "does not give maps"),
        ],
    )
    def test_wrong(self, function, words):
        assert says("5.4", function, words)


class TestFirstControl:
    def test_right(self):
        assert checks.check("5.5", "b").state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"), [("a", "how exact"), ("c", "whoever"), ("d", "give 'a'"), (2, "give 'a'")]
    )
    def test_wrong(self, answer, words):
        assert says("5.5", answer, words)


class TestRandomChannels:
    def test_right(self):
        assert checks.check("5.6", {8: 0.53, 32: 0.87, 128: 0.99}).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            ({8: 53, 32: 87, 128: 99}, "give fractions"),
            ({8: 0.87, 32: 0.53, 128: 0.99}, "must rise"),
            ({8: 0.86, 32: 0.87, 128: 0.99}, "never trained"),
            ({8: 0.43, 32: 0.73, 128: 0.85}, "deeper layer"),
            (0.87, "with the keys 8, 32, 128"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("5.6", answer, words)
