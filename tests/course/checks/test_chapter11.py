"""The checkers of chapter 11: right answers pass, and each plausible mistake is named."""

import math

import pytest
import torch

from kdlib.course import checks


def says(number, answer, words):
    feedback = checks.check(number, answer)
    return feedback.state == "wrong" and words in feedback.message


@pytest.mark.parametrize("number", ["11.1", "11.2", "11.3", "11.4", "11.5", "11.6"])
def test_an_exercise_not_begun_is_open(number):
    assert checks.check(number, ...).state == "open"


class TestOverlappingWeights:
    def test_right(self):
        from kdlib.models import count_parameters
        from kdlib.models.mobilenet import OverlappingGroupConv

        assert checks.check("11.1", count_parameters(OverlappingGroupConv(96, 576))).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (55296, "full convolution"),
            (13824, "grouped convolution"),
            (6912, "Only one side"),
            (41472, "*one* neighbour"),
            (248832, "1×1"),
            (1, "How many input channels"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("11.1", answer, words)


class TestSoftWeight:
    def test_right(self):
        assert checks.check("11.2", 0.03125).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (0.5, "the program does not"),
            (8, "other way round"),
            (0.125, "T², not by T"),
            (0.0625, "4² is 16"),
            (3, "must be the program's"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("11.2", answer, words)


def half(step, steps):
    return (1 + math.cos(math.pi * step / steps)) / 2


class TestFactor:
    def test_right(self):
        assert checks.check("11.3", lambda i, n, floor: floor + (1 - floor) * half(i, n)).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (lambda i, n, _: 0.1 + 0.9 * half(i, n), "0.1 whatever"),
            (lambda i, n, _: half(i, n), "It ends at 0"),
            (lambda i, n, floor: floor + half(i, n), "starts above 1"),
            (lambda i, n, floor: (1 - floor) * half(i, n), "not lifted"),
            (lambda i, n, floor: 1 - (1 - floor) * i / n, "straight line"),
            (lambda i, n, floor: max(half(i, n), floor), "jumps to the floor"),
            (lambda i, n, floor: floor + 2 * (1 - floor) * half(i, n), "not halved"),
            (lambda i, n, floor: floor + (1 - floor) * half(2 * i, n), "whole cosine"),
            (lambda i, n, floor: floor + i + n, "should be"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("11.3", answer, words)

    def test_no_function(self):
        assert "give the function itself" in checks.check("11.3", 0.55).message


def three(taught, alone, n):
    first, second = torch.tensor(taught), torch.tensor(alone)
    return torch.stack(
        [first.max() - second.max(), first[-1] - second[-1], first[-n:].mean() - second[-n:].mean()]
    )


def with_one(place, function):
    def answer(taught, alone, n):
        gains = three(taught, alone, n)
        gains[place] = function(torch.tensor(taught), torch.tensor(alone), n)
        return gains

    return answer


class TestThreeGains:
    def test_right(self):
        assert checks.check("11.4", three).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (lambda *given: -three(*given), "The sign is turned"),
            (lambda *given: 100 * three(*given), "leave the gains as fractions"),
            (with_one(0, lambda a, b, _: (a - b).max()), "largest difference"),
            (with_one(0, lambda a, b, _: a.max() - b[a.argmax()]), "at the same epoch"),
            (with_one(2, lambda a, b, _: (a - b).mean()), "mean of all epochs"),
            (with_one(2, lambda a, b, n: (a - b)[:n].mean()), "*first* n epochs"),
            (with_one(1, lambda a, b, _: a[0] - b[0]), "the last epoch"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("11.4", answer, words)

    def test_another_shape(self):
        assert "return (3,)" in checks.check("11.4", lambda *_: torch.zeros(2)).message


def blocks(quarters, shape):
    return torch.kron(quarters, torch.ones(shape[0] // 4, shape[1] // 4))


def neighbours(*offsets):
    quarters = sum(torch.eye(4).roll(offset, dims=1) for offset in offsets)
    return lambda *shape: blocks(quarters, shape)


class TestMask:
    def test_right(self):
        assert checks.check("11.5", neighbours(0, 1)).state == "right"

    def test_right_as_the_layer_has_it(self):
        """Pushing one channel at a time through the package's own layer shows where its weights are."""
        from kdlib.models.mobilenet import OverlappingGroupConv

        def seen(out_channels, in_channels):
            layer = OverlappingGroupConv(in_channels, out_channels).requires_grad_(False)
            for group in layer.groups:
                torch.nn.init.ones_(group.weight)
            return layer(torch.eye(in_channels)[:, :, None, None])[:, :, 0, 0].T

        assert checks.check("11.5", seen).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (neighbours(0), "ordinary grouped"),
            (neighbours(0, -1), "the one before"),
            (neighbours(0, 1, 2, 3), "full convolution"),
            (neighbours(1), "sees itself"),
            (neighbours(0, 1, -1), "yours has two"),
            (
                lambda *shape: blocks(torch.eye(4) + torch.diag(torch.ones(3), 1), shape),
                "has a neighbour too",
            ),
            (lambda *shape: 0.5 * neighbours(0, 1)(*shape), "other numbers"),
            (lambda *shape: torch.zeros(shape), "64 weights"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("11.5", answer, words)

    def test_another_shape(self):
        assert "return (8, 16)" in checks.check("11.5", lambda *_: torch.eye(4)).message


class TestSameTotalRate:
    def test_right(self):
        assert checks.check("11.6", -1.25).state == "right"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (-0.0125, "looks like a fraction"),
            (-16.6, "gap at the same first rate"),
            (17.2, "those of the constant rate"),
        ],
    )
    def test_wrong(self, answer, words):
        assert says("11.6", answer, words)
